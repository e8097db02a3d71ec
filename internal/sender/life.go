package sender

import (
	"context"
	"log/slog"

	"github.com/lhspn/lhspn/internal/queue"
)

// logResults writes what became of each delivery, at debug: with the line of the acceptance that is a notification's
// life.
func (r *route) logResults(g *group) {
	ctx := context.Background()
	if !r.s.log.Enabled(ctx, slog.LevelDebug) {
		return
	}
	for i := range g.Deliveries {
		d := &g.Deliveries[i]
		attrs := make([]slog.Attr, 0, 8)
		attrs = append(attrs, slog.String("notification", d.Notification.ID.String()), slog.String("app", r.app),
			slog.String("route", string(r.name)), slog.String("token", d.Token.Short()),
			slog.String("outcome", d.Result.Outcome.String()))
		if d.Result.Reason != nil {
			attrs = append(attrs, slog.String("reason", d.Result.Reason.Text))
		}
		if d.Result.Status != 0 {
			attrs = append(attrs, slog.Uint64("status", uint64(d.Result.Status)))
		}
		attrs = append(attrs, slog.Int("attempt", int(d.Attempts)+1))
		r.s.log.LogAttrs(ctx, slog.LevelDebug, "result", attrs...)
	}
}

// logExpansion writes, at debug, how many recipients were found for a page of an audience.
func (r *route) logExpansion(b *batch, ready []*queue.Batch, last bool) {
	if !r.s.log.Enabled(context.Background(), slog.LevelDebug) {
		return
	}
	r.s.log.Debug("audience expanded", "notification", b.Notification.String(), "app", r.app, "route", string(r.name),
		"recipients", recipientsOf(ready), "last", last)
}
