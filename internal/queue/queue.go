// Package queue keeps notifications, their batches, the shards' leases, outcomes, idempotency keys and invalidations:
// all SQL on them is here, and every step can be repeated after a crash at any instant.
//
// Its words. A batch is up to 1,000 recipients of one notification, or the audience that they are found by. Each batch
// is of one of 64 shards, which replicas lease, and of one of two lanes, the urgent and the bulk one, so that a
// notification to one recipient does not wait for a broadcast. To settle a batch is to write its outcomes and to remove
// it, or to leave what is to be sent again.
//
// It decides nothing about sending (internal/sender does) and contains no SQL on device tokens (internal/tokens).
package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/events"
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/quota"
)

// Config is what the queue is told. Zero fields take the defaults.
type Config struct {
	// Lease is how long a replica may be silent before the others take its shards; default 10 s.
	Lease time.Duration
	// Committers is the number of acceptance transactions side by side; default 2, and always 1 on SQLite, which has
	// one writer.
	Committers int
	// Handoff is told of accepted batches that are due, right after their commit, so that the sender need not find
	// them. It must not block, and may forget what it is told: a batch stays a row, found by polling, until it is
	// settled.
	Handoff func(n *push.Notification, batches []*Batch)
	// NoteAccepted has the registry told in each transaction which tokens were accepted.
	NoteAccepted bool
	// Tracer is told of the commits of traced requests; nil: nothing is.
	Tracer push.Tracer
	// Events are written in the transactions that make them true; nil: none are.
	Events *events.Store
	// Tickets makes the tickets in payloads, and opens those that come back; nil: nobody's are taken.
	Tickets *push.Tickets
	// ServiceID is what a delivery of the app is called towards its service, empty where it has no name there. Nil: none
	// has.
	ServiceID func(app string, notification uuid.UUID, t push.Token) string
}

// The defaults of Config, and what is not for configuration.
const (
	defaultLease      = 10 * time.Second
	defaultCommitters = 2 // one gathers and prepares while the other waits for the server
	minLease          = 50 * time.Millisecond
	keyLifetime       = 24 * time.Hour // of idempotency keys
	maxGroup          = 256            // requests that share a commit
	commitTimeout     = 30 * time.Second
)

// Queue is one replica's access to the shared queue.
type Queue struct {
	*leases
	db       *database.DB
	cfg      Config
	registry Registry
	log      *slog.Logger
	metrics  *metrics
	accepts  *database.GroupCommit[*acceptance]
	entries  entries
	removals removals
	counters *quota.Counters
	doubts   *doubts
	waves    waves
	// unreadable are rows that were told of.
	unreadable unreadable
	// receipts are counted in groups, receiptsEvery apart; waitingReceipts wait for that.
	receipts        *database.GroupCommit[push.Receipt]
	counted         countedReceipts
	receiptsEvery   time.Duration
	waitingReceipts atomic.Int64
	// tx is db.Tx; tests make its commits fail.
	tx func(ctx context.Context, fn func(ctx context.Context, tx *sqlx.Tx) error) error
	// now is time.Now; tests move it.
	now func() time.Time
}

// New returns a Queue on a migrated database. It starts nothing: see Run.
func New(db *database.DB, cfg Config, registry Registry, counters *quota.Counters, log *slog.Logger,
	reg prometheus.Registerer) (*Queue, error) {
	if cfg.Lease == 0 {
		cfg.Lease = defaultLease
	}
	if cfg.Lease < minLease {
		return nil, fmt.Errorf("queue: a lease of %v is too short", cfg.Lease)
	}
	if cfg.Committers == 0 {
		cfg.Committers = defaultCommitters
	}
	if db.Dialect == database.SQLite {
		cfg.Committers = 1
	}
	q := &Queue{db: db, cfg: cfg, registry: registry, counters: counters, log: log, metrics: newMetrics(reg),
		doubts: newDoubts(), waves: waves{shared: map[string]bool{}}, tx: db.Tx, now: time.Now}
	leases := newLeases(&leaseTable{q}, cfg.Lease, db.Dialect == database.SQLite, uuid.NewString(), log, q.metrics)
	leases.ranked = counters.SetRank
	q.leases = leases
	q.accepts = database.NewGroupCommit(maxGroup, q.commitGroup)
	q.receipts, q.receiptsEvery = database.NewGroupCommit(receiptGroup, q.commitReceipts), receiptsEvery
	return q, nil
}

// Run commits acceptances and keeps the leases. When ctx ends it commits what has gathered, waits for what was acquired
// to be released (as long as the leases last) and releases all shards. So it is the last to be stopped, after the
// sender.
func (q *Queue) Run(ctx context.Context) error {
	// Leases outlive the committers by a moment: a group that is under way still picks one of our shards.
	leasesCtx, stopLeases := context.WithCancel(context.WithoutCancel(ctx))
	defer stopLeases()
	var committers, keeper errgroup.Group
	for range q.cfg.Committers {
		committers.Go(func() error { return q.accepts.Run(ctx) })
	}
	committers.Go(func() error { return q.receipts.Run(ctx) })
	keeper.Go(func() error { return q.keep(leasesCtx) })
	err := committers.Wait()
	stopLeases()
	return errors.Join(err, keeper.Wait())
}
