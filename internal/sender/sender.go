// Package sender keeps the transports full: it finds the batches that are due in the shards that this replica owns,
// forms groups of deliveries, decides by their results what is final and what is sent again when, and has the results
// settled.
//
// Three words. A batch is the queue's: up to 1,000 recipients of one notification. A group is what a transport is given
// at once, of one batch or of many. A scope is what has to wait: a device token, a key, or the route.
//
// Everything it keeps in memory is a copy of rows that stay in the queue until they are settled, so it may lose all of
// it at any instant. It knows neither a wire format (the transports do) nor SQL (internal/queue does), and it decides
// nothing about the registry of device tokens.
package sender

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/queue"
)

// Transport is a route's way to its service. Send is called by two goroutines at once.
type Transport interface {
	// Run works until ctx ends; then everything unfinished is finished as push.NotSent.
	Run(ctx context.Context) error
	// Send takes the group, keeping the order of its deliveries, and blocks while its window is full. An error means
	// that the group was not taken, and its Done is not called.
	Send(ctx context.Context, g *push.Group) error
	// Drain is called when no more Sends will come. It returns when all groups are done, or with ctx.
	Drain(ctx context.Context) error
}

// Recaller is a Transport that can take back what it has not begun to send.
type Recaller interface {
	// Recall gives deliveries of the notification that are on no connection yet back as push.Cancelled.
	Recall(notification uuid.UUID)
}

// Queue is what the sender needs of internal/queue, which documents it.
type Queue interface {
	Leases
	Heads(ctx context.Context, leases []queue.Lease) ([]queue.Head, error)
	Due(ctx context.Context, query queue.DueQuery) ([]*queue.Batch, error)
	Singles(ctx context.Context, named []*queue.Batch, known func(queue.Key) bool) ([]*queue.Batch, error)
	Notifications(ctx context.Context, app string, ids []uuid.UUID) (map[uuid.UUID]*push.Notification, error)
	Settle(ctx context.Context, settlements []queue.Settlement) (followUps []*queue.Batch, err error)
	Expand(ctx context.Context, l queue.Lease, b *queue.Batch, limit int) (ready []*queue.Batch, next *queue.Batch,
		err error)
	CountBadges(ctx context.Context, held []queue.Leased) ([]*queue.Batch, error)
	Cancellations(ctx context.Context, after uuid.UUID) ([]queue.Cancellation, error)
	CancelledBatches(ctx context.Context, of []queue.Cancellation, leases []queue.Lease, after *queue.Batch, limit int) (
		[]*queue.Batch, error)
	CancelledSingles(ctx context.Context, of []queue.Cancellation, leases []queue.Lease) ([]*queue.Batch, error)
}

// Leases is the part of the queue that says which shards are this replica's.
type Leases interface {
	Owned() []queue.Lease
	Changed() <-chan struct{}
	Acquire(shard uint8) (queue.Lease, bool)
	Release(l queue.Lease)
}

// Config is what holds for all apps. Zero fields take the defaults.
type Config struct {
	// Poll is how often the queue is looked at for what other replicas put there; default 250 ms.
	Poll time.Duration
	// Settlers is the number of settling transactions side by side; default 2.
	Settlers int
	// Drain is how long, when Run is told to end, results are waited for; default 10 s. Settle is how long after that
	// they may take to be settled; default 10 s.
	Drain, Settle time.Duration
	// Retry and RetryMax bound the pauses between the attempts of one delivery: Retry × 2ⁿ at most, with full jitter;
	// default 1 s and 5 min.
	Retry, RetryMax time.Duration
	// Pause and PauseMax are the same for a route whose gateway cannot be reached; default 500 ms and 5 s.
	Pause, PauseMax time.Duration
	// Blocked is how often one notification is tried of a route, or of a key, that the service refuses, and bounds the
	// pauses of a route of which it takes nothing for a while; default 30 s.
	Blocked time.Duration
	// Payloads bounds the bytes that notifications with their payloads take in memory, of all routes together; default
	// 128 MiB, and where GOMEMLIMIT is set at most an eighth of that. The process takes about twice as much for them,
	// until garbage is collected.
	Payloads int64
	// Tracer is told of the ways of traced notifications; nil: nothing is.
	Tracer push.Tracer
}

// The defaults, and what is not for configuration.
const (
	defaultPoll     = 250 * time.Millisecond
	defaultSettlers = 2
	defaultDrain    = 10 * time.Second
	defaultSettle   = 10 * time.Second
	defaultRetry    = time.Second
	defaultRetryMax = 5 * time.Minute
	defaultPause    = 500 * time.Millisecond
	defaultPauseMax = 5 * time.Second // a gateway that is back is noticed soon; transports have a backoff of their own
	// In an outage a pause is at most that part of how long nothing has moved, and at most that long.
	longPart           = 360
	longMax            = time.Minute
	defaultBlocked     = 30 * time.Second
	defaultMaxRetries  = 3
	defaultInFlight    = 32 * groupSize
	defaultMemory      = 64 * groupSize
	defaultPayloads    = 128 << 20
	groupSize          = 1000
	cancelEvery        = 400 * time.Millisecond
	rescanEvery        = 5 * time.Second
	databaseTimeout    = 30 * time.Second // of one call; what the database does not answer by then is tried again
	splitAfter         = 5 * time.Second  // see sweeper.sweep
	nowOrNeverLifetime = 24 * time.Hour
	idlePause          = time.Minute
	maxWait            = time.Hour // of what a service may ask for: one that says a year is asked again
)

func (c Config) withDefaults() Config {
	set := func(d *time.Duration, value time.Duration) {
		if *d == 0 {
			*d = value
		}
	}
	set(&c.Poll, defaultPoll)
	set(&c.Drain, defaultDrain)
	set(&c.Settle, defaultSettle)
	set(&c.Retry, defaultRetry)
	set(&c.RetryMax, defaultRetryMax)
	set(&c.Pause, defaultPause)
	set(&c.PauseMax, defaultPauseMax)
	set(&c.Blocked, defaultBlocked)
	if c.Settlers == 0 {
		c.Settlers = defaultSettlers
	}
	if c.Payloads == 0 {
		c.Payloads = min(defaultPayloads, debug.SetMemoryLimit(-1)/8)
	}
	return c
}

// RouteConfig is what the sender is told about a route.
type RouteConfig struct {
	Transport Transport
	// Platform is the one that the route belongs to: its transport gets each notification as that platform sends it.
	// Empty reads as push.DefaultPlatform.
	Platform string
	// Kind names the transport in metrics: binary or http2.
	Kind string
	// Reasons are those that the transport gives beside push's own, to initialise metrics with.
	Reasons []*push.Reason
	// MaxRetries is how often a delivery that was answered with "try again" is sent again; default 3, negative for
	// never.
	MaxRetries int
	// ManyServices says that there are many services behind the route, each of which may be busy on its own: then no
	// number of answers that blame device tokens is an outage of the route.
	ManyServices bool
	// MaxRate is the number of recipients a second that are sent to, by this replica; 0 for no limit.
	MaxRate int
	// InFlight is the number of recipients that may be with the transport at the most; default 32,000.
	InFlight int
	// QueueTarget is how long a queue bulk notifications may form inside the transport, and so how long an urgent one
	// waits there: their number in flight then follows the gateway's speed. 0 leaves it at InFlight, as the binary
	// protocol needs it: there a result comes with the evidence, seconds after the notification was written, and says
	// nothing of a queue.
	QueueTarget time.Duration
	// Memory is the number of recipients that are kept in memory at the most, in flight or not; default 64,000 and at
	// least twice InFlight. A quarter of it is kept free for urgent ones.
	Memory int
	// Answered is told how many answers came each time that some did, for who gives way to the route; nil for nobody.
	Answered func(n int)
}

func (c RouteConfig) withDefaults() RouteConfig {
	if c.Platform == "" {
		c.Platform = push.DefaultPlatform
	}
	switch {
	case c.MaxRetries == 0:
		c.MaxRetries = defaultMaxRetries
	case c.MaxRetries < 0:
		c.MaxRetries = 0
	}
	if c.InFlight == 0 {
		c.InFlight = defaultInFlight
	}
	if c.Memory == 0 {
		c.Memory = defaultMemory
	}
	c.Memory = max(c.Memory, 2*c.InFlight)
	return c
}

// Sender sends what is due in the shards of this replica.
type Sender struct {
	cfg      Config
	q        Queue
	log      *slog.Logger
	metrics  *metrics
	memory   *memory
	rates    *rates
	payloads *payloads
	settlers *settlers
	reader   *reader
	// routes are those there are now; see SetRoutes.
	routes atomic.Pointer[routes]

	mu       sync.Mutex // guards what follows, and the change of routes
	phase    phase
	runners  map[queue.Outlet]*runner
	retiring sync.WaitGroup
	stopping chan struct{} // closed when Run is told to end
}

// New returns a Sender for the routes. It starts nothing: see Run.
func New(cfg Config, q Queue, outlets map[queue.Outlet]RouteConfig, log *slog.Logger,
	reg prometheus.Registerer) (*Sender, error) {
	s := &Sender{
		cfg: cfg.withDefaults(), q: q, log: log, metrics: newMetrics(reg), memory: newMemory(),
		rates: newRates(), runners: map[queue.Outlet]*runner{}, stopping: make(chan struct{}),
	}
	s.payloads = &payloads{most: s.cfg.Payloads}
	s.settlers = newSettlers(s)
	s.reader = newReader(s)
	s.routes.Store(&routes{})
	changes := make(map[queue.Outlet]*RouteConfig, len(outlets))
	for outlet, c := range outlets {
		changes[outlet] = &c
	}
	return s, s.SetRoutes(changes)
}

// Handoff takes batches that were just committed, so that they need not be found. It never blocks and keeps no more
// than memory allows: what it refuses is read again later.
func (s *Sender) Handoff(n *push.Notification, batches []*queue.Batch) {
	for _, b := range batches {
		if refused := s.admit(b, n); refused == noRoom || refused == postponed {
			s.metrics.refusedHandoff.Inc()
		}
	}
}

// admit takes the batch into the memory of its route, or has it read again once there is room. n may be nil where the
// notification is not at hand.
func (s *Sender) admit(b *queue.Batch, n *push.Notification) admission {
	r := s.routeOf(b)
	switch {
	case r == nil: // not configured any more, or not yet here: it waits
		return notOurs
	case n == nil:
		s.reader.rewind(b.Shard, b.Lane)
		return noRoom
	}
	admitted := r.admit(b, n)
	if admitted == noRoom || admitted == postponed {
		s.reader.rewind(b.Shard, b.Lane)
	}
	return admitted
}

// routeOf is the route that the batch goes, nil where it is not configured.
func (s *Sender) routeOf(b *queue.Batch) *route { return s.routes.Load().of(b) }

// Run sends until ctx ends. Then it sends nothing new, waits for the results of what is in flight, settles them, and
// returns; what is unfinished stays in the queue. The queue's Run must outlive it.
func (s *Sender) Run(ctx context.Context) error {
	// In the order in which they are stopped: what finds and sends, then the transports, then what settles.
	settlers, stopSettlers := context.WithCancel(context.WithoutCancel(ctx))
	defer stopSettlers()
	var finding, saving sync.WaitGroup
	s.startRoutes()
	finding.Go(func() { s.reader.run(ctx) })
	finding.Go(func() { s.reader.runCancels(ctx) })
	for range s.cfg.Settlers {
		saving.Go(func() { s.settlers.run(settlers) })
	}

	<-ctx.Done()
	runners := s.lastRoutes()
	each(runners, (*runner).stopFinding)
	finding.Wait()
	// What is in flight gets its time although ctx has ended: each result that is lost is a notification sent twice.
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.Drain)
	defer cancel()
	each(runners, func(r *runner) { r.drain(drain) })
	s.retiring.Wait()
	for _, r := range runners {
		r.stop()
	}
	err := s.settlers.drain(s.cfg.Settle)
	stopSettlers()
	saving.Wait()
	s.memory.releaseAll(s.q)
	return err
}

// AnswerShares says, for each route of the app, what the answers that this process remembers say of its device tokens.
func (s *Sender) AnswerShares(app string) []push.AnswerShare {
	now := time.Now()
	var shares []push.AnswerShare
	for _, r := range s.routes.Load().byApp[app] { // each app asks every few seconds: it is not looked for among all
		share := r.share.report(now)
		share.Platform, share.Route = r.cfg.Platform, r.name
		shares = append(shares, share)
	}
	slices.SortFunc(shares, func(a, b push.AnswerShare) int {
		return cmp.Or(cmp.Compare(a.Platform, b.Platform), cmp.Compare(a.Route, b.Route))
	})
	return shares
}

// errUnsettled is what Run returns when results could not be saved in time.
var errUnsettled = errors.New("results were not settled in time; their notifications are sent again")
