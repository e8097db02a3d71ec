package sender

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/queue"
)

// done takes a group back from its transport. It runs in the transport's goroutine, and so does no more than to copy the
// results and to queue what is finished for the settlers.
func (a *route) done(g *group) {
	now := time.Now()
	var outcomes [push.Cancelled + 1]int
	var bad, laterTokens int
	var held, throttled *push.Reason
	var waits asked
	topics := false // something was held for its topic
	i := 0
	for k := range g.parts {
		p := &g.parts[k]
		taken, later := took(&outcomes), outcomes[push.Retry]-laterTokens
		for j := range p.n {
			d := &g.Deliveries[i]
			r := &d.Result
			if r.Outcome != push.Accepted && (r.Reason != nil || r.RetryAfter > 0) {
				a.metrics.refused(r.Reason)
				if !r.Outcome.Final() {
					waits.add(d, a.s.cfg.Hold)
				}
				of := scope(r.Reason, d.Notification)
				switch {
				case r.Outcome == push.Blocked && of == push.ClassKey:
					topics = true
				case r.Outcome == push.Blocked && of != push.ClassToken:
					held = r.Reason
				case r.Outcome == push.Retry && of == push.ClassToken:
					laterTokens++
				case r.Outcome == push.NotSent && of == push.ClassRoute:
					throttled = r.Reason
				case r.BadToken():
					bad++
				}
			}
			p.item.results[p.from+j] = *r
			outcomes[r.Outcome]++
			i++
		}
		p.taken, p.later = took(&outcomes)-taken, outcomes[push.Retry]-laterTokens-later
	}
	for o, n := range outcomes {
		if n > 0 {
			a.metrics.outcomes[o].Add(float64(n))
		}
	}
	answers := took(&outcomes) + outcomes[push.Retry]
	a.share.add(g.Deliveries, answers, bad, now)
	if answers > 0 { // one of a group is sample enough
		n := g.Deliveries[0].Notification
		a.metrics.delay[lane(g.bulk)].Observe(now.Sub(later(n.CreatedAt, n.SendAt)).Seconds())
	}

	a.mu.Lock()
	defer a.mu.Unlock()
	a.inFlight -= len(g.Deliveries)
	a.metrics.inFlight.Set(float64(a.inFlight))
	if g.bulk && answers > 0 {
		a.window.done(len(g.Deliveries), g.inFlight, g.sentAt, now)
		a.metrics.window.Set(float64(a.window.limit()))
	}
	if topics || waits.keys || len(a.topics) > 0 {
		a.holdTopics(g, now)
	}
	failing, counts := a.outage.add(a.weighed(g, took(&outcomes), outcomes[push.Retry], now), now)
	if failing && !counts {
		g.forgive()
	}
	answers += waits.answers
	if failing {
		answers = 0 // none that says that the service is there
	}
	if waits.tokens {
		a.rememberWaits(g, now)
	}
	lost := max(0, outcomes[push.NotSent]+outcomes[push.Pending]-waits.answers)
	a.updatePause(g, answers, lost, held, throttled, waits, failing && (!counts || a.pause.shown() != notPaused), now)
	for _, p := range g.parts {
		if p.item.open -= p.n; p.item.open == 0 {
			a.landed(p.item)
		}
	}
	g.free()
	signal(a.wakeUrgent)
	signal(a.wakeBulk)
}

// took counts the answers that took or refused a delivery.
func took(outcomes *[push.Cancelled + 1]int) int {
	return outcomes[push.Accepted] + outcomes[push.Failed] + outcomes[push.Unregistered]
}

// weighed is what the group's answers say of the service. a.mu is held.
func (a *route) weighed(g *group, taken, later int, now time.Time) answers {
	sum := answers{taken: taken, later: later, tokens: later}
	for _, p := range g.parts {
		st := p.item.stream
		if p.taken > 0 && st != nil {
			st.taken = true
		}
		if p.later == 0 {
			continue
		}
		sum.tokens -= p.later
		switch {
		case st == nil || st.taken:
			sum.weight += p.later
		case now.Sub(st.weighed) >= recentHalf:
			sum.weight++
			st.weighed = now
		}
	}
	if sum.tokens == later { // they weigh where too many tokens are blamed for each to be at fault
		sum.weight = later
	}
	return sum
}

// forgive has the group's "later" not count as attempts: it is the service that fails, not the deliveries.
func (g *group) forgive() {
	for _, p := range g.parts {
		for i := p.from; i < p.from+p.n; i++ {
			r := &p.item.results[i]
			if r.Outcome != push.Retry {
				continue
			}
			r.Outcome = push.NotSent
			if scope(r.Reason, p.item.n) == push.ClassNone {
				r.RetryAfter = 0 // the whole route waits so long
			}
		}
	}
}

func lane(bulk bool) queue.Lane {
	if bulk {
		return queue.Bulk
	}
	return queue.Urgent
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// updatePause opens or closes the route's pause by what came of a group: answers that show that the service is there, deliveries
// that did not reach it, and what it refused or put off as a whole. a.mu is held.
func (a *route) updatePause(g *group, answers, lost int, held, throttled *push.Reason, waits asked, later bool, now time.Time) {
	p := &a.pause
	if g.probe {
		p.probing = false
		p.another = g.Deliveries[0].Result.Reason != push.ConnectionLost
	}
	switch {
	case !a.stopping && g.epoch != p.epoch && p.cause != notPaused && waits.route > 0:
		// One of those that were sent before the pause began: it may ask for a longer one.
		if until := now.Add(waits.route); until.After(p.until) {
			p.until, p.asked = until, true
		}
	case a.stopping || g.epoch != p.epoch && (p.cause == causeConfiguration || p.asked || answers == 0):
		// It was sent before the pause began, and says nothing new.
	case held != nil:
		if p.cause != causeConfiguration {
			a.log.Error("the service refuses the app's configuration; its notifications wait, and one is tried now and then",
				"reason", held.String(), "remedy", remedy(held), "every", a.s.cfg.Hold)
		}
		p.open(causeConfiguration, max(a.s.cfg.Hold, waits.route), now)
	case waits.route > 0:
		if p.shown() != causeThrottled {
			a.log.Warn("the service asks to wait with everything of the route; its notifications wait so long",
				"reason", waits.reason.String(), "remedy", remedy(waits.reason), "wait", waits.route)
		}
		p.open(causeThrottled, waits.route, now)
		p.asked = true
	case later:
		if p.shown() != causeUnavailable {
			r := g.Deliveries[0].Result
			a.log.Warn("the service answers everything with \"later\"; the route's notifications wait, and one is tried now and then",
				"reason", r.Reason.String(), "status", r.Status)
		}
		p.open(causeUnavailable, max(waits.service, backoff(a.s.cfg.Pause, a.s.cfg.PauseMax, p.failures)), now)
	case answers > 0 || len(a.topics) > 0 && lost == 0: // a refused topic is an answer too
		was, since := p.shown(), p.since
		switch {
		case p.cause != notPaused:
			p.close()
			a.wakeAll()
		case p.ramp > 0:
			p.ramp = p.ramp.widen(a.cfg.InFlight)
		}
		if p.ramp > 0 && a.inFlight == 0 && a.ready[queue.Urgent]+a.pending() == 0 {
			p.ramp = 0 // all that waited was taken
		}
		if p.ramp == 0 {
			p.failures = 0
		}
		if was != notPaused && p.shown() == notPaused {
			a.log.Info("sending again", "cause", causeNames[was], "paused", now.Sub(since).Round(time.Millisecond))
		}
	case lost > 0 && throttled != nil:
		if p.cause != causeThrottled {
			a.log.Warn("the service takes nothing of the route for now; its notifications wait",
				"reason", throttled.String(), "remedy", remedy(throttled))
		}
		p.open(causeThrottled, backoff(a.s.cfg.Pause, a.s.cfg.PauseMax, p.failures), now)
	case lost > 0:
		if p.cause == notPaused { // the warning is the transport's, which knows why; this is what follows from it
			a.log.Info("nothing reaches the gateway; the app's notifications wait", "reason", g.Deliveries[0].Result.Reason.String())
		}
		p.open(causeConnection, backoff(a.s.cfg.Pause, a.s.cfg.PauseMax, p.failures), now)
	}
	a.showPause()
}

// showPause shows what the route waits for, and where it waits for nothing, what one of its topics waits for. a.mu is held.
func (a *route) showPause() {
	shown := a.pause.shown()
	if shown == notPaused {
		for _, h := range a.topics {
			if shown = causeThrottled; !h.asked {
				shown = causeConfiguration
				break
			}
		}
	}
	a.metrics.showPause(shown)
}

// landed is called when nothing of the item is in flight. a.mu is held.
func (a *route) landed(it *batch) {
	tried := false
	for _, r := range it.results[:it.next] {
		switch {
		case recipientWaits(r, it.n): // until when is saved, and the others go on
		case r.Outcome == push.NotSent || r.Outcome == push.Pending:
			tried = true
			continue
		case r.Outcome == push.Blocked:
			continue
		}
		// Something is known of at least one: that must be saved.
		if it.left() == 0 {
			a.s.settling.add(it)
		}
		return
	}
	// Nothing is known of any: the batch is as it was, and its row too.
	if tried {
		it.tries++
	}
	queued := it.left() > 0
	back := it.next
	it.next = 0
	it.held = false
	a.s.q.Unhold(it.lease)
	switch {
	case queued:
		a.ready[it.Lane] += back
	case !a.s.memory.ours(it):
		a.ready[it.Lane] += back
		a.drop(it)
	default:
		a.enqueue(it, true)
	}
}

// expired reports whether the item is not to be sent any more. A now-or-never notification has its one try whenever it comes;
// but one whose tries do not reach the service is not kept for ever, for it was not meant to come late.
func (a *route) expired(it *batch, now time.Time) bool {
	if !it.n.Expiration.IsZero() {
		return it.n.Expired(now)
	}
	return it.tries > a.cfg.MaxRetries || a.pause.cause != notPaused && now.Sub(later(it.n.CreatedAt, it.n.SendAt)) > nowOrNeverLifetime
}

// keepSwept sweeps the app until ctx ends.
func (a *route) keepSwept(ctx context.Context) {
	ticker := time.NewTicker(a.s.cfg.Poll)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			a.sweep(now)
		}
	}
}

// sweep settles what expired without being dispatched (a gateway may be away, a rate low), and splits batches of which a
// part was sent and the rest has to wait long: what is known of the first part is saved then, so that a crash does not
// send it again.
func (a *route) sweep(now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	paused := a.pause.cause != notPaused
	if paused || !a.expires.IsZero() && !now.Before(a.expires) {
		a.retireWhere(func(it *batch) bool { return a.expired(it, now) }, expired)
		a.expires = time.Time{}
		for _, st := range a.streams {
			if e := st.own.Expiration; !e.IsZero() && (a.expires.IsZero() || e.Before(a.expires)) {
				a.expires = e
			}
		}
	}
	a.split(now, paused)
	a.probeTopics(now)
	a.waiting.sweep(now)
	signal(a.wakePrepare) // less may be ready of a slow audience
	for id, st := range a.streams {
		if st.refs == 0 && now.Sub(st.idle) > 2*time.Second {
			delete(a.streams, id)
		}
	}
}

// split retires the rest of batches that were sent in part. Only the first of a queue can be. a.mu is held.
func (a *route) split(now time.Time, all bool) {
	waiting := func(it *batch) bool { return it.next > 0 && (all || now.Sub(it.sentAt) > splitAfter) }
	if a.urgent.len() > 0 && waiting(a.urgent.at(0)) {
		a.retire(a.urgent.pop(), unsent)
	}
	for i := range a.turns.len() {
		if st := a.turns.at(i); st.items.len() > 0 && waiting(st.items.at(0)) {
			a.retire(st.items.pop(), unsent)
		}
	}
	a.pruneTurns()
	for _, h := range a.topics {
		h.keep(func(it *batch) bool {
			if it.open > 0 || !waiting(it) {
				return true
			}
			a.retire(it, unsent)
			return false
		})
	}
}

// retireWhere retires what waits and matches. a.mu is held.
func (a *route) retireWhere(match func(*batch) bool, r push.Result) {
	keep := func(it *batch) bool {
		if !match(it) {
			return true
		}
		a.retire(it, r)
		return false
	}
	a.keepWaiting(keep)
}

// cancel retires what waits of the notification.
func (a *route) cancel(id uuid.UUID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.streams[id] != nil {
		a.retireWhere(func(it *batch) bool { return it.Notification == id }, cancelled)
	}
}

// finish is called when the transport has ended: nothing is in flight. What has results is settled; the rest stays a row.
func (a *route) finish() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stopping = true
	a.split(time.Now(), true)
}

// settled is called by the settlers when the item is settled, or fenced: another replica's.
func (a *route) settled(it *batch) {
	a.s.memory.remove(it)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.forget(it)
	it.free()
}
