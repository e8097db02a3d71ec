package queue

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/lhspn/lhspn/internal/push"
)

// RemoveApp takes a step of removing all that the queue has of an app that accepts nothing any more: it cancels what is
// not done, which the sender settles, and removes what is done. It says how many recipients it has cancelled, and
// whether nothing is left. A step removes up to about limit rows.
func (q *Queue) RemoveApp(ctx context.Context, app string, limit int) (cancelled int64, left bool, err error) {
	for after := uuid.Nil; ; {
		var ids []uuid.UUID
		err := q.db.Reader().SelectContext(ctx, &ids, `SELECT id FROM notifications
			WHERE app = ? AND id > ? AND state IN (?, ?) ORDER BY id LIMIT ?`, app, after[:], stateQueued, stateSending, limit)
		if err != nil {
			return cancelled, true, wrap(err, "look for notifications to cancel")
		}
		for _, id := range ids {
			left, after = true, id
			switch s, err := q.Cancel(ctx, app, id); {
			case errors.Is(err, push.ErrConflict), errors.Is(err, push.ErrNotFound): // done meanwhile
			case err != nil:
				return cancelled, true, err
			default:
				cancelled += s.Counts.Pending
			}
		}
		if len(ids) < limit {
			break
		}
	}
	n, err := q.purgeNotifications(ctx, app, q.now().Add(time.Hour), limit)
	if err != nil || n > 0 || left {
		return cancelled, true, wrap(err, "remove notifications")
	}
	var some int
	err = q.db.Reader().QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM notifications WHERE app = ?)", app).Scan(&some)
	if err != nil || some != 0 { // cancelled, and not settled yet
		return cancelled, true, wrap(err, "look for notifications")
	}
	keys, err := q.purgeKeys(ctx, "app = ?", "idempotency_key", app, min(maxKeys, limit))
	if err != nil {
		return cancelled, true, wrap(err, "remove idempotency keys")
	}
	left = keys > 0
	for _, of := range [][2]string{{"invalidations", "token"}, {"bad_tokens", "token"}} {
		err := q.tx(ctx, func(ctx context.Context, tx *sqlx.Tx) (err error) {
			n, err := deletePage(ctx, tx, of[0], "app = ?", []any{app}, of[1], min(maxKeys, limit))
			left = left || n > 0
			return err
		})
		if err != nil {
			return cancelled, true, wrap(err, "remove %s", of[0])
		}
	}
	return cancelled, left, nil
}
