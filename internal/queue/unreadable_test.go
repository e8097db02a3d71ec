package queue

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/lhspn/lhspn/internal/push"
)

func (r *rig) exec(statement string, args ...any) {
	r.t.Helper()
	if err := r.db.Tx(r.t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
		_, err := tx.ExecContext(ctx, statement, args...)
		return err
	}); err != nil {
		r.t.Fatal(err)
	}
}

// A row that cannot be read, as of a later version or a damaged one, costs itself: what is read beside it and behind it
// is found, it is told of once, and it is there when a version comes that can read it.
func TestUnreadableRows(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		several := make([]*push.Notification, 5)
		var s []push.Submission
		for i := range several {
			several[i] = r.notification()
			several[i].SendAt = several[0].SendAt.Add(time.Duration(i) * time.Microsecond)
			s = append(s, push.Submission{Routes: production, Notification: several[i], Tokens: tokens(10*i, 10*i+2)})
		}
		r.accept(s...)
		r.clock.Add(int64(time.Second))
		singles := r.acceptSingles(3, nil)
		other := singles[2].ID
		r.exec("UPDATE batches SET body = ? WHERE notification_id = ?", []byte{99, 1}, several[0].ID[:])
		r.exec("UPDATE batches SET kind = kind + 32 WHERE notification_id = ?", several[2].ID[:])
		r.exec("UPDATE notifications SET contents = ? WHERE id = ?", []byte(`{"v": 99}`), several[3].ID[:])
		r.exec("UPDATE notifications SET recipient = ? WHERE id = ?", []byte{0, 99}, singles[0].ID[:])
		r.exec("UPDATE notifications SET waiting = 9 WHERE id = ?", singles[1].ID[:])

		for range 2 { // the second time nothing is told
			for range 3 {
				found := map[uuid.UUID]*Batch{}
				for _, b := range r.due() {
					found[b.Notification] = b
				}
				for i, n := range several {
					if b := found[n.ID]; b == nil || (b.Kind == Unreadable) != (i == 0 || i == 2) || b.Kind != Unreadable && len(b.Recipients) != 2 {
						t.Fatalf("batch %d: %+v", i, b)
					}
				}
				if len(found) != len(several)+1 || found[other] == nil {
					t.Fatalf("found: %+v", found)
				}
			}
			ids := []uuid.UUID{several[1].ID, several[3].ID, several[4].ID, other}
			if loaded, err := r.Notifications(t.Context(), app, ids); err != nil || len(loaded) != 3 || loaded[several[3].ID] != nil {
				t.Fatalf("loaded: %+v, %v", loaded, err)
			}
			if n := testutil.ToFloat64(r.metrics.unreadable); n != 5 {
				t.Fatalf("%v were counted", n)
			}
			r.clock.Add(int64(2 * notYetThere))
		}
		for i, found := range map[int]bool{0: false, 1: true} {
			_, err := r.Recipient(t.Context(), app, several[i].ID, token(10*i))
			if (err == nil) != found || !found && !errors.Is(err, errBody) {
				t.Errorf("a recipient of notification %d: %v", i, err)
			}
		}

		// What is known of others is settled, also where it must be looked what is there.
		for _, b := range r.due() {
			if b.Kind == Unreadable || b.Notification == several[3].ID {
				continue
			}
			r.settle(r.settlement(b, accepted))
			r.settle(r.settlement(b, accepted))
		}
		for _, n := range []*push.Notification{several[0], singles[0]} {
			if _, err := r.Cancel(t.Context(), app, n.ID); err != nil {
				t.Fatal(err)
			}
		}
		if found := append(r.cancelledBatches(nil, 10), r.cancelledSingles()...); len(found) != 2 || found[0].Kind != Unreadable || found[1].Kind != Unreadable {
			t.Errorf("cancelled: %+v", found)
		}

		r.exec("UPDATE batches SET kind = kind - 32 WHERE notification_id = ?", several[2].ID[:])
		r.exec("UPDATE notifications SET waiting = 1 WHERE id = ?", singles[1].ID[:])
		found := map[uuid.UUID]int{}
		for _, b := range r.due() {
			if b.Kind == Ready {
				found[b.Notification] = len(b.Recipients)
			}
		}
		if len(found) != 3 || found[several[2].ID] != 2 || found[several[3].ID] != 2 || found[singles[1].ID] != 1 {
			t.Errorf("with a version that can read them: %+v", found)
		}
	})
}
