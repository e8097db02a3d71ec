package sender

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/lhspn/lhspn/internal/push"
)

// fakeTransport answers each delivery by a function, after a delay, with a window of so many groups.
type fakeTransport struct {
	answer func(d *push.Delivery) push.Result
	delay  time.Duration
	window chan struct{}

	mu       sync.Mutex
	sent     []sentDelivery
	sizes    []int
	inFlight int
	peak     int
	groups   sync.WaitGroup
	stop     chan struct{}
	stuck    chan struct{} // where not nil nothing is answered until it is closed
}

type sentDelivery struct {
	at       time.Time
	n        *push.Notification
	token    push.Token
	attempts uint8
	badge    uint32
}

func newFakeTransport() *fakeTransport {
	return &fakeTransport{window: make(chan struct{}, 64), stop: make(chan struct{})}
}

func (t *fakeTransport) Run(ctx context.Context) error {
	<-ctx.Done()
	close(t.stop)
	t.groups.Wait()
	return nil
}

func (t *fakeTransport) Send(ctx context.Context, g *push.Group) error {
	select {
	case t.window <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range g.Deliveries {
		d := &g.Deliveries[i]
		t.sent = append(t.sent, sentDelivery{time.Now(), d.Notification, d.Token, d.Attempts, d.Badge})
	}
	t.sizes = append(t.sizes, len(g.Deliveries))
	t.inFlight += len(g.Deliveries)
	t.peak = max(t.peak, t.inFlight)
	stuck := t.stuck
	t.groups.Go(func() {
		stopped := false
		if stuck != nil {
			select {
			case <-stuck:
			case <-t.stop:
				stopped = true
			}
		}
		timer := time.NewTimer(t.delay)
		defer timer.Stop()
		if t.delay > 0 {
			select {
			case <-timer.C:
			case <-t.stop:
				stopped = true
			}
		}
		n := len(g.Deliveries)
		for i := range g.Deliveries {
			switch d := &g.Deliveries[i]; {
			case stopped:
				d.Result = push.Result{Outcome: push.NotSent, Reason: push.ConnectionLost}
			case t.answer != nil:
				d.Result = t.answer(d)
			default:
				d.Result = push.Result{Outcome: push.Accepted, Status: 200}
			}
		}
		t.mu.Lock()
		t.inFlight -= n
		t.mu.Unlock()
		<-t.window
		g.Done(g)
	})
	return nil
}

func (t *fakeTransport) Drain(ctx context.Context) error {
	done := make(chan struct{})
	go func() { t.groups.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return errors.New("not drained")
	}
}

func (t *fakeTransport) sends() []sentDelivery {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.sent)
}

// groupSizes are the sizes of the groups that were sent.
func (t *fakeTransport) groupSizes() []int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.sizes)
}

// sendsOf is the number of times that the notification was sent to anyone.
func (t *fakeTransport) sendsOf(n *push.Notification) (count int) {
	for _, s := range t.sends() {
		if s.n.ID == n.ID {
			count++
		}
	}
	return count
}

// serialTransport writes one recipient after the other at a rate, as a gateway that is the bottleneck, and never
// refuses a Send: all that waits, waits in it.
type serialTransport struct {
	each   time.Duration
	groups chan *push.Group
}

func newSerialTransport(perSecond int) *serialTransport {
	return &serialTransport{each: time.Second / time.Duration(perSecond), groups: make(chan *push.Group, 10_000)}
}

func (t *serialTransport) Run(ctx context.Context) error {
	for {
		select {
		case g := <-t.groups:
			timer := time.NewTimer(t.each * time.Duration(len(g.Deliveries)))
			outcome := push.Accepted
			select {
			case <-timer.C:
			case <-ctx.Done():
				outcome = push.NotSent
			}
			timer.Stop()
			for i := range g.Deliveries {
				g.Deliveries[i].Result = push.Result{Outcome: outcome}
			}
			g.Done(g)
		case <-ctx.Done():
			for {
				select {
				case g := <-t.groups:
					for i := range g.Deliveries {
						g.Deliveries[i].Result = push.Result{Outcome: push.NotSent}
					}
					g.Done(g)
				default:
					return nil
				}
			}
		}
	}
}

func (t *serialTransport) Send(_ context.Context, g *push.Group) error {
	t.groups <- g
	return nil
}

func (t *serialTransport) Drain(context.Context) error { return nil }
