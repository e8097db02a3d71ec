package api

import (
	"log/slog"
	"net/http"
	"time"

	"github.com/lhspn/lhspn/internal/push"
)

// The request log is bounded: under load it is a sample.
const (
	requestsLogged      = 20 // a second
	requestsLoggedBurst = 100
)

// logRequest writes a line for the request: at debug for each, at info for as many as the bound allows, with the number
// of those between them. It has the route's pattern and not its path, which may hold a device token.
func (x *exchange) logRequest(r *http.Request, took time.Duration) {
	a, level := x.api, slog.LevelDebug
	if !a.log.Enabled(r.Context(), level) {
		if level = slog.LevelInfo; !a.requestLog || !a.log.Enabled(r.Context(), level) {
			return
		}
		if !a.requestLines.Allow() {
			a.requestsUnlogged.Add(1)
			return
		}
	}
	attrs := make([]slog.Attr, 0, 12)
	attrs = append(attrs, slog.String("request_id", x.id), slog.String("method", r.Method),
		slog.String("route", x.route.pattern),
		slog.Int("status", x.status), slog.Duration("took", took), slog.String("client", x.address(r).String()))
	if x.who != nil {
		attrs = append(attrs, slog.String("app", x.who.app.Name), slog.String("key", x.who.key.Name))
	}
	if x.token != "" {
		attrs = append(attrs, slog.String("token", x.token))
	}
	if x.err != nil && x.status < 500 {
		attrs = append(attrs, slog.String("problem", problemOf(x.err).Type))
	}
	if n := a.requestsUnlogged.Swap(0); n > 0 {
		attrs = append(attrs, slog.Int64("others_not_logged", n))
	}
	a.log.LogAttrs(r.Context(), level, "request", attrs...)
}

// logAccepted is the beginning of each notification's life, at debug; the sender logs the rest.
func (x *exchange) logAccepted(r *http.Request, submissions []push.Submission) {
	log := x.api.log
	if !log.Enabled(r.Context(), slog.LevelDebug) {
		return
	}
	for i := range submissions {
		n := submissions[i].Notification
		log.LogAttrs(r.Context(), slog.LevelDebug, "notification accepted", slog.String("notification", n.ID.String()),
			slog.String("app", n.App), slog.String("name", n.Name), slog.Int("tokens", len(submissions[i].Tokens)),
			slog.Time("send_at", n.SendAt), slog.String("request_id", x.id))
	}
}
