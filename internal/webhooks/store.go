package webhooks

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/lhspn/lhspn/internal/database"
)

// progress is how far the app's events are delivered to an endpoint.
type progress struct {
	// place is the cursor after what is delivered.
	place string
	// head is the event that failed last, and failures how often in a row.
	head     string
	failures int
	// retryAt is when it is tried again; zero: now.
	retryAt time.Time
	// disabled says that the receiver has answered 410 Gone.
	disabled bool
	// settings are those that head, failures, retryAt and disabled are of, by their fingerprint; at first those that the
	// row began under.
	settings [32]byte
	version  int64
}

// pass goes on behind the event, which is not tried any more, or by itself.
func (p *progress) pass(id string) { p.place, p.failures, p.retryAt = id, 0, time.Time{} }

// errChanged is for a row that somebody else has changed since it was read, or that is gone.
var errChanged = errors.New("another replica sends to this webhook")

// progressStore is the store, as the workers ask for it.
type progressStore interface {
	// load is false where nothing is known of the endpoint.
	load(ctx context.Context, k key) (progress, bool, error)
	// begin notes the place of an endpoint of which nothing is known, and the settings that it begins under.
	begin(ctx context.Context, k key, place string, settings [32]byte, now time.Time) error
	// save keeps p, and gives it a new version; errChanged where it is not the one that was read.
	save(ctx context.Context, k key, p *progress, now time.Time) error
	// asides are the events that are set aside, in the order of the feed.
	asides(ctx context.Context, k key) ([]aside, error)
	// setAside keeps p, as save does, and the event with it.
	setAside(ctx context.Context, k key, p *progress, a *aside, now time.Time) error
	saveAside(ctx context.Context, k key, a *aside) error
	dropAside(ctx context.Context, k key, n int) error
	// remove removes all that is known of the endpoint, unless it began anew since it had the version.
	remove(ctx context.Context, k key, version int64) error
	// removeStale removes what was neither saved nor begun since before.
	removeStale(ctx context.Context, before time.Time) error
}

type store struct{ db *database.DB }

func (s *store) load(ctx context.Context, k key) (p progress, known bool, err error) {
	var settings []byte
	var retryAt database.Time
	err = s.db.Reader().QueryRowContext(ctx, `SELECT place, head, failures, retry_at, disabled, settings, version
		FROM webhooks WHERE app = ? AND endpoint = ?`, k.app, k.url[:]).
		Scan(&p.place, &p.head, &p.failures, &retryAt, &p.disabled, &settings, &p.version)
	if errors.Is(err, sql.ErrNoRows) {
		return p, false, nil
	}
	copy(p.settings[:], settings)
	p.retryAt = retryAt.Time
	return p, err == nil, wrap(err, "read how far a webhook is")
}

func (s *store) begin(ctx context.Context, k key, place string, settings [32]byte, now time.Time) error {
	return wrap(s.db.Tx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO webhooks
			(app, endpoint, place, head, failures, retry_at, disabled, settings, version, touched_at)
			VALUES (?, ?, ?, '', 0, NULL, 0, ?, ?, ?)`+s.db.Dialect.Upsert("app, endpoint"),
			k.app, k.url[:], place, settings[:], firstVersion(), database.Time{Time: now})
		return err
	}), "begin a webhook")
}

// firstVersion is of a new row. It is random, so that who knows a former row of the endpoint cannot change the new one.
func firstVersion() int64 { return rand.Int64N(1 << 62) }

// mostSaves is more than a row is ever saved: versions that are no further apart are of one row.
const mostSaves = 1 << 40

// sameRow reports whether the row that has the version now is the one that had the earlier one.
func sameRow(earlier, now int64) bool { return now >= earlier && now-earlier < mostSaves }

func (s *store) save(ctx context.Context, k key, p *progress, now time.Time) error {
	return s.saveWith(ctx, k, p, now, func(context.Context, *sqlx.Tx) error { return nil })
}

// saveWith keeps p and does more in the same transaction.
func (s *store) saveWith(
	ctx context.Context, k key, p *progress, now time.Time, more func(context.Context, *sqlx.Tx) error,
) error {
	err := s.db.Tx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		r, err := tx.ExecContext(ctx, `UPDATE webhooks SET place = ?, head = ?, failures = ?, retry_at = ?, disabled = ?,
			settings = ?, touched_at = ?, version = version + 1 WHERE app = ? AND endpoint = ? AND version = ?`,
			p.place, p.head, p.failures, database.Time{Time: p.retryAt}, p.disabled, p.settings[:],
			database.Time{Time: now}, k.app, k.url[:], p.version)
		if err != nil {
			return err
		}
		changed, err := r.RowsAffected()
		if err == nil && changed == 0 {
			err = errChanged
		}
		if err != nil {
			return err
		}
		return more(ctx, tx)
	})
	if errors.Is(err, errChanged) {
		return errChanged
	}
	if err != nil {
		return wrap(err, "save how far a webhook is")
	}
	p.version++
	return nil
}

func (s *store) asides(ctx context.Context, k key) ([]aside, error) {
	rows, err := s.db.Reader().QueryContext(ctx, `SELECT n, event, place, subject, at, failures, retry_at
		FROM webhooks_aside WHERE app = ? AND endpoint = ? ORDER BY n`, k.app, k.url[:])
	if err != nil {
		return nil, wrap(err, "read a webhook's events that are set aside")
	}
	defer rows.Close()
	var all []aside
	for rows.Next() {
		var a aside
		var of []byte
		var at, retryAt database.Time
		if err := rows.Scan(&a.n, &a.event, &a.place, &of, &at, &a.failures, &retryAt); err != nil {
			return nil, wrap(err, "read a webhook's events that are set aside")
		}
		copy(a.subject[:], of)
		a.at, a.retryAt = at.Time, retryAt.Time
		all = append(all, a)
	}
	return all, wrap(rows.Err(), "read a webhook's events that are set aside")
}

func (s *store) setAside(ctx context.Context, k key, p *progress, a *aside, now time.Time) error {
	return s.saveWith(ctx, k, p, now, func(ctx context.Context, tx *sqlx.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO webhooks_aside
			(app, endpoint, n, event, place, subject, at, failures, retry_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			k.app, k.url[:], a.n, a.event, a.place, a.subject[:], database.Time{Time: a.at}, a.failures,
			database.Time{Time: a.retryAt})
		return err
	})
}

func (s *store) saveAside(ctx context.Context, k key, a *aside) error {
	return s.exec(ctx, "save a webhook's event that is set aside",
		"UPDATE webhooks_aside SET failures = ?, retry_at = ? WHERE app = ? AND endpoint = ? AND n = ?",
		a.failures, database.Time{Time: a.retryAt}, k.app, k.url[:], a.n)
}

func (s *store) dropAside(ctx context.Context, k key, n int) error {
	return s.exec(ctx, "remove a webhook's event that was set aside",
		"DELETE FROM webhooks_aside WHERE app = ? AND endpoint = ? AND n = ?", k.app, k.url[:], n)
}

func (s *store) remove(ctx context.Context, k key, version int64) error {
	return wrap(s.db.Tx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		r, err := tx.ExecContext(ctx, "DELETE FROM webhooks WHERE app = ? AND endpoint = ? AND version BETWEEN ? AND ?",
			k.app, k.url[:], version, version+mostSaves-1)
		if err != nil {
			return err
		}
		if n, err := r.RowsAffected(); err != nil || n == 0 {
			return err
		}
		_, err = tx.ExecContext(ctx, "DELETE FROM webhooks_aside WHERE app = ? AND endpoint = ?", k.app, k.url[:])
		return err
	}), "remove a webhook")
}

func (s *store) removeStale(ctx context.Context, before time.Time) error {
	if err := s.exec(ctx, "remove webhooks that are gone", "DELETE FROM webhooks WHERE touched_at < ?",
		database.Time{Time: before}); err != nil {
		return err
	}
	return s.exec(ctx, "remove webhooks that are gone", `DELETE FROM webhooks_aside WHERE NOT EXISTS
		(SELECT 1 FROM webhooks w WHERE w.app = webhooks_aside.app AND w.endpoint = webhooks_aside.endpoint)`)
}

// exec is a statement of its own.
func (s *store) exec(ctx context.Context, what, statement string, args ...any) error {
	return wrap(s.db.Tx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		_, err := tx.ExecContext(ctx, statement, args...)
		return err
	}), what)
}

func wrap(err error, what string) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, database.MarkUnavailable(err))
}
