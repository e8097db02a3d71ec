package main

import (
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/spf13/pflag"

	"github.com/lhspn/lhspn/internal/simulator"
	"github.com/lhspn/lhspn/internal/simulator/fcmsim"
	"github.com/lhspn/lhspn/internal/simulator/webpushsim"
)

// flagSet is the flags, which docs/simulator.md explains.
func flagSet(o *options, stderr io.Writer) *pflag.FlagSet {
	c, f := &o.simulator, &o.simulator.Faults
	flags := pflag.NewFlagSet("apns-simulator", pflag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.SortFlags = false
	flags.Usage = func() {
		_, _ = fmt.Fprintf(stderr, "A stand-in for the push services: Apple's HTTP/2 provider API, binary gateway and "+
			"feedback service, FCM and Web Push.\n\n"+
			"Usage: apns-simulator [flags]\n\n%s\nAn address of \"\" switches a service off; port 0 takes a free one.\n"+
			"Single notifications are made to fail by their token: see --list-magic-tokens.\n", flags.FlagUsages())
	}

	flags.StringVar(&c.Provider, "provider", "127.0.0.1:2197", "address of the HTTP/2 provider API")
	flags.StringVar(&c.Gateway, "gateway", "127.0.0.1:2195", "address of the binary gateway")
	flags.StringVar(&c.Feedback, "feedback", "127.0.0.1:2196", "address of the feedback service")
	flags.StringVar(&c.FCM.Address, "fcm", "127.0.0.1:2198", "address of FCM: HTTP v1 and its token endpoint")
	flags.StringVar(&c.WebPush.Address, "webpush", "127.0.0.1:2199", "address of the Web Push service")
	flags.StringVar(&c.Page, "page", "127.0.0.1:8082", "address of the page that shows what arrived (plain HTTP)")
	flags.StringVar(&c.CredentialsDir, "certs", "",
		"keep the CA, the client certificate, the .p8 key, the service account and the seed of subscriptions in this "+
			"directory, and make them there if it has none (default: in memory)")
	flags.StringSliceVar(&c.Hosts, "host", nil, "further host names or addresses for the server certificate")
	flags.StringVar(&c.Topic, "topic", simulator.DefaultTopic, "topic of the client certificate")
	flags.StringVar(&c.CertificateFile, "cert", "", "server certificate (PEM) in place of the made one")
	flags.StringVar(&c.KeyFile, "key", "", "its key (PEM)")
	flags.StringVar(&c.CAFile, "ca", "", "CA (PEM) that signed it, and client certificates")
	flags.BoolVar(&c.RequireClientCert, "require-client-cert", false,
		"refuse binary and feedback connections without a client certificate of the CA")
	flags.BoolVar(&c.VerifyProviderTokens, "verify-provider-tokens", false,
		"verify the signature of provider tokens with the key in --certs")
	flags.DurationVar(&c.ProviderTokenInterval, "provider-token-interval", 0,
		"429 TooManyProviderTokenUpdates to a new provider token within this time (Apple: 20m)")
	flags.Uint32Var(&c.MaxConcurrentStreams, "streams", 1000, "MAX_CONCURRENT_STREAMS once a provider token was accepted")
	flags.Uint32Var(&c.ConnectionWindow, "connection-window", 1<<20,
		"flow-control window of an HTTP/2 connection, in bytes")
	flags.Uint32Var(&c.StreamWindow, "stream-window", 1<<16-1, "flow-control window of an HTTP/2 stream, in bytes")
	flags.StringVar(&o.record, "record", "all",
		"what is kept: all (counts, and the last notifications), counts (per token), totals")
	flags.IntVar(&c.Recent, "recent", 1000, "how many of the last notifications are kept")
	flags.BoolVar(&c.TrackIDs, "track-ids", false, "count what is accepted twice under one apns-id")

	flags.DurationVar(&f.Latency, "latency", 0, "delay of every answer")
	flags.DurationVar(&f.LateDelay, "late-delay", time.Second, "further delay of what is answered late")
	flags.Float64Var(&f.BadTokenPercent, "bad-token-percent", 0, "share answered status 8, or 400 BadDeviceToken")
	flags.IntVar(&f.ShutdownAfter, "shutdown-after", 0, "binary: status 10 after n notifications of a connection")
	flags.IntVar(&f.DropAfter, "drop-after", 0, "binary: close without an answer after n")
	flags.IntVar(&f.ResetAfter, "reset-after", 0, "binary: TCP reset after n")
	flags.IntVar(&f.UnknownIdentifierAfter, "unknown-identifier-after", 0, "binary: status 2, identifier 0, after n")
	flags.BoolVar(&f.Acknowledge, "acknowledge", false, "binary: status 0 for each accepted notification")
	flags.BoolVar(&f.NeverEOF, "never-eof", false, "binary: do not close after the client's half-close")
	flags.BoolVar(&f.FeedbackNeverClose, "feedback-never-close", false, "feedback: send the list and stay open")
	flags.BoolVar(&f.FeedbackCut, "feedback-cut", false, "feedback: close in the middle of the last tuple")
	flags.IntVar(&f.FeedbackTokenLength, "feedback-token-length", 0, "feedback: cut or pad tokens to n bytes")
	flags.Float64Var(&f.UnregisteredPercent, "unregistered-percent", 0, "provider API: share answered 410 Unregistered")
	flags.Float64Var(&f.TooManyRequestsPercent, "too-many-requests-percent", 0,
		"provider API: share answered 429 TooManyRequests")
	flags.Float64Var(&f.InternalErrorPercent, "internal-error-percent", 0,
		"provider API: share answered 500 InternalServerError")
	flags.Float64Var(&f.ServiceUnavailablePercent, "service-unavailable-percent", 0,
		"provider API: share answered 503 ServiceUnavailable")
	flags.IntVar(&f.GoAwayEvery, "go-away-every", 0, "provider API: GOAWAY after n requests of a connection")
	flags.IntVar(&f.RefuseEvery, "refuse-every", 0, "provider API: REFUSED_STREAM to each n-th request")
	flags.IntVar(&f.SlowEvery, "slow-every", 0, "provider API: answer each n-th request late")
	flags.IntVar(&f.NeverAnswerEvery, "never-answer-every", 0, "provider API: never answer each n-th request")
	flags.IntVar(&f.OneStreamAfter, "one-stream-after", 0,
		"provider API: allow one stream only after n requests, until the next success")

	fcmFlags(flags, &c.FCM)
	webPushFlags(flags, &c.WebPush)

	flags.BoolVar(&o.listMagic, "list-magic-tokens", false,
		"list the tokens that make a notification fail, of every service, and exit")
	flags.TextVar(&o.logLevel, "log-level", slog.LevelInfo, "debug, info, warn or error")
	return flags
}

// fcmFlags are the flags of FCM.
func fcmFlags(flags *pflag.FlagSet, c *fcmsim.Config) {
	f := &c.Faults
	flags.StringVar(&c.Host, "fcm-host", "",
		"FCM: host name that senders reach it by, for the service account (default: that of --fcm)")
	flags.Uint32Var(&c.MaxStreams, "fcm-streams", 100,
		"FCM: streams of a connection; one more ends it (GOAWAY with code 1)")
	flags.BoolVar(&c.RefuseStreams, "fcm-refuse-streams", false, "FCM: refuse one stream more instead")
	flags.DurationVar(&c.TokenLife, "fcm-token-life", time.Hour, "FCM: how long an access token is good")
	flags.StringVar(&f.TokenError, "fcm-token-error", "",
		"FCM: what the token endpoint answers in place of access tokens: invalid_grant, invalid_scope, invalid_client, …, "+
			"429, 500 or 503")
	flags.DurationVar(&f.Latency, "fcm-latency", 0, "FCM: delay of every answer")
	flags.DurationVar(&f.LateDelay, "fcm-late-delay", time.Second, "FCM: further delay of what is answered late")
	flags.DurationVar(&f.RetryAfter, "fcm-retry-after", 0, "FCM: Retry-After of the 429 and 503 by percentage; 0: none")
	flags.DurationVar(&f.DeadAfter, "fcm-dead-after", 0,
		"FCM: 404 UNREGISTERED to each target so long after its first message")
	flags.Float64Var(&f.UnregisteredPercent, "fcm-unregistered-percent", 0, "FCM: share answered 404 UNREGISTERED")
	flags.Float64Var(&f.InvalidPercent, "fcm-invalid-percent", 0, "FCM: share answered 400 INVALID_ARGUMENT of the token")
	flags.Float64Var(&f.QuotaPercent, "fcm-quota-percent", 0, "FCM: share answered 429 QUOTA_EXCEEDED of the project")
	flags.Float64Var(&f.InternalPercent, "fcm-internal-percent", 0, "FCM: share answered 500 INTERNAL")
	flags.Float64Var(&f.UnavailablePercent, "fcm-unavailable-percent", 0, "FCM: share answered 503 UNAVAILABLE")
	flags.Float64Var(&f.BadGatewayPercent, "fcm-bad-gateway-percent", 0, "FCM: share answered 502 with HTML")
	flags.Float64Var(&f.UnauthorizedPercent, "fcm-unauthorized-percent", 0, "FCM: share answered 401 ACCESS_TOKEN_EXPIRED")
	flags.Float64Var(&f.SenderMismatchPercent, "fcm-sender-mismatch-percent", 0,
		"FCM: share answered 403 SENDER_ID_MISMATCH")
	flags.IntVar(&f.GoAwayEvery, "fcm-go-away-every", 0, "FCM: GOAWAY after n messages of a connection")
	flags.IntVar(&f.RefuseEvery, "fcm-refuse-every", 0, "FCM: REFUSED_STREAM to each n-th message")
	flags.IntVar(&f.SlowEvery, "fcm-slow-every", 0, "FCM: answer each n-th message late")
	flags.IntVar(&f.NeverAnswerEvery, "fcm-never-answer-every", 0, "FCM: never answer each n-th message")
}

// webPushFlags are the flags of Web Push.
func webPushFlags(flags *pflag.FlagSet, c *webpushsim.Config) {
	f := &c.Faults
	flags.StringVar(&c.Host, "webpush-host", "localhost", "Web Push: host name in the endpoints")
	flags.Uint32Var(&c.MaxStreams, "webpush-streams", 100, "Web Push: MAX_CONCURRENT_STREAMS")
	flags.BoolVar(&c.NoHTTP2, "webpush-no-http2", false, "Web Push: offer HTTP/1.1 only")
	flags.BoolVar(&c.KeepEncrypted, "webpush-keep-encrypted", false, "Web Push: do not decrypt, for benchmarks")
	flags.StringVar(&f.Everything, "webpush-everything", "",
		"Web Push: what the origin does to everything, in place of a push service: silent, redirects, accept-all, html or "+
			"garbage")
	flags.BoolVar(&f.Offline, "webpush-offline", false,
		"Web Push: browsers are away; messages wait, and one with the same topic replaces another")
	flags.DurationVar(&f.Latency, "webpush-latency", 0, "Web Push: delay of every answer")
	flags.DurationVar(&f.LateDelay, "webpush-late-delay", time.Second, "Web Push: further delay of what is answered late")
	flags.DurationVar(&f.RetryAfter, "webpush-retry-after", 0,
		"Web Push: Retry-After of the 429 and 503 by percentage; 0: none")
	flags.DurationVar(&f.DeadAfter, "webpush-dead-after", 0,
		"Web Push: 410 to each subscription so long after its first message")
	flags.Float64Var(&f.GonePercent, "webpush-gone-percent", 0, "Web Push: share answered 410")
	flags.Float64Var(&f.NotFoundPercent, "webpush-not-found-percent", 0, "Web Push: share answered 404")
	flags.Float64Var(&f.TooManyPercent, "webpush-too-many-requests-percent", 0, "Web Push: share answered 429")
	flags.Float64Var(&f.InternalPercent, "webpush-internal-percent", 0, "Web Push: share answered 500")
	flags.Float64Var(&f.UnavailablePercent, "webpush-unavailable-percent", 0, "Web Push: share answered 503")
	flags.Float64Var(&f.MismatchPercent, "webpush-vapid-mismatch-percent", 0,
		"Web Push: share answered 403 VapidPkHashMismatch")
	flags.IntVar(&f.GoAwayEvery, "webpush-go-away-every", 0, "Web Push: GOAWAY after n messages of a connection")
	flags.IntVar(&f.RefuseEvery, "webpush-refuse-every", 0, "Web Push: REFUSED_STREAM to each n-th message")
	flags.IntVar(&f.SlowEvery, "webpush-slow-every", 0, "Web Push: answer each n-th message late")
	flags.IntVar(&f.NeverAnswerEvery, "webpush-never-answer-every", 0, "Web Push: never answer each n-th message")
}
