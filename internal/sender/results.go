package sender

import (
	"time"

	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/queue"
)

// done takes a group back from its transport. It runs in the transport's goroutine, and so does no more than to copy
// the results and to queue what is complete for the settlers.
func (r *route) done(g *group) {
	now := time.Now()
	sum := g.summarize(&r.metrics, r.s.cfg.Blocked)
	answers := sum.answers()
	r.logResults(g)
	r.share.add(g, &sum, now)
	if answers > 0 { // one of a group is sample enough
		n := g.Deliveries[0].Notification
		r.metrics.delay[lane(g.bulk)].Observe(now.Sub(later(n.CreatedAt, n.SendAt)).Seconds())
		if r.cfg.Answered != nil {
			r.cfg.Answered(answers)
		}
	}

	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended(g, len(g.Deliveries)-g.ended, now)
	r.sums[lane(g.bulk)].add(&sum)
	if g.bulk && answers > 0 {
		r.window.done(len(g.Deliveries), g.inFlight, g.sentAt, g.halfAt, now)
		r.metrics.window.Set(float64(r.window.limit()))
	}
	r.learn(g, &sum, answers, now)
	for _, p := range g.parts {
		if p.batch.inFlight -= p.n; p.batch.inFlight == 0 {
			r.complete(p.batch)
		}
	}
	g.free()
	signal(r.wakeUrgent)
	signal(r.wakeBulk)
}

// progress notes that so many more of a group have their results.
func (r *route) progress(g *group, n int) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended(g, n, now)
	signal(r.wakeUrgent)
	signal(r.wakeBulk)
}

// ended counts so many of a group as in flight no more. When half of it are, what is left trails. r.mu is held.
func (r *route) ended(g *group, n int, now time.Time) {
	trailed := !g.halfAt.IsZero()
	g.ended += n
	r.inFlight -= n
	switch left := len(g.Deliveries) - g.ended; {
	case trailed:
		r.trailing -= n
	case 2*g.ended >= len(g.Deliveries):
		g.halfAt = now
		r.trailing += left
	}
	r.metrics.inFlight.Set(float64(r.inFlight))
}

// summary is what a group's results come to.
type summary struct {
	outcomes    [push.Cancelled + 1]int
	bad         int // that call the token bad
	laterTokens int // of the "later", those that blame the device token
	keys        bool
	blocked     *push.Reason
	throttled   *push.Reason
	asked       asked
}

// taken counts the answers that took or refused a delivery.
func (s *summary) taken() int {
	return s.outcomes[push.Accepted] + s.outcomes[push.Failed] + s.outcomes[push.Unregistered]
}

// answers counts those of the service.
func (s *summary) answers() int { return s.taken() + s.outcomes[push.Retry] }

// later counts those that said "later" and blamed no token.
func (s *summary) later() int { return s.outcomes[push.Retry] - s.laterTokens }

// summarize copies the results to the batches and sums them up. blocked is how long what is blocked waits.
func (g *group) summarize(m *routeMetrics, blocked time.Duration) (s summary) {
	i := 0
	for k := range g.parts {
		p := &g.parts[k]
		taken, later := s.taken(), s.later()
		for j := range p.n {
			d := &g.Deliveries[i]
			if r := &d.Result; r.Outcome != push.Accepted && (r.Reason != nil || r.RetryAfter > 0) {
				m.refused(r.Reason)
				s.refused(d, blocked)
			}
			if tells(d) {
				g.telling = append(g.telling, int32(i))
			}
			p.batch.results[p.from+j] = d.Result
			s.outcomes[d.Result.Outcome]++
			i++
		}
		p.taken, p.later = s.taken()-taken, s.later()-later
	}
	for o, n := range s.outcomes {
		if n > 0 {
			m.outcomes[o].Add(float64(n))
		}
	}
	return s
}

// refused takes in one that was not accepted, for a reason.
func (s *summary) refused(d *push.Delivery, blocked time.Duration) {
	r := &d.Result
	if !r.Outcome.Final() {
		s.asked.add(d, blocked)
	}
	of := scope(r.Reason, d.Notification)
	switch {
	case r.Outcome == push.Blocked && of == push.ClassKey:
		s.keys = true
	case r.Outcome == push.Blocked && of != push.ClassToken:
		s.blocked = r.Reason
	case r.Outcome == push.Retry && of == push.ClassToken:
		s.laterTokens++
	case r.Outcome == push.NotSent && of == push.ClassRoute:
		s.throttled = r.Reason
	case r.BadToken():
		s.bad++
	}
}

// learn has the breaker take in the group's results, and does what follows. r.mu is held.
func (r *route) learn(g *group, sum *summary, answers int, now time.Time) {
	if sum.keys || sum.asked.keys || len(r.breaker.keys) > 0 {
		for i := range g.Deliveries {
			if d := &g.Deliveries[i]; r.breaker.answered(d, g.sentAt, now) {
				r.resumeKey(d.Notification.Key)
			}
		}
	}
	if sum.laterTokens > 0 {
		g.blame(&r.breaker.outage)
	}
	failing, counts := r.breaker.outage.add(g.weigh(sum.taken(), sum.outcomes[push.Retry], now), now)
	switch {
	case failing && !counts:
		g.forgive()
	case failing:
		g.grant()
	case !counts:
		g.postpone(backoff(r.s.cfg.Retry, r.s.cfg.RetryMax, r.breaker.outage.lonely-1))
	}
	if sum.asked.tokens || !failing && !counts {
		r.rememberWaits(g, now)
	}
	if !r.stopping {
		news := groupNews{
			now: now, sentAt: g.sentAt, epoch: g.epoch, probe: g.probe, first: g.Deliveries[0].Result,
			answers:   answers + sum.asked.answers,
			lost:      max(0, sum.outcomes[push.NotSent]+sum.outcomes[push.Pending]-sum.asked.answers),
			keys:      sum.keys,
			blocked:   sum.blocked,
			throttled: sum.throttled, asked: sum.asked,
			outage: failing && (!counts || r.breaker.route.shown() != notPaused), excused: r.breaker.outage.excused,
			idle: r.inFlight == 0 && r.backlog.ready[queue.Urgent]+r.backlog.sendable() == 0,
			most: r.cfg.InFlight,
		}
		if failing {
			news.answers = 0 // none that says that the service is there
		}
		if r.breaker.update(&news) {
			signal(r.wakeUrgent)
			signal(r.wakeBulk)
			signal(r.wakePrepare)
		}
	}
	r.metrics.showPause(r.breaker.shown())
}

// resumeKey has everything that waited for the key wait for dispatch. r.mu is held.
func (r *route) resumeKey(key string) {
	for b := r.backlog.unblock(key); b != nil; b = r.backlog.unblock(key) {
		r.enqueue(b, false)
	}
	delete(r.backlog.blocked, key)
	r.s.reader.rewindAll() // for what was not taken meanwhile
	signal(r.wakePrepare)
}

// rememberWaits notes the recipients of the group that have to wait. r.mu is held.
func (r *route) rememberWaits(g *group, now time.Time) {
	for _, p := range g.parts {
		for i := p.from; i < p.from+p.n; i++ {
			result := p.batch.results[i]
			if recipientWaits(result, p.batch.n) && !r.breaker.tokens.add(p.batch.Recipients[i].Token,
				now.Add(result.RetryAfter)) {
				p.batch.waitsWhole = true
			}
		}
	}
}

// complete is called when nothing of the batch is in flight. r.mu is held.
func (r *route) complete(b *batch) {
	tried := false
	for _, result := range b.results[:b.next] {
		switch {
		case recipientWaits(result, b.n): // until when is saved, and the others go on
		case result.Outcome == push.NotSent || result.Outcome == push.Pending:
			tried = true
			continue
		case result.Outcome == push.Blocked:
			continue
		}
		// Something is known of at least one: that must be saved.
		if b.left() == 0 {
			r.s.settlers.add(b)
		}
		return
	}
	// Nothing is known of any: the batch is as it was, and its row too.
	if tried && b.left() == 0 { // a probe is no try of the others
		b.tries++
	}
	if r.breaker.route.another {
		b.untriedFirst()
	}
	waits := b.left() > 0
	again := b.next
	b.next = 0
	b.leased = false
	r.s.q.Release(b.lease)
	switch {
	case waits:
		r.backlog.ready[b.Lane] += again
	case r.retired || !r.s.memory.ours(b):
		r.backlog.ready[b.Lane] += again
		r.evict(b)
		r.s.reader.rewind(b.Shard, b.Lane)
	default:
		r.enqueue(b, true)
	}
}

func lane(bulk bool) queue.Lane {
	if bulk {
		return queue.Bulk
	}
	return queue.Urgent
}
