package webpush

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lhspn/lhspn/internal/http2/http2test"
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/simulator/webpushsim"
)

// simulated is a transport to the simulator, which has its cryptography from others than we do.
type simulated struct {
	*rig
	sim *webpushsim.Simulator
}

func newSimulated(t *testing.T, cfg webpushsim.Config, change func(*limits)) *simulated {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	certPEM, keyPEM := http2test.PEM()
	cert, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Address, cfg.Host = "127.0.0.1:0", "127.0.0.1"
	sim, err := webpushsim.New(cfg, cert, log)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(certPEM)
	s := &simulated{sim: sim, rig: &rig{tb: t, registry: &registry{addresses: map[push.Token][]byte{}}, vapid: newVAPID(t)}}
	s.Transport = New(Config{
		App: "hedgehog", Route: Route, VAPID: s.vapid, Origins: parseOrigins(t, sim.Origin()), Subscriptions: s.registry, RootCAs: roots,
	}, log, NewMetrics(prometheus.NewRegistry()))
	s.keys = newKeyPool(2)
	s.limitsOf = func(o origin, connections int) limits {
		l := limitsOf(o, connections)
		change(&l)
		return l
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- sim.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	})
	s.run()
	return s
}

// subscribe registers what a browser of the simulator gives, whose messages meet with the fault.
func (s *simulated) subscribe(name string) push.Token {
	s.tb.Helper()
	fault, err := webpushsim.ParseFault(name)
	if err != nil {
		s.tb.Fatal(err)
	}
	given, err := s.sim.Subscribe(s.vapid.PublicKey(), fault)
	if err != nil {
		s.tb.Fatal(err)
	}
	text, _ := json.Marshal(given)
	subscription, faults := ParseSubscription(text, "body", s.cfg.Origins, time.Now())
	if len(faults) > 0 {
		s.tb.Fatal(faults)
	}
	if subscription.Token() != given.Token() {
		s.tb.Fatalf("the token is %s, and the simulator's %s", subscription.Token(), given.Token())
	}
	return s.register(&subscription)
}

// TestHTTP2IsAskedForAgain: a service that did not offer HTTP/2 once may do so later.
func TestHTTP2IsAskedForAgain(t *testing.T) {
	t.Parallel()
	for _, still := range []bool{true, false} {
		s := newSimulated(t, webpushsim.Config{NoHTTP2: still}, func(*limits) {})
		token := s.subscribe("")
		s.send(note("x"), token)
		s.mu.Lock()
		var p *peer
		for _, p = range s.peers {
			if p.http1(time.Now()) != still {
				t.Errorf("HTTP/1.1 %t: until %v", still, p.http1Until)
			}
			p.http1Until = time.Now().Add(-time.Second) // ten minutes later
		}
		s.mu.Unlock()
		if got := s.send(note("x"), token)[0]; got.Outcome != push.Accepted {
			t.Errorf("HTTP/1.1 %t, later: %+v", still, got)
		}
		s.mu.Lock()
		if p.http1(time.Now()) != still {
			t.Errorf("HTTP/1.1 %t, later: until %v", still, p.http1Until)
		}
		s.mu.Unlock()
	}
}

// TestSimulatedRows: what each answer of the simulator, made by others from the services' documents, means here.
func TestSimulatedRows(t *testing.T) {
	t.Parallel()
	const wait = 2 * time.Second // of the simulator's Retry-After
	rows := []struct {
		name string
		want push.Result
	}{
		{"", push.Result{Outcome: push.Accepted, Status: 201}},
		{"bad-request", push.Result{Outcome: push.Failed, Reason: BadRequest, Status: 400}},
		{"bad-ttl", push.Result{Outcome: push.Failed, Reason: BadTTL, Status: 400}},
		{"bad-vapid-key", push.Result{Outcome: push.Failed, Reason: BadVapidPublicKey, Status: 400}},
		{"too-large-400", push.Result{Outcome: push.Failed, Reason: BadRequest, Status: 400}},
		{"unauthorized", push.Result{Outcome: push.Failed, Reason: Unauthorized, Status: 401}},
		{"unauthorized-text", push.Result{Outcome: push.Failed, Reason: Unauthorized, Status: 401}},
		{"bad-jwt", push.Result{Outcome: push.Failed, Reason: BadJwtToken, Status: 403}},
		{"bad-authorization", push.Result{Outcome: push.Failed, Reason: BadAuthorizationHeader, Status: 403}},
		{"vapid-mismatch", push.Result{Outcome: push.Failed, Reason: VapidPkHashMismatch, Status: 403}},
		{"vapid-mismatch-text", push.Result{Outcome: push.Failed, Reason: VapidPkHashMismatch, Status: 403}},
		{"not-found", push.Result{Outcome: push.Unregistered, Reason: NotFound, Status: 404}},
		{"bad-path", push.Result{Outcome: push.Unregistered, Reason: BadPath, Status: 404}},
		{"method-not-allowed", push.Result{Outcome: push.Failed, Reason: MethodNotAllowed, Status: 405}},
		{"throttled", push.Result{Outcome: push.Retry, Reason: TooManyRequests, Status: 406}},
		{"throttled-retry-after", push.Result{Outcome: push.Retry, Reason: TooManyRequests, Status: 406, RetryAfter: wait}},
		{"gone", push.Result{Outcome: push.Unregistered, Reason: Gone, Status: 410}},
		{"gone-apple", push.Result{Outcome: push.Unregistered, Reason: Gone, Status: 410}},
		{"gone-text", push.Result{Outcome: push.Unregistered, Reason: Gone, Status: 410}},
		{"too-large", push.Result{Outcome: push.Failed, Reason: PayloadTooLarge, Status: 413}},
		{"too-many-requests", push.Result{Outcome: push.Retry, Reason: TooManyRequests, Status: 429}},
		{"too-many-requests-retry-after", push.Result{Outcome: push.Retry, Reason: TooManyRequests, Status: 429, RetryAfter: wait}},
		{"too-many-requests-date", push.Result{Outcome: push.Retry, Reason: TooManyRequests, Status: 429, RetryAfter: wait}},
		{"internal", push.Result{Outcome: push.Retry, Reason: InternalServerError, Status: 500}},
		{"bridge", push.Result{Outcome: push.Retry, Reason: ServiceUnavailable, Status: 502}},
		{"unavailable", push.Result{Outcome: push.Retry, Reason: ServiceUnavailable, Status: 503}},
		{"unavailable-retry-after", push.Result{Outcome: push.Retry, Reason: ServiceUnavailable, Status: 503, RetryAfter: wait}},
		{"shutdown", push.Result{Outcome: push.Retry, Reason: Shutdown, Status: 503}},
		{"gateway-timeout", push.Result{Outcome: push.Retry, Reason: ServiceUnavailable, Status: 504}},
		{"moved", push.Result{Outcome: push.Failed, Reason: Redirected, Status: 301}},
		{"redirect", push.Result{Outcome: push.Failed, Reason: Redirected, Status: 307}},
		{"permanent-redirect", push.Result{Outcome: push.Failed, Reason: Redirected, Status: 308}},
		{"ok", push.Result{Outcome: push.Accepted, Status: 200}},
		{"accepted", push.Result{Outcome: push.Accepted, Status: 202}},
		{"wns-dropped", push.Result{Outcome: push.Failed, Reason: Dropped, Status: 201}},
		{"wns-throttled", push.Result{Outcome: push.Failed, Reason: ChannelThrottled, Status: 201}},
		{"html", push.Result{Outcome: push.Retry, Reason: UnrecognizedAnswer, Status: 200}},
		{"html-502", push.Result{Outcome: push.Retry, Reason: ServiceUnavailable, Status: 502}},
		{"garbage", push.Result{Outcome: push.Unregistered, Reason: Gone, Status: 410}},
		{"teapot", push.Result{Outcome: push.Failed, Reason: push.UnknownReason, Status: 418}},
	}
	for _, http1 := range []bool{false, true} {
		s := newSimulated(t, webpushsim.Config{NoHTTP2: http1}, func(*limits) {})
		good := s.subscribe("")
		for _, row := range rows {
			token := s.subscribe(row.name)
			results := s.send(note(`{"web_push":8030}`), token)
			got := results[0]
			got.DeadAt = 0
			if left := row.want.RetryAfter - got.RetryAfter; left > 0 && left <= time.Second {
				got.RetryAfter = row.want.RetryAfter // a date has whole seconds
			}
			if got != row.want {
				t.Errorf("HTTP/1.1 %t, %q: %+v, not %+v", http1, row.name, got, row.want)
			}
			// The others are not touched by it.
			if got := s.send(note("x"), good)[0]; got.Outcome != push.Accepted {
				t.Fatalf("HTTP/1.1 %t, after %q: %+v", http1, row.name, got)
			}
		}
		for _, received := range s.sim.Received(good) {
			if received.Payload != "x" || received.Urgency != "high" {
				t.Fatalf("the browser got %+v", received)
			}
		}
	}
}

// TestSimulatedConnections: what befalls a connection costs nothing, where another one is well.
func TestSimulatedConnections(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"goaway", "drop-once", "reset-once", "refuse-once", "stream-error-once"} {
		if _, err := webpushsim.ParseFault(name); err != nil {
			t.Errorf("%s: %v; there are %v", name, err, webpushsim.MagicSubscriptions())
			continue
		}
		s := newSimulated(t, webpushsim.Config{}, func(*limits) {})
		token := s.subscribe(name)
		if got := s.send(note("x"), token)[0]; got.Outcome != push.Accepted {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// TestRefusedStreamSlowsNoOther: a subscription whose stream is always refused delays nothing of its origin, however
// little else is sent there.
func TestRefusedStreamSlowsNoOther(t *testing.T) {
	t.Parallel()
	s := newSimulated(t, webpushsim.Config{}, func(*limits) {})
	bad, good := s.subscribe("refuse"), s.subscribe("")
	want := push.NotSent // nobody was answered yet
	for i := range 5 {
		if got := s.send(note("x"), bad)[0]; got.Outcome != want || got.Reason != OriginUnreachable {
			t.Errorf("%d: the refused one is %+v", i, got)
		}
		if got := s.send(note("x"), good)[0]; got.Outcome != push.Accepted {
			t.Fatalf("%d: another is %+v", i, got)
		}
		want = push.Retry
	}
}

// TestSimulatedStrangers: an origin that is no push service.
func TestSimulatedStrangers(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]struct {
		outcome push.Outcome
		reason  *push.Reason
		status  uint16
	}{
		webpushsim.OriginSilent:    {push.NotSent, OriginSilent, 0},
		webpushsim.OriginRedirects: {push.Failed, Redirected, http.StatusTemporaryRedirect},
		webpushsim.OriginAcceptAll: {push.Accepted, nil, http.StatusOK},
		webpushsim.OriginHTML:      {push.Retry, UnrecognizedAnswer, http.StatusOK},
		webpushsim.OriginGarbage:   {push.Retry, ServiceUnavailable, http.StatusBadGateway},
	} {
		for _, http1 := range []bool{false, true} {
			s := newSimulated(t, webpushsim.Config{NoHTTP2: http1, Faults: webpushsim.Faults{Everything: name}}, func(l *limits) {
				if name == webpushsim.OriginSilent {
					l.answer = 200 * time.Millisecond
				}
			})
			got := s.send(note("x"), s.subscribe(""))[0]
			if got.Outcome != want.outcome || got.Reason != want.reason || got.Status != want.status {
				t.Errorf("%s, HTTP/1.1 %t: %+v", name, http1, got)
			}
		}
	}
}
