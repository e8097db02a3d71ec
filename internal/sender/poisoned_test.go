package sender

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lhspn/lhspn/internal/push"
)

// A device of which the service always answers "later", or nothing, holds up no broadcast that begins with it, on a
// route that was idle and so knows of nothing else.
func TestAPoisonedDeviceHoldsUpNoBroadcast(t *testing.T) {
	t.Parallel()
	for name, verdict := range map[string]push.Result{
		"later":           {Outcome: push.Retry, Reason: reasonServiceUnavailable, Status: 500},
		"later, as asked": {Outcome: push.Retry, Reason: reasonServiceUnavailable, Status: 500, RetryAfter: 10 * time.Second},
		"no answer":       {Outcome: push.NotSent, Reason: push.NoAnswer},
		"ignored":         {Outcome: push.Retry, Reason: push.NoAnswer, RetryAfter: 10 * time.Second},
	} {
		for _, size := range []int{2, 50, 3000} {
			for _, before := range []bool{false, true} {
				t.Run(fmt.Sprint(name, size, before), func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) { poisonedDevice(t, verdict, size, before) })
				})
			}
		}
	}
}

// poisonedDevice sends a broadcast that begins with it. before: the route is paused when that comes.
func poisonedDevice(t *testing.T, verdict push.Result, size int, before bool) {
	t.Helper()
	var mu sync.Mutex
	poisoned := map[push.Token]bool{} // the first that is ever sent to
	r := start(t, func(r *rig, _ *Config, _ map[string]RouteConfig) {
		r.tr["a"].delay = 5 * time.Second
		r.tr["a"].answer = func(d *push.Delivery) push.Result {
			mu.Lock()
			defer mu.Unlock()
			if len(poisoned) == 0 || poisoned[d.Token] {
				poisoned[d.Token] = true
				return verdict
			}
			return push.Result{Outcome: push.Accepted}
		}
	})
	if before {
		r.give(note("a"), 1)
		pass(time.Minute)
	}
	n := r.give(note("a"), size)
	pass(4 * time.Minute)
	if got := r.q.outcomes(n)[push.Accepted]; got != size-1 {
		t.Errorf("%d of %d accepted after four minutes", got, size-1)
	}
}
