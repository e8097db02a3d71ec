package queue

import (
	"context"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/lhspn/lhspn/internal/database"
)

// AppRemoval is what a step of removing an app has come to.
type AppRemoval struct {
	Cancelled int64 // recipients
	Rows      int64 // that it removed or looked at; 0 where another step is of use only after a while
	Left      bool  // something is left
}

// removals are how far the removal of each app is. That is in memory only: after a restart it begins anew with what is
// left.
type removals struct {
	mu sync.Mutex // guards of
	of map[string]removal
}

// removal is how far one is. A step goes on where the one before ended: a look from the beginning on would be longer
// with each notification that was found to wait.
type removal struct {
	after   uuid.UUID // the last notification looked at in this pass, Nil before the first
	waiting int64     // what was found in this pass, 0 where nothing is left but what is settled
	batches uuid.UUID // of the last of all batches looked at, once there are no notifications

	before int64     // what waited in the pass before
	since  time.Time // when something of what waits was settled last, zero before the first pass
}

// abandonAfter is how long nothing of what was cancelled is settled before it is removed as it is: its rows cannot be
// read, or nobody is there to settle it. A batch that is with a push service has its result long before.
const abandonAfter = 10 * time.Minute

func (r *removals) get(app string) removal {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.of[app]
}

func (r *removals) set(app string, at removal, left bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !left {
		delete(r.of, app)
		return
	}
	if r.of == nil {
		r.of = map[string]removal{}
	}
	r.of[app] = at
}

// RemoveApp takes a step of removing all that the queue has of an app that accepts nothing any more: it cancels what is
// not done, which the sender settles, and removes what is done. A step looks at up to limit notifications or batches,
// and removes up to about limit rows. The name must not be given to another app before Left is false.
func (q *Queue) RemoveApp(ctx context.Context, app string, limit int) (r AppRemoval, err error) {
	at := q.removals.get(app)
	r.Left = true
	page, err := q.pageToRemove(ctx, app, at.after, min(limit, maxKeys))
	if err != nil {
		return r, wrap(err, "look for notifications to remove")
	}
	if len(page) > 0 || at.after != uuid.Nil {
		err = q.removePage(ctx, app, page, limit, &at, &r)
	} else {
		err = q.removeOthers(ctx, app, limit, &at, &r)
	}
	if err == nil {
		q.removals.set(app, at, r.Left)
	}
	return r, err
}

// toRemove is what the removal of an app must know of a notification.
type toRemove struct {
	ID       uuid.UUID
	State    int
	Finished bool
	Whole    int64 // recipients, and those of them that have their outcome
	Counted  int64
}

// pageToRemove is the next of the app's notifications.
func (q *Queue) pageToRemove(ctx context.Context, app string, after uuid.UUID, limit int) (page []toRemove, err error) {
	err = q.db.Reader().SelectContext(ctx, &page, `SELECT id, state, finished_at > ? AS finished, recipients AS whole,
		accepted + failed + unregistered + expired + cancelled AS counted
		FROM notifications WHERE app = ? AND id > ? ORDER BY id LIMIT ?`, database.Never, app, after[:], limit)
	return page, err
}

// removePage cancels what of the page is not done, and removes what is.
func (q *Queue) removePage(
	ctx context.Context, app string, page []toRemove, limit int, at *removal, r *AppRemoval,
) error {
	var live, done []uuid.UUID
	var pending int64
	waiting := at.waiting
	abandoned := !at.since.IsZero() && q.now().Sub(at.since) > abandonAfter
	for i := range page {
		n := &page[i]
		unsettled := n.State == stateQueued || n.State == stateSending
		if n.Finished || abandoned && !unsettled {
			done = append(done, n.ID)
			continue
		}
		waiting += 1 + n.Whole - n.Counted
		if unsettled {
			live = append(live, n.ID)
			pending += n.Whole - n.Counted
		}
	}
	if err := q.cancelAll(ctx, app, live); err != nil {
		return wrap(err, "cancel an app's notifications")
	}
	r.Cancelled, r.Rows = pending, int64(len(page))
	removed, all, err := q.purgeAll(ctx, app, done, limit)
	r.Rows += int64(removed)
	switch {
	case err != nil:
		return wrap(err, "remove notifications")
	case !all: // the rest of the page is looked at again
	case len(page) == min(limit, maxKeys):
		at.after, at.waiting = page[len(page)-1].ID, waiting
	case waiting == 0:
		*at = removal{}
	default: // the next pass is over what is left now, when the sender has settled of it
		r.Rows = 0
		next := removal{before: waiting, since: at.since}
		if waiting != at.before || at.since.IsZero() {
			next.since = q.now()
		}
		*at = next
	}
	return nil
}

// cancelAll has Cancel's effect on all of the notifications in one transaction. One that is done meanwhile stays so,
// and its cancellation is forgotten as one of which nothing waits.
func (q *Queue) cancelAll(ctx context.Context, app string, ids []uuid.UUID) error {
	if len(ids) == 0 {
		return nil
	}
	return q.tx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		_, err := tx.ExecContext(ctx, "UPDATE notifications SET state = ? WHERE app = ? AND state IN (?, ?) AND id IN "+
			list(len(ids)), append([]any{stateCancelled, app, stateQueued, stateSending}, idArgs(ids)...)...)
		if err != nil {
			return err
		}
		cancellations := database.NewInsert("cancellations", "app, notification_id",
			q.db.Dialect.Upsert("notification_id"))
		for i := range ids {
			if err := cancellations.Add(ctx, tx, app, ids[i][:]); err != nil {
				return err
			}
		}
		return cancellations.Flush(ctx, tx)
	})
}

// removeOthers removes what there is of an app without notifications.
func (q *Queue) removeOthers(ctx context.Context, app string, limit int, at *removal, r *AppRemoval) error {
	keys, err := q.purgeKeys(ctx, "app = ?", "idempotency_key", app, min(maxKeys, limit))
	if err != nil {
		return wrap(err, "remove idempotency keys")
	}
	r.Rows = int64(keys)
	for _, of := range [][2]string{{"invalidations", "token"}, {"bad_tokens", "token"}} {
		var n int64
		err := q.tx(ctx, func(ctx context.Context, tx *sqlx.Tx) (err error) {
			n, err = deletePage(ctx, tx, of[0], "app = ?", []any{app}, of[1], min(maxKeys, limit))
			return err
		})
		if err != nil {
			return wrap(err, "remove %s", of[0])
		}
		r.Rows += n
	}
	if r.Rows > 0 {
		return nil
	}
	looked, err := q.removeBatches(ctx, app, limit, at)
	r.Rows, r.Left = int64(looked), looked == limit
	return wrap(err, "remove an app's batches")
}

// removeBatches looks at the next batches of all apps, for no index has the app, and removes those of this one: entries
// that name notifications which were cancelled before they were due, and what else is of no notification. It looks at
// limit of them unless there are fewer.
func (q *Queue) removeBatches(ctx context.Context, app string, limit int, at *removal) (looked int, err error) {
	var next uuid.UUID
	var ours []Key
	err = q.tx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		var page []removedBatch
		next, ours = at.batches, nil
		err := tx.SelectContext(ctx, &page, "SELECT shard, lane, due_at, notification_id, seq, app"+q.fromBatchesOf()+
			" WHERE notification_id > ? ORDER BY notification_id LIMIT ?", next[:], limit)
		if err != nil {
			return err
		}
		looked = len(page)
		for i := range page {
			b := &page[i]
			if b.App == app {
				ours = append(ours, Key{b.Shard, b.Lane, b.DueAt, b.Notification, b.Seq})
			}
			// Of the last one's notification there may be more, of which only ours matter.
			if b.App != app || b.Notification != page[len(page)-1].Notification {
				next = b.Notification
			}
		}
		if len(ours) == 0 {
			return nil
		}
		// Whoever stalled here may find that the app was removed by another, and made anew. Its batches are committed with
		// their notifications, which are there before what was read above is.
		var some int
		err = tx.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM notifications WHERE app = ?)", app).Scan(&some)
		if err != nil {
			return err
		}
		if some != 0 {
			looked, ours = limit, nil
			return nil
		}
		return deleteBatches(ctx, tx, ours)
	})
	if err == nil {
		at.batches = next
		q.entries.settled(nil, ours)
	}
	return looked, err
}

// removedBatch is what is read of a batch that may have to be removed.
type removedBatch struct {
	Shard        uint8
	Lane         Lane
	DueAt        int64     `db:"due_at"`
	Notification uuid.UUID `db:"notification_id"`
	Seq          uint32
	App          string
}

// deleteBatches removes these batches, and nothing is read for it but them: the ranges of consume may have any number
// of others'.
func deleteBatches(ctx context.Context, tx *sqlx.Tx, keys []Key) error {
	for i := range keys {
		k := &keys[i]
		if _, err := tx.ExecContext(ctx, `DELETE FROM batches WHERE shard = ? AND lane = ? AND due_at = ?
			AND notification_id = ? AND seq = ?`, k.Shard, k.Lane, k.DueAt, k.Notification[:], k.Seq); err != nil {
			return err
		}
	}
	return nil
}

// CountNotifications counts the app's notifications, up to most.
func (q *Queue) CountNotifications(ctx context.Context, app string, most int) (n int64, err error) {
	err = q.db.Reader().QueryRowContext(ctx,
		"SELECT COUNT(*) FROM (SELECT 1 FROM notifications WHERE app = ? LIMIT ?) AS counted", app, most).Scan(&n)
	return n, wrap(err, "count notifications")
}
