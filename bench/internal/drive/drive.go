// Package drive sends notifications through one of our transports as the service's sender does: groups in flight,
// results settled as they come, what is to be retried sent again. It is the client that the peers are compared with,
// and so does nothing that the sender would not have to do as well.
package drive

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"github.com/google/uuid"

	"github.com/lhspn/lhspn/bench/internal/measure"
	"github.com/lhspn/lhspn/bench/internal/rig"
	"github.com/lhspn/lhspn/internal/push"
)

// Transport is what internal/apns offers the sender.
type Transport interface {
	Run(ctx context.Context) error
	Send(ctx context.Context, g *push.Group) error
	Drain(ctx context.Context) error
}

// Options say what is sent.
type Options struct {
	Warmup, Count int
	// Tokens is the number of different device tokens.
	Tokens int
	// Token is the i-th of them, and Notification what is sent, anew for each round over them; nil for those of APNs.
	Token        func(i int) push.Token
	Notification func(now time.Time) *push.Notification
	// Rest is how long nothing is sent before the measured part.
	Rest time.Duration
	// Groups are in flight at the most, each of GroupSize deliveries.
	Groups, GroupSize int
	// Settle waits for all results before the transport is drained, so that what has to be sent again can be. Over the
	// binary protocol, where silence is the only answer, draining is what brings the evidence, and it is left off.
	Settle bool
}

// Run sends and returns the report; the transport has been drained then.
func Run(ctx context.Context, t Transport, o Options) (measure.Report, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	running := make(chan error, 1)
	go func() { running <- t.Run(ctx) }()

	if o.Token == nil {
		o.Token = rig.Token
	}
	if o.Notification == nil {
		o.Notification = alert
	}
	d := &driver{make: o.Notification, transport: t, done: make(chan *push.Group, o.Groups), outcomes: map[string]int{}}
	d.tokens = make([]push.Token, o.Tokens)
	for i := range d.tokens {
		d.tokens[i] = o.Token(i)
	}
	for range o.Groups {
		g := &push.Group{Deliveries: make([]push.Delivery, 0, o.GroupSize)}
		g.Done = func(g *push.Group) { d.done <- g }
		d.idle = append(d.idle, g)
	}
	if err := d.send(ctx, o.Warmup, o.Settle); err != nil {
		return measure.Report{}, err
	}
	clear(d.outcomes)
	d.resent, d.failed = 0, 0
	select {
	case <-ctx.Done():
		return measure.Report{}, ctx.Err()
	case <-time.After(o.Rest):
	}

	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	used := measure.Self()
	begin := time.Now()
	if err := d.send(ctx, o.Count, o.Settle); err != nil {
		return measure.Report{}, err
	}
	if err := t.Drain(ctx); err != nil {
		return measure.Report{}, err
	}
	for d.inFlight > 0 {
		if err := d.collect(ctx); err != nil {
			return measure.Report{}, err
		}
	}
	if len(d.again) > 0 {
		return measure.Report{}, fmt.Errorf("%d notifications are still to be sent again after the transport was drained",
			len(d.again))
	}
	seconds := time.Since(begin).Seconds()
	end := measure.Self()
	runtime.ReadMemStats(&after)
	cancel()
	if err := <-running; err != nil {
		return measure.Report{}, fmt.Errorf("run the transport: %w", err)
	}
	return measure.Report{
		StartedAt: begin.UnixNano(), Seconds: seconds, Warmup: o.Warmup, Count: o.Count, Failed: d.failed, Resent: d.resent,
		CPUSeconds: (end.CPU() - used.CPU()).Seconds(), MaxRSS: end.MaxRSS, Mallocs: after.Mallocs - before.Mallocs,
		Outcomes: d.outcomes,
	}, nil
}

// driver belongs to the goroutine that sends; only done is touched by others.
type driver struct {
	transport Transport
	done      chan *push.Group // given back by the transport
	idle      []*push.Group
	inFlight  int
	tokens    []push.Token
	next      int
	make      func(now time.Time) *push.Notification
	note      *push.Notification
	again     []push.Delivery // to be sent again
	outcomes  map[string]int
	resent    int
	failed    int
}

// send sends n new notifications, and with settle waits until every one of them has a final result, sending again what
// has to be.
func (d *driver) send(ctx context.Context, n int, settle bool) error {
	for left := n; ; {
		if left == 0 && len(d.again) == 0 {
			if !settle || d.inFlight == 0 {
				return nil
			}
			if err := d.collect(ctx); err != nil {
				return err
			}
			continue
		}
		for len(d.idle) == 0 {
			if err := d.collect(ctx); err != nil {
				return err
			}
		}
		g := d.idle[len(d.idle)-1]
		d.idle = d.idle[:len(d.idle)-1]
		for len(g.Deliveries) < cap(g.Deliveries) && len(d.again) > 0 {
			g.Deliveries = append(g.Deliveries, d.again[len(d.again)-1])
			d.again = d.again[:len(d.again)-1]
		}
		for ; len(g.Deliveries) < cap(g.Deliveries) && left > 0; left-- {
			g.Deliveries = append(g.Deliveries, d.delivery())
		}
		if err := d.transport.Send(ctx, g); err != nil {
			return fmt.Errorf("send: %w", err)
		}
		d.inFlight++
	}
}

// collect waits for one group and settles its results.
func (d *driver) collect(ctx context.Context) error {
	select {
	case g := <-d.done:
		d.inFlight--
		for i := range g.Deliveries {
			if delivery := &g.Deliveries[i]; delivery.Result.Outcome != push.Accepted {
				d.unusual(delivery)
			}
		}
		g.Deliveries = g.Deliveries[:0]
		d.idle = append(d.idle, g)
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for results: %w", context.Cause(ctx))
	}
}

// alert is a notification to iPhones.
func alert(now time.Time) *push.Notification {
	return &push.Notification{
		ID: uuid.Must(uuid.NewV7()), App: "bench", Environment: push.Production, Type: "alert", Key: rig.Topic,
		Priority: 10, Expiration: now.Add(24 * time.Hour), CreatedAt: now, SendAt: now,
		Payload: push.Payload{JSON: []byte(rig.Payload)},
	}
}

// delivery is the next notification. Each round over the tokens is a notification of its own, so that no apns-id occurs
// twice.
func (d *driver) delivery() push.Delivery {
	i := d.next % len(d.tokens)
	d.next++
	if i == 0 || d.note == nil {
		d.note = d.make(time.Now())
	}
	return push.Delivery{Notification: d.note, Recipient: push.Recipient{Token: d.tokens[i]}}
}

func (d *driver) unusual(delivery *push.Delivery) {
	outcome := delivery.Result.Outcome
	d.outcomes[outcome.String()]++
	if outcome.Final() {
		d.failed++
		return
	}
	d.resent++
	again := *delivery
	again.Result = push.Result{}
	if outcome == push.Retry {
		again.Attempts++
	}
	d.again = append(d.again, again)
}
