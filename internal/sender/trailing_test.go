package sender

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lhspn/lhspn/internal/push"
)

// twoServices is a transport to a service that answers in 20 ms, 5,000 messages a second, and to one that takes nine
// seconds for each of one in so many.
type twoServices struct {
	oneIn    int
	progress func(g *push.Group, n int) // what it tells
	running  sync.WaitGroup
	good     atomic.Int64

	mu   sync.Mutex
	next time.Time
}

func (t *twoServices) Run(ctx context.Context) error {
	<-ctx.Done()
	t.running.Wait()
	return nil
}

func (t *twoServices) Drain(context.Context) error { t.running.Wait(); return nil }

func (t *twoServices) Send(_ context.Context, g *push.Group) error {
	t.mu.Lock()
	now, good := time.Now(), 0
	for i := range g.Deliveries {
		d := &g.Deliveries[i]
		d.Result = push.Result{Outcome: push.Accepted}
		if n := int(d.Token[7]) | int(d.Token[6])<<8; n%t.oneIn != 0 {
			good++
		}
	}
	t.next = later(t.next, now).Add(time.Duration(good) * time.Second / 5000)
	quick := t.next.Sub(now) + 20*time.Millisecond
	t.mu.Unlock()
	t.running.Go(func() {
		<-time.After(quick)
		t.good.Add(int64(good))
		if good < len(g.Deliveries) {
			if good > 0 {
				t.progress(g, good)
			}
			<-time.After(9 * time.Second)
		}
		g.Done(g)
	})
	return nil
}

// A push service that takes long for each of its few messages holds up no other's.
func TestASlowServiceHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	const recipients = 20_000
	for _, oneIn := range []int{recipients, 100, 20} {
		synctest.Test(t, func(t *testing.T) {
			tr := &twoServices{oneIn: oneIn, progress: func(g *push.Group, n int) { g.Progress(g, n) }}
			r := start(t, func(_ *rig, _ *Config, apps map[string]RouteConfig) {
				apps["a"] = RouteConfig{Transport: tr, Kind: "webpush", QueueTarget: 50 * time.Millisecond}
			})
			begin := time.Now()
			r.give(note("a"), recipients)
			for good := int64(0); good < recipients*int64(oneIn-1)/int64(oneIn)-1; good = tr.good.Load() {
				pass(time.Second)
				if time.Since(begin) > time.Minute {
					t.Fatalf("one in %d is slow: %d of the others in a minute", oneIn, good)
				}
			}
			if took := time.Since(begin); took > 10*time.Second {
				t.Errorf("one in %d is slow: the others took %v", oneIn, took)
			}
			pass(time.Minute)
			route := r.s.routes.Load().byApp["a"][0]
			route.mu.Lock()
			defer route.mu.Unlock()
			if route.inFlight != 0 || route.trailing != 0 {
				t.Errorf("%d are in flight, of which %d trail", route.inFlight, route.trailing)
			}
		})
	}
}
