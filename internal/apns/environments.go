package apns

import (
	"context"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/lhspn/lhspn/internal/push"
)

// transport is what Binary and HTTP2 have in common.
type transport interface {
	Run(ctx context.Context) error
	Send(ctx context.Context, g *push.Group) error
	Drain(ctx context.Context) error
}

// Environments is one app's transports to APNs' two environments: each delivery goes to that of its notification. They are
// two gateways with connections of their own, and no token of one is ever sent to the other.
type Environments struct{ production, sandbox transport }

// NewEnvironments joins the two. It starts nothing: see Run. A transport without notifications opens no connection.
func NewEnvironments(production, sandbox transport) *Environments {
	return &Environments{production, sandbox}
}

// Run runs both until ctx ends.
func (e *Environments) Run(ctx context.Context) error {
	var g errgroup.Group
	g.Go(func() error { return e.production.Run(ctx) })
	g.Go(func() error { return e.sandbox.Run(ctx) })
	return g.Wait()
}

// Drain drains both.
func (e *Environments) Drain(ctx context.Context) error {
	var g errgroup.Group
	g.Go(func() error { return e.production.Drain(ctx) })
	g.Go(func() error { return e.sandbox.Drain(ctx) })
	return g.Wait()
}

// Reconnect has both open new connections where they keep any for long; see HTTP2.Reconnect. Binary's live for seconds only.
func (e *Environments) Reconnect() {
	for _, t := range []transport{e.production, e.sandbox} {
		if r, ok := t.(interface{ Reconnect() }); ok {
			r.Reconnect()
		}
	}
}

// Send hands the group to the one it is for. A group for both is parted, and is done when both parts are.
func (e *Environments) Send(ctx context.Context, g *push.Group) error {
	sandbox := 0
	for i := range g.Deliveries {
		if g.Deliveries[i].Notification.Environment == push.Sandbox {
			sandbox++
		}
	}
	switch sandbox {
	case 0:
		return e.production.Send(ctx, g)
	case len(g.Deliveries):
		return e.sandbox.Send(ctx, g)
	}
	return e.sendParts(ctx, g, sandbox)
}

func (e *Environments) sendParts(ctx context.Context, g *push.Group, sandbox int) error {
	var left atomic.Int32
	left.Store(2)
	part := func(size int) (*push.Group, []int) {
		places := make([]int, 0, size) // where each delivery of the part stands in g
		p := &push.Group{Deliveries: make([]push.Delivery, 0, size)}
		p.Done = func(p *push.Group) {
			for i, place := range places[:len(p.Deliveries)] {
				g.Deliveries[place].Result = p.Deliveries[i].Result
			}
			if left.Add(-1) == 0 {
				g.Done(g)
			}
		}
		return p, places[:size]
	}
	toSandbox, sandboxPlaces := part(sandbox)
	toProduction, productionPlaces := part(len(g.Deliveries) - sandbox)
	for i, d := range g.Deliveries {
		p, places := toProduction, productionPlaces
		if d.Notification.Environment == push.Sandbox {
			p, places = toSandbox, sandboxPlaces
		}
		places[len(p.Deliveries)] = i
		p.Deliveries = append(p.Deliveries, d)
	}
	if err := e.production.Send(ctx, toProduction); err != nil {
		return err // nothing was taken
	}
	if err := e.sandbox.Send(ctx, toSandbox); err != nil {
		// One part is taken: the group is, and the other part was not sent.
		for i := range toSandbox.Deliveries {
			toSandbox.Deliveries[i].Result = notSent
		}
		toSandbox.Done(toSandbox)
	}
	return nil
}
