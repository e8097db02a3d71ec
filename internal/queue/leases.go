package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"
)

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
	// look reads every replica's beat, every shard, and the sum of the backlog.
	look(ctx context.Context) (beats map[string]uint64, shards []shardRow, backlog int64, err error)
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

// leases decides which shards this replica owns. Each replica beats (a counter in its row) and watches the others' beats
// with its own monotonic clock, so that no two machines' clocks are ever compared: one whose beat did not change for a
// whole lease is dead, and its shards are free. Whoever owns less than its fair share takes free ones, whoever owns more
// gives some up as soon as nothing of them is in flight.
//
// A replica that cannot beat stops using its shards well before the others may think it dead. When it can beat again and
// nobody has buried it, it goes on with the leases it had: what it sent can still be settled.
type leases struct {
	store leaseStore
	lease time.Duration
	// sole says that no other process can have the database open, and so no lease ever runs out.
	sole bool
	id   string
	log  *slog.Logger
	m    *metrics
	sum  func(backlog int64)

	changed chan struct{} // capacity 1
	wake    chan struct{} // capacity 1; a shard that is to be given up has nothing in flight any more

	// Only run uses these.
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
	leaving  bool // to be given up: no new Holds
	inFlight int
}

// sighting is a replica's beat and when it was first seen.
type sighting struct {
	beat uint64
	at   time.Time
}

func newLeases(store leaseStore, lease time.Duration, sole bool, id string, log *slog.Logger, m *metrics) *leases {
	return &leases{
		store: store, lease: lease, sole: sole, id: id, log: log, m: m, sum: func(int64) {},
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

// Hold takes the right to send batches of the shard until Unhold; false when the shard is not, or no longer, to be used by
// this replica. A shard is given up only when all Holds of it are given back.
func (l *leases) Hold(shard uint8) (Lease, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.usableShard(shard) {
		return Lease{}, false
	}
	s := &l.shards[shard%Shards]
	s.inFlight++
	return Lease{shard, s.epoch}, true
}

// Unhold gives a Hold back.
func (l *leases) Unhold(lease Lease) {
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

// OwnsJob reports whether this replica is the one to run the named periodic job now. Every job has one shard, whose owner
// it is.
func (l *leases) OwnsJob(name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.usableShard(uint8(xxhash.Sum64String(name) % Shards))
}

// pickFor is how long pick stays with a shard. What is accepted together is settled together, and costs a statement for each
// shard that it lies in.
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

// keep keeps the leases until ctx ends, and then gives them back.
func (l *leases) keep(ctx context.Context) error {
	for started := false; ; {
		var next time.Duration
		if l.sole && !started {
			started = l.store.buryAll(ctx) == nil // a predecessor that crashed: its file lock is gone, so it is too
		}
		next = l.pass(ctx)
		t := time.NewTimer(next)
		select {
		case <-t.C:
		case <-l.wake:
			t.Stop()
		case <-ctx.Done():
			t.Stop()
			return l.giveBack(context.WithoutCancel(ctx))
		}
	}
}

// pass beats, looks, and moves towards the fair share. It returns when the next pass is due.
func (l *leases) pass(ctx context.Context) time.Duration {
	ctx, cancel := context.WithTimeout(ctx, l.lease/2)
	defer cancel()
	next, err := l.tryPass(ctx)
	if err != nil && !l.failed && ctx.Err() != context.Canceled {
		l.log.Warn("leases not renewed", "error", err)
	} else if err == nil && l.failed {
		l.log.Info("leases renewed again")
	}
	l.failed = err != nil
	l.note(err)
	if err != nil {
		l.expire()
		return l.lease / 10
	}
	return next
}

// note keeps since when the leases cannot be renewed, and why.
func (l *leases) note(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err == nil:
		l.failingSince = time.Time{}
	case l.failingSince.IsZero():
		l.failingSince = time.Now()
	}
	l.failure = err
}

// Unrenewed is why the leases could not be renewed for as long as a lease lasts, and nil where they were: this replica can
// neither send nor save results then, whatever else of the database it reaches.
func (l *leases) Unrenewed() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failingSince.IsZero() || time.Since(l.failingSince) < l.lease {
		return nil
	}
	return fmt.Errorf("leases could not be renewed since %s: %w", l.failingSince.UTC().Format(time.RFC3339), l.failure)
}

// expire tells of leases that ran out while they could not be renewed.
func (l *leases) expire() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.usable && !l.sole && !time.Now().Before(l.until) {
		l.usable = false
		signal(l.changed)
	}
}

func (l *leases) tryPass(ctx context.Context) (time.Duration, error) {
	start := time.Now()
	if !l.sole {
		// A random first number: were it always 1, one who saw the beat 3 of a replica that was buried and came back would
		// take its new beat 3 for the old one, and bury it alive.
		known, err := l.store.beat(ctx, l.id, 1+rand.Uint64N(1<<62))
		if err != nil {
			return 0, err
		}
		if !known {
			l.adopt(nil) // we were declared dead, or have just begun
		}
	}
	before := time.Now()
	beats, shards, backlog, err := l.store.look(ctx)
	if err != nil {
		return 0, err
	}
	l.sum(backlog)
	l.adopt(shards) // first, or what was lost meanwhile would be ours for another moment
	// The others have seen this beat at the earliest when it was sent, and wait a whole lease from then. A quarter is
	// left for what is on its way when the lease runs out.
	l.renew(start.Add(l.lease - l.lease/4))

	dead, live := l.watch(before, time.Now(), beats, shards)
	for id, beat := range dead {
		l.log.Warn("replica is dead, its shards are free", "replica", id)
		if err := l.store.bury(ctx, id, beat); err != nil {
			return 0, err
		}
	}
	if len(dead) > 0 {
		if _, shards, _, err = l.store.look(ctx); err != nil {
			return 0, err
		}
		l.adopt(shards)
	}
	l.m.live.Set(float64(live))
	share := (Shards + live - 1) / live
	take, release := l.balance(share, shards)
	if len(take) > 0 {
		if err := l.store.take(ctx, l.id, take); err != nil {
			return 0, err
		}
	}
	if len(release) > 0 {
		if err := l.store.release(ctx, l.id, release); err != nil {
			return 0, err
		}
	}
	changed := len(take)+len(release) > 0
	if changed {
		if _, shards, _, err = l.store.look(ctx); err != nil {
			return 0, err
		}
	}
	owned := l.adopt(shards)
	if changed {
		l.log.Info("shards changed", "owned", owned, "replicas", live)
	}
	l.m.owned.Set(float64(owned))
	if owned < Shards-share*(live-1) { // even if all others keep their share: they are about to give some up, so look again soon
		return l.lease / 20, nil
	}
	return l.lease / 5, nil
}

func (l *leases) renew(until time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.until = until
	if !l.usable {
		l.usable = true
		signal(l.changed)
	}
}

// adopt takes over what the database says is owned; nil for nothing.
func (l *leases) adopt(shards []shardRow) (owned int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var mine [Shards]shardRow
	for _, row := range shards {
		if row.owner == l.id && row.shard < Shards {
			mine[row.shard] = row
			owned++
		}
	}
	for i := range l.shards {
		s, row := &l.shards[i], &mine[i]
		switch {
		case row.owner == "" && s.owned:
			*s = ownedShard{}
			signal(l.changed)
		case row.owner != "" && (!s.owned || s.epoch != row.epoch):
			*s = ownedShard{owned: true, epoch: row.epoch}
			signal(l.changed)
		}
	}
	return owned
}

// watch notes the others' beats and says who is dead, with the beat seen last, and how many live. The beats were read
// at some moment between before and after: a beat is counted as seen as late as it may have been, and as missing as
// early. The owner of a shard without a replica's row counts as one that never beats.
func (l *leases) watch(before, after time.Time, beats map[string]uint64, shards []shardRow) (dead map[string]uint64, live int) {
	for _, row := range shards {
		if _, ok := beats[row.owner]; !ok && row.owner != "" {
			beats[row.owner] = 0
		}
	}
	for id := range l.seen {
		if _, ok := beats[id]; !ok {
			delete(l.seen, id)
		}
	}
	// While this replica could not look, the others could perhaps not beat either: that time says nothing against them. Else the
	// first one that finds the database back would bury all others, and what they have in flight would be sent again.
	if blind := before.Sub(l.looked) - l.lease/5; blind > l.lease/5 {
		for id, s := range l.seen {
			s.at = s.at.Add(blind)
			l.seen[id] = s
		}
	}
	l.looked = after
	dead = map[string]uint64{}
	live = 1
	for id, beat := range beats {
		if id == l.id {
			continue
		}
		s, ok := l.seen[id]
		if !ok || s.beat != beat {
			s = sighting{beat, after}
			l.seen[id] = s
		}
		if before.Sub(s.at) >= l.lease {
			dead[id] = beat
		} else if beat > 0 {
			live++
		}
	}
	return dead, live
}

// balance says which shards to take and which to release for the fair share.
func (l *leases) balance(share int, shards []shardRow) (take, release []uint8) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var free []uint8
	for _, row := range shards {
		if row.owner == "" && row.shard < Shards {
			free = append(free, row.shard)
		}
	}
	var staying, leaving []uint8
	for i := range l.shards {
		if s := &l.shards[i]; s.owned && s.leaving {
			leaving = append(leaving, uint8(i))
		} else if s.owned {
			staying = append(staying, uint8(i))
		}
	}
	for len(staying) < share && len(leaving) > 0 { // another replica went: what was to be given up stays
		shard := leaving[len(leaving)-1]
		leaving = leaving[:len(leaving)-1]
		l.shards[shard].leaving = false
		staying = append(staying, shard)
		signal(l.changed)
	}
	for _, i := range rand.Perm(len(staying))[:max(0, len(staying)-share)] {
		l.shards[staying[i]].leaving = true
		leaving = append(leaving, staying[i])
		signal(l.changed)
	}
	for _, shard := range leaving {
		if l.shards[shard].inFlight == 0 {
			release = append(release, shard)
		}
	}
	rand.Shuffle(len(free), func(i, j int) { free[i], free[j] = free[j], free[i] }) // replicas that start together want different ones
	take = free[:min(len(free), max(0, share-len(staying)))]
	return take, release
}

// giveBack releases everything, once nothing is in flight or the leases cannot be relied on any more.
func (l *leases) giveBack(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, l.lease/2)
	defer cancel()
	l.mu.Lock()
	l.closing = true
	l.mu.Unlock()
	signal(l.changed)
	for {
		l.mu.Lock()
		var idle []uint8
		busy := 0
		for i := range l.shards {
			if s := &l.shards[i]; s.owned && s.inFlight == 0 {
				idle = append(idle, uint8(i))
			} else if s.owned {
				busy++
			}
		}
		l.mu.Unlock()
		if busy > 0 {
			select {
			case <-l.wake:
				continue
			case <-ctx.Done():
			}
		}
		last, stop := context.WithTimeout(context.WithoutCancel(ctx), l.lease/2)
		defer stop()
		var err error
		if len(idle) > 0 {
			err = l.store.release(last, l.id, idle)
		}
		if busy == 0 { // or else the others wait a lease, as what is in flight may still be settled
			err = errors.Join(err, l.store.leave(last, l.id))
		}
		l.adopt(nil)
		return wrap(err, "release the shards")
	}
}
