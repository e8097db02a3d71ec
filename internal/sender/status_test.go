package sender

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/queue"
)

func TestRoutesSayWhatTheyDoAndWhy(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mended atomic.Bool
		r := start(t, func(r *rig, _ *Config, _ map[string]RouteConfig) {
			r.tr["a"].answer = func(*push.Delivery) push.Result {
				if mended.Load() {
					return push.Result{Outcome: push.Accepted}
				}
				return push.Result{Outcome: push.Blocked, Reason: reasonInvalidProviderToken, Status: 403}
			}
		})
		if all := r.s.Routes(); len(all) != 2 || all[0].App != "a" || all[1].Kind != "binary" || all[0].Pause != (Pause{}) {
			t.Fatalf("before anything is sent: %+v", all)
		}
		r.give(note("a"), 3)
		r.give(note("b"), 1500)
		pass(time.Second)
		all := r.s.Routes()
		a, b := all[0], all[1]
		if a.Pause.Cause != "configuration" || a.Pause.Reason != reasonInvalidProviderToken ||
			!a.Pause.Until.After(time.Now()) || a.Ready[queue.Urgent]+a.Ready[queue.Bulk] != 3 {
			t.Errorf("a refused route: %+v", a)
		}
		if b.Pause != (Pause{}) || b.Sums != [2]Sums{queue.Bulk: {Accepted: 1500}} || b.InFlight != 0 {
			t.Errorf("a route that sends: %+v", b)
		}
		mended.Store(true)
		pass(time.Minute)
		if a := r.s.Routes()[0]; a.Pause != (Pause{}) || a.Sums[0].Accepted+a.Sums[1].Accepted != 3 || a.Sums[0].Later+a.Sums[1].Later == 0 {
			t.Errorf("a route that is mended: %+v", a)
		}
	})
}
