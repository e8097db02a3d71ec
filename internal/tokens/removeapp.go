package tokens

import (
	"context"
	"fmt"

	"github.com/jmoiron/sqlx"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/quota"
)

// RemoveApp removes up to about limit rows of an app that is gone, and says how many: 0 when nothing is left.
func (s *Store) RemoveApp(ctx context.Context, app string, limit int) (removed int64, err error) {
	var counts quota.Changes
	err = s.db.Tx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		removed, counts = 0, quota.Changes{}
		for _, of := range [][2]string{{"device_tokens", "token"}, {"device_token_index", "kind, value, token"}} {
			query := fmt.Sprintf("DELETE FROM %s WHERE app = ? ORDER BY app, %s LIMIT ?", of[0], of[1])
			args := []any{app, limit}
			if s.db.Dialect == database.SQLite { // its DELETE has no LIMIT
				query = fmt.Sprintf("DELETE FROM %[1]s WHERE app = ? AND (%[2]s) IN (SELECT %[2]s FROM %[1]s WHERE app = ? "+
					"ORDER BY %[2]s LIMIT ?)", of[0], of[1])
				args = []any{app, app, limit}
			}
			r, err := tx.ExecContext(ctx, query, args...)
			if err != nil {
				return err
			}
			n, err := r.RowsAffected()
			if err != nil {
				return err
			}
			removed += n
			if of[0] == "device_tokens" {
				counts.Add(app, quota.Tokens, -n)
			}
		}
		return s.counters.Write(ctx, tx, &counts)
	})
	if err == nil {
		s.counters.Committed(&counts)
	}
	return removed, err
}
