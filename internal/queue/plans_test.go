package queue

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/database/dbtest"
	"github.com/lhspn/lhspn/internal/push"
)

const (
	plannedNotifications = 8000
	plannedFailures      = 2000
	plannedLimit         = 100
)

// fillForPlans has so many notifications of two recipients each wait, and see fill. It returns their ids and the leases.
func fillForPlans(t *testing.T, db *database.DB, notifications int) (ids []uuid.UUID, leases []Lease) {
	t.Helper()
	r := start(t, db, Config{})
	for range notifications / 100 {
		var s []push.Submission
		for range 100 {
			n := r.notification()
			n.SendAt = n.SendAt.Add(time.Hour)
			ids = append(ids, n.ID)
			s = append(s, push.Submission{Routes: production, Notification: n, Tokens: tokens(0, 2)})
		}
		r.accept(s...)
	}
	leases = r.Owned()
	fill(t, r, ids[:maxKeys], plannedFailures)
	r.stop()
	return ids, leases
}

type page struct {
	name string
	read func() (rows int, err error)
	most int // the rows that may be read for it
}

// pages is what pages or looks up many rows.
func pages(ctx context.Context, q *Queue, ids []uuid.UUID, leases []Lease) []page {
	const limit = plannedLimit
	return []page{
		{"CancelledBatches", func() (int, error) {
			of, err := q.Cancellations(ctx, uuid.Nil)
			if err != nil {
				return 0, err
			}
			batches, err := q.CancelledBatches(ctx, of, leases, nil, limit)
			return len(batches), err
		}, 6 * maxKeys}, // the list of them; their batches, found by the index, read and sorted
		{"List", func() (int, error) {
			page, _, err := q.List(ctx, app, "", uuid.Nil, limit)
			return len(page), err
		}, 6 * limit},
		{"Failures", func() (int, error) {
			page, err := q.Failures(ctx, app, ids[0], "", limit)
			return len(page), err
		}, 2 * limit},
		{"CheckInvalidations", func() (int, error) {
			page, err := q.CheckInvalidations(ctx, app, push.PlatformSet{}, limit)
			return len(page), err
		}, 20 * limit},
		{"Invalidations", func() (int, error) {
			page, _, err := q.Invalidations(ctx, app, time.Time{}, "", limit/2)
			return len(page), err
		}, 3 * limit},
		{"BadTokens", func() (int, error) {
			page, err := q.BadTokens(ctx, app, push.PlatformSet{}, 1, 0, limit)
			return len(page), err
		}, 2*maxKeys + limit},
		{"CountFailures", func() (int, error) {
			counts, _, err := q.CountFailures(ctx, ids[0], limit)
			return len(counts), err
		}, 4 * limit},
		{"TokenHistory", func() (int, error) {
			h, err := q.TokenHistory(ctx, app, token(1))
			return len(h.Bad) + len(h.Invalidations) + len(h.Failures), err
		}, 5 * historyNotifications},
		{"LastInvalidations", func() (int, error) {
			page, _, err := q.LastInvalidations(ctx, app, limit)
			return len(page), err
		}, 5 * limit}, // and those that wait are counted
		{"Notifications", func() (int, error) {
			found, err := q.Notifications(ctx, app, slices.Clone(ids[:maxKeys]))
			return len(found), err
		}, 2 * maxKeys},
		{"lockBatches", func() (n int, err error) {
			err = q.tx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
				batches, err := q.lockBatches(ctx, tx, slices.Clone(ids[:maxKeys]))
				n = len(batches)
				return err
			})
			return n, err
		}, 3 * maxKeys},
		{"withRecipients", func() (n int, err error) {
			err = q.tx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
				found, err := withRecipients(ctx, tx, app, slices.Clone(ids[:limit]))
				n = len(found)
				return err
			})
			return n, err
		}, 6 * limit},
	}
}

// Each page costs what it gives, and not what the tables hold: on MySQL and MariaDB the rows that its statements read
// are counted. The planner of either is easily talked into reading a table, by long lists above all.
func TestPagesReadWhatTheyGive(t *testing.T) {
	t.Parallel()
	address := dbtest.MySQLAddress(t)
	ids, leases := fillForPlans(t, dbtest.Open(t, address), plannedNotifications)
	db := dbtest.Open(t, address)
	db.Reader().SetMaxOpenConns(1) // so that all is counted for one session
	q := newRig(t, db, Config{}).Queue
	q.tx = db.Tx
	for _, c := range pages(t.Context(), q, ids, leases) {
		before := rowsRead(t, db.Reader())
		empty := rowsRead(t, db.Reader()) - before // the status itself is read from a table
		before = rowsRead(t, db.Reader())
		rows, err := c.read()
		cost := rowsRead(t, db.Reader()) - before - empty
		if err != nil || rows == 0 {
			t.Errorf("%s: %d rows, %v", c.name, rows, err)
		}
		if cost > c.most {
			t.Errorf("%s: %d rows are read for a page of %d, not at most %d", c.name, cost, rows, c.most)
		}
	}
}

// On SQLite none of their statements, nor one of the purge or of a poll, is planned to read a table, or an app's part
// of one.
func TestPagesByIndexOnSQLite(t *testing.T) {
	t.Parallel()
	db := dbtest.NewPlanned(t)
	ids, leases := fillForPlans(t, db.DB, maxKeys/100*100+100)
	q := newRig(t, db.DB, Config{}).Queue
	q.tx = db.Tx
	db.Forget()
	for _, c := range pages(t.Context(), q, ids, leases) {
		if rows, err := c.read(); err != nil || rows == 0 {
			t.Errorf("%s: %d rows, %v", c.name, rows, err)
		}
	}
	if _, err := q.Heads(t.Context(), leases); err != nil {
		t.Error(err)
	}
	if _, err := q.Due(t.Context(), DueQuery{After: []Key{{Shard: 1}}, Until: time.Now(), Limit: 10}); err != nil {
		t.Error(err)
	}
	if _, err := q.Purge(t.Context(), time.Now().Add(time.Hour), plannedLimit); err != nil {
		t.Error(err)
	}
	for step := (AppRemoval{Rows: 1}); step.Rows > 0; {
		var err error
		if step, err = q.RemoveApp(t.Context(), app, plannedLimit); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := q.removeBatches(t.Context(), app, plannedLimit, &removal{}); err != nil {
		t.Error(err)
	}
	db.CheckPlans(t, "batches", "b", "notifications", "n", "r", "notification_platforms", "failures", "unique_ids", "invalidations", "bad_tokens",
		"idempotency_keys")
}

// fill cancels the notifications, and gives the first of them failures, and the app as many invalidations and bad
// tokens.
func fill(t *testing.T, r *rig, cancelled []uuid.UUID, failed int) {
	t.Helper()
	now := stamp(r.now())
	err := r.db.Tx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
		cancellations := database.NewInsert("cancellations", "app, notification_id", "")
		for _, id := range cancelled {
			if err := cancellations.Add(ctx, tx, app, id[:]); err != nil {
				return err
			}
		}
		if err := cancellations.Flush(ctx, tx); err != nil {
			return err
		}
		failures := database.NewInsert("failures", failureColumns, "")
		bad := database.NewInsert("bad_tokens", "app, token, environment, kind, answers, first_at, last_at", "")
		for i := range failed {
			token := []byte(token(i))
			if err := failures.Add(ctx, tx, cancelled[0][:], token, push.Unregistered, "Unregistered", 410, 1, now); err != nil {
				return err
			}
			if err := bad.Add(ctx, tx, app, token, "production", "", 3, now, now); err != nil {
				return err
			}
		}
		if err := failures.Flush(ctx, tx); err != nil {
			return err
		}
		return bad.Flush(ctx, tx)
	})
	if err != nil {
		t.Fatal(err)
	}
	inbox := make([]push.Invalidation, failed)
	for i := range inbox {
		inbox[i] = push.Invalidation{App: app, Token: token(i), At: r.now(), Source: push.SourceFeedback}
	}
	if err := r.RecordInvalidations(t.Context(), inbox); err != nil {
		t.Fatal(err)
	}
}

// rowsRead is how many rows the one session of the pool has read so far.
func rowsRead(t *testing.T, db *sqlx.DB) (n int) {
	t.Helper()
	var rows []struct {
		Name  string `db:"Variable_name"`
		Value int    `db:"Value"`
	}
	if err := db.SelectContext(t.Context(), &rows, "SHOW SESSION STATUS LIKE 'Handler_read_%'"); err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		n += row.Value
	}
	return n
}
