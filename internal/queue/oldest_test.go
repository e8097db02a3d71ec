package queue

import (
	"testing"
	"time"

	"github.com/lhspn/lhspn/internal/push"
)

func TestOldestDue(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		want := func(least, most time.Duration) {
			t.Helper()
			if got, err := r.OldestDue(t.Context()); err != nil || got < least || got > most {
				t.Errorf("due since %v, %v; want %v to %v", got, err, least, most)
			}
		}
		want(0, 0)
		scheduled := r.notification()
		scheduled.SendAt = scheduled.SendAt.Add(time.Hour)
		r.accept(push.Submission{Routes: production, Notification: scheduled, Tokens: tokens(0, 2)})
		want(0, 0) // it is not due
		late := r.notification()
		late.SendAt = late.SendAt.Add(-10 * time.Minute)
		r.accept(push.Submission{Routes: production, Notification: late, Tokens: tokens(0, 2)})
		want(10*time.Minute, 20*time.Minute)
		for _, b := range r.due() {
			r.settle(r.settlement(b, accepted))
		}
		want(0, 0)
	})
}
