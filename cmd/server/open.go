package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"io"
	"log/slog"
	"math"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/lhspn/lhspn/internal/api"
	"github.com/lhspn/lhspn/internal/config"
	"github.com/lhspn/lhspn/internal/events"
	"github.com/lhspn/lhspn/internal/feedback"
	"github.com/lhspn/lhspn/internal/listener"
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/queue"
	"github.com/lhspn/lhspn/internal/quota"
	"github.com/lhspn/lhspn/internal/sender"
	"github.com/lhspn/lhspn/internal/tokens"
	"github.com/lhspn/lhspn/internal/webhooks"
)

// startTimeout bounds each step before the service serves: a database that cannot be reached is told, not waited for.
// What is no database's, as making the routes of thousands of apps, uses up nothing of the next step's.
const startTimeout = 2 * time.Minute

// opening is what the parts of the service are made from.
type opening struct {
	*service
	reg    prometheus.Registerer
	shown  prometheus.Gatherer // what of the metrics the console shows
	tracer push.Tracer         // nil: nothing is traced
	ways   *gateways
	all    []config.App // of the configuration and the database
}

// open makes the service ready to run: listeners are open, credentials read, the schema is up to date.
func open(ctx context.Context, cfg *config.Config, log *slog.Logger) (_ *service, err error) {
	metrics, shown := prometheus.NewRegistry(), prometheus.NewRegistry()
	s := &service{cfg: cfg, log: log, metrics: metrics}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	o := opening{service: s, reg: tap{metrics, shown}, shown: shown}
	registerBuild(o.reg)
	o.reg.MustRegister(collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if o.tracer, err = s.openTracing(ctx); err != nil {
		return nil, err
	}
	o.ways = newGateways(log, o.reg)
	s.credentials = o.ways.watch
	s.live, s.reloads = newLive(o.ways, log, o.reg), newReloadMetrics(o.reg)
	if err := tryProofs(cfg.Apps); err != nil {
		return nil, err
	}
	if err := o.listen(ctx); err != nil {
		return nil, err
	}
	if err := bounded(ctx, o.openApps); err != nil {
		return nil, err
	}
	// A route whose credentials cannot be used says so itself, and holds up no other.
	routes, _ := o.live.start(o.all, cfg.OperatorKeys)
	if err := bounded(ctx, o.openStores); err != nil {
		return nil, err
	}
	if err := o.openSending(ctx, routes); err != nil {
		return nil, err
	}
	if err := o.openHandlers(); err != nil {
		return nil, err
	}
	return s, nil
}

// bounded takes a step in the time of one.
func bounded(ctx context.Context, step func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	return step(ctx)
}

// listen opens both listeners.
func (o *opening) listen(ctx context.Context) error {
	if err := o.listenPublic(ctx); err != nil {
		return err
	}
	private, err := listen(ctx, "ops_listen", o.cfg.OpsListen)
	if err != nil {
		return err
	}
	o.private = listener.New(private, listener.Config{
		Bounds: listener.Bounds{Max: opsConnections}, Refusal: o.refusal,
	})
	return nil
}

// openApps opens the database, and reads its apps.
func (o *opening) openApps(ctx context.Context) (err error) {
	if o.db, err = openDatabase(ctx, o.cfg, o.log); err != nil {
		return err
	}
	store, err := storeOf(o.cfg, o.db)
	if err != nil {
		return err
	}
	o.operated = newOperated(store, o.cfg, o.log, o.reg)
	if o.all, err = o.operated.load(ctx); err != nil {
		return err
	}
	o.counters = quota.New(o.db, sharedQuota(&o.cfg.Queue), o.log, o.reg)
	o.live.counters, o.operated.counters = o.counters, o.counters
	return o.counters.Look(ctx)
}

// openStores makes what keeps rows: events, device tokens, the queue.
func (o *opening) openStores(ctx context.Context) (err error) {
	o.events = events.New(o.db, events.Config{
		Wanted: o.live.wantsEvents, Retention: o.cfg.Queue.Retention,
		OwnsJob:  func(name string) bool { return o.queue.OwnsJob(name) },
		Finished: queue.FinishedFrom(o.db),
	}, o.log, o.reg)
	o.tokens = tokens.New(o.db, o.counters, o.reg).WithEvents(o.events)
	proving := o.cfg.Feedback.NeverAcceptedAfter > 0
	if err := o.tokens.SetProving(ctx, proving); err != nil {
		return err
	}
	secret, err := o.events.Secret(ctx)
	if err != nil {
		return err
	}
	o.queue, err = queue.New(o.db, queue.Config{
		NoteAccepted: proving,
		Lease:        o.cfg.Queue.Lease,
		Events:       o.events, ServiceID: o.live.serviceID, Tickets: push.NewTickets(ticketKey(secret)), Tracer: o.tracer,
		Handoff: func(n *push.Notification, batches []*queue.Batch) { o.sender.Handoff(n, batches) },
	}, o.tokens, o.counters, o.log, o.reg)
	o.ways.registry, o.ways.queue = o.tokens, o.queue
	return err
}

// openSending makes what works through the rows: the sender, the feedback job, webhooks, the purge.
func (o *opening) openSending(ctx context.Context, routes map[queue.Outlet]sender.RouteConfig) (err error) {
	// Of the deadline, requests in flight have a fifth, results on their way two fifths, and saving them a fifth; the
	// rest is for webhooks and for handing back the shards.
	part := o.cfg.ShutdownDeadline / 5
	if o.sender, err = sender.New(sender.Config{Drain: 2 * part, Settle: part, Tracer: o.tracer}, o.queue, routes, o.log,
		o.reg); err != nil {
		return err
	}
	if o.feedback, err = feedback.New(feedbackConfig(&o.cfg.Feedback), inbox{o.queue, o.tokens}, o.sender,
		o.live.sources(), o.log, o.reg); err != nil {
		return err
	}
	o.webhooks = webhooks.New(o.db, webhooks.Config{
		Feed: o.events, OwnsJob: o.queue.OwnsJob, Retention: o.cfg.Queue.Retention, Grace: part / 2,
		UserAgent: userAgent(),
	}, o.log, o.reg)
	o.live.sender, o.live.feedback, o.live.webhooks = o.sender, o.feedback, o.webhooks
	err = bounded(ctx, func(ctx context.Context) error { return o.live.startWebhooks(ctx, &o.cfg.Webhooks) })
	if err != nil {
		return err
	}
	o.purger, err = queue.NewPurger(o.queue, o.cfg.Queue.Retention, o.log)
	return err
}

// openHandlers makes what answers requests: the API, and what operators look at.
func (o *opening) openHandlers() (err error) {
	o.operated.queue, o.operated.tokens, o.operated.events, o.operated.apply = o.queue, o.tokens, o.events, o.live.set
	if o.api, err = api.New(api.Config{
		Apps: o.live.apiApps(), Operators: o.live.operators, Operated: o.operated, Events: o.events, Tokens: o.tokens,
		Notifications: o.queue, Platforms: platformNames,
		Feedback: deadTokens{o.queue, o.feedback, o.log},
		Log:      o.log, Metrics: o.reg, Tracer: o.tracer, Version: version,
		RequestLog: o.cfg.Log.Requests == "sampled",
		MaxBody:    o.cfg.API.MaxBody, Timeout: o.cfg.API.Timeout,
		RegisterRate: o.cfg.API.RegisterRate, MaxInFlight: o.cfg.API.MaxInFlight, NoDocs: o.cfg.API.Docs == "off",
		DevKeys: devKeys(o.cfg),
		Client:  o.proxies.Client, Counted: listener.Prefix,
	}); err != nil {
		return err
	}
	o.live.api = o.api
	o.vitals = newVitals(o.queue, o.db, o.log, o.reg)
	if o.console, err = newConsole(o.service, o.shown); err != nil {
		return err
	}
	o.ops = api.NewOps(o.ready, o.metrics, o.console != nil, o.log)
	if o.console != nil {
		o.ops = withConsole(o.ops, o.console)
	}
	if listener.IsLoopback(o.private) {
		o.ops = listener.LocalHost(o.ops, http.HandlerFunc(o.api.Misdirected))
	}
	return nil
}

// ticketKey is the key of receipts' tickets: of the secret that all replicas have from the database.
func ticketKey(secret []byte) (key [sha256.Size]byte) {
	mac := hmac.New(sha256.New, secret)
	_, _ = io.WriteString(mac, "tickets of receipts") // a hash takes everything
	mac.Sum(key[:0])
	return key
}

// feedbackConfig gives a 0 of the configuration its meaning, where to the job it stands for the default.
func feedbackConfig(c *config.Feedback) feedback.Config {
	job := feedback.Config{
		Interval: c.Interval, BadTokenAfter: c.BadTokenAfter, NeverAcceptedAfter: c.NeverAcceptedAfter,
		BadTokenOver: max(c.BadTokenOver, 1), BadTokenGuard: max(c.BadTokenGuard, math.SmallestNonzeroFloat64),
		UnregisteredGuard: max(c.UnregisteredGuard, math.SmallestNonzeroFloat64),
	}
	if c.BadTokenAfter == 0 {
		job.BadTokenAfter = -1
	}
	return job
}
