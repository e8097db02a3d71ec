package sender

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/queue"
)

// What one settling transaction takes at the most.
const (
	settleBatches    = 256
	settleRecipients = 16 * groupSize
	// settleEvery is the time from one transaction to the next, unless that is full before: a transaction costs as much as
	// tens of single notifications in it. The first one after a pause begins at once.
	settleEvery = 25 * time.Millisecond
)

// settling queues the items that have their results, and settles many of them in a transaction: the longer one takes, the
// more the next one has. Its length is bounded by the apps' memory.
type settling struct {
	s    *Sender
	wake chan struct{} // an element for each settler that should look

	mu         sync.Mutex // guards all below
	items      fifo[*batch]
	recipients int           // of the items
	next       time.Time     // when the next transaction begins that is not full
	waiting    bool          // a timer wakes a settler then
	busy       int           // settlers with items in hand
	idle       chan struct{} // closed when there is nothing to settle; nil unless drain waits
}

func newSettling(s *Sender) *settling {
	return &settling{s: s, wake: make(chan struct{}, s.cfg.Settlers)}
}

// add queues an item, which from now on belongs to the settlers. It never blocks.
func (q *settling) add(it *batch) {
	q.mu.Lock()
	q.push(it)
	q.mu.Unlock()
	signal(q.wake)
}

// push is called with mu held.
func (q *settling) push(it *batch) {
	q.items.push(it)
	q.recipients += it.weight()
}

// early reports whether it is too early for a transaction, and has a settler woken when it is not. mu is held.
func (q *settling) early(now time.Time) bool {
	full := q.items.len() >= settleBatches || q.recipients >= settleRecipients
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

// take moves what fits into one transaction into batch.
func (q *settling) take(batch []*batch) []*batch {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	if q.items.len() == 0 || q.early(now) {
		return batch
	}
	q.next = now.Add(settleEvery)
	recipients := 0
	for q.items.len() > 0 && len(batch) < settleBatches && recipients < settleRecipients {
		it := q.items.pop()
		recipients += it.weight()
		batch = append(batch, it)
	}
	q.recipients -= recipients
	q.busy++
	if q.items.len() > 0 {
		signal(q.wake)
	}
	return batch
}

func (q *settling) doneWith() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.busy--
	q.tellIdle()
}

// tellIdle is called with mu held.
func (q *settling) tellIdle() {
	if q.idle != nil && q.busy == 0 && q.items.len() == 0 {
		close(q.idle)
		q.idle = nil
	}
}

// run is one settler.
func (q *settling) run(ctx context.Context) {
	var items []*batch
	var settlements []queue.Settlement
	for {
		select {
		case <-ctx.Done():
			return
		case <-q.wake:
		}
		for items = q.take(items[:0]); len(items) > 0 && ctx.Err() == nil; items = q.take(items[:0]) {
			settlements = settlements[:0]
			for _, it := range items {
				settlements = append(settlements, q.decide(it, time.Now()))
			}
			q.settleAll(ctx, items, settlements)
			clear(items)
			clear(settlements)
			q.doneWith()
		}
	}
}

// decide makes an item's results what they are settled as.
func (q *settling) decide(it *batch, now time.Time) queue.Settlement {
	if !it.decided {
		it.decided = true
		it.retryAt = q.judge(it, now)
	}
	return queue.Settlement{Batch: it.Batch, Lease: it.lease, SentAt: it.sentAt, Kind: it.n.Kind, Results: it.results, RetryAt: it.retryAt}
}

// judge fails what has had its attempts, and says when the others are due again: what never reached the service at once. Those that
// have to wait longer than others go along with them, and are passed over then.
func (q *settling) judge(it *batch, now time.Time) (retryAt time.Time) {
	attempts := -1
	atOnce := false
	var shortest, longest time.Duration
	for i := range it.results {
		r := &it.results[i]
		switch r.Outcome {
		case push.Retry:
			n := int(it.Recipients[i].Attempts)
			if n >= it.app.cfg.MaxRetries {
				r.Outcome = push.Failed
				it.app.metrics.gaveUp.Inc()
				continue
			}
			attempts = max(attempts, n)
			it.app.metrics.retries.Inc()
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
	case it.waitsWhole:
		return later(retryAt, now.Add(longest))
	case atOnce:
		return retryAt
	}
	return later(retryAt, now.Add(min(longest, shortest+shortest/4)))
}

// settleAll settles until it is done or ctx ends. While the database is away the results stay here, and memory does not
// grow: nothing can be read either.
func (q *settling) settleAll(ctx context.Context, items []*batch, settlements []queue.Settlement) {
	for failures := 0; ; failures++ {
		err := q.settle(ctx, settlements)
		if err == nil {
			for _, it := range items {
				it.app.settled(it)
			}
			return
		}
		q.s.metrics.settleErrors.Inc()
		if failures == 0 {
			q.s.log.Warn("settling failed; it is tried until it succeeds", "batches", len(items), "error", err)
		}
		if len(items) > 1 && failures > 0 && !errors.Is(err, push.ErrUnavailable) {
			// One of them may be what the database refuses: the others must not wait for it.
			for i := range items {
				q.settleOnce(ctx, items[i], settlements[i])
			}
			return
		}
		if !sleep(ctx, backoff(50*time.Millisecond, 2*time.Second, failures)) {
			q.giveBack(items)
			return
		}
	}
}

// settleOnce settles one item, or puts it back to the end of the queue.
func (q *settling) settleOnce(ctx context.Context, it *batch, s queue.Settlement) {
	if err := q.settle(ctx, []queue.Settlement{s}); err == nil {
		it.app.settled(it)
		return
	}
	if sleep(ctx, 100*time.Millisecond) {
		q.add(it)
	} else {
		q.giveBack([]*batch{it})
	}
}

// giveBack keeps what could not be settled in time, so that drain knows of it.
func (q *settling) giveBack(items []*batch) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, it := range items {
		q.push(it)
	}
}

func (q *settling) settle(ctx context.Context, settlements []queue.Settlement) error {
	ctx, cancel := context.WithTimeout(ctx, databaseTimeout)
	defer cancel()
	start := time.Now()
	followUps, err := q.s.q.Settle(ctx, settlements)
	if fenced, ok := errors.AsType[*queue.FencedError](err); ok {
		// Another replica has the shards, and sends what we sent: nothing else is right, for we may have stalled for long.
		q.s.metrics.fenced.Add(float64(len(fenced.Leases)))
		q.s.log.Warn("shards were lost while their batches were in flight; their new owner sends these again", "shards", len(fenced.Leases))
		err = nil
	}
	if err != nil {
		return fmt.Errorf("settle %d batches: %w", len(settlements), err)
	}
	q.s.metrics.settleSeconds.Observe(time.Since(start).Seconds())
	q.s.metrics.settleBatches.Observe(float64(len(settlements)))
	now := time.Now().UnixMicro()
	for _, b := range followUps {
		a := q.s.routeOf(b)
		if n := a.notification(b.Notification); n != nil && b.DueAt <= now {
			a.admit(b, n)
		} else {
			q.s.reader.wakeAt(time.UnixMicro(b.DueAt))
		}
	}
	return nil
}

// drain waits until everything is settled, for so long.
func (q *settling) drain(timeout time.Duration) error {
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

// sleep is false where ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
