package queue

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/lhspn/lhspn/internal/push"
)

// AppRemoval is what a step of removing an app has come to.
type AppRemoval struct {
	Cancelled int64 // recipients
	Rows      int64 // that it removed
	Left      bool  // something is left
}

// RemoveApp takes a step of removing all that the queue has of an app that accepts nothing any more: it cancels what is
// not done, which the sender settles, and removes what is done. A step removes up to about limit rows.
func (q *Queue) RemoveApp(ctx context.Context, app string, limit int) (r AppRemoval, err error) {
	r.Left = true
	waits := false
	for after := uuid.Nil; ; {
		var ids []uuid.UUID
		err := q.db.Reader().SelectContext(ctx, &ids, `SELECT id FROM notifications
			WHERE app = ? AND id > ? AND state IN (?, ?) ORDER BY id LIMIT ?`, app, after[:], stateQueued, stateSending, limit)
		if err != nil {
			return r, wrap(err, "look for notifications to cancel")
		}
		for _, id := range ids {
			waits, after = true, id
			switch s, err := q.Cancel(ctx, app, id); {
			case errors.Is(err, push.ErrConflict), errors.Is(err, push.ErrNotFound): // done meanwhile
			case err != nil:
				return r, err
			default:
				r.Cancelled += s.Counts.Pending
			}
		}
		if len(ids) < limit {
			break
		}
	}
	n, err := q.purgeNotifications(ctx, app, q.now().Add(time.Hour), limit)
	r.Rows = int64(n)
	if err != nil || n > 0 || waits {
		return r, wrap(err, "remove notifications")
	}
	var some int
	err = q.db.Reader().QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM notifications WHERE app = ?)", app).Scan(&some)
	if err != nil || some != 0 { // cancelled, and not settled yet
		return r, wrap(err, "look for notifications")
	}
	keys, err := q.purgeKeys(ctx, "app = ?", "idempotency_key", app, min(maxKeys, limit))
	if err != nil {
		return r, wrap(err, "remove idempotency keys")
	}
	r.Rows = int64(keys)
	for _, of := range [][2]string{{"invalidations", "token"}, {"bad_tokens", "token"}} {
		var n int64
		err := q.tx(ctx, func(ctx context.Context, tx *sqlx.Tx) (err error) {
			n, err = deletePage(ctx, tx, of[0], "app = ?", []any{app}, of[1], min(maxKeys, limit))
			return err
		})
		if err != nil {
			return r, wrap(err, "remove %s", of[0])
		}
		r.Rows += n
	}
	r.Left = r.Rows > 0
	return r, nil
}

// CountNotifications counts the app's notifications, up to most.
func (q *Queue) CountNotifications(ctx context.Context, app string, most int) (n int64, err error) {
	err = q.db.Reader().QueryRowContext(ctx,
		"SELECT COUNT(*) FROM (SELECT 1 FROM notifications WHERE app = ? LIMIT ?) AS counted", app, most).Scan(&n)
	return n, wrap(err, "count notifications")
}
