package webhooks

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
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
	// settings are those that head, failures, retryAt and disabled are of, by their fingerprint.
	settings [32]byte
	version  int64
}

// errChanged is for a row that somebody else has changed since it was read, or that is gone.
var errChanged = errors.New("another replica sends to this webhook")

// progressStore is the store, as the workers ask for it.
type progressStore interface {
	// load is false where nothing is known of the endpoint.
	load(ctx context.Context, k key) (progress, bool, error)
	// begin notes the place of an endpoint of which nothing is known.
	begin(ctx context.Context, k key, place string, now time.Time) error
	// save keeps p, and gives it a new version; errChanged where it is not the one that was read.
	save(ctx context.Context, k key, p *progress, now time.Time) error
	remove(ctx context.Context, k key) error
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

func (s *store) begin(ctx context.Context, k key, place string, now time.Time) error {
	return wrap(s.db.Tx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO webhooks
			(app, endpoint, place, head, failures, retry_at, disabled, settings, version, touched_at)
			VALUES (?, ?, ?, '', 0, NULL, 0, ?, 1, ?)`+s.db.Dialect.Upsert("app, endpoint"),
			k.app, k.url[:], place, []byte{}, database.Time{Time: now})
		return err
	}), "begin a webhook")
}

func (s *store) save(ctx context.Context, k key, p *progress, now time.Time) error {
	var changed int64
	err := s.db.Tx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		r, err := tx.ExecContext(ctx, `UPDATE webhooks SET place = ?, head = ?, failures = ?, retry_at = ?, disabled = ?,
			settings = ?, touched_at = ?, version = version + 1 WHERE app = ? AND endpoint = ? AND version = ?`,
			p.place, p.head, p.failures, database.Time{Time: p.retryAt}, p.disabled, p.settings[:],
			database.Time{Time: now}, k.app, k.url[:], p.version)
		if err != nil {
			return err
		}
		changed, err = r.RowsAffected()
		return err
	})
	switch {
	case err != nil:
		return wrap(err, "save how far a webhook is")
	case changed == 0:
		return errChanged
	}
	p.version++
	return nil
}

func (s *store) remove(ctx context.Context, k key) error {
	return wrap(s.db.Tx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		_, err := tx.ExecContext(ctx, "DELETE FROM webhooks WHERE app = ? AND endpoint = ?", k.app, k.url[:])
		return err
	}), "remove a webhook")
}

func (s *store) removeStale(ctx context.Context, before time.Time) error {
	return wrap(s.db.Tx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		_, err := tx.ExecContext(ctx, "DELETE FROM webhooks WHERE touched_at < ?", database.Time{Time: before})
		return err
	}), "remove webhooks that are gone")
}

func wrap(err error, what string) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, database.MarkUnavailable(err))
}
