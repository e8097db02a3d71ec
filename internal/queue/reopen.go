package queue

import (
	"context"

	"github.com/jmoiron/sqlx"

	"github.com/lhspn/lhspn/internal/push"
)

// reopen has what is told again decided again where the token is registered, and was last before it was dead: an import
// of an older list brought it back, or it stayed in a wave. A service names the same time of death each time, so that
// nothing else would remove it. All else that was decided stays as it is, for those who read the history.
func (q *Queue) reopen(ctx context.Context, tx *sqlx.Tx, told []push.Invalidation) error {
	byApp := map[string][]push.Invalidation{}
	for i := range told {
		byApp[told[i].App] = append(byApp[told[i].App], told[i])
	}
	for app, run := range runs(byApp, maxKeys) {
		if err := q.reopenOf(ctx, tx, app, run); err != nil {
			return wrap(err, "decide again")
		}
	}
	return nil
}

func (q *Queue) reopenOf(ctx context.Context, tx *sqlx.Tx, app string, told []push.Invalidation) error {
	var args []any
	for i := range told {
		args = append(args, []byte(told[i].Token))
	}
	decided, err := selectInvalidations(ctx, tx, app, "token IN "+list(len(told))+" AND checked_at IS NOT NULL", args...)
	if err != nil || len(decided) == 0 { // as a rule: what is told is news
		return err
	}
	type entry struct {
		token  push.Token
		at     int64
		source push.Source
	}
	entryOf := func(inv *push.Invalidation) entry { return entry{inv.Token, inv.At.UnixMicro(), inv.Source} }
	again := map[entry]*push.Invalidation{}
	for i := range told {
		again[entryOf(&told[i])] = &told[i]
	}
	tokens := make([]push.Token, len(decided))
	for i := range decided {
		tokens[i] = decided[i].Token
	}
	registered, err := q.registry.LastUpdated(ctx, tx, app, tokens)
	if err != nil {
		return err
	}
	for i := range decided {
		inv := again[entryOf(&decided[i].Invalidation)]
		if inv == nil {
			continue
		}
		if last, is := registered[inv.Token]; !is || last.After(inv.At) {
			continue
		}
		_, err := tx.ExecContext(ctx, `UPDATE invalidations SET checked_at = NULL, environment = ?, kind = ?
			WHERE app = ? AND token = ? AND invalidated_at = ? AND source = ?`,
			string(inv.Route), string(inv.Kind), app, []byte(inv.Token), stamp(inv.At), string(inv.Source))
		if err != nil {
			return err
		}
	}
	return nil
}
