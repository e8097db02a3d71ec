package sender

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/queue"
)

func TestSendsWhatIsHandedOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, nil)
		pass(time.Second)
		one, many := r.give(note("a"), 1), r.give(note("b"), 2500)
		pass(2 * settleEvery) // what did not come into the first transaction is in the next
		r.want(one, map[push.Outcome]int{push.Accepted: 1})
		r.want(many, map[push.Outcome]int{push.Accepted: 2500})
		if n := r.q.left(); n != 0 {
			t.Errorf("%d rows are left", n)
		}
	})
}

func TestFindsWhatWasNotHandedOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, nil)
		pass(time.Second)
		n := note("a")
		r.q.accept(n, 3000)
		later := note("a")
		later.SendAt = time.Now().Add(1300 * time.Millisecond)
		r.q.accept(later, 1)
		pass(300 * time.Millisecond)
		r.want(n, map[push.Outcome]int{push.Accepted: 3000})
		r.want(later, nil)
		pass(990 * time.Millisecond)
		r.want(later, nil)
		pass(30 * time.Millisecond)
		r.want(later, map[push.Outcome]int{push.Accepted: 1})
		if got := r.tr["a"].sendsOf(n); got != 3000 {
			t.Errorf("sent %d times, want 3000", got)
		}
	})
}

func TestAnIdleSenderAsksLittle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, nil)
		pass(10 * time.Second)
		r.q.mu.Lock()
		defer r.q.mu.Unlock()
		if polls := 10 * 4; r.q.statements > polls+25+3 { // the polls', and the looks for what was cancelled
			t.Errorf("%d statements in 10 idle seconds", r.q.statements)
		}
	})
}

func TestShutdownLosesAndRepeatsNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, func(r *rig, _ *Config, apps map[string]RouteConfig) {
			r.tr["a"].delay = 2 * time.Second
			a := apps["a"]
			a.MaxRate = 5000 // so that batches are in flight in part
			apps["a"] = a
		})
		n := r.give(note("a"), 20_000)
		pass(1700 * time.Millisecond)
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		sent := r.tr["a"].sendsOf(n)
		r.want(n, map[push.Outcome]int{push.Accepted: sent})
		rows := 0
		for _, b := range r.q.rows {
			rows += len(b.Recipients)
		}
		if sent == 0 || sent+rows != 20_000 {
			t.Errorf("%d sent, %d still in rows, want 20,000 together", sent, rows)
		}
	})
}

// What was sent of a batch is settled also where another of its notification came back after that, and waits before it.
func TestShutdownSettlesWhatWaitsBehindOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, func(r *rig, _ *Config, apps map[string]RouteConfig) {
			a := apps["a"]
			a.MaxRate = 5000
			apps["a"] = a
			r.tr["a"].delay = 2 * time.Second
			r.tr["a"].answer = func(d *push.Delivery) push.Result {
				if index(d.Token) < queue.MaxBatch {
					return push.Result{Outcome: push.NotSent, Reason: push.ConnectionLost}
				}
				return push.Result{Outcome: push.Accepted}
			}
		})
		n := r.give(note("a"), 2*queue.MaxBatch)
		pass(300 * time.Millisecond)
		taken := 0
		for _, s := range r.tr["a"].sends() {
			if index(s.token) >= queue.MaxBatch {
				taken++
			}
		}
		if taken == 0 || taken == queue.MaxBatch {
			t.Fatalf("%d of the second batch were sent", taken)
		}
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		r.want(n, map[push.Outcome]int{push.Accepted: taken})
	})
}

func TestShutdownDoesNotWaitForEver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, func(r *rig, _ *Config, _ map[string]RouteConfig) { r.tr["a"].stuck = make(chan struct{}) })
		n := r.give(note("a"), 1500)
		pass(time.Second)
		began := time.Now()
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > 11*time.Second {
			t.Errorf("took %v", took)
		}
		r.want(n, nil)
		if left := r.q.left(); left != 2 {
			t.Errorf("%d rows are left, want both", left)
		}
	})
}

func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, func(r *rig, _ *Config, apps map[string]RouteConfig) {
			r.tr["a"].delay = 100 * time.Millisecond
			a := apps["a"]
			a.InFlight, a.Memory = 4000, 16_000
			apps["a"] = a
		})
		all := make([]*push.Notification, 0, 10)
		for range 10 {
			n := note("a")
			all = append(all, r.give(n, 10_000))
		}
		peak := 0
		for range 200 {
			pass(50 * time.Millisecond)
			a := r.s.routes.Load().byOutlet[queue.Outlet{App: "a", Route: push.Production}]
			a.mu.Lock()
			peak = max(peak, a.backlog.inMemory[queue.Urgent]+a.backlog.inMemory[queue.Bulk])
			a.mu.Unlock()
		}
		if peak > 16_000 || r.tr["a"].peak > 4000 {
			t.Errorf("%d recipients in memory, %d in flight", peak, r.tr["a"].peak)
		}
		for _, n := range all {
			r.want(n, map[push.Outcome]int{push.Accepted: 10_000})
		}
		if a := r.s.routes.Load().byOutlet[queue.Outlet{App: "a", Route: push.Production}]; a.backlog.inMemory != [2]int{} || a.backlog.ready != [2]int{} || a.inFlight != 0 || len(a.backlog.notifications) != 0 {
			t.Errorf("something is counted still: %v %v %d %d", a.backlog.inMemory, a.backlog.ready, a.inFlight, len(a.backlog.notifications))
		}
	})
}
