package sender

import (
	"context"
	"slices"
	"time"

	"github.com/lhspn/lhspn/internal/queue"
)

const (
	expandPage    = 4 * groupSize // of an audience, in one transaction
	badgesBatches = 256           // whose badges are counted in one transaction
)

// prepare turns batches whose recipients are not known or not counted yet into ready ones, until ctx ends: only as fast as
// they are sent, so that neither memory nor the table grows with an audience, and one after the other in turn, so that
// several audiences share.
func (a *route) prepare(ctx context.Context) {
	for failures := 0; ; {
		work, limit := a.nextUnprepared()
		if len(work) == 0 {
			select {
			case <-ctx.Done():
				return
			case <-a.wakePrepare:
			}
			continue
		}
		err := a.prepareSome(ctx, work, limit)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			failures = 0
		default:
			a.s.metrics.readErrors.Inc()
			if failures == 0 {
				a.log.Warn("recipients cannot be prepared; it is tried until it succeeds", "error", err)
			}
			if !sleep(ctx, backoff(50*time.Millisecond, 2*time.Second, failures)) {
				return
			}
			failures++
		}
	}
}

// page is how many recipients of the audience are to be expanded now: 0 while enough of it is ready. a.mu is held.
func (a *route) page(it *batch) int {
	page := expandPage
	switch st := it.stream; {
	case a.topics[it.n.Key] != nil && a.topics[it.n.Key].left > 0: // one is enough to see whether the topic is taken again
		return 0
	case it.Lane == queue.Urgent:
		return page
	case !st.slow:
		if a.pending() >= a.cfg.Memory/4 {
			return 0
		}
	default: // what its own rate lets go in a few seconds
		page = min(max(100, 5*int(st.n.Rate)), expandPage)
		ready := 0
		for i := range st.items.len() {
			ready += st.items.at(i).left()
		}
		if ready >= page || !a.fits(st, page) {
			return 0
		}
	}
	if a.room(queue.Bulk) < page {
		return 0
	}
	return page
}

// nextUnprepared takes one Audience batch, of which limit recipients are to be expanded, or some Badges batches, to be worked
// on under holds. Of bulk ones it takes nothing while enough is ready. What takes an audience's place is queued behind the
// others, and so they take turns.
func (a *route) nextUnprepared() (work []*batch, limit int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stopping {
		return nil, 0
	}
	recipients, now := 0, time.Now()
	for lane := range a.unprepared {
		waiting := &a.unprepared[lane]
		for turns := waiting.len(); turns > 0; turns-- {
			it := waiting.at(0)
			if len(work) > 0 && (work[0].Kind == queue.Audience || it.Kind == queue.Audience) ||
				len(work) == badgesBatches || recipients >= expandPage {
				return work, limit
			}
			waiting.pop()
			// The sweep sees only what waits here, which an audience that is being expanded does for moments.
			if a.expired(it, now) {
				a.retire(it, expired)
				continue
			}
			enough := it.Lane != queue.Urgent && a.pending() >= a.cfg.Memory/4
			if it.Kind == queue.Audience {
				limit = a.page(it)
				enough = limit == 0
			}
			if enough {
				waiting.push(it)
				continue
			}
			lease, ok := a.s.q.Hold(it.Shard)
			if !ok || lease.Epoch != it.epoch {
				if ok {
					a.s.q.Unhold(lease)
				}
				a.drop(it)
				continue
			}
			it.lease, it.held = lease, true
			work = append(work, it)
			recipients += it.weight()
		}
	}
	return work, limit
}

// prepareSome works on what nextUnprepared gave.
func (a *route) prepareSome(ctx context.Context, work []*batch, limit int) error {
	callCtx, cancel := context.WithTimeout(ctx, databaseTimeout)
	defer cancel()
	var ready []*queue.Batch
	var next *queue.Batch
	var err error
	if work[0].Kind == queue.Audience {
		ready, next, err = a.s.q.Expand(callCtx, work[0].lease, work[0].Batch, limit)
	} else {
		held := make([]queue.Leased, len(work))
		for i, it := range work {
			held[i] = queue.Leased{Batch: it.Batch, Lease: it.lease}
		}
		ready, err = a.s.q.CountBadges(callCtx, held)
	}
	n := work[0].stream.n
	if err != nil {
		// It may have been done all the same (an answer was lost, or some leases): read what there is now.
		a.mu.Lock()
		for _, it := range work {
			a.drop(it)
		}
		a.mu.Unlock()
		for _, it := range work {
			a.s.reader.rewind(it.Shard, it.Lane)
		}
	}
	// The new ones come before the old ones are forgotten, so that the stream and its limiter live on. Their keys may be the
	// same.
	if err == nil {
		for _, it := range work {
			if slices.ContainsFunc(ready, func(b *queue.Batch) bool { return b.Key == it.Key }) || next != nil && next.Key == it.Key {
				a.s.memory.drop(it)
			} else {
				a.s.memory.remove(it)
			}
		}
	}
	for _, b := range slices.Concat(ready, oneOrNone(next)) {
		of := n
		if b.Notification != n.ID {
			of = a.notification(b.Notification)
		}
		if of == nil {
			a.s.reader.rewind(b.Shard, b.Lane)
			continue
		}
		way := a.s.routeOf(b)
		if way == nil { // not configured any more, or not yet here: it waits
			continue
		}
		if r := way.admit(b, of); r == noRoom || r == postponed {
			a.s.reader.rewind(b.Shard, b.Lane)
		}
	}
	if err == nil {
		a.mu.Lock()
		defer a.mu.Unlock()
		for _, it := range work {
			a.forget(it)
		}
	}
	return err
}

func oneOrNone(b *queue.Batch) []*queue.Batch {
	if b == nil {
		return nil
	}
	return []*queue.Batch{b}
}
