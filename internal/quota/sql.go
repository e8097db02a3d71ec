package quota

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/jmoiron/sqlx"

	"github.com/lhspn/lhspn/internal/database"
)

// write adds the changes to the rows of the slot, in the apps' order. Device tokens are counted where they lie: on
// Vitess, which may have them apart from all else, a registration is then a commit in one place, and no crash comes
// between a token and its count.
func write(ctx context.Context, tx *sqlx.Tx, dialect database.Dialect, slot int, d *Changes) error {
	tokens := database.NewInsert("token_usage", "app, slot, tokens", dialect.UpsertAdd("app, slot", "tokens"))
	others := database.NewInsert("app_usage", "app, slot, waiting, scheduled, idempotency_keys",
		dialect.UpsertAdd("app, slot", "waiting", "scheduled", "idempotency_keys"))
	add := func(app string, n Counts) error {
		if n[Tokens] != 0 {
			if err := tokens.Add(ctx, tx, app, slot, n[Tokens]); err != nil {
				return err
			}
		}
		if n[Tokens] = 0; n == (Counts{}) {
			return nil
		}
		return others.Add(ctx, tx, app, slot, n[Waiting], n[Scheduled], n[Keys])
	}
	for _, app := range slices.Sorted(maps.Keys(d.byApp)) {
		if err := add(app, *d.byApp[app]); err != nil {
			return fmt.Errorf("count what apps have stored: %w", err)
		}
	}
	for _, in := range []*database.Insert{tokens, others} {
		if err := in.Flush(ctx, tx); err != nil {
			return fmt.Errorf("count what apps have stored: %w", err)
		}
	}
	return nil
}

// read sums the counts of each app that has any. It takes two statements: on Vitess the tables may lie apart.
func read(ctx context.Context, db sqlx.QueryerContext) (map[string]Counts, error) {
	var rows, tokens []struct {
		App                                         string
		Tokens, Waiting, Scheduled, IdempotencyKeys int64
	}
	err := sqlx.SelectContext(ctx, db, &tokens, "SELECT app, SUM(tokens) AS tokens FROM token_usage GROUP BY app")
	if err == nil {
		err = sqlx.SelectContext(ctx, db, &rows, `SELECT app, SUM(waiting) AS waiting, SUM(scheduled) AS scheduled,
			SUM(idempotency_keys) AS idempotencykeys FROM app_usage GROUP BY app`)
	}
	if err != nil {
		return nil, err
	}
	stored := map[string]Counts{}
	for _, r := range rows {
		stored[r.App] = Counts{Waiting: r.Waiting, Scheduled: r.Scheduled, Keys: r.IdempotencyKeys}
	}
	for _, r := range tokens {
		counts := stored[r.App]
		counts[Tokens] = r.Tokens
		stored[r.App] = counts
	}
	return stored, nil
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
