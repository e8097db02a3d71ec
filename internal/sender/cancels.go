package sender

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/lhspn/lhspn/internal/queue"
)

// runCancels settles what was cancelled, until ctx ends.
func (r *reader) runCancels(ctx context.Context) {
	ticker := time.NewTicker(cancelEvery)
	defer ticker.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			err := r.cancels(ctx)
			if err != nil && !failing && ctx.Err() == nil {
				r.s.log.Warn("cancelled notifications cannot be looked for", "error", err)
			}
			failing = err != nil
		}
	}
}

// cancels concludes what waits of cancelled notifications, in memory or not. What is in flight gets its result.
func (r *reader) cancels(ctx context.Context) error {
	owned := r.s.q.Owned()
	if len(owned) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, databaseTimeout)
	defer cancel()
	for after := uuid.Nil; ; {
		page, err := r.s.q.Cancellations(ctx, after)
		if err != nil || len(page) == 0 {
			return err
		}
		if err := r.cancelAll(ctx, page, owned); err != nil || len(page) < queue.PageOfCancellations {
			return err
		}
		after = page[len(page)-1].Notification
	}
}

// cancelAll does so for these cancellations.
func (r *reader) cancelAll(ctx context.Context, cancelled []queue.Cancellation, owned []queue.Lease) error {
	const page = 256
	var last *queue.Batch
	for {
		batches, err := r.s.q.CancelledBatches(ctx, cancelled, owned, last, page)
		if err != nil {
			return err
		}
		for _, b := range batches {
			r.cancel(b, last == nil || last.Notification != b.Notification)
			last = b
		}
		if len(batches) < page {
			break
		}
	}
	singles, err := r.s.q.CancelledSingles(ctx, cancelled, owned)
	for _, b := range singles {
		r.cancel(b, true)
	}
	return err
}

// cancel concludes the batch of a cancelled notification, of which it is the first or not.
func (r *reader) cancel(b *queue.Batch, first bool) {
	if first {
		for _, way := range r.s.routes.Load().byApp[b.App] {
			way.cancel(b.Notification)
		}
	}
	if way := r.s.routeOf(b); way != nil && b.Kind != queue.Unreadable {
		way.cancelStored(b)
	}
}
