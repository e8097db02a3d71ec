package sender

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/queue"
)

// limits is how many notifications have a limit of their own in memory.
func (r *rig) limits() int {
	r.s.rates.mu.Lock()
	defer r.s.rates.mu.Unlock()
	return len(r.s.rates.of)
}

// A notification's rate is that of all the ways it goes, each of which has its turns; and it is forgotten when nothing
// of the notification is in memory.
func TestRoutesShareANotificationsRate(t *testing.T) {
	t.Parallel()
	for _, rate := range []uint32{4, 100, 1000} {
		synctest.Test(t, func(t *testing.T) {
			r := start(t, nil)
			const other = push.Route("other")
			both := map[push.Route]*fakeTransport{"": r.tr["a"], other: newFakeTransport()}
			c := RouteConfig{Transport: both[other], Kind: "http2"}
			if err := r.s.SetRoutes(map[queue.Outlet]*RouteConfig{{App: "a", Route: other}: &c}); err != nil {
				t.Fatal(err)
			}
			n := note("a")
			n.Rate = rate
			count := 12 * int(rate)
			for route := range both {
				for _, b := range r.q.acceptFor(route, n, len(route)*count, count) {
					r.s.Handoff(n, []*queue.Batch{b})
				}
			}
			for second := 1; second <= 20; second++ {
				pass(time.Second)
				one, two := both[""].sendsOf(n), both[other].sendsOf(n)
				most := second*int(rate) + max(1, int(rate)/10)
				if sent := one + two; sent > most || sent < most-most/10-2 {
					t.Errorf("at %d a second %d are sent after %d s", rate, sent, second)
				}
				if one > two+two/2+4 || two > one+one/2+4 {
					t.Errorf("at %d a second one route sent %d in %d s, the other %d", rate, one, second, two)
				}
			}
			if n := r.limits(); n != 1 {
				t.Errorf("%d limits", n)
			}
			pass(10 * time.Second)
			r.want(n, map[push.Outcome]int{push.Accepted: 2 * count})
			if n := r.limits(); n != 0 {
				t.Errorf("%d limits are kept", n)
			}
		})
	}
}

// A route that goes leaves the limits that it had.
func TestARouteThatGoesLeavesItsRates(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, nil)
		n := note("a")
		n.Rate = 10
		r.give(n, 500)
		pass(time.Second)
		if n := r.limits(); n != 1 {
			t.Errorf("%d limits", n)
		}
		if err := r.s.SetRoutes(map[queue.Outlet]*RouteConfig{{App: "a"}: nil}); err != nil {
			t.Fatal(err)
		}
		pass(retireLimit + time.Second)
		if n := r.limits(); n != 0 {
			t.Errorf("%d limits are kept", n)
		}
	})
}

// Of two routes one may ask with a time that is older than the other's, and no more goes for that.
func TestReservedInAnyOrderOfTimes(t *testing.T) {
	t.Parallel()
	n := note("a")
	n.Rate = 100
	own := newRates().take(n)
	begin := time.Now()
	const reservations = 1000
	var last time.Time
	for i := range reservations {
		now := begin.Add(time.Duration(i) * 25 * time.Millisecond)
		if i%2 == 1 {
			now = now.Add(-40 * time.Millisecond)
		}
		_, last = own.reserve(5, now)
	}
	if took, least := last.Sub(begin), (reservations-3)*50*time.Millisecond; took < least {
		t.Errorf("%d went in %v, not %v", 5*reservations, took, least)
	}
}
