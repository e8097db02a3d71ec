package api

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/pprof"
	"sync/atomic"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// readyTimeout is for the check behind /readyz: an orchestrator asks every few seconds.
const readyTimeout = 3 * time.Second

// NewOps makes the handler of the operators' listener: /livez, /readyz, /metrics and /debug/pprof/. It asks for no key,
// so that listener is for operators' networks only.
//
// ready says why the service is not ready (the database cannot be reached, its schema is older than the program, it is
// shutting down), and nil when it is. A change is logged, once.
func NewOps(ready func(context.Context) error, metrics prometheus.Gatherer, log *slog.Logger) http.Handler {
	r := chi.NewRouter()
	r.Use(middleware.GetHead) // some load balancers ask with HEAD
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
	r.HandleFunc("/debug/pprof/*", pprof.Index)
	r.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	r.HandleFunc("/debug/pprof/profile", pprof.Profile)
	r.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	r.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return r
}

func plain(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text)) // the client may be gone
}
