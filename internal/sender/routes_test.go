package sender

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/queue"
)

// set changes the route of the app; nil takes it away.
func (r *rig) set(app string, tr *fakeTransport) {
	r.t.Helper()
	var c *RouteConfig
	if tr != nil {
		c = &RouteConfig{Transport: tr, Kind: "http2", InFlight: 2000, Memory: 8000}
	}
	if err := r.s.SetRoutes(map[queue.Outlet]*RouteConfig{{App: app, Route: push.Production}: c}); err != nil {
		r.t.Fatal(err)
	}
}

// A route that is replaced in the middle of a broadcast: everybody gets it once, what was in flight by the former one.
func TestRouteReplacedDuringBroadcast(t *testing.T) {
	t.Parallel()
	for name, give := range map[string]func(r *rig, n *push.Notification, count int){
		"tokens":   func(r *rig, n *push.Notification, count int) { r.give(n, count) },
		"audience": func(r *rig, n *push.Notification, count int) { r.s.Handoff(n, []*queue.Batch{r.q.broadcast(n, count)}) },
		"badges": func(r *rig, n *push.Notification, count int) {
			n.BadgeIncrement = 1
			r.give(n, count)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				const recipients = 30_000
				r := start(t, func(r *rig, _ *Config, apps map[string]RouteConfig) {
					r.tr["a"].delay, r.tr["a"].window = 300*time.Millisecond, make(chan struct{}, 2)
					a := apps["a"]
					a.InFlight, a.Memory = 2000, 8000
					apps["a"] = a
				})
				n := note("a")
				give(r, n, recipients)
				pass(time.Second)
				next := newFakeTransport()
				next.delay = 300 * time.Millisecond
				r.set("a", next)
				synctest.Wait()
				before := r.tr["a"].sendsOf(n)
				if before == 0 || before == recipients {
					t.Fatalf("the former route has sent %d of %d: not in the middle", before, recipients)
				}
				pass(time.Minute)
				r.want(n, map[push.Outcome]int{push.Accepted: recipients})
				if got := r.tr["a"].sendsOf(n); got != before {
					t.Errorf("the former route sent %d more", got-before)
				}
				// What the former one had begun is not sent by the other, and the rest is sent once.
				if got := next.sendsOf(n); got != recipients-before {
					t.Errorf("the route in its place sent %d, want %d", got, recipients-before)
				}
			})
		})
	}
}

// What waits for an app that is taken away stays in the queue, and is sent when the app is there again. Nothing is
// shown of it meanwhile.
func TestRouteTakenAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, func(r *rig, _ *Config, _ map[string]RouteConfig) {
			r.tr["a"].answer = func(d *push.Delivery) push.Result { return push.Result{Outcome: push.Retry, Reason: push.NoAnswer} }
		})
		n, other := r.give(note("a"), 100), note("b")
		synctest.Wait()
		r.set("a", nil)
		r.give(other, 100)
		late := r.give(note("a"), 1)
		pass(time.Minute)
		r.want(other, map[push.Outcome]int{push.Accepted: 100})
		r.want(n, nil)
		r.want(late, nil)
		shown := make(chan prometheus.Metric, 100)
		r.s.metrics.ready.Collect(shown)
		if got := len(shown); got != 2 { // the lanes of b
			t.Errorf("%d series are shown, want those of the app that is there alone", got)
		}
		again := newFakeTransport()
		r.set("a", again)
		pass(10 * time.Second)
		r.want(n, map[push.Outcome]int{push.Accepted: 100})
		r.want(late, map[push.Outcome]int{push.Accepted: 1})
	})
}

// An app that was not there when the sender began.
func TestRouteAdded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, nil)
		n := r.give(note("c"), 5000)
		pass(time.Second)
		r.set("c", newFakeTransport())
		pass(time.Second)
		r.want(n, map[push.Outcome]int{push.Accepted: 5000})
	})
}

// A sender that ends while a former route still has notifications in flight waits for their results too.
func TestEndsWhileRouteRetires(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, func(r *rig, cfg *Config, _ map[string]RouteConfig) {
			cfg.Drain = 5 * time.Second
			r.tr["a"].delay = 3 * time.Second
			r.tr["b"].delay = time.Hour
		})
		n, lost := r.give(note("a"), 100), r.give(note("b"), 100)
		synctest.Wait()
		r.set("a", newFakeTransport())
		r.set("b", newFakeTransport())
		pass(time.Second)
		began := time.Now()
		if err := r.stop(); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took > 6*time.Second {
			t.Errorf("it took %v", took)
		}
		r.want(n, map[push.Outcome]int{push.Accepted: 100})
		r.want(lost, nil) // its row is there still
	})
}
