package binary

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/lhspn/lhspn/internal/apns"
)

// earlyEnd is the age up to which a connection that ends with nothing written counts as refused, and refusalsToReport
// how many of them in a row are a fault of the configuration.
const (
	earlyEnd         = 5 * time.Second
	refusalsToReport = 3
)

// end handles the end of a connection, which its reader has reported.
func (s *slot) end(c *conn) {
	c.close()
	s.t.metrics.Connections.Dec()
	if s.conn == c {
		s.conn = nil
	} else if s.spare == c {
		s.spare = nil
	} else {
		s.draining = slices.DeleteFunc(s.draining, func(d *conn) bool { return d == c })
	}
	s.acknowledge(c)
	switch {
	case c.next == 0 && c.halfClosedAt.IsZero():
		s.t.metrics.Ends[apns.EndClosed].Inc()
		s.endedUnused(c)
	case c.hasResponse:
		s.t.metrics.Ends[apns.EndResponse].Inc()
		s.refused(c)
	case c.err == nil && c.failedAt.IsZero():
		s.t.metrics.Ends[apns.EndDrained].Inc()
		s.t.habits.abrupt.Store(false)
		if c.next > 0 {
			s.t.habits.orderlyEnd(c.unconfirmed > 0 && !c.heardOut)
		}
		s.accept(c, c.unconfirmed)
	case errors.Is(c.err, errAbruptEnd) && c.failedAt.IsZero() && c.unconfirmed > 0:
		s.undecided = append(s.undecided, c)
	case c.unconfirmed == 0:
		s.t.metrics.Ends[apns.EndClosed].Inc()
	case c.heardOut && c.brokeInAnswer():
		s.t.metrics.Ends[apns.EndDrained].Inc() // the reset is how this gateway ends, and there was silence before
		s.accept(c, c.unconfirmed)
	default:
		s.t.metrics.Ends[apns.EndBroken].Inc()
		if c.brokeInAnswer() {
			s.t.habits.reset()
		}
		s.broken(c)
	}
	if s.conn == nil && s.spare != nil {
		s.adopt(s.spare)
		s.spare = nil
	}
}

// askAbrupt decides on the connections that ended after our half-close, but abruptly. A gateway that ends every
// connection so has accepted everything. Otherwise it has dropped the connection, maybe with notifications read and not
// processed. Which it is an empty connection tells; what it told is kept until a connection ends otherwise.
func (s *slot) askAbrupt(ctx context.Context) {
	if len(s.undecided) == 0 || s.asking {
		return
	}
	if s.t.habits.abrupt.Load() {
		s.decideAbrupt(true)
		return
	}
	s.asking = true
	go func() {
		abrupt, err := endsAbruptly(ctx, s.t.dial, s.t.cfg.EndAfter)
		s.asked <- abrupt && err == nil
	}()
}

// decideAbrupt accepts what was sent on the connections that are undecided, or puts it back.
func (s *slot) decideAbrupt(abrupt bool) {
	s.t.habits.abrupt.Store(abrupt)
	for _, c := range s.undecided {
		if abrupt {
			s.t.metrics.Ends[apns.EndDrained].Inc()
			s.t.habits.orderlyEnd(!c.heardOut)
			s.accept(c, c.unconfirmed)
		} else {
			s.t.metrics.Ends[apns.EndBroken].Inc()
			s.broken(c)
		}
	}
	clear(s.undecided)
	s.undecided = s.undecided[:0]
}

// endedUnused handles a connection that the gateway closed with nothing written to it. Soon after the handshake, and
// again and again, that is how APNs answers a certificate of the wrong environment.
func (s *slot) endedUnused(c *conn) {
	if time.Since(c.opened) > earlyEnd {
		return
	}
	s.t.metrics.Connects[apns.ConnectClosed].Inc()
	s.dials.refusals++
	// it was not a notification that broke the connections before
	s.search.breaks, s.search.limit, s.search.aloneFor = 0, 0, 0
	s.dials.postpone()
	if s.conn != nil {
		return // of a spare: the other goes on
	}
	err := c.err
	if c.hasResponse {
		err = fmt.Errorf("error response with status %d (%v)", c.response.Status, c.response.Status)
	}
	s.returnAll(fmt.Errorf("it closes connections right after the handshake: %w", err), notSent)
	if s.dials.refusals == refusalsToReport {
		s.t.log.Error("the gateway closes every connection right after the handshake: check that the certificate is valid, "+
			"belongs to this app, and is for the gateway's environment", "error", err)
	}
}
