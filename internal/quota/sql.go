package quota

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jmoiron/sqlx"

	"github.com/lhspn/lhspn/internal/database"
)

var columnList = strings.Join(columns[:], ", ")

// write adds the changes to the rows of the slot, in the apps' order.
func write(ctx context.Context, tx *sqlx.Tx, dialect database.Dialect, slot int, d *Changes) error {
	in := database.NewInsert("app_usage", "app, slot, "+columnList, dialect.UpsertAdd("app, slot", columns[:]...))
	for _, app := range slices.Sorted(maps.Keys(d.byApp)) {
		n := d.byApp[app]
		if *n == (Counts{}) {
			continue
		}
		if err := in.Add(ctx, tx, app, slot, n[Tokens], n[Waiting], n[Scheduled], n[Keys]); err != nil {
			return fmt.Errorf("count what apps have stored: %w", err)
		}
	}
	if err := in.Flush(ctx, tx); err != nil {
		return fmt.Errorf("count what apps have stored: %w", err)
	}
	return nil
}

// read sums the counts of each app that has any.
func read(ctx context.Context, db sqlx.QueryerContext) (map[string]Counts, error) {
	query := "SELECT app"
	for _, column := range columns {
		query += ", SUM(" + column + ")"
	}
	rows, err := db.QueryContext(ctx, query+" FROM app_usage GROUP BY app")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	stored := map[string]Counts{}
	for rows.Next() {
		var app string
		var n Counts
		if err := rows.Scan(&app, &n[Tokens], &n[Waiting], &n[Scheduled], &n[Keys]); err != nil {
			return nil, err
		}
		stored[app] = n
	}
	return stored, rows.Err()
}

// Forget removes the counts of an app of which nothing is stored any more.
func (c *Counters) Forget(ctx context.Context, app string) error {
	return c.db.Tx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		_, err := tx.ExecContext(ctx, "DELETE FROM app_usage WHERE app = ?", app)
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
