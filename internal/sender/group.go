package sender

import (
	"sync"
	"time"

	"github.com/lhspn/lhspn/internal/push"
)

// group is what goes to a transport at once, and what it is made of. Groups are used again: a delivery costs no
// allocation.
type group struct {
	push.Group
	route    *route
	parts    []part
	telling  []int32 // the deliveries that tell whether tokens are dead
	sentAt   time.Time
	bulk     bool
	probe    bool
	inFlight int    // recipients in flight, this group included, when it was sent
	epoch    uint64 // of the route's pause
	// ended are those that have their results, as the transport has told, and halfAt is when half of them had.
	ended  int
	halfAt time.Time
}

// part is what of a group's deliveries stems from one batch, in a row.
type part struct {
	batch *batch
	from  int // in the batch
	n     int
	// taken and later count its answers that took or refused a delivery, and those that said "later" and blamed no
	// token.
	taken, later int
}

var groupPool = sync.Pool{New: func() any {
	return &group{Group: push.Group{Deliveries: make([]push.Delivery, 0, groupSize)}}
}}

func newGroup(r *route, bulk bool, now time.Time) *group {
	g := groupPool.Get().(*group) // only this type is put there
	if g.Done == nil {
		g.Done = func(*push.Group) { g.route.done(g) }
		g.Progress = func(_ *push.Group, n int) { g.route.progress(g, n) }
	}
	g.route, g.bulk, g.sentAt, g.probe, g.epoch = r, bulk, now, false, r.breaker.route.epoch
	g.ended, g.halfAt = 0, time.Time{}
	return g
}

func (g *group) free() {
	clear(g.Deliveries)
	clear(g.parts)
	g.Deliveries, g.parts, g.telling, g.route = g.Deliveries[:0], g.parts[:0], g.telling[:0], nil
	groupPool.Put(g)
}

// send implements sending: it adds the batch's next k recipients to the group, without those that have to wait. The
// route's mu is held.
func (g *group) send(b *batch, k int, now time.Time) (added int, what sendOutcome) {
	r := g.route
	if r.expired(b, now) {
		r.conclude(b, expired)
		return 0, sendGone
	}
	if k == 0 {
		return 0, sendTaken
	}
	if k = r.breaker.allows(b.n.Key, k, now); k == 0 {
		if !r.backlog.block(b) {
			r.evict(b)
		}
		return 0, sendBlocked
	}
	// Also of a batch that was sent in part, and so has its lease: that keeps it from being given up, not from running
	// out.
	lease, ok := r.acquire(b)
	if !ok {
		r.withdraw(b)
		return 0, sendGone
	}
	if b.leased {
		r.s.q.Release(lease)
	} else {
		b.lease, b.leased, b.sentAt = lease, true, now
		b.start()
	}
	b.times.hand()
	r.backlog.ready[b.Lane] -= k
	if added = g.add(b, b.next+k, now); added > 0 {
		r.breaker.sends(b.n.Key, now)
	}
	return added, sendTaken
}

// sentAll implements sending. Where all of the batch was passed over, nothing is in flight either.
func (g *group) sentAll(b *batch) {
	if b.inFlight == 0 {
		g.route.complete(b)
	}
}

// add adds the batch's recipients before end that need not wait, and says how many.
func (g *group) add(b *batch, end int, now time.Time) (added int) {
	waits := &g.route.breaker.tokens
	for b.next < end {
		n := end - b.next
		if len(waits.until) > 0 {
			n = waits.skip(b, end, now)
		}
		if n == 0 {
			continue
		}
		g.parts = append(g.parts, part{batch: b, from: b.next, n: n})
		for i := b.next; i < b.next+n; i++ {
			g.Deliveries = append(g.Deliveries, push.Delivery{Notification: b.n, Recipient: b.Recipients[i]})
		}
		b.next += n
		b.inFlight += n
		added += n
	}
	return added
}

// weigh is what the group's answers say of the service. The route's mu is held.
func (g *group) weigh(taken, later int, now time.Time) answers {
	sum := answers{taken: taken, later: later, tokens: later}
	for _, p := range g.parts {
		a := p.batch.active
		if p.taken > 0 && a != nil {
			a.taken = true
		}
		if p.later == 0 {
			continue
		}
		sum.tokens -= p.later
		switch {
		case a == nil || a.taken:
			sum.weight += p.later
		case now.Sub(a.weighed) >= recentHalf:
			sum.weight++
			a.weighed = now
		}
	}
	if sum.tokens == later { // they weigh where too many tokens are blamed for each to be at fault
		sum.weight = later
	}
	return sum
}

// blame notes the tokens that the group's answers blame.
func (g *group) blame(o *outage) {
	for i := range g.Deliveries {
		d := &g.Deliveries[i]
		if d.Result.Outcome == push.Retry && scope(d.Result.Reason, d.Notification) == push.ClassToken {
			o.blame(d.Token)
		}
	}
}

// postpone has the group's "later" not count as attempts, but wait: nothing says that it is their fault. What is now or
// never does not wait for ever.
func (g *group) postpone(wait time.Duration) {
	for _, p := range g.parts {
		if p.batch.n.Expiration.IsZero() {
			continue
		}
		for i := p.from; i < p.from+p.n; i++ {
			if result := &p.batch.results[i]; result.Outcome == push.Retry {
				result.Outcome, result.RetryAfter = push.NotSent, max(result.RetryAfter, wait)
			}
		}
	}
}

// grant has the group's batches sent once more, also where nothing is sent again: an outage may begin with them.
func (g *group) grant() {
	for _, p := range g.parts {
		p.batch.granted = true
	}
}

// forgive has the group's "later" not count as attempts: it is the service that fails, not the deliveries.
func (g *group) forgive() {
	for _, p := range g.parts {
		for i := p.from; i < p.from+p.n; i++ {
			result := &p.batch.results[i]
			if result.Outcome != push.Retry {
				continue
			}
			result.Outcome = push.NotSent
			if scope(result.Reason, p.batch.n) == push.ClassNone {
				result.RetryAfter = 0 // the whole route waits so long
			}
		}
	}
}
