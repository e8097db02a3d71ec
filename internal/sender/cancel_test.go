package sender

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/queue"
)

func TestCancelStopsWithinASecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, func(_ *rig, _ *Config, apps map[string]RouteConfig) {
			a := apps["a"]
			a.MaxRate = 100
			apps["a"] = a
		})
		ready, stored, audience := r.give(note("a"), 5000), note("a"), note("a")
		stored.SendAt = time.Now().Add(time.Hour)
		r.q.accept(stored, 2000)
		one := note("a")
		one.SendAt = stored.SendAt
		r.q.accept(one, 1)
		r.q.broadcast(audience, 9000)
		pass(2 * time.Second)
		sent := r.tr["a"].sendsOf(ready)
		r.q.cancel(ready.ID, stored.ID, audience.ID, one.ID)
		pass(time.Second)
		more := r.tr["a"].sendsOf(ready) - sent
		if more > 100 {
			t.Errorf("%d were sent after it was cancelled", more)
		}
		r.want(ready, map[push.Outcome]int{push.Accepted: sent + more, push.Cancelled: 5000 - sent - more})
		r.want(stored, map[push.Outcome]int{push.Cancelled: 2000})
		r.want(one, map[push.Outcome]int{push.Cancelled: 1})
		if left := r.q.left(); left != 0 {
			t.Errorf("%d rows are left", left)
		}
	})
}

// Of a cancelled notification a part is in flight and a part was never in memory. The one is settled while the other
// comes back unsent.
func TestCancelWhatIsInFlightAndWhatIsNotInMemory(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, func(r *rig, _ *Config, apps map[string]RouteConfig) {
			r.tr["a"].stuck = make(chan struct{})
			r.tr["a"].answer = func(*push.Delivery) push.Result {
				return push.Result{Outcome: push.NotSent, Reason: push.ConnectionLost}
			}
			a := apps["a"]
			a.InFlight, a.Memory = 2000, 8000
			apps["a"] = a
		})
		n := r.give(note("a"), 20_000)
		pass(time.Second)
		r.q.cancel(n.ID)
		pass(2 * time.Second)
		close(r.tr["a"].stuck)
		pass(2 * time.Second)
		r.want(n, map[push.Outcome]int{push.Cancelled: 20_000})
		if a := r.s.routes.Load().byOutlet[queue.Outlet{App: "a", Route: push.Production}]; a.backlog.inMemory != [2]int{} || a.backlog.ready != [2]int{} || len(a.backlog.notifications) != 0 {
			t.Errorf("something is counted still: %v %v %d", a.backlog.inMemory, a.backlog.ready, len(a.backlog.notifications))
		}
	})
}

// recaller is a transport that answers nothing until it is to take back what it can, which is all but the first.
type recaller struct {
	*fakeTransport
	taken chan uuid.UUID
}

func (t *recaller) Recall(id uuid.UUID) {
	t.taken <- id
	close(t.stuck)
}

// TestCancelRecalls: what a transport has not begun to send of a cancelled notification is counted as cancelled.
func TestCancelRecalls(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		slow := &recaller{taken: make(chan uuid.UUID, 1)}
		r := start(t, func(r *rig, _ *Config, apps map[string]RouteConfig) {
			slow.fakeTransport = r.tr["a"]
			slow.stuck = make(chan struct{})
			slow.answer = func(d *push.Delivery) push.Result {
				if d.Token == slow.sends()[0].token {
					return push.Result{Outcome: push.Accepted}
				}
				return push.Recalled
			}
			a := apps["a"]
			a.Transport = slow
			apps["a"] = a
		})
		n := r.give(note("a"), 3000)
		pass(time.Second)
		r.q.cancel(n.ID)
		pass(2 * time.Second)
		if id := <-slow.taken; id != n.ID {
			t.Errorf("%v was taken back, want %v", id, n.ID)
		}
		r.want(n, map[push.Outcome]int{push.Accepted: 1, push.Cancelled: 2999})
	})
}
