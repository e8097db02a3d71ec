package binary

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/lhspn/lhspn/internal/apns"
	"github.com/lhspn/lhspn/internal/tlsclient"
)

const (
	// probeTime is how long a connection is watched before anything is written to it while the gateway may not be well,
	// and how long one on which a culprit is searched for is watched before it is half-closed. It is longer than a
	// round trip, in which a gateway that refuses the certificate or drops a notification closes.
	probeTime = 250 * time.Millisecond
	// lastIdentifier ends a connection that has lived so long that its identifiers would run out.
	lastIdentifier = 1 << 31
)

// dials is when the next connection is opened, and with what care.
type dials struct {
	backoff  *backoff.ExponentialBackOff
	next     time.Time
	wary     bool // the next connection is watched before it is written to
	refusals int  // connections in a row that ended with nothing written
}

type dialResult struct {
	nc  net.Conn
	err error
}

func newDials(least, most time.Duration) dials {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval, b.Multiplier, b.RandomizationFactor = least, most, 2, 0.5
	b.Reset()
	return dials{backoff: b}
}

// postpone makes the next dial wait.
func (d *dials) postpone() { d.next = time.Now().Add(d.backoff.NextBackOff()) }

// connect starts a dial if there is work for another connection and the backoff allows it.
func (s *slot) connect(ctx context.Context, now time.Time) {
	awaiting := s.awaiting() + len(s.undecided)
	if s.dialing || s.spare != nil || awaiting >= maxDraining {
		return
	}
	switch c := s.conn; {
	case c == nil:
		if s.search.limit > 0 && awaiting > 0 {
			return // what was written alone must show first whether it is the culprit
		}
		if s.todo.Len() == 0 && !s.t.wanted(s) {
			return
		}
	case s.search.limit > 0 || !c.writable() || c.unconfirmed < s.t.cfg.Window/2 || s.todo.Len() == 0 &&
		s.t.queue.size() == 0:
		return
	}
	if s.dials.next.After(now) {
		s.at(s.dials.next)
		return
	}
	s.dialing = true
	go func() {
		nc, err := s.t.dial(ctx)
		s.dialed <- dialResult{nc, err}
	}()
}

// connectedOrNot takes the result of a dial.
func (s *slot) connectedOrNot(r dialResult) {
	s.dialing = false
	if r.err != nil {
		s.t.metrics.Connects[apns.ConnectFailed].Inc()
		s.dials.postpone()
		if s.conn == nil {
			s.returnAll(r.err, notSent)
		}
		return
	}
	s.t.metrics.Connects[apns.ConnectOK].Inc()
	s.t.metrics.Connections.Inc()
	c := newConn(r.nc)
	go c.read(s.ended, s.wakeUp)
	if s.conn != nil {
		s.spare = c
		return
	}
	s.adopt(c)
}

// adopt makes c the connection that is written to, with the care that the last ones call for.
func (s *slot) adopt(c *conn) {
	s.conn = c
	c.limit = s.search.limit
	if s.dials.wary {
		c.writeAfter = time.Now().Add(probeTime)
	}
}

// passProbe lets a connection be written to that has been watched and did not end.
func (s *slot) passProbe(now time.Time) {
	c := s.conn
	if c == nil || c.writeAfter.IsZero() || !c.writable() {
		return
	}
	if c.writeAfter.After(now) {
		s.at(c.writeAfter)
		return
	}
	c.writeAfter = time.Time{}
	s.dials.wary, s.dials.refusals = false, 0
	if !s.search.fruitless {
		s.dials.backoff.Reset()
		s.t.up()
	}
}

// stopWriting ends the writing to the connection when there is nothing more to write, or it has waited long enough for
// evidence.
func (s *slot) stopWriting(now time.Time) {
	c := s.conn
	if c == nil || !c.writable() || !c.writeAfter.IsZero() {
		return
	}
	more := s.todo.Len() > 0 || s.t.queue.size() > 0
	var t time.Time
	switch {
	case c.limit > 0 && c.next > 0 && (!more || c.room(s.t.cfg.Window) <= 0):
		t = c.lastWrite.Add(probeTime)
	case c.next >= lastIdentifier, c.overdue && s.awaiting() < maxDraining:
		t = now
	case more:
		return
	case s.t.queue.draining.Load():
		t = now
	case c.unconfirmed > 0 && s.t.habits.resets.Load(): // it would be kept open until then in any case
		t = c.lastWrite.Add(max(s.t.cfg.IdleClose, s.silence()))
	case c.next > 0:
		t = c.lastWrite.Add(s.t.cfg.IdleClose)
	default:
		t = c.opened.Add(s.t.cfg.IdleClose)
	}
	if t.After(now) {
		s.at(t)
		return
	}
	s.drain(c, now)
	s.conn = nil
	if s.spare != nil {
		s.drain(s.spare, now)
		s.spare = nil
	}
}

// rotate puts the spare in the place of a connection whose window is full: the end of that one is the evidence for all
// of it, long before silence would be.
func (s *slot) rotate(now time.Time) {
	c := s.conn
	if c == nil || s.spare == nil || c.room(s.t.cfg.Window) > 0 || s.search.limit > 0 || s.awaiting() >= maxDraining ||
		!c.writable() {
		return
	}
	s.drain(c, now)
	s.conn, s.spare = s.spare, nil
}

// drain writes nothing more to c, and leaves it to be read to its end. It is half-closed at once, or, where the gateway
// answers that by a reset, once it has been silent for long enough: such a gateway would otherwise get everything again
// and again.
func (s *slot) drain(c *conn, now time.Time) {
	s.draining = append(s.draining, c)
	s.awaitEnd(c, now)
}

// awaiting is how many connections wait for evidence. Those of which silence is evidence do not count.
func (s *slot) awaiting() (n int) {
	for _, c := range s.draining {
		if c.silentSince.IsZero() {
			n++
		}
	}
	return n
}

// dialer connects to the gateway, up to and including the handshake, with its name resolved anew each time.
type dialer struct {
	cfg Config
	tls *tlsclient.Config
}

func newDialer(cfg Config) *dialer {
	return &dialer{cfg: cfg, tls: tlsclient.New(cfg.TLS, cfg.Address, cfg.Connections)}
}

func (d *dialer) dial(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.cfg.DialTimeout)
	defer cancel()
	nc, err := (&net.Dialer{}).DialContext(ctx, "tcp", d.cfg.Address)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	wire := &wireConn{TCPConn: nc.(*net.TCPConn)}
	conn := tls.Client(wire, d.tls.Load())
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = wire.Close()
		return nil, fmt.Errorf("TLS handshake with %s: %w", d.cfg.Address, err)
	}
	return conn, nil
}
