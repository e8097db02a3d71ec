package queue

import (
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/lhspn/lhspn/internal/push"
)

func TestPurge(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		old, waiting := r.notification(), r.notification()
		r.accept(push.Submission{Routes: production, Notification: old, Tokens: tokens(0, 1500)}, push.Submission{Routes: production, Notification: waiting, Tokens: tokens(0, 1)})
		for range 20 {
			r.accept(push.Submission{Routes: production, Notification: r.notification(), Tokens: tokens(0, 1)})
		}
		if _, err := r.Accept(t.Context(), &push.Request{App: app, IdempotencyKey: "key"}); err != nil {
			t.Fatal(err)
		}
		for _, b := range r.due() {
			result := accepted
			if b.Notification == waiting.ID {
				continue
			}
			if b.Notification == old.ID {
				result = push.Result{Outcome: push.Unregistered, Reason: reasonUnregistered, DeadAt: r.now().Add(-time.Hour).UnixMicro(), UniqueID: new(string)}
			}
			r.settle(r.settlement(b, result))
		}
		for {
			page, err := r.CheckInvalidations(t.Context(), app, push.PlatformSet{}, 1000)
			if err != nil {
				t.Fatal(err)
			}
			if len(page) == 0 {
				break
			}
		}
		purge := func(before time.Time) (total int) {
			for {
				n, err := r.Purge(t.Context(), before, 700)
				if err != nil {
					t.Fatal(err)
				}
				if n > 700+maxKeys {
					t.Errorf("a step of %d rows", n)
				}
				if total += n; n == 0 {
					return total
				}
			}
		}
		if n := purge(r.now().Add(-time.Hour)); n != 0 {
			t.Errorf("%d rows of what finished later were purged", n)
		}
		r.clock.Add(int64(48 * time.Hour))
		fresh := r.notification()
		r.accept(push.Submission{Routes: production, Notification: fresh, Tokens: tokens(0, 1)})
		for _, b := range r.due() {
			if b.Notification == fresh.ID {
				r.settle(r.settlement(b, accepted))
			}
		}
		if n, want := purge(r.now().Add(-24*time.Hour)), 1500+1500+1+20+1+1500; n != want {
			t.Errorf("%d rows were purged, not %d", n, want)
		}
		for _, id := range []uuid.UUID{waiting.ID, fresh.ID} {
			r.get(id)
		}
		if _, err := r.Get(t.Context(), app, old.ID); !errors.Is(err, push.ErrNotFound) {
			t.Errorf("the old one: %v", err)
		}
		for _, table := range []string{"failures", "unique_ids", "idempotency_keys", "invalidations"} {
			if n := r.scalar("SELECT COUNT(*) FROM " + table); n != 0 {
				t.Errorf("%d rows are left in %s", n, table)
			}
		}
		r.checkBacklog()
	})
}
