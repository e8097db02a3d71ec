package http2

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/net/http2"
)

var errStalled = errors.New("the gateway lets no request through")

// tick does what is due by the clock: a PING, a request's own deadline, the end of a connection that shows no life. mu
// is held.
func (c *conn) tick(now time.Time) {
	if c.ended {
		return
	}
	cfg := &c.cl.cfg
	if !c.pingSent.IsZero() && !c.lastRead.Before(c.pingSent) {
		c.pingSent = time.Time{} // whatever came, it lives
	}
	switch {
	case !c.pingSent.IsZero():
		if now.Sub(c.pingSent) >= cfg.PingTimeout {
			c.fail(EndSilent, fmt.Errorf("no sign of life in %v after a PING", cfg.PingTimeout))
			return
		}
	case !now.Before(c.pingDue()):
		c.pingSent = now
		c.control = appendFrameHeader(c.control, 8, http2.FramePing, 0, 0)
		c.control = append(c.control, "are you?"...)
	}
	if !c.blocked.IsZero() {
		switch {
		case c.streams.n > 0 || !c.cl.waits():
			c.blocked = time.Time{} // another connection has sent what waited
		case now.Sub(c.blocked) >= cfg.StreamTimeout:
			c.fail(EndSilent, errStalled)
			return
		}
	}
	if c.streams.n > 0 && now.Sub(c.lastScan) >= c.streamTimeout()/8 {
		c.lastScan = now
		c.giveUp(now)
	}
}

// pingDue is when the peer is asked for a sign of life, if it gives none before.
func (c *conn) pingDue() time.Time {
	due := c.lastRead.Add(c.cl.cfg.PingInterval)
	if c.streams.n == 0 {
		return due
	}
	asked := c.busy
	if c.lastRead.After(asked) {
		asked = c.lastRead
	}
	if early := asked.Add(c.cl.cfg.PingTimeout); early.Before(due) {
		return early
	}
	return due
}

// nextTick is when tick has something to do next. mu is held.
func (c *conn) nextTick() time.Time {
	next := c.pingDue()
	if !c.pingSent.IsZero() {
		next = c.pingSent.Add(c.cl.cfg.PingTimeout)
	}
	earlier := func(t time.Time) {
		if t.Before(next) {
			next = t
		}
	}
	if c.streams.n > 0 {
		earlier(c.lastScan.Add(c.streamTimeout() / 8))
	}
	if !c.blocked.IsZero() {
		earlier(c.blocked.Add(c.cl.cfg.StreamTimeout))
	}
	return next
}

// streamTimeout is how long a request may wait for its answer. One that goes alone because nothing was accepted yet has
// only as long as a PING: everything else waits for it.
func (c *conn) streamTimeout() time.Duration {
	if c.cl.cfg.OneUntilAccepted && !c.accepted {
		return min(c.cl.cfg.StreamTimeout, c.cl.cfg.PingTimeout)
	}
	return c.cl.cfg.StreamTimeout
}

// giveUp cancels the requests whose own deadline has passed. mu is held.
func (c *conn) giveUp(now time.Time) {
	timeout := c.streamTimeout()
	for _, id := range c.streams.ids(func(s *stream) bool { return now.Sub(c.sentAt(s, now)) >= timeout }) {
		c.reset(id, http2.ErrCodeCancel)
		if c.heard(id, &c.writeDone) {
			continue
		}
		if s, ok := c.take(id); ok {
			s.ref.written = true
			c.writeDone.without(s.ref, c.unanswered(c.sentAt(&s, now)), now)
		}
	}
}

// unanswered is the outcome of a request without an answer, by whether others have had theirs since then.
func (c *conn) unanswered(since time.Time) Outcome {
	if !c.lastAnswer.Before(since) {
		return Ignored
	}
	return NoAnswer
}
