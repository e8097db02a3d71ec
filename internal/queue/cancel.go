package queue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/push"
)

// Cancel stops what is not sent yet: the owner of the notification's shard settles it, finding it by CancelledBatches.
// push.ErrConflict where the notification is done; cancelling again changes nothing.
func (q *Queue) Cancel(ctx context.Context, app string, id uuid.UUID) (push.Status, error) {
	err := q.tx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		n, err := affected(ctx, tx, "UPDATE notifications SET state = ? WHERE app = ? AND id = ? AND state IN (?, ?)",
			stateCancelled, app, id[:], stateQueued, stateSending)
		if err != nil || n == 0 {
			return err
		}
		_, err = tx.ExecContext(ctx, "INSERT INTO cancellations (app, notification_id) VALUES (?, ?)"+
			q.db.Dialect.Upsert("notification_id"), app, id[:])
		return err
	})
	if err != nil && !errors.Is(err, database.ErrCommitUnknown) { // what the row says then is the answer
		return push.Status{}, wrap(err, "cancel notification %s", id)
	}
	s, getErr := q.Get(ctx, app, id)
	switch {
	case getErr != nil:
		return push.Status{}, getErr
	case s.State == push.StateDone:
		return s, fmt.Errorf("cancel notification %s: it is done: %w", id, push.ErrConflict)
	case s.State != push.StateCancelled:
		return push.Status{}, wrap(err, "cancel notification %s", id)
	}
	return s, nil
}

// PageOfCancellations is how many cancellations are looked at at once.
const PageOfCancellations = maxKeys

// Cancellation names a notification that was cancelled, of which something may wait.
type Cancellation struct {
	App          string
	Notification uuid.UUID `db:"notification_id"`
}

// Cancellations pages through the notifications that were cancelled lately, or whose route is not there to settle them.
// after is the last one of the page before. A page that is not the last has PageOfCancellations. When there is none it
// costs a look at an empty table.
func (q *Queue) Cancellations(ctx context.Context, after uuid.UUID) (page []Cancellation, err error) {
	err = q.db.Reader().SelectContext(ctx, &page,
		"SELECT app, notification_id FROM cancellations WHERE notification_id > ? ORDER BY notification_id LIMIT ?",
		after[:], PageOfCancellations)
	return page, wrap(err, "find cancelled notifications")
}

// CancelledBatches pages through the batches, in flight or not, of the cancelled notifications in the given shards.
// after is the last one of the page before, nil at first. Those not in flight are to be settled as cancelled, but for
// Unreadable ones, whose recipients nobody knows. What
// waits in the notifications' own rows CancelledSingles has.
func (q *Queue) CancelledBatches(
	ctx context.Context, of []Cancellation, leases []Lease, after *Batch, limit int,
) ([]*Batch, error) {
	var ids []uuid.UUID
	for _, c := range of {
		if after == nil || bytes.Compare(c.Notification[:], after.Notification[:]) >= 0 {
			ids = append(ids, c.Notification)
		}
	}
	if len(ids) == 0 || len(leases) == 0 {
		return nil, nil
	}
	// shard + 0 belongs to no index: all of these notifications' shards would make too many ranges.
	where := " WHERE notification_id IN " + list(len(ids)) + " AND shard + 0 IN " + list(len(leases))
	args := idArgs(ids)
	for _, l := range leases {
		args = append(args, l.Shard)
	}
	if after != nil {
		// Within a notification all is in one shard and lane, and each has its own seq: by it the page goes on. A follow-up
		// whose seq began anew meanwhile (see generation) is found at the next look.
		where += " AND (notification_id > ? OR seq > ?)"
		args = append(args, after.Notification[:], after.Seq)
	}
	batches, err := q.selectBatches(ctx, q.db.Reader(),
		"SELECT "+batchColumns+q.fromBatchesOf()+where+" ORDER BY notification_id, seq LIMIT ?", append(args, limit)...)
	return batches, wrap(err, "find cancelled batches")
}

// forgetCancelled removes those of the cancellations of which nothing waits anywhere. Nothing can come to be then: each
// batch is replaced by what follows it in one transaction.
func (q *Queue) forgetCancelled(ctx context.Context, ids []uuid.UUID) error {
	return wrap(q.tx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		_, err := tx.ExecContext(ctx, "DELETE FROM cancellations WHERE notification_id IN "+list(len(ids))+
			" AND NOT EXISTS (SELECT 1 FROM batches b WHERE b.notification_id = cancellations.notification_id)"+
			" AND NOT EXISTS (SELECT 1 FROM notifications n WHERE n.app = cancellations.app"+
			" AND n.id = cancellations.notification_id AND n.waiting > 0)", idArgs(ids)...)
		return err
	}), "forget finished cancellations")
}

// CancelledSingles finds what waits in the rows of the cancelled notifications in the given shards, to be settled
// likewise, and forgets the cancellations of which nothing waits anywhere.
func (q *Queue) CancelledSingles(ctx context.Context, of []Cancellation, leases []Lease) ([]*Batch, error) {
	if len(of) == 0 || len(leases) == 0 {
		return nil, nil
	}
	var ids []uuid.UUID
	byApp := map[string][]uuid.UUID{}
	for _, c := range of {
		ids = append(ids, c.Notification)
		byApp[c.App] = append(byApp[c.App], c.Notification)
	}
	shards := make([]any, len(leases))
	for i := range leases {
		shards[i] = leases[i].Shard
	}
	var all []*Batch
	for app, ids := range runs(byApp, maxKeys) {
		found, _, err := q.selectSingles(ctx, q.db.Reader(), app, ids, " AND waiting > 0 AND shard IN "+list(len(shards)),
			shards...)
		if err != nil {
			return nil, wrap(err, "find what waits of cancelled notifications")
		}
		all = append(all, found...)
	}
	slices.SortFunc(all, func(a, b *Batch) int { return slices.Compare(a.Notification[:], b.Notification[:]) })
	return all, q.forgetCancelled(ctx, ids)
}
