package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lhspn/lhspn/internal/api"
	"github.com/lhspn/lhspn/internal/apns/credentials"
	"github.com/lhspn/lhspn/internal/config"
	"github.com/lhspn/lhspn/internal/console"
	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/events"
	"github.com/lhspn/lhspn/internal/feedback"
	"github.com/lhspn/lhspn/internal/listener"
	"github.com/lhspn/lhspn/internal/queue"
	"github.com/lhspn/lhspn/internal/quota"
	"github.com/lhspn/lhspn/internal/sender"
	"github.com/lhspn/lhspn/internal/tokens"
	"github.com/lhspn/lhspn/internal/tracing"
	"github.com/lhspn/lhspn/internal/webhooks"
)

// serve runs the service until ctx ends. Without a configuration file that is dev mode.
func serve(ctx context.Context, file string, stdout, stderr io.Writer) (err error) {
	logging := config.Log{Level: "info", Format: cmp.Or(os.Getenv("LHSPN_LOG_FORMAT"), "auto")}
	defer func() { err = logFatal(logging, err, stderr) }()
	hup := catchHangups()
	defer signal.Stop(hup)
	if file == "" {
		return serveDev(ctx, hup, stdout, stderr)
	}
	cfg, err := config.Load(file, os.Environ())
	if err != nil {
		return err
	}
	logging = cfg.Log
	if err := checkAddress(cfg); err != nil {
		return err
	}
	if faults := fatal(cfg); len(faults) > 0 {
		return faults
	}
	log, level := newLogger(cfg.Log, stderr)
	s, err := open(ctx, cfg, log)
	if err != nil {
		return err
	}
	s.reload = newReload(file, cfg, s, level, hup)
	return s.run(ctx)
}

// fatal are the faults for which the configuration is not taken: those that concern more than one route, for
// credentials that cannot be read are waited for, and keys that anybody would guess.
func fatal(cfg *config.Config) config.Faults {
	faults := slices.DeleteFunc(config.Check(cfg), func(f config.Fault) bool { return isCredential(f.Setting) })
	return append(faults, config.CheckKeys(cfg)...)
}

// isCredential reports whether a setting concerns a single route of an app.
func isCredential(setting string) bool {
	return slices.ContainsFunc([]string{"].apns.", "].fcm.", "].webpush."},
		func(group string) bool { return strings.Contains(setting, group) })
}

// service is everything that serve wires together.
type service struct {
	cfg         *config.Config
	log         *slog.Logger
	db          *database.DB
	tokens      *tokens.Store
	queue       *queue.Queue
	counters    *quota.Counters
	sender      *sender.Sender
	feedback    *feedback.Job
	purger      *queue.Purger
	events      *events.Store
	webhooks    *webhooks.Sender
	credentials *credentials.Watch
	vitals      *vitals
	live        *live
	operated    *operated
	reload      *reload
	reloads     *reloadMetrics
	api         *api.API
	ops         http.Handler
	console     *console.Console // nil: it is switched off
	metrics     *prometheus.Registry
	tracer      *tracing.Tracer // nil: nothing is traced
	// draining is set when the service is told to stop, so that it stops being ready before it stops to serve.
	draining atomic.Bool

	public      *listener.Listener
	private     net.Listener
	proxies     listener.Proxies
	certificate *listener.Certificate // nil: the public listener speaks HTTP
}

// setFile has the configuration's apps and operators' keys be in force, and reports whether they are others.
func (s *service) setFile(cfg *config.Config) (news bool, err error) {
	news = !reflect.DeepEqual(s.cfg.Apps, cfg.Apps) || !reflect.DeepEqual(s.cfg.OperatorKeys, cfg.OperatorKeys) ||
		!reflect.DeepEqual(s.cfg.Webhooks, cfg.Webhooks)
	s.cfg.Apps, s.cfg.OperatorKeys, s.cfg.Webhooks = cfg.Apps, cfg.OperatorKeys, cfg.Webhooks
	s.counters.SetShared(sharedQuota(&cfg.Queue))
	s.setLimits(&cfg.API)
	if err := s.live.allow(&cfg.Webhooks); err != nil {
		s.log.Error("what the configuration says of all webhooks cannot be used; the former stays in force", "error", err)
		return news, errors.Join(err, s.operated.setFile(cfg))
	}
	return news, s.operated.setFile(cfg)
}

// sharedQuota is what all apps share.
func sharedQuota(c *config.Queue) quota.Config {
	return quota.Config{MaxWaiting: c.MaxBacklog, MaxScheduled: c.MaxScheduled}
}

func listen(ctx context.Context, setting, address string) (net.Listener, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%s: %w: another process listens there; stop it, or set %s (or LHSPN_%s) to another address",
			setting, err, setting, strings.ToUpper(setting))
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", setting, err)
	}
	return l, nil
}

// run serves until ctx ends, and then stops in the order that loses nothing: no more requests, no more sending, the
// results saved, the shards handed back, the database closed.
func (s *service) run(ctx context.Context) error {
	defer s.close()
	s.warnOfOpenness()
	s.log.Info("serving", "version", version, "commit", commit(), "listen", s.public.Addr().String(),
		"ops_listen", s.private.Addr().String(), "database", s.db.Dialect)
	s.notify("READY=1")
	time.AfterFunc(time.Second, leaveStart)
	return runParts(ctx, s.log, []part{
		{"operators' endpoints", func(ctx context.Context) error { return s.serveHTTP(ctx, s.private, s.ops, time.Second) }},
		{"queue", s.queue.Run},
		{"token store", s.tokens.Run},
		{"counters", s.counters.Run},
		{"events", s.events.Run},
		{"webhooks", s.webhooks.Run},
		{"sender", s.sender.Run},
		{"holds", newHolds(s.events, s.sender, s.queue).Run},
		{"feedback", s.feedback.Run},
		{"purge", s.purger.Run},
		{"credentials", s.credentials.Run},
		{"vitals", s.vitals.Run},
		{"apps", s.operated.run},
		{"reload", s.reload.run},
		{"console", s.runConsole},
		{"certificate", s.followCertificate},
		{"memory", giveBack},
		{"API", func(ctx context.Context) error {
			defer s.draining.Store(true)
			return s.serveHTTP(ctx, s.public, s.publicHandler(), s.cfg.ShutdownDeadline/5)
		}},
	})
}

// publicHandler is the API. In dev mode, whose key everybody knows, no page from another origin gets at it.
func (s *service) publicHandler() http.Handler {
	if s.cfg.Dev {
		return listener.LocalHost(s.api, http.HandlerFunc(s.api.Misdirected))
	}
	return s.api
}

// delay goes on serving for a while after the service has said that it is not ready: whoever sends it requests has to
// notice first. A second signal ends it.
func (s *service) delay() {
	if s.cfg.ShutdownDelay == 0 {
		return
	}
	s.log.Info("not ready any more; requests are still served", "for", s.cfg.ShutdownDelay)
	again := make(chan os.Signal, 1)
	signal.Notify(again, syscall.SIGTERM, os.Interrupt)
	defer signal.Stop(again)
	timer := time.NewTimer(s.cfg.ShutdownDelay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-again:
	}
}

// ready says why the service is not ready to serve.
func (s *service) ready(ctx context.Context) error {
	if s.draining.Load() {
		return errors.New("stopping")
	}
	if err := s.queue.Unrenewed(); err != nil { // it asks nobody: the other questions may hang with the database
		return err
	}
	if err := s.db.Ping(ctx); err != nil {
		return err
	}
	migrated, err := database.Migrated(ctx, s.db)
	if err == nil && !migrated {
		err = errors.New("the schema is older than this program")
	}
	return err
}

// close closes what open opened.
func (s *service) close() {
	s.flushSpans()
	if s.public != nil {
		_ = s.public.Close() // closed already where the server has stopped
	}
	if s.private != nil {
		_ = s.private.Close() // likewise
	}
	if s.db != nil {
		if err := s.db.Close(); err != nil {
			s.log.Warn("close the database", "error", err)
		}
	}
}
