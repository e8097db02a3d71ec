package sender

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/queue"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a sender with its fakes, in a synctest bubble.
type rig struct {
	t    *testing.T
	q    *fakeQueue
	s    *Sender
	logs *locked
	stop func() error
	tr   map[string]*fakeTransport
}

// start runs a sender of apps a and b. change may adapt what it is told.
func start(t *testing.T, change func(r *rig, cfg *Config, apps map[string]RouteConfig)) *rig {
	t.Helper()
	r := &rig{t: t, q: newFakeQueue(), logs: &locked{}, tr: map[string]*fakeTransport{"a": newFakeTransport(), "b": newFakeTransport()}}
	cfg := Config{}
	apps := map[string]RouteConfig{"a": {Transport: r.tr["a"], Kind: "http2"}, "b": {Transport: r.tr["b"], Kind: "binary"}}
	if change != nil {
		change(r, &cfg, apps)
	}
	outlets := map[queue.Outlet]RouteConfig{}
	for name, c := range apps {
		outlets[queue.Outlet{App: name, Route: push.Production}] = c
	}
	s, err := New(cfg, r.q, outlets, slog.New(slog.NewTextHandler(r.logs, nil)), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	r.s = s
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	stopped := false
	r.stop = func() error {
		stopped = true
		cancel()
		return <-ended
	}
	t.Cleanup(func() {
		if !stopped {
			if err := r.stop(); err != nil {
				t.Error(err)
			}
		}
		if n := r.q.held(); n != 0 {
			t.Errorf("%d leases were not released", n)
		}
	})
	return r
}

type locked struct {
	mu sync.Mutex
	w  bytes.Buffer
}

func (l *locked) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.String()
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// give hands the notification over as an acceptance does.
func (r *rig) give(n *push.Notification, count int) *push.Notification {
	r.s.Handoff(n, r.q.accept(n, count))
	return n
}

// pass lets time pass.
func pass(d time.Duration) {
	time.Sleep(d) //nolint:forbidigo // in a synctest bubble
	synctest.Wait()
}

// want checks the counts of a notification.
func (r *rig) want(n *push.Notification, want map[push.Outcome]int) {
	r.t.Helper()
	got := r.q.outcomes(n)
	for o := push.Pending; o <= push.Cancelled; o++ {
		if got[o] != want[o] {
			r.t.Errorf("%s: %d, want %d (all: %v)", o, got[o], want[o], got)
		}
	}
}
