package sender

import (
	"context"
	"slices"
	"time"

	"github.com/lhspn/lhspn/internal/delay"
	"github.com/lhspn/lhspn/internal/queue"
)

const (
	expandPage    = 4 * groupSize // of an audience, in one transaction
	badgesBatches = 256           // whose badges are counted in one transaction
)

// expander turns a route's batches whose recipients are not known or not counted yet into ready ones: only as fast as
// they are sent, so that neither memory nor the table grows with an audience, and one after the other in turn, so that
// several audiences share.
type expander struct{ *route }

// run works until ctx ends.
func (r expander) run(ctx context.Context) {
	for failures := 0; ; {
		work, limit := r.next()
		if len(work) == 0 {
			select {
			case <-ctx.Done():
				return
			case <-r.wakePrepare:
			}
			continue
		}
		err := r.prepare(ctx, work, limit)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			failures = 0
		default:
			r.s.metrics.readErrors.Inc()
			if failures == 0 {
				r.log.Warn("recipients cannot be prepared; it is tried until it succeeds", "error", err)
			}
			if delay.For(ctx, backoff(50*time.Millisecond, 2*time.Second, failures)) != nil {
				return
			}
			failures++
		}
	}
}

// next takes one Audience batch, of which limit recipients are to be expanded, or some Badges batches, to be worked on
// under their leases. Of bulk ones it takes nothing while enough is ready. What takes an audience's place is queued
// behind the others, and so they take turns.
func (r expander) next() (work []*batch, limit int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopping {
		return nil, 0
	}
	recipients, now := 0, time.Now()
	for lane := range r.backlog.unprepared {
		waiting := &r.backlog.unprepared[lane]
		for turns := waiting.Len(); turns > 0; turns-- {
			b := *waiting.At(0)
			if len(work) > 0 && (work[0].Kind == queue.Audience || b.Kind == queue.Audience) ||
				len(work) == badgesBatches || recipients >= expandPage {
				return work, limit
			}
			waiting.PopFront()
			// The sweep sees only what waits here, which an audience that is being expanded does for moments.
			if r.expired(b, now) {
				r.conclude(b, expired)
				continue
			}
			enough := b.Lane != queue.Urgent && r.backlog.enough()
			if b.Kind == queue.Audience {
				limit = r.backlog.page(b)
				enough = limit == 0
			}
			if enough {
				waiting.PushBack(b)
				continue
			}
			lease, ok := r.acquire(b)
			if !ok {
				r.evict(b)
				continue
			}
			b.lease, b.leased = lease, true
			work = append(work, b)
			recipients += b.weight()
		}
	}
	return work, limit
}

// prepare works on what next gave.
func (r expander) prepare(ctx context.Context, work []*batch, limit int) error {
	start := time.Now()
	ready, next, err := r.readRecipients(ctx, work, limit)
	if err != nil || time.Since(start) > queue.HandoffWithin {
		// It may have been done all the same (an answer was lost, or some leases), or so long ago that a reader has found
		// it, and that it is sent and forgotten: read what there is now.
		r.mu.Lock()
		for _, b := range work {
			r.evict(b)
		}
		r.mu.Unlock()
		for _, b := range work {
			r.s.reader.rewind(b.Shard, b.Lane)
		}
		return err
	}
	if work[0].Kind == queue.Audience {
		r.recordExpansion(work[0], start, ready, next == nil)
		r.logExpansion(work[0], ready, next == nil)
	}
	// The new ones come before the old ones are removed, so that the notification and its limiter live on. Their keys
	// may be the same.
	for _, b := range work {
		if slices.ContainsFunc(ready, func(f *queue.Batch) bool { return f.Key == b.Key }) || next != nil &&
			next.Key == b.Key {
			r.s.memory.evict(b)
		} else {
			r.s.memory.settled(b)
		}
	}
	if next != nil {
		ready = append(ready, next)
	}
	for _, b := range ready {
		r.s.admit(b, r.notification(b.Notification))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, b := range work {
		r.remove(b)
	}
	return nil
}

// readRecipients expands an audience, or counts badges.
func (r expander) readRecipients(ctx context.Context, work []*batch, limit int) (ready []*queue.Batch,
	next *queue.Batch, err error) {
	ctx, cancel := context.WithTimeout(ctx, databaseTimeout)
	defer cancel()
	if work[0].Kind == queue.Audience {
		return r.s.q.Expand(ctx, work[0].lease, work[0].Batch, limit)
	}
	batches := make([]queue.Leased, len(work))
	for i, b := range work {
		batches[i] = queue.Leased{Batch: b.Batch, Lease: b.lease}
	}
	ready, err = r.s.q.CountBadges(ctx, batches)
	return ready, nil, err
}
