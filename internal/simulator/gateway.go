package simulator

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"time"

	"github.com/lhspn/lhspn/internal/apns/frame"
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/simulator/listen"
	"github.com/lhspn/lhspn/internal/simulator/record"
)

const (
	// gatewayBuffer is larger than the largest frame there can be (two lengths of 16 bits), and holds a dozen TLS
	// records.
	gatewayBuffer = 256 << 10
	// tlsRecord is the most that one read of a TLS connection gives.
	tlsRecord = 16 << 10
	// stallTimeout bounds how long a connection that is left alone on purpose is kept.
	stallTimeout = time.Minute
)

// gatewayConn is one connection of the binary gateway. It belongs to one goroutine.
type gatewayConn struct {
	s        *Simulator
	raw      net.Conn
	conn     *tls.Conn
	topic    string
	tally    record.Tally
	accepted int
	out      []byte // acknowledgements, where they are asked for
}

// serveGateway reads notifications until one is wrong or the client half-closes. Everything before that is accepted,
// silently; everything after it is thrown away.
func (s *Simulator) serveGateway(ctx context.Context, raw net.Conn) {
	conn := s.handshake(ctx, raw, s.binaryTLS)
	if conn == nil {
		return
	}
	c := &gatewayConn{s: s, raw: raw, conn: conn}
	if peers := conn.ConnectionState().PeerCertificates; len(peers) > 0 {
		c.topic = topicOf(peers[0])
	}
	s.log.Debug("gateway connection", "remote", raw.RemoteAddr(), "topic", c.topic)
	defer s.recorder.Add(&c.tally)

	buf := make([]byte, gatewayBuffer)
	held := 0 // bytes at the start of buf that are no whole frame yet
	for {
		n, err := conn.Read(buf[held:])
		used, goOn := c.process(ctx, buf[:held+n])
		if !goOn {
			return
		}
		if err != nil {
			// io.EOF is the client's close_notify, io.ErrUnexpectedEOF a client that closed without one.
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				c.end(ctx)
			}
			return
		}
		held = copy(buf, buf[used:held+n])
	}
}

// process takes the whole frames at the start of b and returns their size, and whether the connection goes on.
func (c *gatewayConn) process(ctx context.Context, b []byte) (used int, goOn bool) {
	faults := c.s.faults.Load()
	var n frame.Notification
	for {
		size, err := n.Decode(b[used:])
		if err != nil {
			var bad *frame.ProtocolError
			errors.As(err, &bad)
			c.s.log.Debug("gateway: not a frame", "remote", c.raw.RemoteAddr(), "error", err)
			c.tally[ReasonProtocolError]++
			c.s.recorder.Add(&c.tally)
			c.answer(ctx, faults.Latency, frame.StatusProtocolError, bad.Identifier)
			return used, false
		}
		if size == 0 {
			break
		}
		used += size
		if !c.notification(ctx, faults, &n) {
			return used, false
		}
	}
	c.s.recorder.Add(&c.tally)
	if len(c.out) > 0 {
		if _, err := c.conn.Write(c.out); err != nil {
			return used, false
		}
		c.out = c.out[:0]
	}
	return used, true
}

// notification checks and records one notification, and does what the faults ask for. It reports whether the connection
// goes on.
func (c *gatewayConn) notification(ctx context.Context, faults *Faults, n *frame.Notification) bool {
	status := n.Check(maxPayloadBinary)
	if status == frame.StatusNone && len(n.Token) < push.MinHexTokenLen {
		status = frame.StatusInvalidTokenSize
	}
	if status == frame.StatusNone && faults.BadTokenPercent > 0 && rand.Float64()*100 < faults.BadTokenPercent {
		status = frame.StatusInvalidToken
	}
	if status != frame.StatusNone {
		return c.reject(ctx, n, status, faults.Latency)
	}
	switch e := c.s.effectOn(n.Token); e.act {
	case actReject:
		// A fault of the provider API alone has no status.
		if e.status != 0 || e.code == statusFaults {
			delay := faults.Latency
			if e.late {
				delay += faults.lateDelay()
			}
			return c.reject(ctx, n, frame.Status(e.status), delay)
		}
	case actShutdown:
		c.accept(n)
		c.answer(ctx, faults.Latency, frame.StatusShutdown, n.Identifier)
		return false
	case actUnregistered:
		c.s.feedback.add(timeOf(n.Token, time.Now()), push.HexToken(n.Token))
	case actDrop:
		c.record(n, record.Dropped)
		_ = c.raw.Close()
		return false
	case actReset:
		c.record(n, record.ConnReset)
		listen.Reset(c.raw)
		return false
	case actSilent:
		c.record(n, record.NeverAnswered)
		stall(ctx)
		return false
	case actAccept, actRefuse, actStreamError: // the latter two mean nothing here
	}
	c.accept(n)
	switch c.accepted {
	case faults.ShutdownAfter:
		c.answer(ctx, faults.Latency, frame.StatusShutdown, n.Identifier)
	case faults.UnknownIdentifierAfter:
		c.answer(ctx, faults.Latency, frame.StatusMissingToken, 0)
	case faults.DropAfter:
		c.s.recorder.Add(&c.tally)
		_ = c.raw.Close()
	case faults.ResetAfter:
		c.s.recorder.Add(&c.tally)
		listen.Reset(c.raw)
	default:
		if faults.Acknowledge {
			c.out = frame.AppendErrorResponse(c.out, frame.StatusNone, n.Identifier)
		}
		return true
	}
	return false
}

// reject answers a notification with a status. One of the simple format has no identifier to name: it only severs the
// connection.
func (c *gatewayConn) reject(ctx context.Context, n *frame.Notification, status frame.Status,
	delay time.Duration) bool {
	c.record(n, statusVerdict(status))
	if n.Command == frame.Command0 {
		listen.Finish(c.conn, c.raw)
		return false
	}
	c.answer(ctx, delay, status, n.Identifier)
	return false
}

// answer sends the one error response of the connection, in one write, and ends it. Meanwhile what the client still
// sends is thrown away.
func (c *gatewayConn) answer(ctx context.Context, delay time.Duration, status frame.Status, identifier uint32) {
	c.s.recorder.Add(&c.tally)
	c.s.log.Debug("gateway error response", "remote", c.raw.RemoteAddr(), "status", status, "identifier", identifier)
	if delay > 0 {
		due := time.NewTimer(delay)
		defer due.Stop()
		_ = c.raw.SetReadDeadline(time.Now().Add(delay))
		_, _ = io.Copy(io.Discard, c.raw)
		select {
		case <-due.C:
		case <-ctx.Done():
			return
		}
	}
	if _, err := c.conn.Write(frame.AppendErrorResponse(c.out, status, identifier)); err != nil {
		return
	}
	listen.Finish(c.conn, c.raw)
}

// end closes a connection that the client has half-closed, which tells it that everything was processed.
func (c *gatewayConn) end(ctx context.Context) {
	if c.s.faults.Load().NeverEOF {
		stall(ctx)
		return
	}
	_ = c.conn.Close()
}

func (c *gatewayConn) accept(n *frame.Notification) {
	c.accepted++
	c.record(n, record.Accepted)
}

func (c *gatewayConn) record(n *frame.Notification, v record.Verdict) {
	c.tally[v]++
	if !c.s.recorder.Keeps() {
		return
	}
	c.s.recorder.Record(&record.Incoming{
		Transport: Binary, Token: n.Token, Topic: c.topic, Payload: n.Payload,
		Identifier: n.Identifier, Expiration: n.Expiration, Priority: n.Priority,
	}, v)
}

// effectOn is what the magic token, if it is one, asks for this time.
func (s *Simulator) effectOn(token []byte) effect {
	fault := faultOf(token)
	if fault == NoFault {
		return effect{}
	}
	e := effectOf(fault)
	if e.once && !s.recorder.FirstTime(token) {
		return effect{}
	}
	return e
}

// stall keeps a connection open without touching it.
func stall(ctx context.Context) {
	timer := time.NewTimer(stallTimeout)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// statusVerdict is the reason that stands for a status of the binary protocol.
func statusVerdict(status frame.Status) record.Verdict {
	if reason, ok := statusReasons[status]; ok {
		return record.Verdict(reason)
	}
	return record.Verdict(ReasonUnknown)
}

var statusReasons = map[frame.Status]Reason{
	frame.StatusProcessingError:    ReasonProcessingError,
	frame.StatusMissingToken:       ReasonMissingDeviceToken,
	frame.StatusMissingTopic:       ReasonMissingTopic,
	frame.StatusMissingPayload:     ReasonMissingPayload,
	frame.StatusInvalidTokenSize:   ReasonInvalidTokenSize,
	frame.StatusInvalidTopicSize:   ReasonInvalidTopicSize,
	frame.StatusInvalidPayloadSize: ReasonInvalidPayloadSize,
	frame.StatusInvalidToken:       ReasonInvalidToken,
	frame.StatusShutdown:           ReasonShutdown,
	frame.StatusProtocolError:      ReasonProtocolError,
}
