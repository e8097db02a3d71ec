package queue

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"
)

// Lease is the right to read and settle one shard's batches. Epoch is the fence: it grows with each change of owner,
// and nothing is settled under an old one.
type Lease struct {
	Shard uint8
	Epoch uint64
}

// shardRow is a shard as the database has it.
type shardRow struct {
	shard uint8
	owner string
	epoch uint64
}

// leaseStore is what leases needs of the database. Each method is one transaction or statement.
type leaseStore interface {
	// beat says "I live", with a number that grows. known is false where the replica's row was not there: it is new, or
	// was declared dead, and begins with first.
	beat(ctx context.Context, id string, first uint64) (known bool, err error)
	// look reads every replica's beat and every shard.
	look(ctx context.Context) (beats map[string]uint64, shards []shardRow, err error)
	// bury declares a replica dead and frees its shards, unless it has beaten since. Its own next beat will tell it.
	bury(ctx context.Context, id string, beat uint64) error
	// buryAll does so with every replica: for the one process that has the database to itself.
	buryAll(ctx context.Context) error
	// take takes those of the shards that are free.
	take(ctx context.Context, id string, shards []uint8) error
	// release frees those of the shards that are the replica's own.
	release(ctx context.Context, id string, shards []uint8) error
	// leave removes the replica.
	leave(ctx context.Context, id string) error
}

// leases decides which shards this replica owns. Each replica beats (a counter in its row) and watches the others'
// beats with its own monotonic clock, so that no two machines' clocks are ever compared: one whose beat did not change
// for a whole lease is dead, and its shards are free. Whoever owns less than its fair share takes free ones, whoever
// owns more gives some up as soon as nothing of them is in flight.
//
// A replica that cannot beat stops using its shards well before the others may think it dead. When it can beat again
// and nobody has buried it, it goes on with the leases it had: what it sent can still be settled.
type leases struct {
	store leaseStore
	lease time.Duration
	// sole says that no other process can have the database open, and so no lease ever runs out.
	sole bool
	id   string
	log  *slog.Logger
	m    *metrics
	// ranked is told which of the replicas this one is, in the order of their ids.
	ranked func(rank int)

	changed chan struct{} // capacity 1
	wake    chan struct{} // capacity 1; a shard that is to be given up has nothing in flight any more

	// Only keep uses these.
	seen   map[string]sighting
	looked time.Time // when that was last brought up to date
	failed bool      // the last pass did

	mu sync.Mutex
	// failingSince and failure tell of renewals that fail, zero while they do not.
	failingSince time.Time
	failure      error
	// All below are guarded by mu.
	shards  [Shards]ownedShard
	until   time.Time // when the leases must not be used any longer; with a monotonic reading
	usable  bool      // what Changed last told of until
	closing bool
	// picked is where pick has new batches put until pickAgain.
	picked    uint8
	pickAgain time.Time
}

type ownedShard struct {
	epoch    uint64
	owned    bool
	leaving  bool // to be given up: nothing more is acquired of it
	inFlight int
}

// sighting is a replica's beat and when it was first seen.
type sighting struct {
	beat uint64
	at   time.Time
}

func newLeases(store leaseStore, lease time.Duration, sole bool, id string, log *slog.Logger, m *metrics) *leases {
	return &leases{
		store: store, lease: lease, sole: sole, id: id, log: log, m: m, ranked: func(int) {},
		changed: make(chan struct{}, 1), wake: make(chan struct{}, 1), seen: map[string]sighting{},
	}
}

// Changed is signalled when the leases that Owned lists may have changed. It is for one receiver.
func (l *leases) Changed() <-chan struct{} { return l.changed }

// Owned lists the leases this replica may use now.
func (l *leases) Owned() []Lease {
	l.mu.Lock()
	defer l.mu.Unlock()
	var owned []Lease
	for i := range l.shards {
		if l.usableShard(uint8(i)) {
			owned = append(owned, Lease{uint8(i), l.shards[i].epoch})
		}
	}
	return owned
}

// usableShard is called with mu held.
func (l *leases) usableShard(shard uint8) bool {
	s := &l.shards[shard%Shards]
	return s.owned && !s.leaving && !l.closing && (l.sole || time.Now().Before(l.until))
}

// Acquire takes the right to send batches of the shard until Release; false when the shard is not, or no longer, to be
// used by this replica. A shard is given up only when all that was acquired of it is released.
func (l *leases) Acquire(shard uint8) (Lease, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.usableShard(shard) {
		return Lease{}, false
	}
	s := &l.shards[shard%Shards]
	s.inFlight++
	return Lease{shard, s.epoch}, true
}

// Release gives that right back.
func (l *leases) Release(lease Lease) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := &l.shards[lease.Shard%Shards]
	if !s.owned || s.epoch != lease.Epoch || s.inFlight == 0 {
		return // lost meanwhile, and its count with it
	}
	s.inFlight--
	if s.inFlight == 0 && (s.leaving || l.closing) {
		signal(l.wake)
	}
}

// OwnsJob reports whether this replica is the one to run the named periodic job now. Every job has one shard, whose
// owner it is.
func (l *leases) OwnsJob(name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.usableShard(uint8(xxhash.Sum64String(name) % Shards))
}

// pickFor is how long pick stays with a shard. What is accepted together is settled together, and costs a statement for
// each shard that it lies in.
const pickFor = 50 * time.Millisecond

// pick is a shard for new batches: one that this replica owns, at random; any when it owns none.
func (l *leases) pick() (shard uint8, ours bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if now.Before(l.pickAgain) && l.usableShard(l.picked) {
		return l.picked, true
	}
	start := rand.IntN(Shards)
	for i := range Shards {
		shard = uint8((start + i) % Shards)
		if l.usableShard(shard) {
			l.picked, l.pickAgain = shard, now.Add(pickFor)
			return shard, true
		}
	}
	return uint8(start), false
}

// lost drops leases that a settlement has found to be another's.
func (l *leases) lost(leases []Lease) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, lease := range leases {
		if s := &l.shards[lease.Shard%Shards]; s.owned && s.epoch == lease.Epoch {
			*s = ownedShard{}
			signal(l.changed)
		}
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Unrenewed is why the leases could not be renewed for as long as a lease lasts, and nil where they were: this replica
// can neither send nor save results then, whatever else of the database it reaches.
func (l *leases) Unrenewed() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failingSince.IsZero() || time.Since(l.failingSince) < l.lease {
		return nil
	}
	return fmt.Errorf("leases could not be renewed since %s: %w", l.failingSince.UTC().Format(time.RFC3339), l.failure)
}
