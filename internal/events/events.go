// Package events keeps what app backends are told: the outbox that the stores write in the transactions that make an
// event true, the feed that it is read from, and the places of the events in that feed. All SQL on them is here.
//
// It decides nothing about what is an event's data beyond its form (data.go), and knows neither HTTP nor the queue's
// tables.
//
// Transactions become visible in another order than they began in, so no number that a writer takes can be a place in
// the feed: a reader could pass it over. A row is written without a place. One replica gives the rows that it sees
// their places, in one transaction after the other, each holding the row of event_feed (sequence.go). What has a place
// is committed, and so is everything before it. On SQLite, where one transaction writes at a time, each takes the
// places itself.
package events

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/push"
)

// Config is what the store is told.
type Config struct {
	// Wanted reports whether the app's events are kept. Nil: those of every app.
	Wanted func(app string) bool
	// Retention is how long they are kept.
	Retention time.Duration
	// Finished reads notifications that are finished, for the events that say so. It leaves out what is not there.
	Finished func(ctx context.Context, app string, ids []uuid.UUID) (map[uuid.UUID]*push.Status, error)
	// OwnsJob reports whether this is the one replica to do the named job. That two do it for a moment does no harm.
	OwnsJob func(name string) bool
}

// Store is the outbox and the feed. A nil Store keeps no events.
type Store struct {
	db      *database.DB
	cfg     Config
	log     *slog.Logger
	metrics *metrics
	// epoch stands for the process where an event is written under no lease.
	epoch uint64
	// last is the last id of a row that was given out.
	last atomic.Int64
	// wake has an element when a row was written here, or somebody began to wait for one.
	wake chan struct{}
	now  func() time.Time

	mu      sync.Mutex               // guards what follows
	secret  []byte                   // nil until it was read
	changed map[string]chan struct{} // by app, closed at its next event: those that somebody waits for
	// shown is how far the feed was shown last to those who follow it, and shownAt when. It never goes back, so that it
	// is never behind what Run has told of: who is shown less than there is would wait for what is not told again.
	shown   uint64
	shownAt time.Time
}

// New returns the store on a migrated database. It starts nothing: see Run.
func New(db *database.DB, cfg Config, log *slog.Logger, reg prometheus.Registerer) *Store {
	var b [8]byte
	_, _ = rand.Read(b[:]) // it cannot fail
	return &Store{
		db: db, cfg: cfg, log: log, metrics: newMetrics(reg), epoch: binary.BigEndian.Uint64(b[:]) >> 1,
		wake: make(chan struct{}, 1), now: time.Now, changed: map[string]chan struct{}{},
	}
}

// Wanted reports whether the app's events are kept.
func (s *Store) Wanted(app string) bool {
	return s != nil && (s.cfg.Wanted == nil || s.cfg.Wanted(app))
}

// Changed is closed when the app has a new event. To miss none, take it before reading.
func (s *Store) Changed(app string) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	ch := s.changed[app]
	if ch == nil {
		ch = make(chan struct{})
		s.changed[app] = ch
		s.rouse()
	}
	return ch
}

// rouse has Run look at once.
func (s *Store) rouse() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *Store) notify(apps []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, app := range apps {
		if ch := s.changed[app]; ch != nil {
			close(ch)
			delete(s.changed, app)
		}
	}
}

func (s *Store) awaited() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.changed) > 0
}

// show notes that the feed is shown up to the place, to all who are told of it: told is false where a reader came upon
// it, who begins no step while one lasts.
func (s *Store) show(seq uint64, told bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if told || !s.stepping() {
		s.shown, s.shownAt = max(s.shown, seq), s.now() // a reader may have been held up since it read the place
	}
}

// shownUntil is how far a reader is shown the feed. While somebody follows it that grows by steps: who asks again at
// once would get a few events each time, and each time costs more than they do. Who waits is told by Run of the next
// step.
func (s *Store) shownUntil() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stepping() {
		return s.shown
	}
	return math.MaxInt64
}

// stepping says that somebody follows the feed, and has a step to wait for. The caller holds mu.
func (s *Store) stepping() bool {
	since := s.now().Sub(s.shownAt)
	return len(s.changed) > 0 && since >= 0 && since < busyInterval
}

func (s *Store) hasSecret() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.secret != nil
}

// stamp is a time as both engines take it.
func stamp(t time.Time) any { return database.Time{Time: t} }

// head reads the row of the feed, which it makes where there is none yet.
func (s *Store) head(ctx context.Context) (seq uint64, err error) {
	var secret []byte
	for range 2 {
		err = s.db.Reader().QueryRowContext(ctx, "SELECT seq, secret FROM event_feed WHERE id = 1").Scan(&seq, &secret)
		if err == nil {
			s.mu.Lock()
			s.secret = secret
			s.mu.Unlock()
			return seq, nil
		}
		if !isNoRows(err) {
			return 0, wrap(err, "read the head of the feed")
		}
		if err = s.begin(ctx); err != nil {
			return 0, err
		}
	}
	return 0, wrap(err, "read the head of the feed")
}

func wrap(err error, what string) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, database.MarkUnavailable(err))
}

// Secret is random, kept in the database, and the same for every replica: what clients are to show again is signed with
// what is derived of it.
func (s *Store) Secret(ctx context.Context) ([]byte, error) {
	if _, err := s.head(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return bytes.Clone(s.secret), nil
}
