package sender

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lhspn/lhspn/internal/push"
)

// What nobody takes all day is tried ever more seldom, so that a lone notification that is itself at fault is not sent
// tens of thousands of times; one that comes then is tried as soon as ever, and a service that is back is noticed
// within a minute.
func TestALongOutageIsTriedSeldom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var away atomic.Bool
		away.Store(true)
		poisoned := note("a")
		poisoned.Expiration = time.Now().Add(72 * time.Hour)
		r := start(t, func(r *rig, cfg *Config, _ map[string]RouteConfig) {
			cfg.Poll = 5 * time.Second // nothing comes from others
			r.tr["a"].answer = func(d *push.Delivery) push.Result {
				if away.Load() || d.Notification.ID == poisoned.ID {
					return push.Result{Outcome: push.Retry, Reason: reasonServiceUnavailable, Status: 500}
				}
				return push.Result{Outcome: push.Accepted}
			}
		})
		r.give(poisoned, 1)
		pass(2 * time.Hour)
		before := r.tr["a"].sendsOf(poisoned)
		pass(time.Hour)
		if sends := r.tr["a"].sendsOf(poisoned) - before; sends < 60 || sends > 500 {
			t.Errorf("sent %d times in the third hour", sends)
		}
		other := r.give(note("a"), 1)
		pass(15 * time.Second)
		if r.tr["a"].sendsOf(other) == 0 {
			t.Error("one that came was not tried within 15 s")
		}
		pass(time.Hour)
		away.Store(false)
		pass(2 * time.Minute) // a probe each, at the most
		r.want(other, map[push.Outcome]int{push.Accepted: 1})
	})
}

// A service that takes nothing for a while, as provider tokens that were made too often, is asked ever more seldom: each
// time costs it a connection.
func TestAThrottledRouteIsTriedSeldom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		throttled := &push.Reason{Text: "TooManyProviderTokenUpdates", Class: push.ClassRoute, Remedy: "wait 20 minutes"}
		var over atomic.Bool
		r := start(t, func(r *rig, _ *Config, _ map[string]RouteConfig) {
			r.tr["a"].answer = func(*push.Delivery) push.Result {
				if over.Load() {
					return push.Result{Outcome: push.Accepted}
				}
				return push.Result{Outcome: push.NotSent, Reason: throttled}
			}
		})
		n := r.give(note("a"), 1)
		pass(20 * time.Minute)
		if sends := r.tr["a"].sendsOf(n); sends < 40 || sends > 160 {
			t.Errorf("sent %d times in 20 minutes", sends)
		}
		over.Store(true)
		pass(31 * time.Second)
		r.want(n, map[push.Outcome]int{push.Accepted: 1})
	})
}
