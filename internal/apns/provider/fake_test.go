package provider

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/lhspn/lhspn/internal/apns"
	"github.com/lhspn/lhspn/internal/apns/credentials"
	"github.com/lhspn/lhspn/internal/apns/payload"
	"github.com/lhspn/lhspn/internal/http2/http2test"
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/push/pushtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bubble runs f in a bubble, in parallel with other tests.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, f)
}

func elapse(d time.Duration) { time.Sleep(d) } //nolint:forbidigo // in a synctest bubble

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func reasonBody(reason string) string { return fmt.Sprintf(`{"reason":%q}`, reason) }

func testTokens(tb testing.TB) *credentials.ProviderTokens {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	p, err := credentials.NewProviderTokens(key, "ABC123DEFG", "DEF123GHIJ")
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

// number is the number in the request's token, as pushtest.HexToken wrote it.
func number(r *http2test.Request) int {
	t, err := push.ParseToken(strings.TrimPrefix(r.Headers[":path"], pathPrefix))
	if err != nil {
		return -1
	}
	return pushtest.NumberOf([]byte(t))
}

var testNotification = &push.Notification{
	ID: uuid.MustParse("01890a5d-ac96-774b-bcce-b302099a8057"), Key: "com.example.app", Type: payload.TypeAlert, Priority: 10,
	Payload: push.Payload{JSON: []byte(`{"aps":{"alert":"hello"}}`)},
}

// tester runs a transport against a gateway and checks that every group is done exactly once.
type tester struct {
	testing.TB
	*pushtest.Ledger
	tr     *Transport
	gw     *http2test.Gateway
	cancel context.CancelFunc
	ran    chan error
}

func startTransport(tb testing.TB, cfg Config, serve func(n int, p *http2test.Peer)) *tester {
	tb.Helper()
	t := newTester(tb, cfg, &http2test.Gateway{Serve: serve})
	tb.Cleanup(t.stop)
	return t
}

// newTester starts a transport that the caller stops. Without a gateway it dials as cfg says.
func newTester(tb testing.TB, cfg Config, gw *http2test.Gateway) *tester {
	tb.Helper()
	cfg.App = "test"
	if gw != nil {
		cfg.Address, cfg.TLS, cfg.Dial = "api.push.apple.com:443", http2test.TLS(), gw.Dial
	}
	ctx, cancel := context.WithCancel(context.Background())
	t := &tester{
		TB: tb, Ledger: pushtest.NewLedger(), tr: New(cfg, quiet(), apns.NewMetrics(prometheus.NewRegistry())), gw: gw,
		cancel: cancel, ran: make(chan error, 1),
	}
	go func() { t.ran <- t.tr.Run(ctx) }()
	return t
}

func (t *tester) stop() {
	t.cancel()
	if err := <-t.ran; err != nil {
		t.Errorf("Run: %v", err)
	}
	if t.gw != nil {
		t.gw.Wait()
	}
	t.Balanced(t)
}

// send hands over a group of the deliveries numbered from to to-1.
func (t *tester) send(n *push.Notification, from, to int) *push.Group {
	t.Helper()
	g := &push.Group{}
	for i := from; i < to; i++ {
		g.Deliveries = append(g.Deliveries, push.Delivery{Notification: n, Recipient: push.Recipient{Token: pushtest.HexToken(i)}})
	}
	t.sendGroup(g)
	return g
}

func (t *tester) sendGroup(g *push.Group) {
	t.Helper()
	t.Enter(g)
	if err := t.tr.Send(context.Background(), g); err != nil {
		t.Errorf("Send: %v", err)
	}
}

// want fails unless every delivery of g has this outcome and reason.
func (t *tester) want(g *push.Group, o push.Outcome, r *push.Reason) {
	t.Helper()
	for i := range g.Deliveries {
		if got := g.Deliveries[i].Result; got.Outcome != o || got.Reason != r {
			t.Errorf("delivery %d: %v %v, want %v %v", i, got.Outcome, got.Reason, o, r)
			return
		}
	}
}
