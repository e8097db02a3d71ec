package queue

import (
	"testing"
	"time"

	"github.com/lhspn/lhspn/internal/push"
)

// TestToldAgain: APNs names the same time of death each time. A token that came back from an older list, or stayed
// because of a wave, goes when it is called dead again; what was decided of the others stays as it is.
func TestToldAgain(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		dead := r.now().UTC().Add(-time.Hour).Truncate(time.Millisecond)
		reg := registry{db: r.db}
		register := func(at time.Time, i int) { reg.put(t, at, token(i)) }
		answered := func(is ...int) {
			t.Helper()
			for _, i := range is {
				r.accept(push.Submission{Routes: production, Notification: r.notification(), Tokens: tokens(i, i+1)})
				for _, b := range r.due() {
					r.settle(r.settlement(b, push.Result{Outcome: push.Unregistered, Status: 410, DeadAt: dead.UnixMicro()}))
				}
			}
		}
		read := func(is ...int) {
			t.Helper()
			var told []push.Invalidation
			for _, i := range is {
				told = append(told, push.Invalidation{App: app, Token: token(i), At: dead, Source: push.SourceFeedback})
			}
			if err := r.RecordInvalidations(t.Context(), told); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 6 {
			register(dead.Add(-time.Hour), i)
		}
		answered(0, 1)
		read(2, 3)
		register(dead.Add(time.Minute), 1) // registered again since
		if got := r.decided(); !got[token(0)] || got[token(1)] || !got[token(2)] || !got[token(3)] || len(got) != 4 {
			t.Fatalf("told once: %v", got)
		}
		answered(4)
		if page, err := r.KeepUnregistered(t.Context(), app, push.PlatformSet{}, 10); err != nil || len(page) != 1 || page[0].Removed {
			t.Fatalf("in a wave: %+v, %v", page, err)
		}

		register(dead.Add(-time.Minute), 0) // as an import of an older list has them
		register(dead.Add(-time.Minute), 2)
		answered(0, 1, 4)
		read(2, 3) // 3 is not there any more
		if got := r.decided(); !got[token(0)] || !got[token(2)] || !got[token(4)] || len(got) != 3 {
			t.Errorf("told again: %v", got)
		}
		if n := r.scalar("SELECT COUNT(*) FROM device_tokens"); n != 2 {
			t.Errorf("%d tokens are left, want 1 and 5", n)
		}
		if n := r.scalar("SELECT COUNT(*) FROM invalidations WHERE removed = 1"); n != 4 {
			t.Errorf("the history has %d removals, want 0, 2, 3 and 4", n)
		}
	})
}
