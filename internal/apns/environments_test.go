package apns

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lhspn/lhspn/internal/push"
)

// halfTransport is one of the two transports of an Environments. It keeps the groups it was given; the test ends them.
type halfTransport struct {
	refuses, fails error // of Send, of Drain and Run

	mu           sync.Mutex
	groups       []*push.Group
	ran, drained int
	reconnected  int
}

func (h *halfTransport) Send(_ context.Context, g *push.Group) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.refuses != nil {
		return h.refuses
	}
	h.groups = append(h.groups, g)
	return nil
}

func (h *halfTransport) Run(ctx context.Context) error {
	<-ctx.Done()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ran++
	return h.fails
}

func (h *halfTransport) Drain(context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.drained++
	return h.fails
}

func (h *halfTransport) Reconnect() { h.reconnected++ }

// end gives every delivery of the half's groups a result that names its token, and ends them.
func (h *halfTransport) end(t *testing.T, want push.Route) {
	t.Helper()
	for _, g := range h.groups {
		for i := range g.Deliveries {
			d := &g.Deliveries[i]
			if d.Notification.Environment != want {
				t.Errorf("delivery %d came to the wrong environment", numberOf([]byte(d.Token)))
			}
			d.Result = resultFor(numberOf([]byte(d.Token)))
		}
		g.Done(g)
	}
}

func resultFor(n int) push.Result {
	return push.Result{Outcome: push.Failed, Reason: BadDeviceToken, Status: uint16(n)}
}

// environmentsGroup is a group of a delivery for each character: p for production, s for sandbox. done counts its Dones.
func environmentsGroup(which string) (g *push.Group, done *int) {
	production, sandbox := *http2Notification, *http2Notification
	production.Environment, sandbox.Environment = push.Production, push.Sandbox
	done = new(int)
	g = &push.Group{Done: func(*push.Group) { *done++ }}
	for i, c := range which {
		n := &production
		if c == 's' {
			n = &sandbox
		}
		g.Deliveries = append(g.Deliveries, push.Delivery{Notification: n, Recipient: push.Recipient{Token: tokenOf(i)}})
	}
	return g, done
}

// Each delivery goes to its own environment and gets the result that it had there, and the group is done once.
func TestEnvironmentsSend(t *testing.T) {
	t.Parallel()
	for _, which := range []string{"p", "s", "pppp", "ssss", "ps", "sp", "psspsppps", "sppppp"} {
		for _, sandboxFirst := range []bool{false, true} {
			production, sandbox := &halfTransport{}, &halfTransport{}
			e := NewEnvironments(production, sandbox)
			g, done := environmentsGroup(which)
			if err := e.Send(t.Context(), g); err != nil {
				t.Fatal(err)
			}
			if *done != 0 {
				t.Errorf("%s: done before any part was", which)
			}
			if sandboxFirst {
				sandbox.end(t, push.Sandbox)
				production.end(t, push.Production)
			} else {
				production.end(t, push.Production)
				if len(sandbox.groups) > 0 && *done != 0 {
					t.Errorf("%s: done before the sandbox' part was", which)
				}
				sandbox.end(t, push.Sandbox)
			}
			if *done != 1 {
				t.Errorf("%s: Done was called %d times", which, *done)
			}
			for i := range g.Deliveries {
				if g.Deliveries[i].Result != resultFor(i) || g.Deliveries[i].Token != tokenOf(i) {
					t.Errorf("%s: delivery %d: %+v", which, i, g.Deliveries[i])
				}
			}
		}
	}
}

// The parts may end at the same instant, in goroutines of their own.
func TestEnvironmentsPartsEndTogether(t *testing.T) {
	t.Parallel()
	for range 200 {
		production, sandbox := &halfTransport{}, &halfTransport{}
		g, done := environmentsGroup("psps")
		if err := NewEnvironments(production, sandbox).Send(t.Context(), g); err != nil {
			t.Fatal(err)
		}
		var both sync.WaitGroup
		both.Go(func() { production.end(t, push.Production) })
		both.Go(func() { sandbox.end(t, push.Sandbox) })
		both.Wait()
		if *done != 1 || g.Deliveries[1].Result != resultFor(1) || g.Deliveries[2].Result != resultFor(2) {
			t.Fatalf("Done %d times: %+v", *done, g.Deliveries)
		}
	}
}

// Refused by production, nothing was taken. Refused by the sandbox once production has its part, that part alone is not sent.
func TestEnvironmentsOneRefuses(t *testing.T) {
	t.Parallel()
	refusal := errors.New("stopped")
	for _, which := range []string{"p", "pps"} {
		sandbox := &halfTransport{}
		g, done := environmentsGroup(which)
		if err := NewEnvironments(&halfTransport{refuses: refusal}, sandbox).Send(t.Context(), g); !errors.Is(err, refusal) {
			t.Errorf("%s: error %v", which, err)
		}
		if *done != 0 || len(sandbox.groups) != 0 {
			t.Errorf("%s: not taken, and Done was called %d times, %d groups sent", which, *done, len(sandbox.groups))
		}
	}

	g, done := environmentsGroup("s")
	if err := NewEnvironments(&halfTransport{}, &halfTransport{refuses: refusal}).Send(t.Context(), g); !errors.Is(err, refusal) || *done != 0 {
		t.Errorf("error %v, Done %d times", err, *done)
	}

	production := &halfTransport{}
	g, done = environmentsGroup("spps")
	if err := NewEnvironments(production, &halfTransport{refuses: refusal}).Send(t.Context(), g); err != nil {
		t.Fatalf("a part is taken, and yet: %v", err)
	}
	if *done != 0 {
		t.Error("done before production's part was")
	}
	production.end(t, push.Production)
	want := []push.Result{notSent, resultFor(1), resultFor(2), notSent}
	for i := range g.Deliveries {
		if g.Deliveries[i].Result != want[i] {
			t.Errorf("delivery %d: %+v, want %+v", i, g.Deliveries[i].Result, want[i])
		}
	}
	if *done != 1 {
		t.Errorf("Done was called %d times", *done)
	}
}

func TestEnvironmentsRunDrainReconnect(t *testing.T) {
	t.Parallel()
	failure := errors.New("failure")
	production, sandbox := &halfTransport{}, &halfTransport{}
	e := NewEnvironments(production, sandbox)
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- e.Run(ctx) }()
	e.Reconnect()
	if production.reconnected != 1 || sandbox.reconnected != 1 {
		t.Errorf("reconnected: production %d, sandbox %d", production.reconnected, sandbox.reconnected)
	}
	if err := e.Drain(t.Context()); err != nil || production.drained != 1 || sandbox.drained != 1 {
		t.Errorf("drained: production %d, sandbox %d, %v", production.drained, sandbox.drained, err)
	}
	cancel()
	if err := <-ran; err != nil || production.ran != 1 || sandbox.ran != 1 {
		t.Errorf("ran: production %d, sandbox %d, %v", production.ran, sandbox.ran, err)
	}

	sandbox.fails = failure
	if err := e.Drain(t.Context()); !errors.Is(err, failure) {
		t.Errorf("the sandbox does not drain: %v", err)
	}
	if err := e.Run(ctx); !errors.Is(err, failure) {
		t.Errorf("the sandbox does not run: %v", err)
	}
	NewEnvironments(&Binary{}, &Binary{}).Reconnect() // it has none, and needs none
}

// The two transports of an app share its metrics: what one does must not hide what the other has said.
func TestEnvironmentsMetrics(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := NewMetrics(prometheus.NewRegistry())
		half := func(address string) (*HTTP2, *http2Gateway) {
			gw := &http2Gateway{serve: func(_ int, p *http2Peer) {
				p.settings()
				p.acceptAll()
			}}
			h := NewHTTP2(HTTP2Config{App: "test", Address: address}, quiet(), m)
			h.open = gw.dial
			return h, gw
		}
		production, away := half("api.push.apple.com:443")
		sandbox, there := half("api.sandbox.push.apple.com:443")
		away.setDown(true)
		ctx, cancel := context.WithCancel(t.Context())
		e := NewEnvironments(production, sandbox)
		ran := make(chan error, 1)
		go func() { ran <- e.Run(ctx) }()
		for range 2 {
			g, _ := environmentsGroup("psps")
			done := make(chan struct{})
			g.Done = func(*push.Group) { close(done) }
			if err := e.Send(ctx, g); err != nil {
				t.Fatal(err)
			}
			<-done
			if g.Deliveries[0].Result.Outcome != push.NotSent || g.Deliveries[1].Result.Outcome != push.Accepted {
				t.Errorf("%+v", g.Deliveries)
			}
		}
		down := func(gateway string) float64 { return metricValue(m.down.WithLabelValues("test", "http2", gateway)) }
		if p, s := down("api.push.apple.com:443"), down("api.sandbox.push.apple.com:443"); p != 1 || s != 0 {
			t.Errorf("down: production %v, sandbox %v", p, s)
		}
		if n := metricValue(m.connections.WithLabelValues("test", "http2")); n != 1 {
			t.Errorf("%v connections", n)
		}
		cancel()
		if err := <-ran; err != nil {
			t.Error(err)
		}
		there.wg.Wait()
	})
}
