package sender

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/lhspn/lhspn/internal/push"
)

// A slow gateway, 2 recipients a millisecond, in the middle of a broadcast: one token's push must not wait for what is
// queued in the transport.
func TestAnUrgentNotificationOvertakesABroadcast(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, func(r *rig, _ *Config, apps map[string]RouteConfig) {
			a := apps["a"]
			a.QueueTarget = 50 * time.Millisecond
			a.Transport = newSerialTransport(2000)
			apps["a"] = a
		})
		broadcast := r.give(note("a"), 40_000)
		pass(5 * time.Second)
		waits := make([]time.Duration, 0, 30)
		for range 30 {
			start := time.Now()
			one := r.give(note("a"), 1)
			for len(r.q.outcomes(one)) == 0 {
				pass(time.Millisecond)
			}
			waits = append(waits, time.Since(start))
			pass(37 * time.Millisecond)
		}
		for i, w := range waits {
			if w > 120*time.Millisecond {
				t.Errorf("urgent notification %d took %v (all: %v)", i, w, waits)
				break
			}
		}
		pass(17 * time.Second)
		r.want(broadcast, map[push.Outcome]int{push.Accepted: 40_000})
	})
}

func TestAStalledGatewayTakesNothingFromOtherApps(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, func(r *rig, _ *Config, _ map[string]RouteConfig) {
			r.tr["a"].stuck = make(chan struct{})
			r.tr["a"].window = make(chan struct{}, 2)
		})
		stalled := r.give(note("a"), 10_000)
		for range 20 { // fills its memory, and so what is read and not only handed over
			r.q.accept(note("a"), 10_000)
		}
		pass(time.Second)
		n := r.give(note("b"), 20_000)
		found := note("b")
		r.q.accept(found, 1000)
		pass(time.Second)
		r.want(stalled, nil)
		r.want(n, map[push.Outcome]int{push.Accepted: 20_000})
		r.want(found, map[push.Outcome]int{push.Accepted: 1000})
		close(r.tr["a"].stuck)
		pass(5 * time.Second)
		if left := r.q.left(); left != 0 {
			t.Errorf("%d rows are left", left)
		}
	})
}

func TestTwoBroadcastsShare(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, func(_ *rig, _ *Config, apps map[string]RouteConfig) {
			a := apps["a"]
			a.MaxRate = 1000
			apps["a"] = a
		})
		first := note("a")
		r.q.broadcast(first, 20_000)
		pass(5 * time.Second)
		// It is due from now on: a row whose due time is over a second ago when it comes is only found by a rescan, if
		// it is in the shard of the first.
		second := note("a")
		second.ID[len(second.ID)-1] = first.ID[len(first.ID)-1]
		r.q.broadcast(second, 20_000)
		pass(10 * time.Second)
		if n := len(r.q.outcomes(second)); n > 0 && r.tr["a"].sendsOf(second) < 4000 {
			t.Errorf("the second was sent to %d in 10 s", r.tr["a"].sendsOf(second))
		}
		if f, s := r.tr["a"].sendsOf(first), r.tr["a"].sendsOf(second); s < 4000 || f < 9000 {
			t.Errorf("sent %d and %d, want about 10,000 and 5,000", f, s)
		}
	})
}

func TestRates(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, func(_ *rig, _ *Config, apps map[string]RouteConfig) {
			a := apps["a"]
			a.MaxRate = 500
			apps["a"] = a
		})
		n := r.give(note("a"), 5000)
		slow := note("b")
		slow.Rate = 100
		r.q.broadcast(slow, 3000)
		quick := r.give(note("b"), 2000)
		for second := 1; second <= 10; second++ {
			pass(time.Second)
			if got := r.tr["a"].sendsOf(n); got > second*500+50 || got < second*500-100 {
				t.Errorf("after %d s the app has sent %d, want about %d", second, got, second*500)
			}
			if got := r.tr["b"].sendsOf(slow); got > second*100+10 || got < second*100-60 {
				t.Errorf("after %d s the notification was sent to %d, want about %d", second, got, second*100)
			}
		}
		r.want(quick, map[push.Outcome]int{push.Accepted: 2000})
		pass(25 * time.Second)
		r.want(slow, map[push.Outcome]int{push.Accepted: 3000})
	})
}

// What a notification's own low rate keeps waiting must not fill the memory that the app's other notifications need;
// and it must not fall below its rate either, though its results come seconds later.
func TestASlowNotificationTakesNothingFromOthers(t *testing.T) {
	t.Parallel()
	for _, explicit := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			r := start(t, func(r *rig, _ *Config, _ map[string]RouteConfig) {
				r.tr["a"].delay = 3 * time.Second
				r.tr["a"].window = make(chan struct{}, 10_000)
			})
			rates := []uint32{1, 10, 10, 10, 10, 100, 400, 1500}
			slow := make([]*push.Notification, len(rates))
			for i, rate := range rates {
				slow[i] = note("a")
				slow[i].Rate = rate
				if explicit {
					r.give(slow[i], 10_000)
				} else {
					r.q.broadcast(slow[i], 100_000)
				}
			}
			pass(10 * time.Second)
			quick, many := note("a"), note("a")
			r.q.broadcast(quick, 60_000)
			r.give(many, 10_000)
			pass(20 * time.Second)
			r.want(many, map[push.Outcome]int{push.Accepted: 10_000})
			pass(20 * time.Second)
			r.want(quick, map[push.Outcome]int{push.Accepted: 60_000})
			for i, rate := range rates {
				want, least := 50*int(rate), 45*int(rate)
				if explicit { // the next ones are read when the quick ones leave room
					want, least = min(want, 10_000), min(35*int(rate), 10_000)
				}
				if got := r.tr["a"].sendsOf(slow[i]); got < least || got > want+int(rate) {
					t.Errorf("at %d a second (explicit: %v) %d were sent in 50 s", rate, explicit, got)
				}
			}
		})
	}
}
