package main

import (
	"context"
	"time"

	"github.com/lhspn/lhspn/internal/queue"
)

// removal is that of what one deleted app had.
type removal struct {
	app    string
	since  time.Time // when it was deleted
	queue  func(context.Context) (queue.AppRemoval, error)
	others []func(context.Context) (rows int64, left bool, err error)

	emptied bool // the queue has had nothing left; to see that again is a look at the batches of all apps
	last    bool // nor have the others, and the queue is looked at once more
}

func (o *operated) removalOf(app string) *removal {
	return &removal{
		app:   app,
		queue: func(ctx context.Context) (queue.AppRemoval, error) { return o.queue.RemoveApp(ctx, app, removeStep) },
		others: []func(context.Context) (int64, bool, error){
			func(ctx context.Context) (int64, bool, error) {
				rows, err := o.tokens.RemoveApp(ctx, app, removeStep)
				return rows, rows > 0, err
			},
			func(ctx context.Context) (int64, bool, error) { // last: what is removed before is told, too
				return o.events.RemoveApp(ctx, app, removeStep)
			},
			func(ctx context.Context) (int64, bool, error) { return 0, false, o.counters.Forget(ctx, app) },
		},
	}
}

// step is one of the removal: the queue's, and when that has nothing left the others'. In the end the queue is looked
// at again: a replica that stalled may have committed something late.
func (r *removal) step(ctx context.Context) (done queue.AppRemoval, err error) {
	if !r.emptied || r.last {
		done, err = r.queue(ctx)
		if done.Cancelled > 0 {
			r.emptied, r.last = false, false
		}
		if err != nil || done.Left {
			return done, err
		}
		if r.last {
			return done, nil
		}
		r.emptied = true
	}
	for _, other := range r.others {
		if done.Rows, done.Left, err = other(ctx); err != nil || done.Left {
			return done, err
		}
	}
	r.last = true
	return queue.AppRemoval{Rows: 1, Left: true}, nil
}

// stepRemoval takes a step of removing what a deleted app had, and reports whether another is to follow at once. The
// name is free again only when no replica takes the app's keys any more, and no request that was taken before is under
// way: it would leave something to the next app of that name.
func (o *operated) stepRemoval(ctx context.Context, r *removal) (more bool) {
	done, err := r.step(ctx)
	if done.Cancelled > 0 {
		o.log.Info("what waited of a deleted app is cancelled", "app", r.app, "recipients", done.Cancelled)
	}
	switch {
	case err != nil && ctx.Err() == nil:
		o.log.Warn("what a deleted app had cannot be removed; it is tried again", "app", r.app, "error", err)
	case err == nil && !done.Left && time.Since(r.since) < o.late:
		return false
	case err == nil && !done.Left:
		if err := o.store.Gone(ctx, r.app); err == nil {
			o.log.Info("all that a deleted app had is removed", "app", r.app)
		}
	}
	if err != nil || done.Rows == 0 {
		return false
	}
	select {
	case <-ctx.Done():
		return false
	case <-time.After(removeBreath):
		return true
	}
}
