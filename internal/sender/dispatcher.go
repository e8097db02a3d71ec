package sender

import (
	"context"
	"time"

	"golang.org/x/time/rate"

	"github.com/lhspn/lhspn/internal/push"
)

// dispatcher gives a route's transport what waits. There are two for each route, so that an urgent notification does
// not wait where a bulk one waits.
type dispatcher struct{ *route }

// run sends what next gives until ctx ends. Where there is nothing, next says when there may be; otherwise wake tells.
func (r dispatcher) run(ctx context.Context, next func(now time.Time) (*group, time.Duration), wake <-chan struct{}) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for ctx.Err() == nil {
		g, wait := next(time.Now())
		if g != nil {
			r.metrics.groupSize.Observe(float64(len(g.Deliveries)))
			if err := r.cfg.Transport.Send(ctx, &g.Group); err != nil {
				// Not taken: the same as taken and not sent. The transport reports its own troubles.
				for i := range g.Deliveries {
					g.Deliveries[i].Result = push.Result{Outcome: push.NotSent, Reason: push.ConnectionLost}
				}
				r.done(g)
			}
			continue
		}
		if wait == 0 {
			wait = time.Hour
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
		case <-wake:
		case <-timer.C:
		}
	}
}

// urgent is the next group of urgent notifications, or how long to wait for it (0: until woken). It also makes the
// probes of a paused route, of whatever there is.
func (r dispatcher) urgent(now time.Time) (*group, time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	pause := &r.breaker.route
	if pause.cause != notPaused {
		return r.probe(now)
	}
	budget := pause.ramp.budget(min(groupSize, r.cfg.InFlight-r.inFlight), r.inFlight)
	budget, wait := allowance(r.limit, now, budget, 1)
	g := newGroup(r.route, false, now)
	r.backlog.sendUrgent(budget, now, g)
	return r.launch(g, now), wait
}

// probe is one delivery of a paused route once its time has come, of whatever there is. r.mu is held.
func (r dispatcher) probe(now time.Time) (*group, time.Duration) {
	pause := &r.breaker.route
	if pause.probing || r.inFlight > 0 { // what is still in flight is probe enough
		return nil, 0
	}
	if wait := pause.until.Sub(now); wait > 0 {
		return nil, wait
	}
	budget, wait := allowance(r.limit, now, 1, 1)
	g := newGroup(r.route, false, now)
	g.probe = true
	bulkFirst := false
	if pause.another {
		r.backlog.rotate()
		bulkFirst = pause.failures%2 == 0 // each lane has its turn
	}
	if bulkFirst {
		wait = max(wait, r.backlog.sendBulk(budget, now, g))
	}
	if len(g.Deliveries) == 0 {
		r.backlog.sendUrgent(budget, now, g)
	}
	if len(g.Deliveries) == 0 {
		wait = max(wait, r.backlog.sendBulk(budget, now, g))
	}
	g = r.launch(g, now)
	pause.probing = g != nil
	return g, wait
}

// bulk is the next group of bulk notifications, or how long to wait for it.
func (r dispatcher) bulk(now time.Time) (*group, time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.breaker.route.cause != notPaused {
		return nil, 0
	}
	// Groups small enough that several fill the window: with one alone the transport would run dry between groups.
	limit := r.window.limit()
	room := min(limit-(r.inFlight-r.trailing), r.window.max-r.inFlight)
	budget := r.breaker.route.ramp.budget(min(groupSize, max(1, limit/4), room), r.inFlight)
	if budget <= 0 {
		return nil, 0
	}
	budget, wait := allowance(r.limit, now, budget, min(budget, groupSize/2))
	if budget == 0 {
		return nil, wait
	}
	g := newGroup(r.route, true, now)
	wait = r.backlog.sendBulk(budget, now, g)
	return r.launch(g, now), wait
}

// launch counts the group as in flight; it is nil where there is nothing in it. r.mu is held.
func (r dispatcher) launch(g *group, now time.Time) *group {
	n := len(g.Deliveries)
	if n == 0 {
		g.free()
		return nil
	}
	if r.limit != nil {
		r.limit.AllowN(now, n)
	}
	r.inFlight += n
	g.inFlight = r.inFlight - r.trailing
	r.metrics.inFlight.Set(float64(r.inFlight))
	r.showReady()
	return g
}

// allowance is how many of n the limiter lets go now, or how long to wait until it lets at least min(least, a burst's
// half) go, so that groups do not become crumbs.
func allowance(l *rate.Limiter, now time.Time, n, least int) (int, time.Duration) {
	if l == nil || n <= 0 {
		return max(0, n), 0
	}
	tokens := l.TokensAt(now)
	least = max(1, min(least, l.Burst()/2))
	if missing := float64(least) - tokens; missing > 0 {
		return 0, time.Duration(missing/float64(l.Limit())*float64(time.Second)) + time.Microsecond
	}
	return min(n, int(tokens)), 0
}
