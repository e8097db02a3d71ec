package sender

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/queue"
)

func TestMemoryRemembersWhatJustLeft(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		it := &batch{Batch: &queue.Batch{Key: queue.Key{Shard: 3, Seq: 1}}}
		if r := m.add(it); r != notOurs {
			t.Errorf("of another replica's shard: %v", r)
		}
		if fresh, lost := m.own([]queue.Lease{{Shard: 3, Epoch: 7}}); len(fresh) != 1 || lost {
			t.Errorf("fresh %v, lost %v", fresh, lost)
		}
		if m.add(it) != admitted || it.epoch != 7 || m.add(it) != known {
			t.Error("it is not there once")
		}
		m.settled(it)
		m.turn()
		if m.add(it) != known {
			t.Error("what was read before it was settled would be sent again")
		}
		pass(goneFor - 1)
		m.turn()
		if m.add(it) != known {
			t.Error("forgotten before a read can be over")
		}
		pass(2)
		if m.turn(); m.add(it) != admitted {
			t.Error("remembered for ever")
		}
		if m.evict(it); m.add(it) != admitted {
			t.Error("what was dropped unsettled cannot come back")
		}
		if _, lost := m.own([]queue.Lease{{Shard: 3, Epoch: 8}}); !lost || m.ours(it) {
			t.Error("a lease that changed hands in between counts as kept")
		}
	})
}

func TestABroadcastLeavesRoomForUrgentOnes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		stuck := make(chan struct{})
		r := start(t, func(r *rig, _ *Config, _ map[string]RouteConfig) {
			r.tr["a"].stuck = stuck
			r.tr["a"].window = make(chan struct{}, 2)
			r.tr["a"].delay = 10 * time.Millisecond // else only the scheduler decides how many groups go before it
		})
		pass(time.Second)
		for range 20 {
			r.give(note("a"), 10_000)
		}
		pass(time.Second)
		before := len(r.tr["a"].sends())
		one := r.give(note("a"), 1)
		close(stuck)
		pass(time.Second)
		for i, s := range r.tr["a"].sends() {
			if s.n.ID == one.ID {
				if i > before+4*groupSize {
					t.Errorf("%d went before it", i-before)
				}
				return
			}
		}
		t.Error("it was not sent")
	})
}

func TestAGatewayThatGoesAwayIsOneFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const delay = 100 * time.Millisecond
		r := start(t, func(r *rig, _ *Config, _ map[string]RouteConfig) {
			r.tr["a"].answer = func(*push.Delivery) push.Result { return push.Result{Outcome: push.NotSent} }
			r.tr["a"].delay = delay
		})
		pass(time.Second)
		r.give(note("a"), 10_000)
		pass(delay + delay/2) // the groups have come back; the first probe, however soon it went, cannot have
		if n := len(r.tr["a"].sends()); n < 10_000 {
			t.Fatalf("only %d were in flight at once", n)
		}
		a := r.s.routes.Load().byOutlet[queue.Outlet{App: "a", Route: push.Production}]
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.breaker.route.failures != 1 || a.breaker.route.cause != causeConnection {
			t.Errorf("%d failures", a.breaker.route.failures)
		}
	})
}
