package tokens

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/push"
)

// A device token that is registered while proving is on is unproven until its service accepts something for it, which
// is noted in the transaction that settles that. Tokens that were there before are none of this.

// rollout is how long after the first replica the last one may start with proving on, at the most, for none to be
// unproven whose acceptance another one did not note.
const rollout = time.Hour

// SetProving says whether it is kept which tokens are accepted, from now on. It is to be called before anything else,
// and the same for all replicas: what one of them does not keep cannot count, and so none is unproven from before it
// was on everywhere, which is where no other has started with it on for the time of a rollout.
func (s *Store) SetProving(ctx context.Context, on bool) error {
	s.proving = on
	now := s.now().UTC()
	at, begun := database.Time{Time: now}, database.Time{Time: now.Add(-rollout)}
	err := s.db.Tx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		if !on {
			_, err := tx.ExecContext(ctx, "DELETE FROM proving")
			return err
		}
		if _, err := tx.ExecContext(ctx, "INSERT INTO proving (id, since) VALUES (1, ?)"+s.db.Dialect.Upsert("id"),
			at); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, "UPDATE proving SET since = ? WHERE id = 1 AND since > ?", at, begun)
		return err
	})
	if err != nil {
		return fmt.Errorf("set whether tokens are proven: %w", err)
	}
	return nil
}

// Accepted notes that the app's tokens were accepted, where proving is on.
func (s *Store) Accepted(ctx context.Context, tx *sqlx.Tx, app string, tokens []push.Token) error {
	if !s.proving {
		return nil
	}
	slices.Sort(tokens)
	for run := range slices.Chunk(tokens, maxRows) {
		_, err := newStatement("UPDATE device_tokens SET unproven_since = NULL WHERE app = ? AND token IN").add("", app).
			list(len(run), func(i int) any { return []byte(run[i]) }).add(" AND unproven_since IS NOT NULL").exec(ctx, tx)
		if err != nil {
			return fmt.Errorf("note accepted tokens: %w", err)
		}
	}
	return nil
}

// provingPage is how many tokens one statement looks through for unproven ones.
const provingPage = 10_000

// unproven is the condition on tokens that go: registered since proving is on, and not again or accepted for so long.
const unproven = " AND unproven_since < ? AND last_updated < ? AND unproven_since >= ?"

// RemoveUnproven removes the app's tokens that were never accepted, and were registered before, and says how many.
func (s *Store) RemoveUnproven(ctx context.Context, app string, before time.Time) (removed int, err error) {
	if !s.proving {
		return 0, nil
	}
	defer s.metrics.time("remove", time.Now())
	var since database.Time
	err = s.db.Reader().QueryRowContext(ctx, "SELECT since FROM proving WHERE id = 1").Scan(&since)
	switch {
	case errors.Is(err, sql.ErrNoRows): // a replica has started for which it is off
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("look for unproven tokens: %w", database.MarkUnavailable(err))
	}
	span := []any{database.Time{Time: before.UTC()}, database.Time{Time: before.UTC()}, since}
	var token []byte
	for after, more := push.Token(""), true; more; {
		bound := push.Token("")
		err := newStatement("SELECT token FROM device_tokens WHERE app = ? AND token > ?").
			add(" ORDER BY token LIMIT 1 OFFSET ?", app, []byte(after), provingPage-1).
			query(ctx, s.db.Reader(), []any{&token}, func() error { bound = push.Token(token); return nil })
		if err != nil {
			return removed, fmt.Errorf("look for unproven tokens: %w", database.MarkUnavailable(err))
		}
		find := newStatement("SELECT token FROM device_tokens WHERE app = ? AND token > ?").add("", app, []byte(after))
		if more = bound != ""; more {
			find.add(" AND token <= ?", []byte(bound))
		}
		var found []push.Token
		err = find.add(unproven, span...).
			query(ctx, s.db.Reader(), []any{&token}, func() error { found = append(found, push.Token(token)); return nil })
		if err != nil {
			return removed, fmt.Errorf("look for unproven tokens: %w", database.MarkUnavailable(err))
		}
		for run := range slices.Chunk(found, maxRows) {
			n, err := s.removeUnproven(ctx, app, run, span)
			if removed += n; err != nil {
				return removed, fmt.Errorf("remove unproven tokens: %w", err)
			}
		}
		after = bound
	}
	return removed, nil
}

// removeUnproven removes those of the tokens that are still unproven.
func (s *Store) removeUnproven(ctx context.Context, app string, tokens []push.Token, span []any) (int, error) {
	var w transaction
	var growth growth
	err := s.tx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		growth.release(s.counters)
		w = transaction{store: s, tx: tx, growth: &growth, records: map[key]*record{}}
		var token []byte
		err := newStatement("SELECT token FROM device_tokens WHERE app = ? AND token IN").add("", app).
			list(len(tokens), func(i int) any { return []byte(tokens[i]) }).add(unproven, span...).
			add(" ORDER BY token").add(s.forUpdate()).
			query(ctx, tx, []any{&token}, func() error {
				w.add(&record{key: key{app, push.Token(token)}})
				return nil
			})
		if err != nil {
			return err
		}
		if err := w.load(ctx, w.sorted); err != nil {
			return err
		}
		for _, e := range w.sorted {
			e.remains, e.unproven = false, true
		}
		if err := w.write(ctx, w.sorted); err != nil {
			return err
		}
		return s.counters.Write(ctx, tx, &growth.counts)
	})
	if err != nil {
		return 0, err
	}
	s.counters.Committed(&growth.counts)
	return len(w.sorted), nil
}
