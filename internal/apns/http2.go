package apns

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/url"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"golang.org/x/sync/semaphore"

	"github.com/lhspn/lhspn/internal/push"
)

// HTTP2Config says where and how the notifications of one route of an app go out over the HTTP/2 provider API.
type HTTP2Config struct {
	App     string
	Route   push.Route // of its notifications, for log and metrics
	Address string     // host:port
	// TLS holds the roots and, in GetClientCertificate or Certificates, the client certificate if that is how the app
	// authenticates. What HTTP/2 itself asks of it is set here.
	TLS *tls.Config
	// Tokens makes the provider tokens; nil with a client certificate.
	Tokens *ProviderTokens
	// Connections is how many connections there are at most. Each is opened when those before it are busy, and then kept.
	Connections int
	// MaxStreams bounds the requests in flight on one connection, whatever the gateway allows.
	MaxStreams int
	// MaxInFlight bounds the deliveries that are taken and not finished. Send waits when it is reached.
	MaxInFlight int
	Proxy       *url.URL // an HTTP CONNECT proxy; nil for none

	StreamTimeout time.Duration // for the answer to one request
	PingInterval  time.Duration // an idle connection is asked for a sign of life this often
	PingTimeout   time.Duration // for that sign; also how long a connection with open streams may be silent before it is asked
	DialTimeout   time.Duration // for everything up to the gateway's SETTINGS
	WriteTimeout  time.Duration // for one write: a peer that stops reading
	BackoffMin    time.Duration // between connections that failed
	BackoffMax    time.Duration

	// Dial opens the connection below TLS; nil for net.Dialer's, which resolves the name anew each time.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

func (c HTTP2Config) withDefaults() HTTP2Config {
	number := func(p *int, v int) {
		if *p <= 0 {
			*p = v
		}
	}
	duration := func(p *time.Duration, v time.Duration) {
		if *p <= 0 {
			*p = v
		}
	}
	number(&c.Connections, 1)
	number(&c.MaxStreams, 4096)
	c.MaxStreams = min(c.MaxStreams, http2MaxStreams)
	number(&c.MaxInFlight, max(4*c.Connections*c.MaxStreams, 1<<12))
	duration(&c.StreamTimeout, 30*time.Second)
	duration(&c.PingInterval, time.Minute)
	duration(&c.PingTimeout, 10*time.Second)
	duration(&c.DialTimeout, 20*time.Second)
	duration(&c.WriteTimeout, 20*time.Second)
	duration(&c.BackoffMin, time.Second)
	duration(&c.BackoffMax, 15*time.Second)
	c.BackoffMax = max(c.BackoffMax, c.BackoffMin)
	if c.Dial == nil {
		c.Dial = new(net.Dialer).DialContext
	}
	return c
}

const (
	// http2MaxStreams is the most that MaxStreams can be: the table of streams grows with it.
	http2MaxStreams = 1 << 14
	// http2MaxTries is how often a delivery is put on a connection that then fails it, before the sender hears of it.
	http2MaxTries = 5
	// http2HandBack is how long notifications wait in the transport for the next attempt after one that brought no connection. In
	// the sender's queue they can be cancelled and can expire.
	http2HandBack = 500 * time.Millisecond
	// http2ProductiveAnswers is how many answers make a connection's end an ordinary one, after which the next may follow at
	// once however short its life was. APNs treats rapid connecting and disconnecting as an attack.
	http2ProductiveAnswers = 1000
)

var (
	errHTTP2Stopped = errors.New("the transport is stopped")
	errHTTP2Stalled = errors.New("the gateway lets no request through")
)

// HTTP2 is the transport over the HTTP/2 provider API for one route of an app. It is pipelined: on each connection one goroutine packs
// many requests into a write while another reads the answers; nothing is started or allocated for a single notification.
//
// A delivery that a connection fails (lost, refused, above the last stream of a GOAWAY) is sent again on another with the
// same apns-id, a bounded number of times. Where no connection can be had, all that wait are handed back as not sent.
type HTTP2 struct {
	cfg     HTTP2Config
	log     *slog.Logger
	metrics *transportMetrics
	room    *semaphore.Weighted // in deliveries, up to cfg.MaxInFlight
	dialer  *http2Dialer
	open    func(context.Context) (net.Conn, error) // dialer's, but for tests of what lies above TLS

	// mu guards what follows. It may be taken while a connection's own mu is held, never the other way round.
	mu      sync.Mutex
	queue   http2Queue
	groups  int  // taken and not done
	closed  bool // no more Sends
	stopped bool // Run is ending: nothing is put back into the queue
	slots   []*http2Slot
	// active counts the connections that are being opened or take notifications, opening only the former.
	active, opening int
	// saturated: a connection left notifications in the queue because it may open no more streams.
	saturated bool
	// notBefore and retry space the attempts after a failure; failures counts those in a row that brought not one answer.
	notBefore time.Time
	retry     *backoff.ExponentialBackOff
	failures  int
	down      bool // said so in the log
	// unreachable: the last attempt brought no connection.
	unreachable bool
	idle        chan struct{}

	goAwayReason string // the last one in the log, and when: the same again and again is logged once a minute
	goAwayAt     time.Time
}

// http2Slot is the place of one connection. HTTP2.mu guards conn.
type http2Slot struct {
	wake chan struct{}
	conn *http2Conn // the one that takes notifications, or nil
}

// NewHTTP2 returns the transport. It starts nothing: Run does.
func NewHTTP2(cfg HTTP2Config, log *slog.Logger, m *Metrics) *HTTP2 {
	cfg = cfg.withDefaults()
	retry := backoff.NewExponentialBackOff()
	retry.InitialInterval, retry.MaxInterval = cfg.BackoffMin, cfg.BackoffMax
	retry.Reset()
	h := &HTTP2{
		cfg:     cfg,
		log:     log.With("app", cfg.App, "route", cfg.Route, "transport", "http2"),
		metrics: m.http2(cfg.App, string(cfg.Route), cfg.Address),
		room:    semaphore.NewWeighted(int64(cfg.MaxInFlight)),
		retry:   retry,
		idle:    make(chan struct{}),
	}
	h.dialer = newHTTP2Dialer(cfg)
	h.open = h.dialer.dial
	for range cfg.Connections {
		h.slots = append(h.slots, &http2Slot{wake: make(chan struct{}, 1)})
	}
	return h
}

var http2Groups = sync.Pool{New: func() any { return new(http2Group) }}

// Send takes a group over, whose Done is then called when all of its deliveries have results. It waits while MaxInFlight
// deliveries are under way. An error means that the group was not taken.
func (h *HTTP2) Send(ctx context.Context, g *push.Group) error {
	n := int64(len(g.Deliveries))
	if n == 0 {
		g.Done(g)
		return nil
	}
	// A group beyond the bound is taken when nothing else is under way.
	weight := min(n, int64(h.cfg.MaxInFlight))
	if err := h.room.Acquire(ctx, weight); err != nil {
		return err
	}
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		h.room.Release(weight)
		return errHTTP2Stopped
	}
	hg := http2Groups.Get().(*http2Group)
	hg.group, hg.whole = g, weight != n
	hg.remaining.Store(n)
	h.groups++
	h.queue.pushGroup(hg)
	h.wake()
	h.mu.Unlock()
	return nil
}

// Drain refuses further groups and returns when all that were taken are done, or with ctx's error.
func (h *HTTP2) Drain(ctx context.Context) error {
	h.mu.Lock()
	h.close()
	h.mu.Unlock()
	select {
	case <-h.idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// close refuses further groups. mu is held.
func (h *HTTP2) close() {
	if !h.closed {
		h.closed = true
		if h.groups == 0 {
			close(h.idle)
		}
	}
}

// Run sends until ctx ends. Then it closes all connections, hands back what is unfinished as not sent, and returns when
// nothing of it runs any more.
func (h *HTTP2) Run(ctx context.Context) error {
	var slots, conns sync.WaitGroup
	for _, s := range h.slots {
		slots.Go(func() { h.runSlot(ctx, s, &conns) })
	}
	slots.Wait()
	h.mu.Lock()
	h.stopped = true
	h.close()
	h.mu.Unlock()
	conns.Wait()
	h.returnQueue(verdictLost)
	return nil
}

// Reconnect replaces every connection by a new one, without losing what is in flight. It is for new credentials, which a
// connection takes up only when it is opened.
func (h *HTTP2) Reconnect() {
	h.dialer.forget()
	for _, s := range h.slots {
		h.mu.Lock()
		c := s.conn
		h.mu.Unlock()
		if c != nil {
			c.mu.Lock()
			c.replaced = true
			c.retire(nil)
			c.mu.Unlock()
			c.signal()
		}
	}
}

// runSlot keeps one connection: it opens one when there is work for it, and the next when that one takes no more. A
// connection that takes no more still awaits its answers, beside its successor; conns counts those.
func (h *HTTP2) runSlot(ctx context.Context, s *http2Slot, conns *sync.WaitGroup) {
	for h.awaitWork(ctx, s) {
		c, err := h.connect(ctx)
		h.mu.Lock()
		h.opening--
		if err != nil {
			h.active--
			if ctx.Err() == nil { // else it is our own end, not the gateway's
				h.unreachable = true
				h.failed(err)
			}
			alone := h.active == 0
			h.wake()
			h.mu.Unlock()
			if alone {
				h.returnQueue(verdictLost)
			}
			continue
		}
		h.unreachable = false
		s.conn = c
		c.slot = s
		if h.saturated {
			h.wake()
		}
		h.mu.Unlock()
		h.metrics.connects[connectOK].Inc()
		conns.Go(func() { c.run(ctx) })
		<-c.retired
	}
}

// awaitWork waits until the slot is to open a connection, and claims that. It returns false when ctx has ended.
func (h *HTTP2) awaitWork(ctx context.Context, s *http2Slot) bool {
	waited := false // what is in the queue has waited for http2HandBack
	for {
		h.mu.Lock()
		var timer *time.Timer
		var due <-chan time.Time
		waited = waited && h.queue.n > 0 // another slot may have handed it back
		if h.queue.n > 0 && (h.active == 0 || h.saturated && h.opening == 0) && ctx.Err() == nil {
			wait := time.Until(h.notBefore)
			if wait <= 0 {
				h.active++
				h.opening++
				h.saturated = false
				h.mu.Unlock()
				return true
			}
			if h.unreachable && h.active == 0 {
				if waited {
					waited = false
					h.mu.Unlock()
					h.returnQueue(verdictLost)
					continue
				}
				wait = min(wait, http2HandBack)
			}
			timer = time.NewTimer(wait)
			due = timer.C
		}
		h.mu.Unlock()
		select {
		case <-ctx.Done():
			return false
		case <-s.wake:
		case <-due:
			waited = true
		}
		if timer != nil {
			timer.Stop()
		}
	}
}

// wake tells every connection, and every slot without one, that the queue has changed. mu is held.
func (h *HTTP2) wake() {
	for _, s := range h.slots {
		if s.conn != nil {
			s.conn.signal()
			continue
		}
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
}

// failed spaces the next attempt after one that failed, and says once that the gateway is away. mu is held.
func (h *HTTP2) failed(err error) {
	h.failures++
	h.metrics.connects[connectFailed].Inc()
	h.notBefore = time.Now().Add(h.retry.NextBackOff())
	if h.active == 0 && !h.down {
		h.down = true
		h.metrics.down.Set(1)
		h.log.Warn("the gateway cannot be reached; trying again with growing pauses", "gateway", h.cfg.Address, "error", err)
	}
}

// reached notes that the gateway answered a request.
func (h *HTTP2) reached() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failures = 0
	if h.down {
		h.down = false
		h.metrics.down.Set(0)
		h.log.Info("the gateway answers again", "gateway", h.cfg.Address)
	}
}

// retired takes a connection out of its slot: it takes no more notifications. What it has achieved by now decides how soon
// the next may follow; err is why it ended, if that is why it takes no more. Called once for each, with its mu held.
func (h *HTTP2) retired(c *http2Conn, err error) {
	now := time.Now()
	life := now.Sub(c.since)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.active--
	if c.slot.conn == c {
		c.slot.conn = nil
	}
	switch {
	case c.replaced, c.cause == endStopped:
		// Our own wish.
	case c.answers >= http2ProductiveAnswers,
		c.answers > 0 && life >= 5*h.cfg.BackoffMin,
		c.opened == 0 && life >= h.cfg.BackoffMax && c.cause != endSilent:
		h.retry.Reset()
	case c.answers > 0 && c.goAway:
		// Gateways, and proxies in front of them, replace a connection after so many requests. That is no failure and calls
		// for no growing pauses, only for not more than one connection in BackoffMin, unless it was a productive one: what is
		// still awaited on it counts, too.
		h.retry.Reset()
		if c.answers+c.opened < http2ProductiveAnswers {
			h.notBefore = c.since.Add(h.cfg.BackoffMin)
		}
	case c.answers > 0:
		h.notBefore = now.Add(h.retry.NextBackOff())
	default:
		h.failed(err)
	}
	h.wake()
}

// unwanted reports whether what waits is to be handed back when a connection has ended: there is no other, and it was one of
// so many in a row without an answer that a single delivery cannot be the cause: that would have been alone by now.
func (h *HTTP2) unwanted() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.active == 0 && h.failures > http2LoneBreaks
}

// requeue puts deliveries that a connection failed back to the front, in their order; v is the result of those that have
// had all their tries, and of all when the transport is ending.
func (h *HTTP2) requeue(refs []http2Ref, v verdict, s *http2Settled) {
	again := refs[:0]
	h.mu.Lock()
	for _, r := range refs {
		switch {
		case r.breaks >= http2MostBreaks && h.failures <= 1 && !h.stopped: // others were answered between
			h.blame(r, s)
		case r.tries >= http2MaxTries && (r.breaks == 0 || r.breaks >= http2MostBreaks) || h.stopped:
			s.add(r, v.result())
		case r.breaks >= http2LoneBreaks: // the others first: what they are answered tells whether it is the gateway
			h.queue.pushBack(r)
			h.wake()
		default:
			again = append(again, r)
		}
	}
	if len(again) > 0 {
		h.queue.pushFront(again)
		h.wake()
	}
	h.mu.Unlock()
	h.metrics.resent.Add(float64(len(again)))
}

// blame has the attempts of a delivery counted that broke each connection it was alone on, while others were answered: so
// it ends some time and holds up no other. mu is held.
func (h *HTTP2) blame(r http2Ref, s *http2Settled) {
	d := r.delivery()
	h.log.Warn("notification breaks each connection it is sent on", "token", d.Token, "notification", d.Notification.ID)
	s.add(r, push.Result{Outcome: push.Retry, Reason: push.ConnectionLost})
}

// returnQueue finishes everything that waits in the queue with the given verdict.
func (h *HTTP2) returnQueue(v verdict) {
	var s http2Settled
	var refs [256]http2Ref
	for {
		h.mu.Lock()
		n := h.queue.pop(refs[:])
		h.mu.Unlock()
		if n == 0 {
			break
		}
		now := time.Now()
		for _, r := range refs[:n] {
			if r.delivery().Notification.Expired(now) {
				s.add(r, verdictExpired.result())
			} else {
				s.add(r, v.result())
			}
		}
		h.settle(&s)
	}
}

// http2Settled collects results, so that groups, metrics and the bound in flight are touched once for many.
type http2Settled struct {
	groups   []http2Count
	n        int
	outcomes [push.Cancelled + 1]int
	refusals map[*push.Reason]int
}

type http2Count struct {
	group *http2Group
	n     int64
}

func (s *http2Settled) add(r http2Ref, result push.Result) {
	r.delivery().Result = result
	s.n++
	s.outcomes[result.Outcome]++
	if result.Outcome != push.Accepted {
		if s.refusals == nil {
			s.refusals = make(map[*push.Reason]int)
		}
		s.refusals[result.Reason]++
	}
	if last := len(s.groups) - 1; last >= 0 && s.groups[last].group == r.group {
		s.groups[last].n++
		return
	}
	s.groups = append(s.groups, http2Count{r.group, 1})
}

// settle passes the collected results on, and calls Done of the groups that are thereby complete. No lock is held.
func (h *HTTP2) settle(s *http2Settled) {
	if s.n == 0 {
		return
	}
	for o, n := range s.outcomes {
		if n > 0 {
			h.metrics.results[o].Add(float64(n))
		}
	}
	for reason, n := range s.refusals {
		h.metrics.refusals[reason].Add(float64(n))
	}
	clear(s.refusals)
	release, done := int64(0), 0
	for _, c := range s.groups {
		if !c.group.whole {
			release += c.n
		}
		if c.group.remaining.Add(-c.n) > 0 {
			continue
		}
		done++
		if c.group.whole {
			release += int64(h.cfg.MaxInFlight)
		}
		g := c.group.group
		c.group.group = nil
		http2Groups.Put(c.group)
		g.Done(g)
	}
	clear(s.groups)
	s.groups, s.n = s.groups[:0], 0
	s.outcomes = [push.Cancelled + 1]int{}
	h.room.Release(release)
	if done > 0 {
		h.mu.Lock()
		h.groups -= done
		if h.groups == 0 && h.closed {
			close(h.idle)
		}
		h.mu.Unlock()
	}
}
