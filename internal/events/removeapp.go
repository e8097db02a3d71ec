package events

import (
	"context"

	"github.com/jmoiron/sqlx"
)

// RemoveApp takes a step of removing the events of an app that nothing more becomes true of, up to limit rows, and says
// how many it removed, and whether some are left. A row without a place is left until it has one: whoever gives it that
// must not make it anew.
func (s *Store) RemoveApp(ctx context.Context, app string, limit int) (removed int64, left bool, err error) {
	err = s.db.Tx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		removed = 0
		var places []uint64
		if err := tx.SelectContext(ctx, &places, "SELECT seq FROM events WHERE app = ? ORDER BY seq DESC LIMIT ?", app,
			limit); err != nil {
			return err
		}
		if left = len(places) > 0; !left {
			_, err := tx.ExecContext(ctx, "DELETE FROM holds WHERE app = ?", app)
			return err
		}
		if places[0] == 0 {
			return nil
		}
		r, err := tx.ExecContext(ctx, "DELETE FROM events WHERE app = ? AND seq > 0 AND seq >= ?", app,
			places[len(places)-1])
		if err != nil {
			return err
		}
		removed, err = r.RowsAffected()
		return err
	})
	return removed, left, wrap(err, "remove an app's events")
}

// CountApp counts the app's rows of events, up to most.
func (s *Store) CountApp(ctx context.Context, app string, most int) (n int64, err error) {
	err = s.db.Reader().QueryRowContext(ctx,
		"SELECT COUNT(*) FROM (SELECT 1 FROM events WHERE app = ? LIMIT ?) AS counted", app, most).Scan(&n)
	return n, wrap(err, "count an app's events")
}
