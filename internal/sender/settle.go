package sender

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/lhspn/lhspn/internal/delay"
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/queue"
	"github.com/lhspn/lhspn/internal/ring"
)

// What one settling transaction takes at the most.
const (
	settleBatches    = 256
	settleRecipients = 16 * groupSize
	// settleEvery is the time from one transaction to the next, unless that is full before: a transaction costs as much
	// as tens of single notifications in it. The first one after a pause begins at once.
	settleEvery = 25 * time.Millisecond
	// refusedMax is the longest pause before what the database refuses is tried again.
	refusedMax = 30 * time.Second
)

// settlers have the queue settle the batches that have their results, many in a transaction: the longer one takes, the
// more the next one has. What waits for them is bounded by the routes' memory.
type settlers struct {
	s    *Sender
	wake chan struct{} // an element for each settler that should look

	mu         sync.Mutex // guards all below
	batches    ring.Ring[*batch]
	recipients int           // of the batches
	next       time.Time     // when the next transaction begins that is not full
	waiting    bool          // a timer wakes a settler then
	busy       int           // settlers with batches in hand
	aside      int           // batches that the database has refused, and that come again
	idle       chan struct{} // closed when there is nothing to settle; nil unless drain waits
}

func newSettlers(s *Sender) *settlers {
	return &settlers{s: s, wake: make(chan struct{}, s.cfg.Settlers)}
}

// add queues a batch, which from now on belongs to the settlers. It never blocks.
func (q *settlers) add(b *batch) {
	b.times.answer()
	q.mu.Lock()
	q.push(b)
	q.mu.Unlock()
	signal(q.wake)
}

// push is called with mu held.
func (q *settlers) push(b *batch) {
	q.batches.PushBack(b)
	q.recipients += b.weight()
}

// early reports whether it is too early for a transaction, and has a settler woken when it is not. mu is held.
func (q *settlers) early(now time.Time) bool {
	full := q.batches.Len() >= settleBatches || q.recipients >= settleRecipients
	wait := q.next.Sub(now)
	if full || wait <= 0 || q.idle != nil {
		return false
	}
	if !q.waiting {
		q.waiting = true
		time.AfterFunc(wait, func() {
			q.mu.Lock()
			q.waiting = false
			q.mu.Unlock()
			signal(q.wake)
		})
	}
	return true
}

// take appends what fits into one transaction to taken.
func (q *settlers) take(taken []*batch) []*batch {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	if q.batches.Len() == 0 || q.early(now) {
		return taken
	}
	q.next = now.Add(settleEvery)
	recipients := 0
	for q.batches.Len() > 0 && len(taken) < settleBatches && recipients < settleRecipients {
		b := q.batches.PopFront()
		recipients += b.weight()
		taken = append(taken, b)
	}
	q.recipients -= recipients
	q.busy++
	if q.batches.Len() > 0 {
		signal(q.wake)
	}
	return taken
}

func (q *settlers) doneWith() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.busy--
	q.tellIdle()
}

// tellIdle is called with mu held.
func (q *settlers) tellIdle() {
	if q.idle != nil && q.busy == 0 && q.aside == 0 && q.batches.Len() == 0 {
		close(q.idle)
		q.idle = nil
	}
}

// run is one settler.
func (q *settlers) run(ctx context.Context) {
	var batches []*batch
	var settlements []queue.Settlement
	for {
		select {
		case <-ctx.Done():
			return
		case <-q.wake:
		}
		for batches = q.take(batches[:0]); len(batches) > 0 && ctx.Err() == nil; batches = q.take(batches[:0]) {
			settlements = settlements[:0]
			for _, b := range batches {
				settlements = append(settlements, q.decide(b, time.Now()))
			}
			q.settleAll(ctx, batches, settlements)
			clear(batches)
			clear(settlements)
			q.doneWith()
		}
	}
}

// decide makes a batch's results what they are settled as.
func (q *settlers) decide(b *batch, now time.Time) queue.Settlement {
	if !b.decided {
		b.decided = true
		b.untriedFirst()
		b.retryAt = q.failOrRetry(b, now)
	}
	return queue.Settlement{Batch: b.Batch, Lease: b.lease, SentAt: b.sentAt, Kind: b.n.Kind,
		ServiceID: b.n.ServiceID, Name: b.n.Name, CreatedAt: b.n.CreatedAt, Results: b.results, RetryAt: b.retryAt}
}

// failOrRetry fails what has had its attempts, and says when the others are due again: what never reached the service
// at once. Those that have to wait longer than others go along with them, and are passed over then.
func (q *settlers) failOrRetry(b *batch, now time.Time) (retryAt time.Time) {
	attempts, most := -1, b.route.cfg.MaxRetries
	if b.granted {
		most = max(most, 1)
	}
	atOnce := false
	var shortest, longest time.Duration
	for i := range b.results {
		r := &b.results[i]
		switch r.Outcome {
		case push.Retry:
			n := int(b.Recipients[i].Attempts)
			if n >= most {
				r.Outcome, r.GaveUp = push.Failed, true
				b.route.metrics.gaveUp.Inc()
				continue
			}
			attempts = max(attempts, n)
			b.route.metrics.retries.Inc()
		case push.Pending:
			r.Outcome = push.NotSent
		default:
			if r.Outcome.Final() {
				continue
			}
		}
		atOnce = atOnce || r.RetryAfter == 0
		longest = max(longest, r.RetryAfter)
		if shortest == 0 || r.RetryAfter < shortest {
			shortest = r.RetryAfter
		}
	}
	retryAt = now
	if attempts >= 0 {
		retryAt = now.Add(backoff(q.s.cfg.Retry, q.s.cfg.RetryMax, attempts))
	}
	switch {
	case b.waitsWhole:
		return later(retryAt, now.Add(longest))
	case atOnce:
		return retryAt
	}
	return later(retryAt, now.Add(min(longest, shortest+shortest/4)))
}

// settleAll settles until it is done or ctx ends. While the database is away the results stay here, and memory does not
// grow: nothing can be read either.
func (q *settlers) settleAll(ctx context.Context, batches []*batch, settlements []queue.Settlement) {
	for failures := 0; ; failures++ {
		err := q.settle(ctx, settlements)
		if err == nil {
			for _, b := range batches {
				b.route.settled(b)
			}
			return
		}
		q.s.metrics.settleErrors.Inc()
		if failures == 0 && slices.ContainsFunc(batches, func(b *batch) bool { return b.refused == 0 }) {
			q.s.log.Warn("settling failed; it is tried until it succeeds", "batches", len(batches), "error", err)
		}
		if failures > 0 && !errors.Is(err, push.ErrUnavailable) {
			// One of them may be what the database refuses: the others must not wait for it.
			for i := range batches {
				q.settleOnce(ctx, batches[i], settlements[i])
			}
			return
		}
		if delay.For(ctx, backoff(50*time.Millisecond, 2*time.Second, failures)) != nil {
			q.requeue(batches)
			return
		}
	}
}

// settleOnce settles one batch, or puts it aside for a while.
func (q *settlers) settleOnce(ctx context.Context, b *batch, s queue.Settlement) {
	if err := q.settle(ctx, []queue.Settlement{s}); err == nil {
		b.route.settled(b)
		return
	}
	b.refused++
	q.mu.Lock()
	defer q.mu.Unlock()
	q.aside++
	time.AfterFunc(backoff(200*time.Millisecond, refusedMax, b.refused), func() {
		q.mu.Lock()
		q.aside--
		q.push(b)
		q.mu.Unlock()
		signal(q.wake)
	})
}

// requeue keeps what could not be settled in time, so that drain knows of it.
func (q *settlers) requeue(batches []*batch) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, b := range batches {
		q.push(b)
	}
}

func (q *settlers) settle(ctx context.Context, settlements []queue.Settlement) error {
	ctx, cancel := context.WithTimeout(ctx, databaseTimeout)
	defer cancel()
	start := time.Now()
	followUps, err := q.s.q.Settle(ctx, settlements)
	if fenced, ok := errors.AsType[*queue.FencedError](err); ok {
		// Another replica has the shards, and sends what we sent: nothing else is right, for we may have stalled for
		// long.
		q.s.metrics.fenced.Add(float64(len(fenced.Leases)))
		q.s.log.Warn("shards were lost while their batches were in flight; their new owner sends these again", "shards",
			len(fenced.Leases))
		err = nil
	}
	if err != nil {
		return fmt.Errorf("settle %d batches: %w", len(settlements), err)
	}
	q.s.metrics.settleSeconds.Observe(time.Since(start).Seconds())
	q.s.metrics.settleBatches.Observe(float64(len(settlements)))
	now := time.Now().UnixMicro()
	for _, b := range followUps {
		r := q.s.routeOf(b)
		if r == nil { // gone meanwhile
			continue
		}
		switch n := r.notification(b.Notification); {
		case b.DueAt > now || n == nil:
			q.s.reader.wakeAt(time.UnixMicro(b.DueAt))
		case time.Since(start) > queue.HandoffWithin: // a reader may have found it, and it may be sent and forgotten
			q.s.reader.rewind(b.Shard, b.Lane)
		default:
			r.admit(b, n)
		}
	}
	return nil
}

// drain waits until everything is settled, for so long.
func (q *settlers) drain(timeout time.Duration) error {
	idle := make(chan struct{})
	q.mu.Lock()
	q.idle = idle
	q.tellIdle()
	q.mu.Unlock()
	signal(q.wake) // what waits need not wait any longer
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-idle:
		return nil
	case <-timer.C:
		return errUnsettled
	}
}
