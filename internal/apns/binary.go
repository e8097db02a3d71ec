package apns

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lhspn/lhspn/internal/apns/frame"
	"github.com/lhspn/lhspn/internal/push"
)

// The defaults of BinaryConfig.
const (
	// DefaultWindow is large enough that exchanging connections (one handshake each) costs a few percent at full speed, and
	// small enough that what is sent twice after a crash, and the memory behind it, stays modest.
	DefaultWindow       = 16384
	DefaultConfirmAfter = 3 * time.Second
	DefaultEndAfter     = time.Minute
	DefaultIdleClose    = time.Second
	DefaultDialTimeout  = 10 * time.Second
	DefaultWriteTimeout = 20 * time.Second
	DefaultBackoffMin   = 200 * time.Millisecond
	DefaultBackoffMax   = 5 * time.Second // what waits goes within seconds once the gateway is back
)

// DefaultRetryStatuses are the statuses after which the mission sends the identified notification again.
func DefaultRetryStatuses() []uint8 {
	return []uint8{uint8(frame.StatusProcessingError), uint8(frame.StatusShutdown)}
}

// BinaryConfig configures the binary transport of one app. Zero values stand for the defaults.
type BinaryConfig struct {
	App     string
	Route   push.Route  // of its notifications, for log and metrics
	Address string      // host:port; the name is resolved anew at each connect
	TLS     *tls.Config // roots, client certificate, server name (that of Address if empty)
	// Connections are kept side by side while there is enough to send for them.
	Connections int
	// Window bounds the unconfirmed notifications of one connection. As many again may wait to be written, and so Send
	// blocks. When it is full the connection is half-closed and drained, while a fresh one takes over; at most
	// maxDraining connections drain at once for each of Connections.
	Window int
	// RetryStatuses are the statuses after which the notification that the error response identifies is itself sent again
	// (Outcome Retry). Shutdown (10) without being listed is read as Apple describes it: the identified one was the last
	// that succeeded. Nil means DefaultRetryStatuses; an empty slice means none.
	RetryStatuses []uint8
	// ConfirmAfter the write a notification of which nothing is known yet has its connection half-closed, to be told by its
	// end. With a gateway that ends no half-closed connection, or resets them, that much silence is the least that counts as
	// acceptance, on a connection that is still read and whose peer has acknowledged all of the bytes.
	ConfirmAfter time.Duration
	// EndAfter is how long the end of a half-closed connection is waited for before another may take its place. It is read for
	// as long again: a gateway that has not ended it by then never does. From then on what has met with silence for
	// ConfirmAfter is still read for EndAfter, unless the room is needed.
	EndAfter time.Duration
	// IdleClose after the last write with nothing more to send, a connection is half-closed and read to its end.
	IdleClose    time.Duration
	DialTimeout  time.Duration // of resolving, connecting and the TLS handshake together
	WriteTimeout time.Duration
	BackoffMin   time.Duration
	BackoffMax   time.Duration
	// Command 2 sends every notification with that command. Otherwise the enhanced format (command 1) is used, but for
	// priority 5, which only command 2 can carry.
	Command uint8
}

func (c BinaryConfig) withDefaults() BinaryConfig {
	set := func(d *time.Duration, def time.Duration) {
		if *d <= 0 {
			*d = def
		}
	}
	set(&c.ConfirmAfter, DefaultConfirmAfter)
	set(&c.EndAfter, DefaultEndAfter)
	set(&c.IdleClose, DefaultIdleClose)
	set(&c.DialTimeout, DefaultDialTimeout)
	set(&c.WriteTimeout, DefaultWriteTimeout)
	set(&c.BackoffMin, DefaultBackoffMin)
	set(&c.BackoffMax, DefaultBackoffMax)
	c.BackoffMax = max(c.BackoffMax, c.BackoffMin)
	c.Connections = max(c.Connections, 1)
	if c.Window <= 0 {
		c.Window = DefaultWindow
	}
	if c.RetryStatuses == nil {
		c.RetryStatuses = DefaultRetryStatuses()
	}
	if c.Command != frame.Command2 {
		c.Command = frame.Command1
	}
	return c
}

// errClosed is given to a Send that comes after Drain or after the end of Run.
var errClosed = errors.New("the transport takes no more: it is draining or stopped")

// A Binary sends the notifications of one app over Apple's binary provider protocol, to a gateway that answers errors
// only. Groups are taken in the order of Send; within a connection the order is kept, and everything after a refused
// notification is written again, in its order, on a new connection.
//
// A group goes into one queue, from which lanes, one for each of Connections, take as much as they can write. A lane is
// one goroutine that owns its connections, their windows and all that is put back after an error; beside it each
// connection has a reader that reports the end of the connection to the lane, and nothing else.
type Binary struct {
	cfg     BinaryConfig
	log     *slog.Logger
	metrics *transportMetrics
	// dial connects, up to and including the handshake. Tests put their own here before Run.
	dial func(context.Context) (net.Conn, error)

	slots    []*slot
	space    chan struct{} // has an element while Send may look again for room
	drained  chan struct{} // closed when draining and every group is done
	stopped  chan struct{} // closed when Run takes no more groups
	draining atomic.Bool   // no more Sends will come
	isDown   atomic.Bool   // the gateway is away; also under mu while it changes
	abrupt   atomic.Bool   // the gateway ends connections without close_notify
	resets   atomic.Bool   // the gateway resets connections that we half-close; see resetInAnswer
	endless  atomic.Bool   // the gateway does not end connections that we half-close
	// settlements changes whenever a lane has settled something by the gateway's answer or by evidence: the gateway works.
	settlements atomic.Uint64

	mu sync.Mutex // guards what follows; held for moments, never while calling out
	// queue is what no lane has taken yet, waiting the number of deliveries in it.
	queue     ring[span]
	waiting   int
	unsettled int // groups taken and not done
	seq       uint64
	free      []*job
	closed    bool // Run has ended or is ending
	downSince time.Time
	// trustAfter is how many orderly ends are to be seen before resets is cleared, nextTrustAfter how many after the next reset.
	trustAfter, nextTrustAfter int
}

// job is a group on its way through the transport.
type job struct {
	group *push.Group
	seq   uint64       // its place in the order of Send
	left  atomic.Int32 // deliveries without a result
}

// span is a run of deliveries of one group that are in the same state.
type span struct {
	job      *job
	from, to int
}

func (s span) len() int { return s.to - s.from }

func (s span) deliveries() []push.Delivery { return s.job.group.Deliveries[s.from:s.to] }

// before orders spans as they were given to Send.
func (s span) before(o span) bool {
	return s.job.seq < o.job.seq || s.job.seq == o.job.seq && s.from < o.from
}

// NewBinary makes the transport of one app. It starts nothing: see Run. Send may be called before.
func NewBinary(cfg BinaryConfig, log *slog.Logger, m *Metrics) *Binary {
	cfg = cfg.withDefaults()
	b := &Binary{
		cfg: cfg, log: log.With("app", cfg.App, "route", cfg.Route, "gateway", cfg.Address), metrics: m.binary(cfg.App, string(cfg.Route), cfg.Address),
		space: make(chan struct{}, 1), drained: make(chan struct{}), stopped: make(chan struct{}),
	}
	b.dial = newDialer(cfg)
	for range cfg.Connections {
		b.slots = append(b.slots, newSlot(b))
	}
	return b
}

// Run works until ctx ends. What is unfinished then gets Outcome NotSent, and each group's Done is called before Run
// returns; no goroutine is left.
func (b *Binary) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, l := range b.slots {
		wg.Go(func() { l.run(ctx) })
	}
	<-ctx.Done()
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	close(b.stopped)
	wg.Wait()
	b.returnQueue()
	b.metrics.down.Set(0)
	return nil
}

// Send hands over a group. It blocks while a window's worth of deliveries waits to be written. An error means that the
// group was not taken; otherwise its Done is called once, when every delivery has its result.
func (b *Binary) Send(ctx context.Context, g *push.Group) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	if len(g.Deliveries) == 0 {
		g.Done(g)
		return nil
	}
	b.mu.Lock()
	for !b.closed && !b.draining.Load() && b.waiting >= b.cfg.Window {
		b.mu.Unlock()
		select {
		case <-b.space:
		case <-b.stopped:
		case <-ctx.Done():
			b.signalSpace() // it may have been meant for another
			return fmt.Errorf("send: %w", ctx.Err())
		}
		b.mu.Lock()
	}
	if b.closed || b.draining.Load() {
		b.mu.Unlock()
		return errClosed
	}
	b.enqueue(g)
	more := b.waiting < b.cfg.Window
	b.mu.Unlock()
	if more {
		b.signalSpace()
	}
	b.wakeSlots()
	return nil
}

// enqueue puts a group to the end of the queue. mu is held.
func (b *Binary) enqueue(g *push.Group) {
	var j *job
	if n := len(b.free); n > 0 {
		j, b.free = b.free[n-1], b.free[:n-1]
	} else {
		j = new(job)
	}
	j.group, j.seq = g, b.seq
	j.left.Store(int32(len(g.Deliveries)))
	b.seq++
	b.unsettled++
	b.queue.pushBack(span{job: j, to: len(g.Deliveries)})
	b.waiting += len(g.Deliveries)
}

// Drain says that no more Sends will come: what is written is half-closed at once, to get the evidence without waiting for
// silence. It returns when every group is done, or with ctx.
func (b *Binary) Drain(ctx context.Context) error {
	b.mu.Lock()
	if !b.draining.Swap(true) && b.unsettled == 0 {
		close(b.drained)
	}
	b.mu.Unlock()
	b.signalSpace()
	b.wakeSlots()
	select {
	case <-b.drained:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("drain: %w", ctx.Err())
	}
}

func (b *Binary) signalSpace() {
	select {
	case b.space <- struct{}{}:
	default:
	}
}

func (b *Binary) wakeSlots() {
	for _, l := range b.slots {
		l.wakeUp()
	}
}

// take appends spans of up to n deliveries to dst, from the front of the queue, and returns how many deliveries.
func (b *Binary) take(dst *ring[span], n int) int {
	b.mu.Lock()
	taken := 0
	for taken < n && b.queue.len() > 0 {
		s := b.queue.at(0)
		size := min(s.len(), n-taken)
		dst.pushBack(span{job: s.job, from: s.from, to: s.from + size})
		taken += size
		if s.from += size; s.from == s.to {
			b.queue.popFront()
		}
	}
	b.waiting -= taken
	room := b.waiting < b.cfg.Window
	b.mu.Unlock()
	if taken > 0 && room {
		b.signalSpace()
	}
	return taken
}

// spread is how many deliveries must wait for each connection there is before another lane opens one more: a handshake is
// worth it only when there is work for it.
const spread = 512

// wanted reports whether lane l should have a connection for what waits in the queue.
func (b *Binary) wanted(l *slot) bool {
	b.mu.Lock()
	waiting := b.waiting
	b.mu.Unlock()
	if waiting == 0 {
		return false
	}
	others := 0
	for _, o := range b.slots {
		if o != l && o.usable.Load() {
			others++
		}
	}
	return waiting > spread*others
}

// hasWork reports whether anything waits in the queue.
func (b *Binary) hasWork() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.waiting > 0
}

// finish gives all of s one result.
func (b *Binary) finish(s span, r push.Result) {
	ds := s.deliveries()
	for i := range ds {
		ds[i].Result = r
	}
	b.settled(s, r.Outcome)
	if r.Reason != nil {
		b.metrics.refusals[r.Reason].Add(float64(len(ds)))
	}
}

// accept is finish for what was accepted: the hot path, in which only the fields that can differ are written.
func (b *Binary) accept(s span) {
	ds := s.deliveries()
	for i := range ds {
		r := &ds[i].Result
		r.Outcome, r.Reason, r.Status = push.Accepted, nil, 0
	}
	b.settled(s, push.Accepted)
}

// settled counts s, whose results are set, and lets go of its group if they were the last.
func (b *Binary) settled(s span, o push.Outcome) {
	n := s.len()
	b.metrics.results[o].Add(float64(n))
	if s.job.left.Add(-int32(n)) > 0 {
		return
	}
	j, g := s.job, s.job.group
	g.Done(g)
	b.mu.Lock()
	j.group = nil
	b.free = append(b.free, j)
	b.unsettled--
	if b.unsettled == 0 && b.draining.Load() {
		close(b.drained)
	}
	b.mu.Unlock()
}

// returnQueue finishes all that no lane has taken as not sent.
func (b *Binary) returnQueue() {
	var all ring[span]
	b.take(&all, int(^uint(0)>>1))
	for all.len() > 0 {
		b.finish(all.popFront(), notSent)
	}
}

var (
	notSent = push.Result{Outcome: push.NotSent, Reason: push.ConnectionLost}
	// brokenOff: it was sent, and may even be the cause of the break. So the next to be tried is to be another, which a lost
	// connection would not ask for.
	brokenOff = push.Result{Outcome: push.NotSent, Reason: push.NoAnswer}
)

// otherConnected reports whether a lane other than l is connected.
func (b *Binary) otherConnected(l *slot) bool {
	return slices.ContainsFunc(b.slots, func(o *slot) bool { return o != l && o.connected.Load() })
}

// goneAway and back keep the state of the gateway, and log its changes, once each.
func (b *Binary) goneAway(what string, err error) {
	b.mu.Lock()
	changed := !b.isDown.Swap(true)
	if changed {
		b.downSince = time.Now()
	}
	b.mu.Unlock()
	if changed {
		b.metrics.down.Set(1)
		b.log.Warn(what, "error", err)
	}
}

func (b *Binary) back() {
	if !b.isDown.Load() {
		return
	}
	b.mu.Lock()
	changed := b.isDown.Swap(false)
	since := b.downSince
	b.mu.Unlock()
	if changed {
		b.metrics.down.Set(0)
		b.log.Info("gateway back", "after", time.Since(since).Round(time.Millisecond))
	}
}

// logRefused writes the line about one refused notification that the mission asks for: about each, since every one of them
// costs a connection, which bounds their rate.
func (b *Binary) logRefused(d *push.Delivery, raw frame.Status) {
	b.log.Warn("notification refused",
		"identifier", d.Result.Identifier, "status", uint8(raw), "status_name", raw.String(),
		"token", d.Token, "notification", d.Notification.ID, "outcome", d.Result.Outcome.String())
}

// binaryReasons are the reasons that this transport gives.
var binaryReasons = []*push.Reason{
	ProcessingError, MissingDeviceToken, MissingTopic, MissingPayload, InvalidTokenSize,
	InvalidTopicSize, InvalidPayloadSize, InvalidToken, Shutdown, ProtocolError, push.UnknownReason,
	push.ConnectionLost, push.NoAnswer, push.ExpiredReason,
}

// binaryReason translates a status; any that Apple does not document is like 255.
func binaryReason(s frame.Status) *push.Reason {
	switch s {
	case frame.StatusProcessingError:
		return ProcessingError
	case frame.StatusMissingToken:
		return MissingDeviceToken
	case frame.StatusMissingTopic:
		return MissingTopic
	case frame.StatusMissingPayload:
		return MissingPayload
	case frame.StatusInvalidTokenSize:
		return InvalidTokenSize
	case frame.StatusInvalidTopicSize:
		return InvalidTopicSize
	case frame.StatusInvalidPayloadSize:
		return InvalidPayloadSize
	case frame.StatusInvalidToken:
		return InvalidToken
	case frame.StatusShutdown:
		return Shutdown
	case frame.StatusProtocolError:
		return ProtocolError
	default:
		return push.UnknownReason
	}
}
