package binary

import (
	"slices"
	"time"
)

// evidence accepts what has been acknowledged, and sees to the connections that wait for their end.
func (s *slot) evidence(now time.Time) {
	for c := range s.conns {
		s.acknowledge(c)
		if !c.writable() {
			continue // it has ended, which its reader is about to report
		}
		if !c.partial.Load() {
			c.partialAt = time.Time{}
		}
		switch {
		case c.window.Len() > 0 && c.partial.Load():
			// An error response has begun: no silence. If its rest never comes, the connection is no good.
			if c.partialAt.IsZero() {
				c.partialAt = now
			}
			if s.overdue(now, c.partialAt, s.t.cfg.ConfirmAfter+s.t.cfg.WriteTimeout) {
				c.giveUp()
			}
		case slices.Contains(s.draining, c):
			s.awaitEnd(c, now)
		case c.window.Len() > 0:
			c.overdue = s.overdue(now, c.window.At(0).at, s.t.cfg.ConfirmAfter)
		}
	}
}

// awaitEnd sees to a connection to which nothing more is written: it is half-closed, and its end tells that all was
// accepted. Silence does not: a gateway that is busy is silent, too, before it refuses. Only with a gateway that has
// shown that it ends no half-closed connection, or resets them, is it evidence after a while.
func (s *slot) awaitEnd(c *conn, now time.Time) {
	cfg := &s.t.cfg
	switch {
	case c.unconfirmed == 0 && c.halfClosedAt.IsZero():
		s.halfClose(c)
	case c.unconfirmed == 0: // all was confirmed otherwise
		if s.overdue(now, c.halfClosedAt, cfg.ConfirmAfter) {
			c.giveUp()
		}
	case c.halfClosedAt.IsZero() && !s.t.habits.resets.Load():
		s.halfClose(c)
	case !c.arrived():
		if s.overdue(now, c.lastWrite, cfg.ConfirmAfter+cfg.WriteTimeout) {
			c.giveUp() // nothing gets through any more
		}
		s.at(now.Add(s.slack()))
	case c.halfClosedAt.IsZero():
		if s.overdue(now, c.quietFrom(), s.silence()) {
			c.heardOut = true
			s.halfClose(c)
		}
	case !c.silentSince.IsZero(): // see acceptSilent
	case s.t.habits.endless.Load():
		if s.overdue(now, c.quietFrom(), s.silence()) {
			c.silentSince = now
		}
	default:
		since := c.halfClosedAt
		if c.quietSince.After(since) {
			since = c.quietSince
		}
		if s.overdue(now, since, cfg.EndAfter) {
			c.silentSince = now
		}
	}
}

// silence is how much of it counts where it does: ConfirmAfter, and twice as long as error responses have taken to
// come.
func (s *slot) silence() time.Duration {
	learnt := min(2*time.Duration(s.t.habits.slowest.Load()), s.t.cfg.EndAfter)
	return max(s.t.cfg.ConfirmAfter, learnt)
}

// halfClose half-closes c, and asks for a look once it has met with silence for long enough.
func (s *slot) halfClose(c *conn) {
	c.endExpected = !s.t.habits.endless.Load()
	if err := c.halfClose(); err != nil {
		c.fail()
	}
	s.at(c.halfClosedAt.Add(s.t.cfg.ConfirmAfter))
}

// acceptSilent counts as accepted what has only silence to tell it, and closes the connection: what is reported is
// never taken back. It does so as late as it can: for EndAfter the connection is still read, and a response that comes
// late is handled like any other. A gateway that has read everything and said nothing by then has shown that it never
// ends a connection. With such a gateway silence is accepted sooner where room is needed, the oldest first, where a
// culprit is looked for, and where the transport drains.
func (s *slot) acceptSilent(now time.Time) {
	connections, unreported := 0, 0
	for _, c := range s.draining {
		if !c.silentSince.IsZero() && c.unconfirmed > 0 {
			connections++
			if !c.endExpected {
				unreported += c.unconfirmed
			}
		}
	}
	for _, c := range s.draining {
		if c.silentSince.IsZero() || c.unconfirmed == 0 || !c.writable() || c.partial.Load() {
			continue
		}
		since := c.silentSince
		if c.quietSince.After(since) {
			since = c.quietSince
		}
		atOnce := connections > maxSilent ||
			!c.endExpected && (s.t.queue.draining.Load() || s.search.limit > 0 || unreported > maxUnreported*s.t.cfg.Window)
		if !atOnce {
			if !s.overdue(now, since, s.t.cfg.EndAfter) {
				continue
			}
			if !s.t.habits.endless.Swap(true) {
				s.t.log.Warn("gateway does not end half-closed connections; from now on silence counts as acceptance",
					"waited", now.Sub(c.halfClosedAt).Round(time.Millisecond), "confirm_after", s.t.cfg.ConfirmAfter)
			}
		}
		connections--
		if !c.endExpected {
			unreported -= c.unconfirmed
		}
		s.accept(c, c.unconfirmed)
		c.giveUp()
	}
}

// acknowledge accepts what a status 0 has acknowledged: that one and all before it.
func (s *slot) acknowledge(c *conn) {
	acked := c.acked.Load()
	if c.window.Len() == 0 || acked > uint64(c.next) {
		return // of what was never sent
	}
	if first := uint64(c.window.At(0).first); acked > first {
		s.accept(c, int(acked-first))
	}
}

// accept finishes the first n of the window of c as accepted.
func (s *slot) accept(c *conn, n int) {
	if n == 0 {
		return
	}
	whole := n
	for n > 0 {
		sp := c.front(n)
		n -= sp.len()
		s.uncount(c, sp.len())
		s.t.accept(sp)
	}
	s.progress(c)
	s.search.clear(whole)
	s.search.accepted()
}

// front takes a span of at most n deliveries from the front of the window.
func (c *conn) front(n int) span {
	e := c.window.At(0)
	if e.len() <= n {
		return c.window.PopFront().span
	}
	sp := span{job: e.job, from: e.from, to: e.from + n}
	e.from += n
	e.first += uint32(n)
	return sp
}

// uncount takes n off the unconfirmed of c.
func (s *slot) uncount(c *conn, n int) {
	c.unconfirmed -= n
	s.t.metrics.Unconfirmed.Sub(float64(n))
}

// progress notes that something written on c was accepted or refused: the gateway works.
func (s *slot) progress(c *conn) {
	s.search.breaks, s.search.aloneFor, s.search.fruitless = 0, 0, false
	s.dials.refusals = 0
	s.t.advances.Add(1)
	if !c.progressed {
		c.progressed = true
		s.dials.backoff.Reset()
		s.dials.wary = false
		s.t.up()
	}
}
