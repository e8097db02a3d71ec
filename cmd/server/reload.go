package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lhspn/lhspn/internal/config"
	"github.com/lhspn/lhspn/internal/filewatch"
)

// reload takes up what changes in the configuration while the service runs: apps and their keys, operators' keys, the
// level of the log, and the files that these name. It does so on SIGHUP, and when a file changes. A configuration that
// is wrong changes nothing.
type reload struct {
	file    string // empty in dev mode: there is nothing to be read again
	s       *service
	level   *slog.LevelVar
	watch   *filewatch.Watch
	unwatch []func()       // the files that are watched
	secrets []string       // the files of the configuration's secrets
	started *config.Config // what holds until a restart
	refused string         // why the file, or a part of it, is not in force; counted and said once
	hup     chan os.Signal
	asked   atomic.Bool // by SIGHUP: whoever sends it is told what came of it, also where the log has said so before
	told    string      // the settings that the log has said need a restart
}

// catchHangups is to be called before anything else: SIGHUP ends a process that does not wait for it.
func catchHangups() chan os.Signal {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	return hup
}

// newReload returns the reload of the service, of which cfg is in force. It starts nothing: run does.
func newReload(file string, cfg *config.Config, s *service, level *slog.LevelVar, hup chan os.Signal) *reload {
	return &reload{
		file: file, s: s, level: level, watch: filewatch.New(s.log), started: cfg, secrets: cfg.SecretFiles(), hup: hup,
	}
}

// reloadMetrics are there in any case, also where there is no file.
type reloadMetrics struct {
	results *prometheus.CounterVec
	refused prometheus.Gauge
}

func newReloadMetrics(reg prometheus.Registerer) *reloadMetrics {
	m := &reloadMetrics{
		results: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "lhspn", Subsystem: "configuration", Name: "reloads_total",
			Help: "Configurations that were read while the service runs, because of SIGHUP or a change of the file, by result.",
		}, []string{"result"}),
		refused: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: "lhspn", Subsystem: "configuration", Name: "refused",
			Help: "1 while the configuration file is wrong, and the one that was read before stays in force.",
		}),
	}
	reg.MustRegister(m.results, m.refused)
	for _, result := range []string{"ok", "refused"} {
		m.results.WithLabelValues(result)
	}
	return m
}

// run reloads until ctx ends.
func (r *reload) run(ctx context.Context) error {
	ask := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-ctx.Done():
				return
			case <-r.hup:
			}
			if r.file == "" {
				r.s.log.Info("SIGHUP: dev mode has no configuration file that could be read again")
				continue
			}
			r.s.log.Info("SIGHUP: the configuration is read again", "file", r.file)
			r.asked.Store(true)
			select {
			case ask <- struct{}{}:
			case <-ctx.Done():
			}
		}
	}()
	if r.file != "" {
		r.follow()
	}
	r.watch.Run(ctx, ask, r.reload)
	<-done
	return nil
}

// follow has the files watched whose change may be news.
func (r *reload) follow() {
	former := r.unwatch
	r.unwatch = nil
	for _, file := range append(slices.Concat(r.s.live.files(), r.secrets), r.file) {
		r.unwatch = append(r.unwatch, r.watch.Add(file))
	}
	for _, stop := range former { // after that: a folder that goes on being watched misses nothing
		stop()
	}
}

// reload reads the configuration and takes up what is new.
func (r *reload) reload() {
	if r.file == "" {
		return
	}
	asked := r.asked.Swap(false)
	cfg, err := config.Load(r.file, os.Environ())
	if err == nil {
		if faults := fatal(cfg); len(faults) > 0 {
			err = faults
		}
	}
	m := r.s.reloads
	if err != nil {
		if r.refuse(err) || asked {
			r.s.log.Error("the configuration file is wrong; what was read before stays in force", "file", r.file, "error", err)
		}
		return
	}
	m.refused.Set(0)
	_ = r.level.UnmarshalText([]byte(cfg.Log.Level)) // the configuration allows only levels
	news, err := r.s.setFile(cfg)
	r.secrets = cfg.SecretFiles()
	r.follow()
	if names := strings.Join(config.Changed(r.started, cfg), ", "); names != r.told || asked {
		r.told = names
		if names != "" {
			r.s.log.Warn("settings have changed that are taken up at the next start only", "settings", names)
		}
	}
	switch {
	case err != nil: // what it concerns was in the log when it began
		if !r.refuse(err) && asked {
			r.s.log.Error("a part of the configuration is still not in force", "file", r.file, "error", err)
		}
		return
	case news:
		m.results.WithLabelValues("ok").Inc()
		r.s.log.Info("the configuration's apps and keys are in force", "file", r.file, "apps", len(cfg.Apps))
	case asked:
		r.s.log.Info("the configuration's apps and keys are in force as they were", "file", r.file, "apps", len(cfg.Apps))
	}
	r.refused = ""
}

// refuse notes why the file, or a part of it, is not in force, and reports whether that is new.
func (r *reload) refuse(err error) bool {
	r.s.reloads.refused.Set(1)
	if r.refused == err.Error() {
		return false
	}
	r.refused = err.Error()
	r.s.reloads.results.WithLabelValues("refused").Inc()
	return true
}
