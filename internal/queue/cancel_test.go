package queue

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/push"
)

func TestCancel(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		registry{db: r.db}.put(t, r.now(), tokens(0, 1500)...)
		scheduled, audience, done := r.notification(), r.notification(), r.notification()
		scheduled.SendAt = scheduled.SendAt.Add(time.Hour)
		r.accept(push.Submission{Routes: production, Notification: scheduled, Tokens: tokens(0, 1200)}, push.Submission{Routes: production, Notification: audience, Audience: &push.Audience{All: true}},
			push.Submission{Routes: production, Notification: done, Tokens: tokens(0, 1)})
		for _, b := range r.due() {
			if b.Notification == done.ID {
				r.settle(r.settlement(b, accepted))
			} else if _, _, err := r.Expand(t.Context(), r.lease(b), b, 1000); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := r.Cancel(t.Context(), app, done.ID); !errors.Is(err, push.ErrConflict) {
			t.Errorf("cancel what is done: %v", err)
		}
		if _, err := r.Cancel(t.Context(), "another", scheduled.ID); !errors.Is(err, push.ErrNotFound) {
			t.Errorf("cancel another app's: %v", err)
		}
		if batches := r.cancelledBatches(nil, 10); len(batches) > 0 {
			t.Errorf("before anything is cancelled: %v", batches)
		}
		r.failOnce(persisted)
		for _, n := range []*push.Notification{scheduled, audience, audience} {
			if s, err := r.Cancel(t.Context(), app, n.ID); err != nil || s.State != push.StateCancelled {
				t.Errorf("cancel: %+v, %v", s, err)
			}
		}
		// One after the other, as a sender with little memory would.
		var found []*Batch
		for {
			var after *Batch
			if len(found) > 0 {
				after = found[len(found)-1]
			}
			page := r.cancelledBatches(after, 1)
			if len(page) == 0 {
				break
			}
			found = append(found, page...)
		}
		var kinds []Kind
		for _, b := range found {
			kinds = append(kinds, b.Kind)
			if b.Kind == Audience { // it is as well expanded as settled: nothing comes of it
				if ready, next, err := r.Expand(t.Context(), r.lease(b), b, 1000); err != nil || len(ready) > 0 || next != nil {
					t.Errorf("expand what is cancelled: %v, %v, %v", ready, next, err)
				}
				continue
			}
			r.settle(r.settlement(b, push.Result{Outcome: push.Cancelled}))
		}
		slices.Sort(kinds)
		if diff := cmp.Diff([]Kind{Ready, Ready, Ready, Audience}, kinds); diff != "" {
			t.Errorf("kinds of cancelled batches (-want +got):\n%s", diff)
		}
		for _, n := range []*push.Notification{scheduled, audience} {
			if s := r.get(n.ID); s.State != push.StateCancelled || s.Counts.Cancelled != s.Recipients || s.Recipients < 1000 || !s.Expanded || s.FinishedAt.IsZero() {
				t.Errorf("cancelled: %+v", s)
			}
		}
		r.checkBacklog()
		if left := append(r.cancelledBatches(nil, 10), r.cancelledSingles()...); len(left) > 0 {
			t.Errorf("after all is settled: %v", left)
		}
		if n := r.scalar("SELECT COUNT(*) FROM cancellations"); n != 0 {
			t.Errorf("%d cancellations are kept", n)
		}
	})
}

func TestSettleCancelledAudience(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		n := r.notification()
		r.accept(push.Submission{Routes: production, Notification: n, Audience: &push.Audience{All: true}})
		if _, err := r.Cancel(t.Context(), app, n.ID); err != nil {
			t.Fatal(err)
		}
		b := r.due()[0]
		r.settle(Settlement{Batch: b, Lease: r.lease(b)})
		if s := r.get(n.ID); s.State != push.StateCancelled || !s.Expanded || s.FinishedAt.IsZero() {
			t.Errorf("%+v", s)
		}
	})
}

// However many cancellations wait for a route that is not there, the others are found behind them.
func TestCancellationsArePaged(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		insert := database.NewInsert("cancellations", "app, notification_id", "")
		if err := r.db.Tx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
			for i := range PageOfCancellations {
				id := uuid.UUID{14: byte(i >> 8), 15: byte(i)}
				id[0] = 1
				if err := insert.Add(ctx, tx, "gone", id[:]); err != nil {
					return err
				}
			}
			return insert.Flush(ctx, tx)
		}); err != nil {
			t.Fatal(err)
		}
		n := r.notification()
		n.ID[0] = 2
		n.SendAt = n.SendAt.Add(time.Hour)
		r.accept(push.Submission{Routes: production, Notification: n, Tokens: tokens(0, 1)})
		if _, err := r.Cancel(t.Context(), app, n.ID); err != nil {
			t.Fatal(err)
		}
		first, err := r.Cancellations(t.Context(), uuid.Nil)
		if err != nil || len(first) != PageOfCancellations {
			t.Fatalf("%d on the first page, %v", len(first), err)
		}
		second, err := r.Cancellations(t.Context(), first[len(first)-1].Notification)
		if err != nil || len(second) != 1 || second[0] != (Cancellation{app, n.ID}) {
			t.Errorf("on the second page: %v, %v", second, err)
		}
	})
}
