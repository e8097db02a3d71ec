package queue

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

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
			return l.releaseAll(context.WithoutCancel(ctx))
		}
	}
}

// pass beats, looks, and moves towards the fair share. It returns when the next pass is due.
func (l *leases) pass(ctx context.Context) time.Duration {
	ctx, cancel := context.WithTimeout(ctx, l.lease/2)
	defer cancel()
	start := time.Now()
	next, err := l.tryPass(ctx)
	if err != nil && !l.failed && ctx.Err() != context.Canceled {
		l.log.Warn("leases not renewed", "error", err)
	} else if err == nil && l.failed {
		l.log.Info("leases renewed again")
	}
	l.failed = err != nil
	l.note(start, err)
	if err != nil {
		l.expire()
		return l.lease / 10
	}
	return next
}

// note keeps since when the leases cannot be renewed, and why: from the start of the first attempt that failed, for one
// that hangs may take long.
func (l *leases) note(start time.Time, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err == nil:
		l.failingSince = time.Time{}
	case l.failingSince.IsZero():
		l.failingSince = start
	}
	l.failure = err
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
		// A random first number: were it always 1, one who saw the beat 3 of a replica that was buried and came back
		// would take its new beat 3 for the old one, and bury it alive.
		known, err := l.store.beat(ctx, l.id, 1+rand.Uint64N(1<<62))
		if err != nil {
			return 0, err
		}
		if !known {
			l.adopt(nil) // we were declared dead, or have just begun
		}
	}
	before := time.Now()
	beats, shards, err := l.store.look(ctx)
	if err != nil {
		return 0, err
	}
	l.ranked(rankOf(l.id, beats))
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
		if _, shards, err = l.store.look(ctx); err != nil {
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
		if _, shards, err = l.store.look(ctx); err != nil {
			return 0, err
		}
	}
	owned := l.adopt(shards)
	if changed {
		l.log.Info("shards changed", "owned", owned, "replicas", live)
	}
	l.m.owned.Set(float64(owned))
	// Even if all others keep their share: they are about to give some up, so look again soon.
	if owned < Shards-share*(live-1) {
		return l.lease / 20, nil
	}
	return l.lease / 5, nil
}

// rankOf is how many of the replicas have a lesser id.
func rankOf(id string, beats map[string]uint64) (rank int) {
	for other := range beats {
		if other < id {
			rank++
		}
	}
	return rank
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
func (l *leases) watch(
	before, after time.Time, beats map[string]uint64, shards []shardRow,
) (dead map[string]uint64, live int) {
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
	// While this replica could not look, the others could perhaps not beat either: that time says nothing against them.
	// Else the first one that finds the database back would bury all others, and what they have in flight would be sent
	// again.
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
	// Replicas that start together want different ones.
	rand.Shuffle(len(free), func(i, j int) { free[i], free[j] = free[j], free[i] })
	take = free[:min(len(free), max(0, share-len(staying)))]
	return take, release
}

// releaseAll releases everything, once nothing is in flight or the leases cannot be relied on any more.
func (l *leases) releaseAll(ctx context.Context) error {
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
