package sender

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/lhspn/lhspn/internal/push"
)

// What a transaction stored may have been found, sent and forgotten when its answer comes: it is not sent again for that.
func TestLateAnswersSendNothingTwice(t *testing.T) {
	t.Parallel()
	for name, late := range map[string]func(q *fakeQueue){
		"of an expansion":  func(q *fakeQueue) { q.expandLate = 7 * time.Second },
		"of a settlement":  func(q *fakeQueue) { q.settleLate = 11 * time.Second },
		"soon enough":      func(q *fakeQueue) { q.expandLate, q.settleLate = 100*time.Millisecond, 100*time.Millisecond },
		"of one and other": func(q *fakeQueue) { q.expandLate, q.settleLate = 6*time.Second, 6*time.Second },
	} {
		synctest.Test(t, func(t *testing.T) { // which names no subtest
			r := start(t, func(r *rig, _ *Config, _ map[string]RouteConfig) {
				late(r.q)
				r.tr["a"].answer = func(d *push.Delivery) push.Result {
					if d.Attempts == 0 && d.Token == token(7) {
						return push.Result{Outcome: push.Retry, Reason: reasonServiceUnavailable, Status: 503}
					}
					return push.Result{Outcome: push.Accepted}
				}
			})
			n := note("a")
			r.q.broadcast(n, 3000)
			pass(10 * time.Minute)
			r.want(n, map[push.Outcome]int{push.Accepted: 3000})
			if sends := r.tr["a"].sendsOf(n); sends != 3001 || r.q.twice > 0 {
				t.Errorf("%s: %d sends, want 3,001; %d results too many", name, sends, r.q.twice)
			}
		})
	}
}
