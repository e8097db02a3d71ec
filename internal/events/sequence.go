package events

import (
	"cmp"
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"slices"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/lhspn/lhspn/internal/database"
)

// How often the replica whose job it is looks for rows without a place, and the others whether the feed has grown:
// after an event was written here that somebody waits for, while they keep coming, and otherwise; and how often what is
// too old is removed.
const (
	commitWait    = 25 * time.Millisecond  // from the write of an event to its commit
	busyInterval  = 100 * time.Millisecond // so that a reader gets many at once
	idleInterval  = 200 * time.Millisecond
	purgeInterval = 5 * time.Minute
	passTimeout   = 30 * time.Second
)

// What one transaction does at the most.
const (
	sequencePage = 500
	purgePage    = 500
)

const (
	jobSequence = "events"
	jobPurge    = "events purge"
)

// Run gives events their places in the feed while that is this replica's job, tells those who wait, and removes what is
// older than the retention, until ctx ends.
func (s *Store) Run(ctx context.Context) error {
	var seen uint64
	var failing bool
	purgeAt := s.now().Add(purgeInterval)
	for {
		news, err := s.pass(ctx, &seen)
		if err != nil && ctx.Err() == nil && !failing {
			s.log.Warn("events wait for their place in the feed", "error", err)
		}
		failing = err != nil
		wait := commitWait // after a rest an event is told of soon
		if news {
			wait = busyInterval
		}
		if s.now().After(purgeAt) {
			if s.cfg.OwnsJob(jobPurge) {
				s.purge(ctx)
			}
			purgeAt = s.now().Add(purgeInterval)
		}
		s.pause(ctx, wait)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // what is left is for the next who runs
		}
	}
}

// pause waits for idleInterval, or, where somebody waits for events, until one was written and wait has passed since.
func (s *Store) pause(ctx context.Context, wait time.Duration) {
	timer := time.NewTimer(idleInterval)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			return
		case <-s.wake: // its transaction is committed in a moment
			if s.awaited() {
				timer.Reset(wait)
				select {
				case <-timer.C:
				case <-ctx.Done():
				}
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// pass does what is to be done now, and says whether there were events that somebody may wait for.
func (s *Store) pass(ctx context.Context, seen *uint64) (news bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, passTimeout)
	defer cancel()
	told := false
	if s.db.Dialect != database.SQLite && s.cfg.OwnsJob(jobSequence) {
		for {
			given, err := s.sequence(ctx)
			if err != nil {
				return news, err
			}
			if given.rows > 0 {
				news, told = true, s.tell(given, seen)
			}
			if given.rows < sequencePage {
				break
			}
		}
	}
	if told || !s.awaited() {
		return news, nil
	}
	before := *seen
	err = s.look(ctx, seen)
	return news || *seen != before, err
}

// placesIn takes places in the feed for rows that are written in the transaction, where nobody else can write before it
// is committed; elsewhere they are 0, which stands for none yet.
func (s *Store) placesIn(ctx context.Context, tx *sqlx.Tx, rows []*row) ([]uint64, error) {
	places := make([]uint64, len(rows))
	if s.db.Dialect != database.SQLite {
		return places, nil
	}
	n := 0
	for _, r := range rows {
		n += r.n
	}
	const grow = "UPDATE event_feed SET seq = seq + ? WHERE id = 1"
	result, err := tx.ExecContext(ctx, grow, n)
	if err != nil {
		return nil, err
	}
	if changed, err := result.RowsAffected(); err != nil {
		return nil, err
	} else if changed == 0 {
		if err := s.beginIn(ctx, tx); err != nil {
			return nil, err
		}
		if _, err := tx.ExecContext(ctx, grow, n); err != nil {
			return nil, err
		}
	}
	var seq uint64
	if err := tx.QueryRowContext(ctx, "SELECT seq FROM event_feed WHERE id = 1").Scan(&seq); err != nil {
		return nil, err
	}
	seq -= uint64(n)
	for i, r := range rows {
		seq += uint64(r.n)
		places[i] = seq
	}
	return places, nil
}

// begin makes the row of the feed.
func (s *Store) begin(ctx context.Context) error {
	return wrap(s.db.Tx(ctx, s.beginIn), "begin the feed")
}

func (s *Store) beginIn(ctx context.Context, tx *sqlx.Tx) error {
	var secret [32]byte
	_, _ = rand.Read(secret[:]) // it cannot fail
	_, err := tx.ExecContext(ctx, "INSERT INTO event_feed (id, seq, purged, secret) VALUES (1, 0, 0, ?)"+
		s.db.Dialect.Upsert("id"), secret[:])
	return err
}

// sequence gives a page of rows their places, in the order in which they were written under each lease. Nobody else
// does so at the same time: each such transaction begins with the lock of the feed's row and ends with a change of it,
// so that it also conflicts with one on another server of several that take writes.
func (s *Store) sequence(ctx context.Context) (given places, err error) {
	var waiting bool
	if err := s.db.Reader().QueryRowContext(ctx,
		"SELECT EXISTS (SELECT 1 FROM events WHERE seq = 0)").Scan(&waiting); err != nil || !waiting {
		return given, wrap(err, "look for new events")
	}
	err = s.db.Tx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		given, err = s.sequenceIn(ctx, tx)
		return err
	})
	return given, wrap(err, "give events their places")
}

// places are what one transaction gave: those after before, to the last of them.
type places struct {
	before, last uint64
	rows         int
	apps         []string // whose they are
}

func (s *Store) sequenceIn(ctx context.Context, tx *sqlx.Tx) (given places, err error) {
	var seq uint64
	err = tx.QueryRowContext(ctx, "SELECT seq FROM event_feed WHERE id = 1 FOR UPDATE").Scan(&seq)
	if errors.Is(err, sql.ErrNoRows) {
		err = s.beginIn(ctx, tx)
	}
	if err != nil {
		return given, err
	}
	type sequenced struct {
		Shard uint32
		Epoch uint64
		ID    int64
		N     uint64
		App   string
		after int64 // its id, or a greater one that it has to come after
	}
	var rows []sequenced
	if err := tx.SelectContext(ctx, &rows, `SELECT shard, epoch, id, n, app FROM events WHERE seq = 0
		ORDER BY shard, epoch, id LIMIT ?`, sequencePage); err != nil || len(rows) == 0 {
		return given, err
	}
	given.before, given.rows = seq, len(rows)
	// In the order of time, as far as the clocks of replicas agree, and of each shard in the order of its leases.
	for i := range rows {
		if rows[i].after = rows[i].ID; i > 0 && rows[i-1].Shard == rows[i].Shard {
			rows[i].after = max(rows[i].after, rows[i-1].after)
		}
	}
	slices.SortStableFunc(rows, func(a, b sequenced) int { return cmp.Compare(a.after, b.after) })
	// The rows are there, so each statement changes their seq and nothing else.
	in := database.NewInsert("events", "shard, epoch, id, seq, n, app, at, body",
		s.db.Dialect.Upsert("shard, epoch, id", "seq"))
	at := stamp(s.now())
	for _, r := range rows {
		seq += r.N
		if !slices.Contains(given.apps, r.App) {
			given.apps = append(given.apps, r.App)
		}
		if err := in.Add(ctx, tx, r.Shard, r.Epoch, r.ID, seq, r.N, r.App, at, []byte{}); err != nil {
			return given, err
		}
	}
	if err := in.Flush(ctx, tx); err != nil {
		return given, err
	}
	given.last = seq
	_, err = tx.ExecContext(ctx, "UPDATE event_feed SET seq = ? WHERE id = 1", seq)
	return given, err
}

// tell tells those who wait of places that were given here, which nobody has to look for then: unless others gave some
// since what was seen last.
func (s *Store) tell(given places, seen *uint64) bool {
	if given.before != *seen {
		return false
	}
	*seen = given.last
	s.show(given.last, true)
	s.notify(given.apps)
	return true
}

// look tells those who wait for an app's events that there are new ones.
func (s *Store) look(ctx context.Context, seen *uint64) error {
	seq, err := s.head(ctx)
	if err != nil || seq == *seen {
		return err
	}
	var apps []string
	if err := s.db.Reader().SelectContext(ctx, &apps, "SELECT DISTINCT app FROM events WHERE seq > ? AND seq <= ?",
		*seen, seq); err != nil {
		return wrap(err, "look for new events")
	}
	*seen = seq
	s.show(seq, true)
	s.notify(apps)
	return nil
}

// purge removes what is older than the retention.
func (s *Store) purge(ctx context.Context) {
	before := s.now().Add(-s.cfg.Retention)
	for total := 0; ; {
		n, err := s.purgeStep(ctx, before)
		total += n
		if err != nil && ctx.Err() == nil {
			s.log.Warn("events are not purged; the next time goes on from here", "error", err)
		}
		if err != nil || n == 0 {
			if total > 0 {
				s.log.Info("events purged", "rows", total)
			}
			return
		}
	}
}

// purgeStep removes the first rows of the feed that were written before, and notes in the same transaction which places
// are gone.
func (s *Store) purgeStep(ctx context.Context, before time.Time) (n int, err error) {
	ctx, cancel := context.WithTimeout(ctx, passTimeout)
	defer cancel()
	err = s.db.Tx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		n = 0
		var rows []struct {
			Seq uint64
			At  database.Time
		}
		if err := tx.SelectContext(ctx, &rows, "SELECT seq, at FROM events WHERE seq > 0 ORDER BY seq LIMIT ?",
			purgePage); err != nil {
			return err
		}
		for n < len(rows) && rows[n].At.Before(before) {
			n++
		}
		if n == 0 {
			return nil
		}
		last := rows[n-1].Seq
		if _, err := tx.ExecContext(ctx, "UPDATE event_feed SET purged = ? WHERE id = 1 AND purged < ?", last,
			last); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, "DELETE FROM events WHERE seq > 0 AND seq <= ?", last)
		return err
	})
	return n, wrap(err, "purge events")
}

func isNoRows(err error) bool { return errors.Is(err, sql.ErrNoRows) }
