// Command apns-simulator is a stand-in for Apple's push service on this machine: the binary gateway, the feedback service
// and the HTTP/2 provider API, with a page that shows what arrived.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"github.com/lhspn/lhspn/internal/simulator"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// options are the flags that are not the simulator's configuration itself.
type options struct {
	simulator simulator.Config
	record    string
	logLevel  slog.Level
	listMagic bool
}

func run(args []string, stdout, stderr io.Writer) int {
	opts, err := parse(args, stderr)
	switch {
	case errors.Is(err, pflag.ErrHelp):
		return 0
	case err != nil:
		_, _ = fmt.Fprintln(stderr, "apns-simulator:", err)
		return 2
	}
	if opts.listMagic {
		for _, magic := range simulator.MagicTokens() {
			_, _ = fmt.Fprintf(stdout, "%s  %s\n", magic[0], magic[1])
		}
		return 0
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: opts.logLevel}))
	if err := serve(ctx, opts.simulator, stdout, log); err != nil {
		_, _ = fmt.Fprintln(stderr, "apns-simulator:", err)
		return 1
	}
	return 0
}

func serve(ctx context.Context, cfg simulator.Config, stdout io.Writer, log *slog.Logger) error {
	s, err := simulator.New(cfg, log)
	if err != nil {
		return err
	}
	for _, line := range [][2]string{
		{"provider API", s.ProviderAddr()}, {"binary gateway", s.GatewayAddr()}, {"feedback service", s.FeedbackAddr()},
	} {
		if line[1] != "" {
			_, _ = fmt.Fprintf(stdout, "%-17s %s\n", line[0], line[1])
		}
	}
	if s.PageAddr() != "" {
		_, _ = fmt.Fprintf(stdout, "%-17s http://%s/\n", "page", s.PageAddr())
	}
	if cfg.CredentialsDir != "" {
		_, _ = fmt.Fprintf(stdout, "%-17s %s: ca.pem, client.pem, client.p12 (password %q), AuthKey_%s.p8 (team %s)\n",
			"credentials", cfg.CredentialsDir, simulator.P12Password, simulator.ProviderKeyID, simulator.TeamID)
	}
	_, _ = fmt.Fprintln(stdout, "ready")
	return s.Run(ctx)
}

// parse reads the flags and checks what they say together.
func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	flags := flagSet(&o, stderr)
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	c := &o.simulator
	switch o.record {
	case "all":
		c.Record = simulator.RecordAll
	case "counts":
		c.Record = simulator.RecordCounts
	case "totals":
		c.Record = simulator.RecordTotals
	default:
		return o, fmt.Errorf("--record is all, counts or totals, not %q", o.record)
	}
	if (c.CertificateFile == "") != (c.KeyFile == "") {
		return o, errors.New("--cert and --key go together")
	}
	return o, nil
}

// flagSet is the flags, which docs/simulator.md explains.
func flagSet(o *options, stderr io.Writer) *pflag.FlagSet {
	c, f := &o.simulator, &o.simulator.Faults
	flags := pflag.NewFlagSet("apns-simulator", pflag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.SortFlags = false
	flags.Usage = func() {
		_, _ = fmt.Fprintf(stderr, "A stand-in for Apple's push service: binary gateway, feedback service and HTTP/2 provider API.\n\n"+
			"Usage: apns-simulator [flags]\n\n%s\nAn address of \"\" switches a service off; port 0 takes a free one.\n"+
			"Single notifications are made to fail by their token: see --list-magic-tokens.\n", flags.FlagUsages())
	}

	flags.StringVar(&c.Provider, "provider", "127.0.0.1:2197", "address of the HTTP/2 provider API")
	flags.StringVar(&c.Gateway, "gateway", "127.0.0.1:2195", "address of the binary gateway")
	flags.StringVar(&c.Feedback, "feedback", "127.0.0.1:2196", "address of the feedback service")
	flags.StringVar(&c.Page, "page", "127.0.0.1:8082", "address of the page that shows what arrived (plain HTTP)")
	flags.StringVar(&c.CredentialsDir, "certs", "", "keep the CA, the client certificate and the .p8 key in this directory, "+
		"and make them there if it has none (default: in memory)")
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
	flags.Uint32Var(&c.ConnectionWindow, "connection-window", 1<<20, "flow-control window of an HTTP/2 connection, in bytes")
	flags.Uint32Var(&c.StreamWindow, "stream-window", 1<<16-1, "flow-control window of an HTTP/2 stream, in bytes")
	flags.StringVar(&o.record, "record", "all", "what is kept: all (counts, and the last notifications), counts (per token), totals")
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
	flags.Float64Var(&f.TooManyRequestsPercent, "too-many-requests-percent", 0, "provider API: share answered 429 TooManyRequests")
	flags.Float64Var(&f.InternalErrorPercent, "internal-error-percent", 0, "provider API: share answered 500 InternalServerError")
	flags.Float64Var(&f.ServiceUnavailablePercent, "service-unavailable-percent", 0, "provider API: share answered 503 ServiceUnavailable")
	flags.IntVar(&f.GoAwayEvery, "go-away-every", 0, "provider API: GOAWAY after n requests of a connection")
	flags.IntVar(&f.RefuseEvery, "refuse-every", 0, "provider API: REFUSED_STREAM to each n-th request")
	flags.IntVar(&f.SlowEvery, "slow-every", 0, "provider API: answer each n-th request late")
	flags.IntVar(&f.NeverAnswerEvery, "never-answer-every", 0, "provider API: never answer each n-th request")
	flags.IntVar(&f.OneStreamAfter, "one-stream-after", 0, "provider API: allow one stream only after n requests, until the next success")

	flags.BoolVar(&o.listMagic, "list-magic-tokens", false, "list the tokens that make a notification fail, and exit")
	flags.TextVar(&o.logLevel, "log-level", slog.LevelInfo, "debug, info, warn or error")
	return flags
}
