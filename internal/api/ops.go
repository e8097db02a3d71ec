package api

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/pprof"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// readyTimeout is for the check behind /readyz: an orchestrator asks every few seconds.
const readyTimeout = 3 * time.Second

// opsTimeout is how long after its request an answer may be taken, profiles apart.
const opsTimeout = 30 * time.Second

// opsIndex is the page that leads to what the operators' listener has.
func opsIndex(hasConsole bool) string {
	page := `<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>LHSPN, for operators</title></head><body><h1>LHSPN</h1><ul>`
	if hasConsole {
		page += `<li><a href="/console">Console</a>: what is sent, and why something is not</li>`
	}
	return page + `
<li><a href="/metrics">Metrics</a>, for Prometheus</li>
<li><a href="/livez">Is it alive?</a> <a href="/readyz">Is it ready?</a></li>
<li><a href="/debug/pprof/">Profiles</a> of the process</li>
</ul></body></html>
`
}

// NewOps makes the handler of the operators' listener: an index of links, /livez, /readyz, /metrics and /debug/pprof/.
// It asks for no key,
// so that listener is for operators' networks only.
//
// ready says why the service is not ready (the database cannot be reached, its schema is older than the program, it is
// shutting down), and nil when it is. A change is logged, once.
func NewOps(ready func(context.Context) error, metrics prometheus.Gatherer, hasConsole bool,
	log *slog.Logger) http.Handler {
	r := chi.NewRouter()
	r.Use(middleware.GetHead, soon) // some load balancers ask with HEAD
	r.Get("/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		_, _ = w.Write([]byte(opsIndex(hasConsole))) // the client may be gone
	})
	r.Get("/livez", func(w http.ResponseWriter, _ *http.Request) { plain(w, http.StatusOK, "ok\n") })
	var notReady atomic.Bool
	r.Get("/readyz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
		defer cancel()
		err := ready(ctx)
		if err == nil {
			if notReady.Swap(false) {
				log.Info("ready again")
			}
			plain(w, http.StatusOK, "ready\n")
			return
		}
		if !notReady.Swap(true) {
			log.Warn("not ready", "error", err)
		}
		plain(w, http.StatusServiceUnavailable, "not ready\n") // why is in the log: it may name hosts
	})
	r.Handle("/metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{ErrorLog: slog.NewLogLogger(log.Handler(),
		slog.LevelWarn)}))
	few := r.With(middleware.Throttle(maxProfiles))
	few.HandleFunc("/debug/pprof/*", pprof.Index)
	few.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	few.HandleFunc("/debug/pprof/profile", pprof.Profile)
	few.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	few.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return r
}

// maxProfiles is how many are made at the same time, so that /livez has a connection beside them.
const maxProfiles = 8

// soon has an answer end in the time that any needs but a profile, which takes as long as it was asked to.
func soon(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/debug/pprof/") {
			takenWithin(w, opsTimeout)
		}
		next.ServeHTTP(w, r)
	})
}

func plain(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text)) // the client may be gone
}
