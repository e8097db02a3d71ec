// Package http2 is a pipelined HTTP/2 client (RFC 9113) for services that take very many small requests: one client for
// one authority, which sends POST requests in groups over a few connections and tells how each of them ended.
//
// On each connection one goroutine packs many requests into a write while another reads the answers; nothing is started
// or allocated for a single request. net/http's client, and x/net's, take several microseconds and a dozen allocations
// for one.
//
// A request that a connection fails (lost, refused, above the last stream of a GOAWAY) is sent again on another, a
// bounded number of times. One over which connections end is found, and holds up no other. Where no connection can be
// had, all that wait are given back.
//
// The package knows requests and answers, and nothing of what they mean.
package http2

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"golang.org/x/net/http2"
	"golang.org/x/sync/semaphore"

	"github.com/lhspn/lhspn/internal/drain"
)

// ErrClosed is what Send returns when Drain was called, or Run has returned.
var ErrClosed = errors.New("the HTTP/2 client is closed")

// Client sends requests to one authority. Run does the work; New starts nothing.
type Client struct {
	cfg     Config
	log     *slog.Logger
	metrics Metrics
	room    *semaphore.Weighted // in requests, up to cfg.MaxInFlight
	dialer  *dialer
	open    func(context.Context) (net.Conn, error) // dialer's, but for tests of what lies above TLS

	// mu guards what follows. It may be taken while a connection's own mu is held, never the other way round.
	mu      sync.Mutex
	queue   queue
	groups  drain.Gate // taken and not done
	since   time.Time  // since when there has been none
	stopped bool       // Run is ending: nothing is put back into the queue
	slots   []*slot
	// active counts the connections that are being opened or take requests, opening only the former.
	active, opening int
	// saturated: a connection left requests in the queue because it may open no more streams.
	saturated bool
	// notBefore and retry space the attempts after a failure; failures counts those in a row that brought not one
	// answer.
	notBefore time.Time
	retry     *backoff.ExponentialBackOff
	failures  int
	down      bool // said so in the log
	// unreachable: the last attempt brought no connection; with notHTTP2 because the peer does not speak the protocol.
	unreachable, notHTTP2 bool

	goAwaySaid lastGoAway
}

// slot is the place of one connection. Client.mu guards conn.
type slot struct {
	wake chan struct{}
	conn *conn // the one that takes requests, or nil
}

// New returns a client. The names of fields must be in lower case.
func New(cfg Config, log *slog.Logger) *Client {
	cfg = cfg.withDefaults()
	retry := backoff.NewExponentialBackOff()
	retry.InitialInterval, retry.MaxInterval = cfg.BackoffMin, cfg.BackoffMax
	retry.Reset()
	cl := &Client{
		cfg: cfg, log: log, metrics: cfg.Metrics,
		room: semaphore.NewWeighted(int64(cfg.MaxInFlight)), retry: retry, groups: drain.NewGate(), since: time.Now(),
	}
	cl.dialer = newDialer(cfg)
	cl.open = cl.dialer.dial
	for range cfg.Connections {
		cl.slots = append(cl.slots, &slot{wake: make(chan struct{}, 1)})
	}
	return cl
}

var groups = sync.Pool{New: func() any { return new(group) }}

// Send takes a group over. It waits while MaxInFlight requests are under way. An error means that the group was not
// taken. It may be called before Run.
func (cl *Client) Send(ctx context.Context, r Requests) error {
	n := r.Len()
	if n == 0 {
		r.Done()
		return nil
	}
	// A group beyond the bound is taken when nothing else is under way.
	weight := min(n, cl.cfg.MaxInFlight)
	if err := cl.room.Acquire(ctx, int64(weight)); err != nil {
		return err
	}
	cl.mu.Lock()
	if !cl.groups.Enter() {
		cl.mu.Unlock()
		cl.room.Release(int64(weight))
		return ErrClosed
	}
	cl.push(r, n, weight != n)
	cl.wake()
	cl.mu.Unlock()
	return nil
}

// push has the requests of a group wait. mu is held.
func (cl *Client) push(r Requests, n int, whole bool) {
	g := groups.Get().(*group)
	g.Requests, g.whole = r, whole
	g.remaining.Store(int64(n))
	cl.queue.pushGroup(g, n)
}

// SendSingles is Send for groups of one request each, of no more than MaxInFlight: they are packed into one write
// without waiting for each other's answers. All are taken, or none.
func (cl *Client) SendSingles(ctx context.Context, singles []Requests) error {
	n := int64(len(singles))
	if err := cl.room.Acquire(ctx, n); err != nil {
		return err
	}
	cl.mu.Lock()
	defer cl.mu.Unlock()
	for _, r := range singles {
		if !cl.groups.Enter() { // which the first finds
			cl.room.Release(n)
			return ErrClosed
		}
		cl.push(r, 1, false)
	}
	cl.wake()
	return nil
}

// Recall ends the requests that no connection has taken up and that match says are not wanted any more. Of those no
// Answer follows: match knows how they end. It is called as the methods of Requests are.
func (cl *Client) Recall(match func(r Requests, i int) bool) {
	var recalled ended
	cl.mu.Lock()
	cl.queue.Keep(func(r ref) bool {
		if r.written || !match(r.group.Requests, int(r.index)) {
			return true
		}
		recalled.add(r)
		return false
	})
	cl.mu.Unlock()
	cl.finish(&recalled)
}

// Drain refuses further groups and returns when all that were taken are done, or with ctx's error.
func (cl *Client) Drain(ctx context.Context) error {
	cl.mu.Lock()
	cl.groups.Close()
	cl.mu.Unlock()
	return cl.groups.Wait(ctx)
}

// Run sends until ctx ends, or IdleTimeout has passed with nothing under way. Then it closes all connections, ends what
// is unfinished as not sent or lost, and returns when nothing of it runs any more.
func (cl *Client) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var slots, conns sync.WaitGroup
	for _, s := range cl.slots {
		slots.Go(func() { cl.runSlot(ctx, s, &conns) })
	}
	if cl.cfg.IdleTimeout > 0 {
		cl.awaitIdle(ctx)
		cancel()
	}
	slots.Wait()
	cl.mu.Lock()
	cl.stopped = true
	cl.groups.Close()
	cl.mu.Unlock()
	conns.Wait()
	cl.returnQueue(NotSent, &ended{})
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if cl.down { // others may share the metric
		cl.down = false
		cl.metrics.Down.Dec()
	}
	return nil
}

// awaitIdle returns when nothing was under way for IdleTimeout, after which no group is taken, or when ctx ends.
func (cl *Client) awaitIdle(ctx context.Context) {
	timer := time.NewTimer(cl.cfg.IdleTimeout)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		cl.mu.Lock()
		left := cl.cfg.IdleTimeout
		if cl.groups.Inside() == 0 {
			if left -= time.Since(cl.since); left <= 0 {
				cl.groups.Close()
			}
		}
		cl.mu.Unlock()
		if left <= 0 {
			return
		}
		timer.Reset(left)
	}
}

// Reconnect replaces every connection by a new one, without losing what is in flight. It is for new credentials, which
// a connection takes up only when it is opened.
func (cl *Client) Reconnect() {
	cl.dialer.tls.Forget()
	for _, s := range cl.slots {
		cl.mu.Lock()
		c := s.conn
		cl.mu.Unlock()
		if c != nil {
			c.replace()
		}
	}
}

// waits reports whether there are requests that no connection has taken up.
func (cl *Client) waits() bool {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	return cl.queue.Len() > 0
}

// wake tells every connection, and every slot without one, that the queue has changed. mu is held.
func (cl *Client) wake() {
	for _, s := range cl.slots {
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

// lastGoAway is the last GOAWAY in the log.
type lastGoAway struct {
	debug string
	at    time.Time
}

// saidGoAway logs a GOAWAY that gives a reason or an error. It may come for every connection, so the same one is logged
// once a minute.
func (cl *Client) saidGoAway(debug string, code http2.ErrCode) {
	if debug == "" && code == http2.ErrCodeNo {
		return
	}
	now := time.Now()
	cl.mu.Lock()
	said := cl.goAwaySaid.debug == debug && now.Sub(cl.goAwaySaid.at) < time.Minute
	if !said {
		cl.goAwaySaid = lastGoAway{debug, now}
	}
	cl.mu.Unlock()
	if !said {
		cl.log.Warn("the gateway ends a connection", "gateway", cl.cfg.Address, "reason", debug, "code", code)
	}
}
