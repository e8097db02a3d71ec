package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/lhspn/lhspn/internal/feedback"
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/queue"
	"github.com/lhspn/lhspn/internal/tokens"
)

// deadTokens is the history of invalidations with the job that makes it, as the API asks for them.
type deadTokens struct {
	queue *queue.Queue
	job   *feedback.Job
	log   *slog.Logger
}

// List implements api.Feedback.
func (d deadTokens) List(ctx context.Context, app string, since time.Time, cursor string, limit int) (
	[]push.CheckedInvalidation, string, error,
) {
	return d.queue.Invalidations(ctx, app, since, cursor, limit)
}

// Check implements api.Feedback. What a pass decided stands, and is the answer, also where the feedback service broke
// off in the middle: it will not be told again.
func (d deadTokens) Check(ctx context.Context, app string, confirmed bool) ([]push.CheckedInvalidation, error) {
	run := d.job.RunOnce
	if confirmed {
		run = d.job.RunConfirmed
	}
	items, err := run(ctx, app)
	if len(items) > 0 && errors.Is(err, push.ErrUnavailable) {
		d.log.Warn("feedback pass ended early; the next one goes on from here", "app", app, "checked", len(items), "error",
			err)
		return items, nil
	}
	return items, err
}

// inbox is the queue as the feedback job asks for it.
type inbox struct {
	*queue.Queue
	tokens *tokens.Store
}

// RemoveUnproven implements feedback.Inbox.
func (i inbox) RemoveUnproven(ctx context.Context, app string, before time.Time) (int, error) {
	return i.tokens.RemoveUnproven(ctx, app, before)
}

// BadTokens implements feedback.Inbox: such a token counts as dead since the first of the answers, so that a
// registration since then keeps it.
func (i inbox) BadTokens(
	ctx context.Context, app string, of push.PlatformSet, answers int, over time.Duration, limit int,
) ([]push.Invalidation, error) {
	bad, err := i.Queue.BadTokens(ctx, app, of, answers, over, limit)
	invalidations := make([]push.Invalidation, len(bad))
	for n, b := range bad {
		invalidations[n] = push.Invalidation{App: app, Token: b.Token, Route: b.Route, Kind: b.Kind, At: b.FirstAt,
			Source: push.SourceBadToken}
	}
	return invalidations, err
}
