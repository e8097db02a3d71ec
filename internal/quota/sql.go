package quota

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jmoiron/sqlx"

	"github.com/lhspn/lhspn/internal/database"
)

var columnList = strings.Join(columns[:], ", ")

// write adds the changes to the rows of the slot, in the apps' order. Device tokens are counted where they lie: on
// Vitess, which may have them apart from all else, a registration is then a commit in one place, and no crash comes
// between a token and its count.
func write(ctx context.Context, tx *sqlx.Tx, dialect database.Dialect, slot int, d *Changes) error {
	tokens := database.NewInsert("token_usage", "app, slot, tokens", dialect.UpsertAdd("app, slot", "tokens"))
	others := database.NewInsert("app_usage", "app, slot, "+columnList, dialect.UpsertAdd("app, slot", columns[:]...))
	var err error
	for _, app := range slices.Sorted(maps.Keys(d.byApp)) {
		n := *d.byApp[app]
		if n[Tokens] != 0 && err == nil {
			err = tokens.Add(ctx, tx, app, slot, n[Tokens])
		}
		n[Tokens] = 0
		if n != (Counts{}) && err == nil {
			err = others.Add(ctx, tx, app, slot, 0, n[Waiting], n[Scheduled], n[Keys])
		}
	}
	if err == nil {
		err = tokens.Flush(ctx, tx)
	}
	if err == nil {
		err = others.Flush(ctx, tx)
	}
	if err != nil {
		return fmt.Errorf("count what apps have stored: %w", err)
	}
	return nil
}

// read sums the counts of each app that has any. What app_usage has of device tokens was counted before there was
// token_usage, or is by a replica that does not know it yet.
func read(ctx context.Context, db sqlx.QueryerContext) (map[string]Counts, error) {
	stored := map[string]Counts{}
	for _, query := range []string{
		"SELECT app, SUM(tokens), SUM(waiting), SUM(scheduled), SUM(idempotency_keys) FROM app_usage GROUP BY app",
		"SELECT app, SUM(tokens), 0, 0, 0 FROM token_usage GROUP BY app",
	} {
		rows, err := db.QueryContext(ctx, query)
		if err != nil {
			return nil, err
		}
		if err := addTo(stored, rows); err != nil {
			return nil, err
		}
	}
	return stored, nil
}

func addTo(stored map[string]Counts, rows *sql.Rows) error {
	defer rows.Close()
	for rows.Next() {
		var app string
		var n Counts
		if err := rows.Scan(&app, &n[Tokens], &n[Waiting], &n[Scheduled], &n[Keys]); err != nil {
			return err
		}
		sum := stored[app]
		for k := range kinds {
			sum[k] += n[k]
		}
		stored[app] = sum
	}
	return rows.Err()
}

// Forget removes the counts of an app of which nothing is stored any more.
func (c *Counters) Forget(ctx context.Context, app string) error {
	return c.db.Tx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		_, err := tx.ExecContext(ctx, "DELETE FROM token_usage WHERE app = ?", app)
		if err == nil {
			_, err = tx.ExecContext(ctx, "DELETE FROM app_usage WHERE app = ?", app)
		}
		return err
	})
}

// Stored is what the app has stored, as the table has it.
func (c *Counters) Stored(ctx context.Context, app string) (Counts, error) {
	stored, err := read(ctx, c.db.Reader())
	if err != nil {
		return Counts{}, fmt.Errorf("read what an app has stored: %w", database.MarkUnavailable(err))
	}
	return stored[app], nil
}
