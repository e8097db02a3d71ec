package sender

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/lhspn/lhspn/internal/queue"
)

// Batches that one read takes of one shard and lane, and of all of them together. An urgent one is a recipient or a
// few, a bulk one is up to a thousand.
var (
	shardLimit = [2]int{queue.Urgent: 64, queue.Bulk: 2}
	readLimit  = [2]int{queue.Urgent: 64 * 16, queue.Bulk: 16}
)

const (
	// loadPage is how many notifications are loaded at once at the most, with their payloads. What is read before may name
	// far more. Entries of 256 fill it, and it fills two statements.
	loadPage = 1792
	// readFor is for how long a poll takes up what is due in a lane. The rest is for the next one: the other lane has its
	// turn between them, and it is looked which shards are ours.
	readFor = 2 * time.Second
)

// reader finds in the database what was not handed over in memory: what other replicas put into our shards, what the
// former owner of a shard left, what fell due, and what memory had no room for.
//
// A shard's lane is an index in the order of due times, of which the reader keeps a cursor. What is behind the cursor
// is in memory, with exceptions: a batch whose commit took longer than a poll, and one that was passed over because its
// route had enough in memory. For these the cursor goes back to the start, where everything in memory is skipped: when
// a handoff was refused, when a route has room again, and every few seconds in any case.
type reader struct {
	s    *Sender
	wake chan struct{}
	// postponed says that batches were read since the last rescan that could not be sent soon. first is the shard with
	// which the next read of each lane begins: where the last one had no more time. Only run uses them.
	postponed bool
	first     [2]uint8

	mu      sync.Mutex // guards all below
	cursors [queue.Shards][2]cursor
	due     time.Time // the earliest time to look again that is known; zero for none
}

type cursor struct {
	after queue.Key
	// back says that the next read begins at the start.
	back bool
}

func newReader(s *Sender) *reader {
	return &reader{s: s, wake: make(chan struct{}, 1)}
}

// rewind has the shard's lane read from its start.
func (r *reader) rewind(shard uint8, lane queue.Lane) {
	r.mu.Lock()
	r.cursors[shard%queue.Shards][lane].back = true
	r.mu.Unlock()
}

// rewindAll does so for all, now: a route has room again for what was passed over.
func (r *reader) rewindAll() {
	r.mu.Lock()
	for i := range r.cursors {
		r.cursors[i][queue.Urgent].back, r.cursors[i][queue.Bulk].back = true, true
	}
	r.mu.Unlock()
	signal(r.wake)
}

// wakeAt has the reader look at that time at the latest.
func (r *reader) wakeAt(t time.Time) {
	r.mu.Lock()
	sooner := r.due.IsZero() || t.Before(r.due)
	if sooner {
		r.due = t
	}
	r.mu.Unlock()
	if sooner {
		signal(r.wake)
	}
}

// run polls until ctx ends: regularly, when something known falls due, and when it is woken.
func (r *reader) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	failures := 0
	rescan := time.Now().Add(rescanEvery)
	var looked, rescanned time.Time
	more := false // there is more to be read at once: the timer is set for it already, and stays so when it is woken
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			looked = time.Now()
			if !looked.Before(rescan) {
				every := rescanEvery
				if !rescanned.IsZero() { // the last one has not come to its end: this one is given longer
					every = 2 * looked.Sub(rescanned)
				}
				rescan, rescanned, r.postponed = looked.Add(every), looked, false
				r.rewindAll()
			}
			var err error
			more, err = r.poll(ctx, looked)
			switch {
			case ctx.Err() != nil:
				return
			case err != nil:
				rescanned = time.Time{}
				r.s.metrics.readErrors.Inc()
				if failures++; failures == 1 {
					r.s.log.Warn("the queue cannot be read; what is in memory goes on", "error", err)
				}
				timer.Reset(backoff(r.s.cfg.Poll, 5*time.Second, failures))
				continue
			case failures > 0 && len(r.s.q.Owned()) > 0: // without shards nothing was read; Changed tells when there are some
				r.s.log.Info("the queue can be read again", "failures", failures)
				failures = 0
			}
			if more {
				timer.Reset(0)
				continue
			}
			if !rescanned.IsZero() {
				every := rescanEvery
				if r.postponed { // they are read in vain: not all the time
					every = max(every, 20*time.Since(rescanned))
				}
				rescan, rescanned = looked.Add(every), time.Time{}
			}
		case <-r.s.q.Changed():
			r.refresh()
			timer.Reset(0)
			continue
		case <-r.wake:
		}
		if failures == 0 && !more {
			timer.Reset(r.pause(looked, time.Now()))
		}
	}
}

// pause is how long to wait for the next poll.
func (r *reader) pause(looked, now time.Time) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	next := looked.Add(r.s.cfg.Poll)
	if !r.due.IsZero() && r.due.Before(next) {
		next = r.due
	}
	// Not more often than every few milliseconds, whatever wakes it.
	return max(next.Sub(now), looked.Add(5*time.Millisecond).Sub(now), 0)
}

// refresh takes in which shards are ours: a new one is read from its start, and what is in memory of a lost one is
// withdrawn.
func (r *reader) refresh() []queue.Lease {
	owned := r.s.q.Owned()
	fresh, lost := r.s.memory.own(owned)
	for _, shard := range fresh {
		r.rewind(shard, queue.Urgent)
		r.rewind(shard, queue.Bulk)
	}
	if lost {
		for _, way := range r.s.routes.Load().byOutlet {
			way.withdrawLost()
		}
	}
	return owned
}

// poll looks at the shards once. more says that there is more to be read at once. What was admitted before an error
// stays so: each call of the database has its own time, and the cursors move with each page.
func (r *reader) poll(ctx context.Context, now time.Time) (more bool, err error) {
	r.s.memory.turn()
	owned := r.refresh()
	if len(owned) == 0 {
		return false, nil
	}
	heads, err := r.heads(ctx, owned)
	if err != nil {
		return false, err
	}
	r.mu.Lock()
	r.due = time.Time{}
	r.mu.Unlock()
	for lane := queue.Urgent; lane <= queue.Bulk; lane++ {
		again, err := r.readLane(ctx, lane, heads, now)
		if err != nil {
			return false, err
		}
		more = more || again
	}
	return more, nil
}

func (r *reader) heads(ctx context.Context, owned []queue.Lease) ([]queue.Head, error) {
	ctx, cancel := context.WithTimeout(ctx, databaseTimeout)
	defer cancel()
	return r.s.q.Heads(ctx, owned)
}

// readLane reads a lane of the shards whose head is due, some shards at a time, as long as there is room and time.
func (r *reader) readLane(ctx context.Context, lane queue.Lane, heads []queue.Head, now time.Time) (more bool,
	err error) {
	var until time.Time
	after := r.after(lane, heads, now)
	for keys := range slices.Chunk(after, readLimit[lane]/shardLimit[lane]) {
		without, room := r.full(lane)
		if !room {
			return false, nil
		}
		began := time.Now()
		if !until.IsZero() && !began.Before(until) {
			r.first[lane] = keys[0].Shard
			return true, nil
		}
		rows, err := r.read(ctx, queue.DueQuery{Lane: lane, After: keys, Until: now, Limit: shardLimit[lane],
			Without: without})
		if err != nil {
			return false, err
		}
		if until.IsZero() { // a read that took long is not for a page alone
			until = time.Now().Add(max(readFor, time.Since(began)))
		}
		left, err := r.take(ctx, rows, until)
		if err != nil {
			return false, err
		}
		// A shard that gave all it was asked for has more. It is read again after the others had their turn.
		var count [queue.Shards]int
		for _, b := range rows {
			count[b.Shard%queue.Shards]++
		}
		for _, b := range left {
			count[b.Shard%queue.Shards] = shardLimit[lane]
		}
		for _, k := range keys {
			if count[k.Shard%queue.Shards] == shardLimit[lane] {
				more = true
			} else {
				r.skip(k.Shard, lane, now)
			}
		}
		if len(left) > 0 {
			r.first[lane] = left[0].Shard
			return true, nil
		}
	}
	return more, nil
}

// after is where to read on in the shards of which something is due, those first whose turn it is.
func (r *reader) after(lane queue.Lane, heads []queue.Head, now time.Time) (after []queue.Key) {
	for _, h := range heads {
		switch due := h.Due[lane]; {
		case due.IsZero():
		case due.After(now):
			r.wakeAt(due)
		default:
			after = append(after, r.cursor(h.Shard, lane))
		}
	}
	turn := func(k queue.Key) uint8 { return (k.Shard - r.first[lane]) % queue.Shards }
	slices.SortFunc(after, func(a, b queue.Key) int { return cmp.Compare(turn(a), turn(b)) })
	return after
}

func (r *reader) read(ctx context.Context, query queue.DueQuery) ([]*queue.Batch, error) {
	ctx, cancel := context.WithTimeout(ctx, databaseTimeout)
	defer cancel()
	return r.s.q.Due(ctx, query)
}

// cursor is where to read on in the shard's lane.
func (r *reader) cursor(shard uint8, lane queue.Lane) queue.Key {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := &r.cursors[shard%queue.Shards][lane]
	if c.back {
		*c = cursor{after: queue.Key{Shard: shard, Lane: lane}}
	}
	return c.after
}

// full names the routes that have enough of the lane in memory; room is false when all have.
func (r *reader) full(lane queue.Lane) (without []queue.Outlet, room bool) {
	for outlet, way := range r.s.routes.Load().byOutlet {
		if way.wants(lane) {
			room = true
		} else {
			without = append(without, outlet)
		}
	}
	slices.SortFunc(without, func(a, b queue.Outlet) int { // the same text each time: the database keeps the statement
		return cmp.Or(cmp.Compare(a.App, b.App), cmp.Compare(a.Route, b.Route))
	})
	return without, room
}

// skip moves on in a shard of which all that was due is read: what was passed over at its end need not be passed over
// in each poll. A second is left for commits that are under way.
func (r *reader) skip(shard uint8, lane queue.Lane, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	due := now.Add(-time.Second).UnixMicro()
	if c := &r.cursors[shard%queue.Shards][lane]; !c.back && c.after.DueAt < due {
		c.after = queue.Key{Shard: shard, Lane: lane, DueAt: due}
	}
}

// advance moves the cursor past the batch, which was read.
func (r *reader) advance(b *queue.Batch) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := &r.cursors[b.Shard%queue.Shards][b.Lane]; !c.back {
		c.after = b.Key
	}
}
