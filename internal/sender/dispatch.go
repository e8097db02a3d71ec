package sender

import (
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/queue"
)

// group is what goes to a transport at once, and what it is made of. Groups are used again: a delivery costs no allocation.
type group struct {
	push.Group
	app      *route
	parts    []run
	sentAt   time.Time
	bulk     bool
	inFlight int // recipients in flight, this group included, when it was sent
	epoch    uint64
	probe    bool
}

// run is a run of a group's deliveries that stem from one batch.
type run struct {
	item *batch
	from int // in the batch
	n    int
	// taken and later count its answers that took or refused a delivery, and those that said "later" and blamed no token.
	taken, later int
}

var groupPool = sync.Pool{New: func() any {
	return &group{Group: push.Group{Deliveries: make([]push.Delivery, 0, groupSize)}}
}}

func newGroup(a *route, bulk bool, now time.Time) *group {
	g := groupPool.Get().(*group) // only this type is put there
	if g.Done == nil {
		g.Done = func(*push.Group) { g.app.done(g) }
	}
	g.app, g.bulk, g.sentAt, g.probe, g.epoch = a, bulk, now, false, a.pause.epoch
	return g
}

func (g *group) free() {
	clear(g.Deliveries)
	clear(g.parts)
	g.Deliveries, g.parts, g.app = g.Deliveries[:0], g.parts[:0], nil
	groupPool.Put(g)
}

// dispatch sends what next gives until ctx ends. Where there is nothing, next says when there may be; otherwise wake tells.
// There are two dispatchers for each app, so that an urgent notification does not wait where a bulk one waits.
func (a *route) dispatch(ctx context.Context, next func(now time.Time) (*group, time.Duration), wake <-chan struct{}) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for ctx.Err() == nil {
		g, wait := next(time.Now())
		if g != nil {
			a.metrics.groupSize.Observe(float64(len(g.Deliveries)))
			if err := a.cfg.Transport.Send(ctx, &g.Group); err != nil {
				// Not taken: the same as taken and not sent. The transport reports its own troubles.
				for i := range g.Deliveries {
					g.Deliveries[i].Result = push.Result{Outcome: push.NotSent, Reason: push.ConnectionLost}
				}
				a.done(g)
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

// nextUrgent is the next group of urgent notifications, or how long to wait for it (0: until woken). It also makes the
// probes of a paused app, of whatever there is.
func (a *route) nextUrgent(now time.Time) (*group, time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	g := newGroup(a, false, now)
	budget := a.pause.ramp.budget(min(groupSize, a.cfg.InFlight-a.inFlight), a.inFlight)
	var wait time.Duration
	if a.pause.cause != notPaused {
		if a.pause.probing || a.inFlight > 0 { // what is still in flight is probe enough
			g.free()
			return nil, 0
		}
		if wait = a.pause.until.Sub(now); wait > 0 {
			g.free()
			return nil, wait
		}
		g.probe, budget = true, 1
	}
	budget, wait = allowance(a.limit, now, budget, 1)
	if g.probe && a.pause.another {
		a.rotate()
		if a.pause.failures%2 == 0 { // each lane has its turn
			wait = max(wait, a.fillBulk(g, budget, now))
			budget -= len(g.Deliveries)
		}
	}
	a.fillUrgent(g, budget, now)
	if g.probe && len(g.parts) == 0 {
		wait = max(wait, a.fillBulk(g, budget, now))
	}
	if len(g.parts) == 0 {
		g.free()
		return nil, wait
	}
	a.pause.probing = g.probe
	a.launch(g, now)
	return g, 0
}

// rotate puts what the last probe was of behind the others: the fault may be its own, and must not hold them up. a.mu is held.
func (a *route) rotate() {
	if a.urgent.len() > 1 {
		a.urgent.push(a.urgent.pop())
	}
	if a.turns.len() > 0 { // among the notifications the turns go round
		if st := a.turns.at(0); st.items.len() > 1 {
			st.items.push(st.items.pop())
		}
	}
}

// nextBulk is the same for bulk notifications.
func (a *route) nextBulk(now time.Time) (*group, time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.pause.cause != notPaused {
		return nil, 0
	}
	// Groups small enough that several fill the window: with one alone the transport would run dry between groups.
	limit := a.window.limit()
	budget := a.pause.ramp.budget(min(groupSize, max(1, limit/4), limit-a.inFlight), a.inFlight)
	if budget <= 0 {
		return nil, 0
	}
	budget, wait := allowance(a.limit, now, budget, min(budget, groupSize/2))
	if budget == 0 {
		return nil, wait
	}
	g := newGroup(a, true, now)
	wait = a.fillBulk(g, budget, now)
	if len(g.parts) == 0 {
		g.free()
		return nil, wait
	}
	a.launch(g, now)
	return g, 0
}

// launch counts the group as in flight. a.mu is held.
func (a *route) launch(g *group, now time.Time) {
	n := len(g.Deliveries)
	if a.limit != nil {
		a.limit.AllowN(now, n)
	}
	a.inFlight += n
	g.inFlight = a.inFlight
	a.metrics.inFlight.Set(float64(a.inFlight))
	for lane := range a.ready {
		a.metrics.ready[lane].Set(float64(a.ready[lane]))
	}
}

// fillUrgent adds urgent deliveries to the group. a.mu is held.
func (a *route) fillUrgent(g *group, budget int, now time.Time) {
	for budget > 0 && a.urgent.len() > 0 {
		it := a.urgent.at(0)
		if a.expired(it, now) {
			a.urgent.pop()
			a.retire(it, expired)
			continue
		}
		k := a.topicAllows(it, min(budget, it.left()), now)
		if k == 0 {
			a.park(a.urgent.pop())
			continue
		}
		taken, ok := a.take(g, it, k, now)
		if !ok {
			a.lose(a.urgent.pop())
			continue
		}
		if budget -= taken; it.left() == 0 {
			a.dispatched(a.urgent.pop())
		}
	}
}

// fillBulk adds bulk deliveries to the group, a part of one batch of each notification in turn, and says how long to wait
// where a notification's own rate allows none now. a.mu is held.
func (a *route) fillBulk(g *group, budget int, now time.Time) (wait time.Duration) {
	for budget > 0 && a.turns.len() > 0 {
		progress := false
		for turns := a.turns.len(); turns > 0 && budget > 0; turns-- {
			st := a.turns.pop()
			for st.items.len() > 0 && a.expired(st.items.at(0), now) {
				a.retire(st.items.pop(), expired)
			}
			if st.items.len() > 0 {
				it := st.items.at(0)
				k, w := allowance(st.limit, now, min(budget, it.left()), min(budget, it.left()))
				allowed := k
				if k > 0 {
					allowed = a.topicAllows(it, k, now)
				}
				switch {
				case k > 0 && allowed == 0:
					a.park(st.items.pop())
					progress = true
				case k == 0:
					if wait == 0 || w < wait {
						wait = w
					}
				default:
					progress = true
					taken, ok := a.take(g, it, allowed, now)
					if !ok {
						a.lose(st.items.pop())
						break
					}
					if st.limit != nil {
						st.limit.AllowN(now, taken)
					}
					if it.left() == 0 {
						a.dispatched(st.items.pop())
					}
					budget -= taken
				}
			}
			if st.turn = st.items.len() > 0; st.turn {
				a.turns.push(st)
			}
		}
		if !progress {
			break
		}
	}
	return wait
}

// take adds the item's next k recipients to the group, without those that have to wait, and says how many it added. It is false
// where the item's shard is not to be sent from any more. a.mu is held.
func (a *route) take(g *group, it *batch, k int, now time.Time) (added int, ok bool) {
	// Also of a batch that was sent in part, and so is held: that keeps the lease from being given up, not from running out.
	lease, ok := a.s.q.Hold(it.Shard)
	if ok && (it.held || lease.Epoch != it.epoch) {
		a.s.q.Unhold(lease)
	}
	if !ok || lease.Epoch != it.epoch { // lost, or won again: another replica may have sent it meanwhile
		return 0, false
	}
	if !it.held {
		it.lease, it.held, it.sentAt = lease, true, now
		it.start()
	}
	for end := it.next + k; it.next < end; {
		n := end - it.next
		if len(a.waiting.until) > 0 {
			n = a.skipWaiting(it, end, now)
		}
		if n == 0 {
			continue
		}
		g.parts = append(g.parts, run{item: it, from: it.next, n: n})
		for i := it.next; i < it.next+n; i++ {
			g.Deliveries = append(g.Deliveries, push.Delivery{Notification: it.n, Recipient: it.Recipients[i]})
		}
		it.next += n
		it.open += n
		added += n
	}
	a.ready[it.Lane] -= k
	return added, true
}

// skipWaiting passes over the item's next recipients, before end, that have to wait, and says how many after them have not.
// a.mu is held.
func (a *route) skipWaiting(it *batch, end int, now time.Time) (n int) {
	for ; it.next < end; it.next++ {
		left := a.waiting.left(it.Recipients[it.next].Token, now)
		if left == 0 {
			break
		}
		it.results[it.next] = push.Result{Outcome: push.NotSent, RetryAfter: left}
	}
	for it.next+n < end && a.waiting.left(it.Recipients[it.next+n].Token, now) == 0 {
		n++
	}
	return n
}

// dispatched is called when nothing of the item waits for dispatch. Where all of it was passed over, nothing is in flight
// either. a.mu is held; the item is in no queue.
func (a *route) dispatched(it *batch) {
	if it.open == 0 {
		a.landed(it)
	}
}

// allowance is how many of n the limiter lets go now, or how long to wait until it lets at least min(least, a burst's half) go, so
// that groups do not become crumbs.
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

// The results that the sender gives itself.
var (
	expired   = push.Result{Outcome: push.Expired, Reason: push.ExpiredReason}
	cancelled = push.Result{Outcome: push.Cancelled, Reason: push.CancelledReason}
	unsent    = push.Result{Outcome: push.NotSent}
	noContent = push.Result{Outcome: push.Failed, Reason: push.NoContent}
)

// retire gives all recipients of the item that were not dispatched the result. a.mu is held; the item is in no queue.
func (a *route) retire(it *batch, r push.Result) {
	if !it.held {
		lease, ok := a.s.q.Hold(it.Shard)
		if ok && lease.Epoch != it.epoch {
			a.s.q.Unhold(lease)
			ok = false
		}
		if !ok { // another replica will come to the same result
			a.drop(it)
			return
		}
		it.lease, it.held, it.sentAt = lease, true, time.Now()
	}
	if it.Kind == queue.Ready {
		a.ready[it.Lane] -= it.left()
	}
	if len(it.Recipients) > 0 {
		it.start()
	}
	for i := it.next; i < len(it.Recipients); i++ {
		it.results[i] = r
	}
	a.metrics.outcomes[r.Outcome].Add(float64(it.left()))
	it.next = len(it.Recipients)
	if it.open == 0 {
		a.s.settling.add(it)
	}
}
