package queue

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/lhspn/lhspn/internal/push"
)

func TestList(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		var want []uuid.UUID // newest first
		var cancelled uuid.UUID
		for i := range 7 {
			n := r.notification()
			if i == 2 {
				n.SendAt = n.SendAt.Add(time.Hour)
			}
			r.accept(push.Submission{Routes: production, Notification: n, Tokens: tokens(0, 2)})
			want = append([]uuid.UUID{n.ID}, want...)
			if i == 3 {
				cancelled = n.ID
				if _, err := r.Cancel(t.Context(), app, n.ID); err != nil {
					t.Fatal(err)
				}
			}
		}
		pages := func(state push.State) (ids []uuid.UUID) {
			for before := uuid.Nil; ; {
				page, next, err := r.List(t.Context(), app, state, before, 2)
				if err != nil {
					t.Fatal(err)
				}
				for _, s := range page {
					ids = append(ids, s.ID)
				}
				if before = next; before == uuid.Nil {
					return ids
				}
			}
		}
		if diff := cmp.Diff(want, pages("")); diff != "" {
			t.Errorf("all (-want +got):\n%s", diff)
		}
		for _, b := range r.due() {
			if b.Notification == want[0] {
				r.settle(r.settlement(b, accepted))
			}
			if b.Notification == want[1] {
				s := r.settlement(b, accepted)
				s.Results[0].Outcome = push.Retry
				r.settle(s)
			}
		}
		for state, ids := range map[push.State][]uuid.UUID{
			push.StateDone: {want[0]}, push.StateSending: {want[1]}, push.StateQueued: {want[2], want[5], want[6]},
			push.StateCancelled: {cancelled}, push.StateScheduled: {want[4]},
		} {
			if diff := cmp.Diff(ids, pages(state)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", state, diff)
			}
		}
		if page, _, err := r.List(t.Context(), "another", "", uuid.Nil, 10); err != nil || len(page) > 0 {
			t.Errorf("another app's: %v, %v", page, err)
		}
		if _, _, err := r.List(t.Context(), app, "nonsense", uuid.Nil, 10); err == nil {
			t.Error("an unknown state was listed")
		}
	})
}
