package binary

import (
	"slices"
	"time"

	"github.com/lhspn/lhspn/internal/apns/frame"
	"github.com/lhspn/lhspn/internal/push"
)

// refused handles an error response: what came before the identified notification was accepted, what came after was
// thrown away by the gateway and is written again.
func (s *slot) refused(c *conn) {
	status, id := c.response.Status, c.response.Identifier
	known := status.Known()
	retry := slices.Contains(s.t.cfg.RetryStatuses, uint8(status)) || slices.Contains(s.t.cfg.RetryStatuses, uint8(known))
	succeeded := known == frame.StatusShutdown && !retry // Apple's reading: the last that succeeded
	outcome := push.Failed
	if retry {
		outcome = push.Retry
	}
	result := push.Result{Outcome: outcome, Reason: reasonOf(known), Status: uint16(known), Identifier: id}
	first := c.next
	if c.window.Len() > 0 {
		first = c.window.At(0).first
	}
	filler := id == 0 && c.next > 1 && c.meansAnother(known)
	if !c.silentSince.IsZero() {
		s.late(c)
	}
	switch {
	case id >= first && id < c.next && !filler:
		s.accept(c, int(id-first))
		accepted := c.progressed
		s.t.habits.response(time.Since(c.window.At(0).at))
		if succeeded {
			s.accept(c, 1)
		} else {
			s.finishFirst(c, result, status)
			s.progress(c)
			s.search.clear(1)
		}
		if retry && !accepted {
			s.dials.postpone() // the gateway takes nothing: a connection for each notification would be a tight loop
		}
	case succeeded && id < first:
		// The last that succeeded is known to have: what comes after is written again, and none has failed.
	case c.window.Len() > 0:
		// Nothing says which one failed. The first has its count grown, so that one that is answered so each time ends.
		result.Outcome, result.Identifier = push.Retry, first
		s.t.log.Warn("error response for an identifier that is not among the unconfirmed",
			"identifier", id, "status", uint8(status), "status_name", status.String(), "first", first, "next", c.next)
		s.finishFirst(c, result, status)
	}
	if c.unconfirmed == 0 {
		return
	}
	if !c.progressed {
		s.setback(c.unconfirmed)
	}
	s.putBack(c)
}

// meansAnother reports whether a status that came for identifier 0 is likely to be meant for another notification: a
// gateway that refuses one before it has looked for the identifier may put 0 there, and has been seen to with status 2.
// Ours have a token and a payload, so of none is it true that one is missing; and a size is wrong rather of one that is
// unusual.
func (c *conn) meansAnother(status frame.Status) bool {
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
func (c *conn) differs(measure func(*push.Delivery) int) bool {
	if c.window.Len() == 0 {
		return false
	}
	first := measure(&c.window.At(0).deliveries()[0])
	for i := range c.window.Len() {
		ds := c.window.At(i).deliveries()
		for j := range ds {
			if measure(&ds[j]) > first {
				return true
			}
		}
	}
	return false
}

// late handles an error response on a connection where silence was already evidence. Nothing of it has been reported
// yet, and so it is in time; but silence has misled, and an end is to be waited for again.
func (s *slot) late(c *conn) {
	s.t.habits.endless.Store(false)
	s.t.metrics.Late.Inc()
	s.t.log.Warn("error response came late, after silence that counts as acceptance: raise end_after",
		"identifier", c.response.Identifier, "status", uint8(c.response.Status), "status_name", c.response.Status.String(),
		"after", time.Since(c.lastWrite).Round(time.Millisecond), "unconfirmed", c.unconfirmed)
}

// finishFirst gives the first of the window its result, and logs it: each one, since every one costs a connection,
// which bounds their rate.
func (s *slot) finishFirst(c *conn, r push.Result, status frame.Status) {
	sp := c.front(1)
	s.uncount(c, 1)
	d := &sp.deliveries()[0]
	s.t.log.Warn("notification refused",
		"identifier", r.Identifier, "status", uint8(status), "status_name", status.String(),
		"token", d.Token, "notification", d.Notification.ID, "outcome", r.Outcome.String())
	s.t.finish(sp, r)
}
