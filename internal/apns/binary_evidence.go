// What tells the binary transport that a notification was accepted, or was not: acknowledgements, error responses, the end of
// the stream, and silence where there is nothing better.

package apns

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/lhspn/lhspn/internal/apns/frame"
	"github.com/lhspn/lhspn/internal/push"
)

// evidence settles what has been acknowledged, or has met with silence for long enough where silence counts.
func (l *slot) evidence(now time.Time) {
	for c := range l.conns {
		l.acknowledge(c)
		if c.window.len() == 0 || !c.writable() {
			continue
		}
		if c.partial.Load() {
			// An error response has begun: no silence. If its rest never comes, the connection is no good.
			if l.overdue(now, c.window.at(0).at, l.b.cfg.ConfirmAfter+l.b.cfg.WriteTimeout) {
				c.close()
			}
			continue
		}
		if !c.halfClosedAt.IsZero() && !l.silenceCounts() {
			l.awaitEnd(c, now)
			continue
		}
		l.believeSilence(c, now)
	}
}

// silenceCounts reports whether silence is the best evidence that this gateway gives. The end of a half-closed connection is
// better: a gateway that is busy is silent, too, before it refuses. So silence counts only where the gateway has shown that
// it ends no such connection, or resets them.
func (l *slot) silenceCounts() bool { return l.b.endless.Load() || l.b.resets.Load() }

// awaitEnd waits for the end of a half-closed connection. A gateway that reads everything and does not end one in all of
// EndAfter never does.
func (l *slot) awaitEnd(c *binaryConn, now time.Time) {
	if c.wire.arrived() < c.window.at(c.window.len()-1).end {
		if l.overdue(now, c.halfClosedAt, l.b.cfg.ConfirmAfter+l.b.cfg.WriteTimeout) {
			c.close() // nothing gets through any more
			return
		}
		l.at(now.Add(l.slack()))
	}
	since := c.halfClosedAt
	if c.quietSince.After(since) {
		since = c.quietSince
	}
	if !l.overdue(now, since, l.b.cfg.EndAfter) {
		return
	}
	if !l.b.endless.Swap(true) {
		l.b.log.Warn("gateway does not end half-closed connections; from now on silence counts as acceptance",
			"waited", l.b.cfg.EndAfter, "confirm_after", l.b.cfg.ConfirmAfter)
	}
	l.believeSilence(c, now)
}

// believeSilence accepts what was written ConfirmAfter ago and has reached the peer's TCP, where silence counts. Elsewhere
// it has retire half-close the connection, whose end is better evidence.
func (l *slot) believeSilence(c *binaryConn, now time.Time) {
	if !l.silenceCounts() {
		c.overdue = l.overdue(now, c.window.at(0).at, l.b.cfg.ConfirmAfter)
		return
	}
	arrived := int64(-1)
	for c.window.len() > 0 {
		e := c.window.at(0)
		since := e.at
		if c.quietSince.After(since) {
			since = c.quietSince
		}
		if t := since.Add(l.b.cfg.ConfirmAfter); t.After(now) {
			l.at(t)
			return
		}
		if arrived < 0 {
			arrived = c.wire.arrived()
		}
		if e.end > arrived {
			if l.overdue(now, e.at, l.b.cfg.ConfirmAfter+l.b.cfg.WriteTimeout) {
				c.close() // nothing gets through any more
			}
			l.at(now.Add(l.slack()))
			return
		}
		l.remember(c, e.len())
		l.accept(c, e.len())
	}
}

// remember keeps a copy of the first n of the window, which silence alone is going to confirm: a response that comes late
// may yet tell that they were thrown away.
func (l *slot) remember(c *binaryConn, n int) {
	e := c.window.at(0)
	for i := range e.deliveries()[:n] {
		c.believed.pushBack(e.deliveries()[i])
	}
	for c.believed.len() > l.b.cfg.Window {
		c.believed.popFront()
	}
}

// overdue reports whether limit has passed since t, and asks for a turn then if not.
func (l *slot) overdue(now, t time.Time, limit time.Duration) bool {
	if t = t.Add(limit); t.After(now) {
		l.at(t)
		return false
	}
	return true
}

// acknowledge settles what a status 0 has acknowledged: that one and all before it.
func (l *slot) acknowledge(c *binaryConn) {
	acked := c.acked.Load()
	if c.window.len() == 0 || acked > uint64(c.next) {
		return // of what was never sent
	}
	if first := uint64(c.window.at(0).first); acked > first {
		l.accept(c, int(acked-first))
	}
}

// accept settles the first n of the window of c as accepted.
func (l *slot) accept(c *binaryConn, n int) {
	if n == 0 {
		return
	}
	whole := n
	for n > 0 {
		s := c.front(n)
		n -= s.len()
		l.forget(c, s.len())
		l.b.accept(s)
	}
	l.progress(c)
	l.clear(whole)
	if len(l.blamed) > 0 { // the culprits are found: no more need for care
		clear(l.blamed)
		l.blamed, l.limit = l.blamed[:0], 0
	}
}

// front takes a span of at most n deliveries from the front of the window.
func (c *binaryConn) front(n int) span {
	e := c.window.at(0)
	if e.len() <= n {
		return c.window.popFront().span
	}
	s := span{job: e.job, from: e.from, to: e.from + n}
	e.from += n
	e.first += uint32(n)
	return s
}

func (l *slot) forget(c *binaryConn, n int) {
	c.unconfirmed -= n
	l.b.metrics.unconfirmed.Sub(float64(n))
}

// progress notes that something written on c was settled: the gateway works.
func (l *slot) progress(c *binaryConn) {
	l.breaks, l.aloneFor, l.refusals, l.fruitless = 0, 0, 0, false
	l.b.settlements.Add(1)
	if !c.progressed {
		c.progressed = true
		l.backoff.Reset()
		l.suspect = false
		l.b.back()
	}
}

// end takes leave of a connection whose reader has ended.
func (l *slot) end(c *binaryConn) {
	c.close()
	l.b.metrics.connections.Dec()
	if l.conn == c {
		l.conn = nil
	} else if l.spare == c {
		l.spare = nil
	} else {
		l.draining = slices.DeleteFunc(l.draining, func(d *binaryConn) bool { return d == c })
	}
	l.acknowledge(c)
	switch {
	case c.next == 0 && c.halfClosedAt.IsZero():
		l.b.metrics.ends[endClosed].Inc()
		l.endedUnused(c)
	case c.hasResponse:
		l.b.metrics.ends[endResponse].Inc()
		l.refused(c)
	case c.err == nil && c.failedAt.IsZero():
		l.b.metrics.ends[endDrained].Inc()
		l.b.abrupt.Store(false)
		l.b.endless.Store(false)
		if c.unconfirmed > 0 {
			l.b.resets.Store(false)
		}
		l.accept(c, c.unconfirmed)
	case errors.Is(c.err, errAbruptEnd) && c.failedAt.IsZero() && c.unconfirmed > 0:
		l.held = append(l.held, c)
	case c.unconfirmed == 0:
		l.b.metrics.ends[endClosed].Inc()
	default:
		l.b.metrics.ends[endBroken].Inc()
		if !c.halfClosedAt.IsZero() && c.failedAt.IsZero() {
			l.b.resets.Store(true)
		}
		l.broken(c)
	}
	if l.conn == nil && l.spare != nil {
		l.adopt(l.spare)
		l.spare = nil
	}
}

// askAbrupt decides on the connections that ended after our half-close, but abruptly. A gateway that ends every connection so
// has accepted everything. Otherwise it has dropped the connection, maybe with notifications read and not processed. Which
// it is an empty connection tells; what it told is kept until a connection ends otherwise.
func (l *slot) askAbrupt(ctx context.Context) {
	if len(l.held) == 0 || l.judging {
		return
	}
	if l.b.abrupt.Load() {
		l.decideAbrupt(true)
		return
	}
	l.judging = true
	go func() {
		abrupt, err := endsAbruptly(ctx, l.b.dial, l.b.cfg.ConfirmAfter)
		l.judged <- abrupt && err == nil
	}()
}

// decideAbrupt settles the connections that are held, or puts what was sent on them back.
func (l *slot) decideAbrupt(abrupt bool) {
	l.b.abrupt.Store(abrupt)
	for _, c := range l.held {
		if abrupt {
			l.b.metrics.ends[endDrained].Inc()
			l.accept(c, c.unconfirmed)
		} else {
			l.b.metrics.ends[endBroken].Inc()
			l.broken(c)
		}
	}
	clear(l.held)
	l.held = l.held[:0]
}

// endedUnused handles a connection that the gateway closed with nothing written to it. Soon after the handshake, and again
// and again, that is how APNs answers a certificate of the wrong environment.
func (l *slot) endedUnused(c *binaryConn) {
	if time.Since(c.opened) > earlyEnd {
		return
	}
	l.b.metrics.connects[connectClosed].Inc()
	l.refusals++
	l.breaks, l.limit, l.aloneFor = 0, 0, 0 // it was not a notification that broke the connections before
	l.postpone()
	if l.conn != nil {
		return // of a spare: the other goes on
	}
	err := c.err
	if c.hasResponse {
		err = fmt.Errorf("error response with status %d (%v)", c.response.Status, c.response.Status)
	}
	l.returnAll("gateway closes connections right after the handshake", err, notSent)
	if l.refusals == refusalsToReport {
		l.b.log.Error("gateway closes every connection right after the handshake: check that the certificate is valid, "+
			"belongs to this app, and is for the gateway's environment", "error", err)
	}
}

// refused handles an error response: what came before the identified notification was accepted, what came after was
// thrown away by the gateway and is written again.
func (l *slot) refused(c *binaryConn) {
	status, id := c.response.Status, c.response.Identifier
	known := status.Known()
	retry := slices.Contains(l.b.cfg.RetryStatuses, uint8(status)) || slices.Contains(l.b.cfg.RetryStatuses, uint8(known))
	succeeded := known == frame.StatusShutdown && !retry // Apple's reading: the last that succeeded
	outcome := push.Failed
	if retry {
		outcome = push.Retry
	}
	verdict := push.Result{Outcome: outcome, Reason: binaryReason(known), Status: uint16(known), Identifier: id}
	first := c.next
	if c.window.len() > 0 {
		first = c.window.at(0).first
	}
	// Status 2, identifier 0 has been seen for whichever notification. Ours have a token and a payload, and so an answer that
	// says otherwise of identifier 0 says nothing of which one failed, unless no other was sent.
	filler := id == 0 && c.next > 1 && (known == frame.StatusMissingToken || known == frame.StatusMissingPayload)
	late := int64(first) - int64(id) // how far before the window it is
	switch {
	case late > 0 && late <= int64(c.believed.len()) && !filler && !succeeded:
		l.undo(c, int(late), verdict, status)
	case id >= first && id < c.next && !filler:
		l.accept(c, int(id-first))
		accepted := c.progressed
		if succeeded {
			l.accept(c, 1)
		} else {
			l.verdict(c, verdict, status)
			l.progress(c)
			l.clear(1)
		}
		if retry && !accepted {
			l.postpone() // the gateway takes nothing: a connection for each notification would be a tight loop
		}
	case succeeded && id < first:
		// The last that succeeded is known to have: what comes after is written again, and none has failed.
	case c.window.len() > 0:
		// Nothing says which one failed. The first has its count grown, so that one that is answered so each time ends.
		verdict.Outcome, verdict.Identifier = push.Retry, first
		l.b.log.Warn("error response for an identifier that is not among the unconfirmed",
			"identifier", id, "status", uint8(status), "status_name", status.String(), "first", first, "next", c.next)
		l.verdict(c, verdict, status)
	}
	if c.unconfirmed == 0 {
		return
	}
	if !c.progressed {
		l.setback(c.unconfirmed)
	}
	l.putBack(c)
}

// undo handles an error response for a notification that silence had confirmed: the one that is late from the end of what
// is remembered. It was counted as accepted, and so were those after it, which the gateway has thrown away: they are sent
// again, without a result of their own any more.
func (l *slot) undo(c *binaryConn, late int, verdict push.Result, raw frame.Status) {
	for c.believed.len() > late {
		c.believed.popFront()
	}
	d := c.believed.popFront()
	d.Result = verdict
	l.b.log.Warn("error response came after its notification had counted as accepted; those after it are sent again: "+
		"raise confirm_after", "identifier", verdict.Identifier, "status", uint8(raw), "status_name", raw.String(),
		"token", d.Token, "notification", d.Notification.ID, "again", c.believed.len())
	l.b.metrics.late.Inc()
	if verdict.Outcome != push.Retry && c.believed.len() == 0 {
		return
	}
	g := &push.Group{Done: func(*push.Group) {}}
	if verdict.Outcome == push.Retry {
		g.Deliveries = append(g.Deliveries, d)
	}
	for c.believed.len() > 0 {
		g.Deliveries = append(g.Deliveries, c.believed.popFront())
	}
	for i := range g.Deliveries {
		g.Deliveries[i].Result = push.Result{}
	}
	l.b.sendAgain(g)
}

// verdict settles the first of the window.
func (l *slot) verdict(c *binaryConn, r push.Result, raw frame.Status) {
	s := c.front(1)
	l.forget(c, 1)
	d := &s.deliveries()[0]
	d.Result = r
	l.b.logRefused(d, raw)
	l.b.finish(s, r)
}
