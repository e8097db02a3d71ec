package binary

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lhspn/lhspn/internal/apns"
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/ring"
)

// errClosed is given to a Send that comes after Drain or after the end of Run.
var errClosed = errors.New("the transport takes no more: it is draining or stopped")

// A Transport sends the notifications of one route of an app. Groups are taken in the order of Send; within a
// connection the order is kept, and everything after a refused notification is written again, in its order, on a new
// connection.
//
// A group goes into one queue, from which slots, one for each of Config.Connections, take as much as they can write. A
// slot is one goroutine that owns its connections, what they have written, and all that is put back after an error;
// beside it each connection has a reader that reports the end of the connection to the slot, and nothing else.
type Transport struct {
	cfg     Config
	log     *slog.Logger
	metrics *apns.BinaryMetrics
	dialer  *dialer
	dial    func(context.Context) (net.Conn, error) // dialer's; tests put their own here before Run

	slots   []*slot
	queue   queue
	habits  habits
	stopped chan struct{} // closed when Run takes no more groups

	// advances changes whenever a slot has finished something by the gateway's answer or by evidence: the gateway
	// works.
	advances atomic.Uint64
	isDown   atomic.Bool // the gateway is away; also under downMu while it changes

	downMu    sync.Mutex // guards downSince
	downSince time.Time
}

// New makes the transport of one route. It starts nothing: see Run. Send may be called before.
func New(cfg Config, log *slog.Logger, m *apns.Metrics) *Transport {
	cfg = cfg.withDefaults()
	t := &Transport{
		cfg: cfg, log: log.With("app", cfg.App, "route", cfg.Route, "gateway", cfg.Address),
		metrics: m.Binary(cfg.App, string(cfg.Route), cfg.Address, reasons), stopped: make(chan struct{}),
	}
	t.queue.init(cfg.Window)
	t.dialer = newDialer(cfg)
	t.dial = t.dialer.dial
	for range cfg.Connections {
		t.slots = append(t.slots, newSlot(t))
	}
	return t
}

// ForgetSessions has the next connections begin with the certificate that is the present one then. Each connection
// lives for no more than a window of notifications or Config.IdleClose, so that they all do soon.
func (t *Transport) ForgetSessions() { t.dialer.tls.Forget() }

// Run works until ctx ends. What is unfinished then gets Outcome NotSent, and each group's Done is called before Run
// returns; no goroutine is left.
func (t *Transport) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, s := range t.slots {
		wg.Go(func() { s.run(ctx) })
	}
	<-ctx.Done()
	t.queue.close()
	close(t.stopped)
	wg.Wait()
	t.returnQueue()
	t.metrics.Down.Set(0)
	return nil
}

// Send hands over a group. It blocks while a window's worth of deliveries waits to be written. An error means that the
// group was not taken; otherwise its Done is called once, when every delivery has its result.
func (t *Transport) Send(ctx context.Context, g *push.Group) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	if len(g.Deliveries) == 0 {
		g.Done(g)
		return nil
	}
	for {
		added, err := t.queue.add(g)
		if err != nil {
			return err
		}
		if added {
			t.wakeSlots()
			return nil
		}
		select {
		case <-t.queue.space:
		case <-t.stopped:
		case <-ctx.Done():
			t.queue.signalSpace() // it may have been meant for another
			return fmt.Errorf("send: %w", ctx.Err())
		}
	}
}

// Drain says that no more Sends will come: what is written is half-closed at once, to get the evidence without waiting
// for silence. It returns when every group is done, or with ctx.
func (t *Transport) Drain(ctx context.Context) error {
	t.queue.drain()
	t.wakeSlots()
	return t.queue.groups.Wait(ctx)
}

func (t *Transport) wakeSlots() {
	for _, s := range t.slots {
		s.wakeUp()
	}
}

// spread is how many deliveries must wait for each connection there is before another slot opens one more: a handshake
// is worth it only when there is work for it.
const spread = 512

// wanted reports whether slot s should have a connection for what waits in the queue.
func (t *Transport) wanted(s *slot) bool {
	waiting := t.queue.size()
	if waiting == 0 {
		return false
	}
	others := 0
	for _, o := range t.slots {
		if o != s && o.usable.Load() {
			others++
		}
	}
	return waiting > spread*others
}

// finish gives all of sp one result.
func (t *Transport) finish(sp span, r push.Result) {
	ds := sp.deliveries()
	for i := range ds {
		ds[i].Result = r
	}
	t.finished(sp, r.Outcome)
	if r.Reason != nil {
		t.metrics.Refusals[r.Reason].Add(float64(len(ds)))
	}
}

// accept is finish for what was accepted: the hot path, in which only the fields that can differ are written.
func (t *Transport) accept(sp span) {
	ds := sp.deliveries()
	for i := range ds {
		r := &ds[i].Result
		r.Outcome, r.Reason, r.Status = push.Accepted, nil, 0
	}
	t.finished(sp, push.Accepted)
}

// finished counts sp, whose results are set, and hands its group back if they were the last.
func (t *Transport) finished(sp span, o push.Outcome) {
	n := sp.len()
	t.metrics.Results[o].Add(float64(n))
	if sp.job.left.Add(-int32(n)) == 0 {
		g := sp.job.group
		g.Done(g)
		t.queue.done(sp.job)
	}
}

// returnQueue finishes all that no slot has taken as not sent.
func (t *Transport) returnQueue() {
	var all ring.Ring[span]
	t.queue.take(&all, int(^uint(0)>>1))
	for all.Len() > 0 {
		t.finish(all.PopFront(), notSent)
	}
}

// otherConnected reports whether a slot other than s is connected.
func (t *Transport) otherConnected(s *slot) bool {
	return slices.ContainsFunc(t.slots, func(o *slot) bool { return o != s && o.connected.Load() })
}

// down and up keep the state of the gateway, and log its changes, once each.
func (t *Transport) down(err error) {
	t.downMu.Lock()
	changed := !t.isDown.Swap(true)
	if changed {
		t.downSince = time.Now()
	}
	t.downMu.Unlock()
	if changed {
		t.metrics.Down.Set(1)
		// In the words of the HTTP/2 transport, to which the same happens.
		t.log.Warn("the gateway cannot be reached; trying again with growing pauses", "error", err)
	}
}

func (t *Transport) up() {
	if !t.isDown.Load() {
		return
	}
	t.downMu.Lock()
	changed := t.isDown.Swap(false)
	since := t.downSince
	t.downMu.Unlock()
	if changed {
		t.metrics.Down.Set(0)
		t.log.Info("the gateway answers again", "after", time.Since(since).Round(time.Millisecond))
	}
}
