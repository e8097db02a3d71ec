package events

import (
	"context"

	"github.com/jmoiron/sqlx"
)

// RemoveApp takes a step of removing the events of an app that nothing more becomes true of, up to limit rows, and says
// whether some are left. A row without a place is left until it has one: whoever gives it that must not make it anew.
func (s *Store) RemoveApp(ctx context.Context, app string, limit int) (left bool, err error) {
	err = s.db.Tx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
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
		_, err := tx.ExecContext(ctx, "DELETE FROM events WHERE app = ? AND seq > 0 AND seq >= ?", app,
			places[len(places)-1])
		return err
	})
	return left, wrap(err, "remove an app's events")
}
