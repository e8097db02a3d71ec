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

// evidence settles what has been acknowledged, and sees to the connections that wait for their end.
func (l *slot) evidence(now time.Time) {
	for c := range l.conns {
		l.acknowledge(c)
		if !c.writable() {
			continue // it has ended, which its reader is about to report
		}
		switch {
		case c.window.len() > 0 && c.partial.Load():
			// An error response has begun: no silence. If its rest never comes, the connection is no good.
			if c.partialAt.IsZero() {
				c.partialAt = now
			}
			if l.overdue(now, c.partialAt, l.b.cfg.ConfirmAfter+l.b.cfg.WriteTimeout) {
				c.giveUp()
			}
		case slices.Contains(l.draining, c):
			l.awaitEnd(c, now)
		case c.window.len() > 0:
			c.overdue = l.overdue(now, c.window.at(0).at, l.b.cfg.ConfirmAfter)
		}
	}
}

// awaitEnd sees to a connection to which nothing more is written: it is half-closed, and its end tells that all was accepted.
// Silence does not: a gateway that is busy is silent, too, before it refuses. Only with a gateway that has shown that it ends
// no half-closed connection is it evidence after ConfirmAfter.
func (l *slot) awaitEnd(c *binaryConn, now time.Time) {
	cfg := &l.b.cfg
	switch {
	case c.unconfirmed == 0 && c.halfClosedAt.IsZero():
		l.halfClose(c)
	case c.unconfirmed == 0: // all was confirmed otherwise
		if l.overdue(now, c.halfClosedAt, cfg.ConfirmAfter) {
			c.giveUp()
		}
	case c.halfClosedAt.IsZero() && !l.b.resets.Load():
		l.halfClose(c)
	case !c.arrived():
		if l.overdue(now, c.lastWrite, cfg.ConfirmAfter+cfg.WriteTimeout) {
			c.giveUp() // nothing gets through any more
		}
		l.at(now.Add(l.slack()))
	case c.halfClosedAt.IsZero():
		if l.overdue(now, c.quietFrom(), cfg.ConfirmAfter) {
			c.heardOut = true
			l.halfClose(c)
		}
	case !c.silentSince.IsZero(): // see acceptSilent
	case l.b.endless.Load():
		if l.overdue(now, c.quietFrom(), cfg.ConfirmAfter) {
			c.silentSince = now
		}
	default:
		since := c.halfClosedAt
		if c.quietSince.After(since) {
			since = c.quietSince
		}
		if l.overdue(now, since, cfg.EndAfter) {
			c.silentSince = now
		}
	}
}

// halfClose half-closes c, and asks for the turn in which it has met with silence for long enough.
func (l *slot) halfClose(c *binaryConn) {
	c.endExpected = !l.b.endless.Load()
	if err := c.halfClose(); err != nil {
		c.fail()
	}
	l.at(c.halfClosedAt.Add(l.b.cfg.ConfirmAfter))
}

// acceptSilent counts as accepted what has only silence to tell it, and closes the connection: what is reported is never
// taken back. It does so as late as it can: for EndAfter the connection is still read, and a response that comes late is
// handled like any other. A gateway that has read everything and said nothing by then has shown that it never ends a
// connection. With such a gateway silence is accepted sooner where room is needed, the oldest first, where a culprit is
// looked for, and where the transport drains.
func (l *slot) acceptSilent(now time.Time) {
	connections, held := 0, 0
	for _, c := range l.draining {
		if !c.silentSince.IsZero() && c.unconfirmed > 0 {
			connections++
			if !c.endExpected {
				held += c.unconfirmed
			}
		}
	}
	for _, c := range l.draining {
		if c.silentSince.IsZero() || c.unconfirmed == 0 || !c.writable() || c.partial.Load() {
			continue
		}
		since := c.silentSince
		if c.quietSince.After(since) {
			since = c.quietSince
		}
		atOnce := connections > maxSilent ||
			!c.endExpected && (l.b.draining.Load() || l.limit > 0 || held > maxHeld*l.b.cfg.Window)
		if !atOnce {
			if !l.overdue(now, since, l.b.cfg.EndAfter) {
				continue
			}
			if !l.b.endless.Swap(true) {
				l.b.log.Warn("gateway does not end half-closed connections; from now on silence counts as acceptance",
					"waited", now.Sub(c.halfClosedAt).Round(time.Millisecond), "confirm_after", l.b.cfg.ConfirmAfter)
			}
		}
		connections--
		if !c.endExpected {
			held -= c.unconfirmed
		}
		l.accept(c, c.unconfirmed)
		c.giveUp()
	}
}

// resetInAnswer notes that the gateway has broken off a connection which we had half-closed, most likely by a reset. From then on connections are
// half-closed only once they have been silent for ConfirmAfter, until enough of them have come to an orderly end: one the
// first time, and more each time that it turns out to have been too few.
func (b *Binary) resetInAnswer() {
	const most = 64
	b.mu.Lock()
	defer b.mu.Unlock()
	b.trustAfter = max(b.nextTrustAfter, 1)
	b.nextTrustAfter = min(2*b.trustAfter, most)
	b.resets.Store(true)
}

// orderlyEnd notes that a connection came to its end in answer to our half-close. early says that there had been no silence
// before that.
func (b *Binary) orderlyEnd(early bool) {
	b.endless.Store(false)
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case !b.resets.Load():
		if early {
			b.nextTrustAfter = 1
		}
	case b.trustAfter > 1:
		b.trustAfter--
	default:
		b.resets.Store(false)
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
		if c.next > 0 {
			l.b.orderlyEnd(c.unconfirmed > 0 && !c.heardOut)
		}
		l.accept(c, c.unconfirmed)
	case errors.Is(c.err, errAbruptEnd) && c.failedAt.IsZero() && c.unconfirmed > 0:
		l.held = append(l.held, c)
	case c.unconfirmed == 0:
		l.b.metrics.ends[endClosed].Inc()
	case c.heardOut && c.brokeInAnswer():
		l.b.metrics.ends[endDrained].Inc() // the reset is how this gateway ends, and there was silence before
		l.accept(c, c.unconfirmed)
	default:
		l.b.metrics.ends[endBroken].Inc()
		if c.brokeInAnswer() {
			l.b.resetInAnswer()
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
		abrupt, err := endsAbruptly(ctx, l.b.dial, l.b.cfg.EndAfter)
		l.judged <- abrupt && err == nil
	}()
}

// decideAbrupt settles the connections that are held, or puts what was sent on them back.
func (l *slot) decideAbrupt(abrupt bool) {
	l.b.abrupt.Store(abrupt)
	for _, c := range l.held {
		if abrupt {
			l.b.metrics.ends[endDrained].Inc()
			l.b.orderlyEnd(!c.heardOut)
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
	filler := id == 0 && c.next > 1 && c.meansAnother(known)
	if !c.silentSince.IsZero() {
		l.late(c)
	}
	switch {
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

// meansAnother reports whether a status that came for identifier 0 is likely to be meant for another notification: a gateway
// that refuses one before it has looked for the identifier may put 0 there, and has been seen to with status 2. Ours have a
// token and a payload, so of none is it true that one is missing; and a size is wrong rather of one that is unusual.
func (c *binaryConn) meansAnother(status frame.Status) bool {
	const usualToken = 32
	switch status { //nolint:exhaustive // the others say nothing that can be checked
	case frame.StatusMissingToken, frame.StatusMissingPayload:
		return true
	case frame.StatusInvalidTokenSize:
		return c.differs(func(d *push.Delivery) int {
			return max(len(d.Token.Address())-usualToken, usualToken-len(d.Token.Address()))
		})
	case frame.StatusInvalidPayloadSize:
		return c.differs(func(d *push.Delivery) int { return d.Notification.Payload.Len(d.Badge) })
	}
	return false
}

// differs reports whether measure is greater for a later one of the window than for the first.
func (c *binaryConn) differs(measure func(*push.Delivery) int) bool {
	if c.window.len() == 0 {
		return false
	}
	first := measure(&c.window.at(0).deliveries()[0])
	for i := range c.window.len() {
		ds := c.window.at(i).deliveries()
		for j := range ds {
			if measure(&ds[j]) > first {
				return true
			}
		}
	}
	return false
}

// late handles an error response on a connection where silence was already evidence. Nothing of it has been reported yet,
// and so it is in time; but silence has misled, and an end is to be waited for again.
func (l *slot) late(c *binaryConn) {
	l.b.endless.Store(false)
	l.b.metrics.late.Inc()
	l.b.log.Warn("error response came late, after silence that counts as acceptance: raise end_after",
		"identifier", c.response.Identifier, "status", uint8(c.response.Status), "status_name", c.response.Status.String(),
		"after", time.Since(c.lastWrite).Round(time.Millisecond), "unconfirmed", c.unconfirmed)
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
