package webpush

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/semaphore"

	"github.com/lhspn/lhspn/internal/drain"
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/ring"
)

// Subscriptions is where the transport finds what a subscription is, beside its device token: what Subscription.Address
// made. A token that is not registered is not in the map.
type Subscriptions interface {
	Addresses(ctx context.Context, app string, tokens []push.Token) (map[push.Token][]byte, error)
}

// Config says how an app's messages go to push services.
type Config struct {
	App   string
	Route push.Route // of its notifications, for the log
	VAPID *VAPID
	// Origins are those that are sent to; others are refused although they are registered.
	Origins       *Origins
	Subscriptions Subscriptions
	// RootCAs are the authorities of the origins that the operator names; nil for the system's. All others have the
	// system's.
	RootCAs *x509.CertPool
	// Connections is how many HTTP/2 connections a push service gets at most, default 2. A stranger's gets one.
	Connections int
	// MaxInFlight bounds the deliveries that are taken and not finished. Send waits when it is reached.
	MaxInFlight int
	// Workers is how many goroutines encrypt, default one for each core.
	Workers int
	// Cores are shared with the other transports of the process; nil for cores that nobody else wants.
	Cores *Cores
}

// MaxInFlight is the default of Config's.
const MaxInFlight = 1 << 14

const (
	// maxPeers bounds the push services in memory. Those that are not used are forgotten first.
	maxPeers = 4096
	// peerIdle is when one that is not used is forgotten, with its authorization; clientIdle when its connections are
	// closed.
	peerIdle   = time.Hour
	clientIdle = 5 * time.Minute
	sweepEvery = 250 * time.Millisecond
	// quietFor is how long there is nothing to encrypt before key pairs are made ahead.
	quietFor = 100 * time.Millisecond
	// lookups is how many groups are looked up at once, and lookupTimeout how long that may take.
	lookups       = 2
	lookupTimeout = 30 * time.Second
)

var errStopped = errors.New("the transport is stopped")

// Transport sends the messages of an app to push services. See internal/sender for its three methods.
//
// A group's addresses are looked up, and each delivery joins the queue of its push service. From there a worker takes
// it when the service has room, encrypts it, and hands it to the service's HTTP client. What waits too long, or waits
// for a service that does not work, is given back with the time to wait.
type Transport struct {
	cfg     Config
	log     *slog.Logger
	metrics *routeMetrics
	keys    *keyPool
	room    *semaphore.Weighted // in deliveries, up to cfg.MaxInFlight
	batches sync.Pool
	bodies  sync.Pool // of *[]byte with room for a message
	clients sync.WaitGroup

	// queued counts the messages that wait to be encrypted; quiet has a value when there are none.
	queued atomic.Int64
	quiet  chan struct{}

	// mu guards what follows, and the peers. It is not held while a client is called.
	mu        sync.Mutex
	peers     map[string]*peer                       // by authority
	ready     ring.Ring[*peer]                       // those that have something to send now, each once
	limitsOf  func(o origin, connections int) limits // the function, but for tests
	wake      *sync.Cond                             // ready has grown, or stopped is set
	arrived   ring.Ring[*batch]                      // taken and not looked up
	arrival   *sync.Cond                             // the same of arrived
	groups    drain.Gate                             // taken and not done
	strangers int                                    // messages that wait for push services that nobody knows
	stopped   bool                                   // Run is ending: nothing is sent any more
	running   context.Context                        // Run's, for clients; nil before
}

// New returns the transport. It starts nothing: Run does.
func New(cfg Config, log *slog.Logger, m *Metrics) *Transport {
	number := func(p *int, v int) {
		if *p <= 0 {
			*p = v
		}
	}
	number(&cfg.Connections, 2)
	number(&cfg.MaxInFlight, MaxInFlight)
	number(&cfg.Workers, runtime.GOMAXPROCS(0))
	if cfg.Cores == nil {
		cfg.Cores = NewCores()
	}
	t := &Transport{
		cfg: cfg, log: log.With("app", cfg.App, "route", cfg.Route, "transport", Name), metrics: m.route(cfg.App),
		keys: newKeyPool(keyPairsAhead), room: semaphore.NewWeighted(int64(cfg.MaxInFlight)),
		limitsOf: limitsOf, peers: map[string]*peer{}, groups: drain.NewGate(), quiet: make(chan struct{}, 1),
	}
	t.wake, t.arrival = sync.NewCond(&t.mu), sync.NewCond(&t.mu)
	t.batches.New = func() any { return new(batch) }
	t.bodies.New = func() any { b := make([]byte, 0, maxMessage); return &b }
	return t
}

// keyPairsAhead bounds the key pairs made ahead: 4,096 take about a megabyte.
const keyPairsAhead = 4096

// Send takes a group over, whose Done is then called when all of its deliveries have results. It waits while
// MaxInFlight deliveries are under way. An error means that the group was not taken.
func (t *Transport) Send(ctx context.Context, g *push.Group) error {
	if len(g.Deliveries) == 0 {
		g.Done(g)
		return nil
	}
	// A group beyond the bound is taken when nothing else is under way.
	weight := min(int64(len(g.Deliveries)), int64(t.cfg.MaxInFlight))
	if err := t.room.Acquire(ctx, weight); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.groups.Enter() {
		t.room.Release(weight)
		return errStopped
	}
	b := t.batches.Get().(*batch) // nothing else is put there
	b.group, b.weight, b.progresses = g, weight, weight == int64(len(g.Deliveries))
	b.finished.Store(0)
	b.remaining.Store(int64(len(g.Deliveries)))
	t.arrived.PushBack(b)
	t.arrival.Signal()
	return nil
}

// Recall gives back as cancelled what of a notification waits for its push service.
func (t *Transport) Recall(notification uuid.UUID) {
	var recalled []*message
	t.mu.Lock()
	for _, p := range t.peers {
		before := len(recalled)
		p.queue.Keep(func(m *message) bool {
			if !m.delivery().Recall(notification) {
				return true
			}
			recalled = append(recalled, m)
			return false
		})
		t.unqueued(p, len(recalled)-before)
	}
	t.mu.Unlock()
	for _, m := range recalled {
		t.finishMessage(m, &push.Recalled)
	}
}

// Drain refuses further groups and returns when all that were taken are done, or with ctx's error.
func (t *Transport) Drain(ctx context.Context) error {
	t.mu.Lock()
	t.groups.Close()
	t.mu.Unlock()
	return t.groups.Wait(ctx)
}

// Run sends until ctx ends. Then it closes all connections, gives back what is unfinished as not sent, and returns when
// nothing of it runs any more.
func (t *Transport) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	t.mu.Lock()
	t.running = ctx
	t.mu.Unlock()
	var running sync.WaitGroup
	for range lookups {
		running.Go(func() { t.lookUp(ctx) })
	}
	for range t.cfg.Workers {
		running.Go(func() { t.work(ctx) })
	}
	running.Go(func() { t.sweep(ctx) })
	var err error
	running.Go(func() {
		if failed := t.keys.run(ctx, t.cfg.Cores, t.awaitQuiet); failed != nil {
			t.log.Error("no key pairs are made ahead any more", "error", failed)
			err = failed
		}
	})
	<-ctx.Done()
	t.mu.Lock()
	t.stopped = true
	t.groups.Close()
	t.wake.Broadcast()
	t.arrival.Broadcast()
	t.mu.Unlock()
	running.Wait()
	t.clients.Wait()
	t.giveBack()
	return err
}

// giveBack finishes everything as not sent. Nothing of the transport runs any more.
func (t *Transport) giveBack() {
	t.mu.Lock()
	var arrived []*batch
	for t.arrived.Len() > 0 {
		arrived = append(arrived, t.arrived.PopFront())
	}
	var left []*message
	for _, p := range t.peers {
		for p.waiting() > 0 {
			left = append(left, t.unqueue(p))
		}
		if p.oneByOne != nil {
			p.oneByOne.CloseIdleConnections()
		}
	}
	t.mu.Unlock()
	for _, b := range arrived {
		for i := range b.group.Deliveries {
			t.finish(b, i, &lost)
		}
	}
	for _, m := range left {
		t.finishMessage(m, &lost)
	}
}

// awaitQuiet waits until nothing waits to be encrypted, and for a while after there was something: what was sent last
// is still under way. It returns false when ctx has ended.
func (t *Transport) awaitQuiet(ctx context.Context) bool {
	for t.queued.Load() > 0 {
		select {
		case <-ctx.Done():
			return false
		case <-t.quiet:
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(quietFor):
		}
	}
	return ctx.Err() == nil
}

// progress is how many more of a group's deliveries have their results each time that it is told.
func progress(size int) int { return max(1, min(32, size/4)) }

// finishMessage gives the message its result, and its buffer back.
func (t *Transport) finishMessage(m *message, r *push.Result) {
	t.freeBody(m)
	t.finish(m.batch, m.index, r)
}

func (t *Transport) freeBody(m *message) {
	if m.buffer != nil {
		t.bodies.Put(m.buffer)
		m.buffer, m.body = nil, nil
	}
}

// finish gives a delivery its result; with the last one of its group that is done. mu is not held.
func (t *Transport) finish(b *batch, index int, r *push.Result) {
	t.metrics.finished(r)
	b.group.Deliveries[index].Result = *r
	// Those of a slow push service hold no more room than their own.
	size := len(b.group.Deliveries)
	step := progress(size)
	if n := int(b.finished.Add(1)); n%step == 0 && n < size {
		if b.progresses {
			t.room.Release(int64(step))
		}
		if b.group.Progress != nil {
			b.group.Progress(b.group, step)
		}
	}
	if b.remaining.Add(-1) > 0 { // last: with the last one the group and the batch are others'
		return
	}
	group, weight := b.group, b.weight
	if b.progresses {
		weight -= int64((size - 1) / step * step)
	}
	clear(b.messages) // so that the pool keeps no address alive
	b.group, b.messages = nil, b.messages[:0]
	t.batches.Put(b)
	group.Done(group)
	t.room.Release(weight)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.groups.Leave(1)
}
