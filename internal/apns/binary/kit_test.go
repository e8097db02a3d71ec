package binary

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/lhspn/lhspn/internal/apns"
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/push/pushtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var testNotification = &push.Notification{
	ID: uuid.MustParse("01890a5d-ac96-774b-bcce-b302099a8057"), Priority: 10,
	Payload: push.Payload{JSON: []byte(`{"aps":{"alert":"hello"}}`)},
}

// tester runs a Transport against a gateway and keeps the groups.
type tester struct {
	pushtest.Reporter
	*pushtest.Ledger
	b      *Transport
	gw     *gateway
	cancel context.CancelFunc
	ran    chan error
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func start(tb testing.TB, cfg Config, serve func(n int, c *gatewayConn)) *tester {
	tb.Helper()
	return startWith(tb, cfg, &gateway{serve: serve})
}

func startWith(tb testing.TB, cfg Config, gw *gateway) *tester {
	tb.Helper()
	t := newTester(tb, cfg, gw)
	tb.Cleanup(t.stop)
	return t
}

// newTester starts a Transport that the caller stops: rapid's tests have no cleanup of their own.
func newTester(tb pushtest.Reporter, cfg Config, gw *gateway) *tester {
	cfg.App = "test"
	b := New(cfg, quiet(), apns.NewMetrics(prometheus.NewRegistry()))
	if gw != nil {
		b.dial = gw.dial
	}
	ctx, cancel := context.WithCancel(context.Background())
	t := &tester{Reporter: tb, Ledger: pushtest.NewLedger(), b: b, gw: gw, cancel: cancel, ran: make(chan error, 1)}
	go func() { t.ran <- b.Run(ctx) }()
	return t
}

// stop ends the transport and checks that every group was done exactly once.
func (t *tester) stop() {
	t.cancel()
	if err := <-t.ran; err != nil {
		t.Errorf("Run: %v", err)
	}
	if t.gw != nil {
		t.gw.wg.Wait()
	}
	t.Balanced(t)
}

// group makes a group of the deliveries numbered from to to-1, and send hands it over.
func (t *tester) send(from, to int) *push.Group {
	t.Helper()
	g := &push.Group{}
	for n := from; n < to; n++ {
		g.Deliveries = append(g.Deliveries, push.Delivery{Notification: testNotification, Recipient: push.Recipient{Token: pushtest.HexToken(n)}})
	}
	t.sendGroup(g)
	return g
}

func (t *tester) sendGroup(g *push.Group) {
	t.Helper()
	t.Enter(g)
	if err := t.b.Send(context.Background(), g); err != nil {
		t.Errorf("Send: %v", err)
	}
}

// outcomes is the results of g in short: one word for all alike, or one for each.
func outcomes(g *push.Group) string {
	s := ""
	for i := range g.Deliveries {
		r := g.Deliveries[i].Result
		w := r.Outcome.String()
		if r.Reason != nil {
			w += fmt.Sprintf("/%v/%d/%d", r.Reason, r.Status, r.Identifier)
		}
		if s != "" {
			s += " "
		}
		s += w
	}
	return s
}

// run runs b until the function it returns is called.
func run(tb testing.TB, b *Transport) (stop func()) {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- b.Run(ctx) }()
	return func() {
		cancel()
		if err := <-ran; err != nil {
			tb.Errorf("Run: %v", err)
		}
	}
}

func times(n int, word string) string { return strings.TrimSuffix(strings.Repeat(word+" ", n), " ") }

func check(t *testing.T, g *push.Group, want string) {
	t.Helper()
	if diff := cmp.Diff(strings.Fields(want), strings.Fields(outcomes(g))); diff != "" {
		t.Errorf("results: -want +got\n%s", diff)
	}
}

// bubble runs f with a clock of its own, in which no time passes while anything runs.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, f)
}

// elapse lets d go by on the bubble's clock.
func elapse(d time.Duration) { time.Sleep(d) } //nolint:forbidigo // in a synctest bubble

// stopNow is stop before the test's own checks; the cleanup then finds it done.
func (t *tester) stopNow() {
	t.cancel()
	t.gw.wg.Wait()
	err := <-t.ran
	t.ran <- err
}

// lines counts log lines by level.
type lines struct {
	slog.Handler
	mu sync.Mutex
	n  map[slog.Level]int
}

func (l *lines) Enabled(context.Context, slog.Level) bool { return true }
func (l *lines) WithAttrs([]slog.Attr) slog.Handler       { return l }

func (l *lines) Handle(_ context.Context, r slog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.n[r.Level]++
	return nil
}
