package simulator

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"time"

	"golang.org/x/net/http2"

	"github.com/lhspn/lhspn/internal/simulator/h2"
	"github.com/lhspn/lhspn/internal/simulator/record"
)

// providerConn is one connection of the provider API: the h2.Service of its requests.
type providerConn struct {
	s            *Simulator
	http         *h2.Conn[pushRequest]
	certTopic    string // of the client certificate; empty without one
	hasCert      bool
	topics       topicCache
	auth         authorization
	lastPayload  []byte // the last that was found to be one
	tally        record.Tally
	faults       *Faults
	requests     int
	fields, body []byte // of the answer that is being made
}

func (s *Simulator) serveProvider(ctx context.Context, raw net.Conn) {
	conn := s.handshake(ctx, raw, s.providerTLS)
	if conn == nil {
		return
	}
	c := &providerConn{s: s}
	if peers := conn.ConnectionState().PeerCertificates; len(peers) > 0 {
		c.hasCert, c.certTopic = true, topicOf(peers[0])
	}
	s.log.Debug("provider connection", "remote", raw.RemoteAddr(), "certificate_topic", c.certTopic)
	c.http = h2.New(c.config(), providerHeaders, c, raw, conn)
	var violation h2.Violation
	if err := c.http.Serve(ctx); errors.As(err, &violation) {
		s.log.Debug("provider connection: protocol violated", "remote", raw.RemoteAddr(), "error", err)
	}
}

func (c *providerConn) config() h2.Config {
	cfg := h2.Config{
		MaxStreams: c.s.cfg.MaxConcurrentStreams, ConnectionWindow: c.s.cfg.ConnectionWindow,
		StreamWindow: c.s.cfg.StreamWindow,
		MaxBody:      maxPayloadVoIP + 1,
	}
	if !c.hasCert {
		cfg.FirstStreams = 1 // with a provider token, only one stream is allowed until one was found valid
	}
	return cfg
}

// Begin reads the faults that are in force.
func (c *providerConn) Begin() { c.faults = c.s.faults.Load() }

// End reports what was counted.
func (c *providerConn) End() { c.s.recorder.Add(&c.tally) }

// Refused counts a stream that was one too many.
func (c *providerConn) Refused() { c.tally[record.StreamRefused]++ }

// Request decides on a complete request, records it, and answers it now, later or never.
func (c *providerConn) Request(ctx context.Context, st *stream, payload []byte) error {
	r := &st.Value
	c.requests++
	token := r.tokenBytes[:r.tokenLen]
	var e effect
	reason := c.check(st, payload)
	if reason == ReasonNone {
		e = c.effectFor(token)
	}
	r.verdict = record.Verdict(reason)
	switch e.act {
	case actReject:
		r.verdict = record.Verdict(e.reason) // ReasonNone for a fault of the binary protocol alone
	case actUnregistered:
		r.verdict, r.timestamp = record.Verdict(e.reason), timeOf(token, c.http.Now()).UnixMilli()
	case actDrop:
		r.verdict = record.Dropped
	case actReset:
		r.verdict = record.ConnReset
	case actSilent:
		r.verdict = record.NeverAnswered
	case actRefuse:
		r.verdict = record.StreamRefused
	case actStreamError:
		r.verdict = record.StreamReset
	case actAccept, actShutdown: // the latter means nothing here
	}
	c.recordRequest(st, payload)

	switch r.verdict {
	case record.Dropped, record.ConnReset:
		return c.http.Close(r.verdict == record.ConnReset)
	case record.NeverAnswered:
		c.http.Silence(st)
	case record.StreamRefused:
		c.http.Reset(st, http2.ErrCodeRefusedStream)
	case record.StreamReset:
		c.http.Reset(st, http2.ErrCodeInternal)
	default:
		delay := c.faults.Latency
		if e.late {
			delay += c.faults.lateDelay()
		}
		if r.verdict == record.Accepted {
			c.http.Succeeded()
		}
		if delay > 0 {
			c.http.Later(ctx, st, c.http.Now().Add(delay))
		} else {
			c.Answer(st)
		}
	}
	if n := c.faults.OneStreamAfter; n > 0 && c.requests == n {
		c.http.Limit(1)
	}
	if n := c.faults.GoAwayEvery; e.act == actShutdown || n > 0 && c.requests%n == 0 {
		c.http.GoAway(fmt.Sprintf(`{"reason":%q}`, ReasonShutdown))
	}
	return nil
}

func (c *providerConn) recordRequest(st *stream, payload []byte) {
	r := &st.Value
	c.tally[r.verdict]++
	if !c.s.recorder.Keeps() {
		return
	}
	c.s.recorder.Record(&record.Incoming{
		Transport: HTTP2, Token: r.tokenBytes[:r.tokenLen], Topic: r.topic, Payload: payload, ID: r.idBytes[:r.idLen],
		PushType: r.pushType, CollapseID: r.collapseID[:r.collapseLen], Expiration: r.expiration, Priority: r.priority,
	}, r.verdict)
}

// Answer sends the answer of a stream and ends it.
func (c *providerConn) Answer(st *stream) {
	r := &st.Value
	if r.idLen == 0 {
		newUUID(r.idBytes[:])
	}
	c.fields = h2.AppendField(c.fields[:0], "apns-id", r.idBytes[:])
	if c.s.cfg.Sandbox { // has a field by which the Push Notifications Console finds a notification
		var id [uuidLen]byte
		newUUID(id[:])
		c.fields = h2.AppendField(c.fields, "apns-unique-id", id[:])
	}
	if r.verdict == record.Accepted {
		c.http.Respond(st, 200, c.fields, nil)
		return
	}
	reason := Reason(r.verdict)
	c.body = append(append(c.body[:0], `{"reason":"`...), reason.String()...)
	c.body = append(c.body, '"')
	if r.timestamp != 0 {
		c.body = strconv.AppendInt(append(c.body, `,"timestamp":`...), r.timestamp, 10)
	}
	c.body = append(c.body, '}')
	c.http.Respond(st, statusOf(reason), c.fields, c.body)
}

// effectFor is what the faults ask for on this request: by count, by chance, or by its token.
func (c *providerConn) effectFor(token []byte) effect {
	f := c.faults
	if e := c.s.effectOn(token); e.code != NoFault {
		return e
	}
	nth := func(n int) bool { return n > 0 && c.requests%n == 0 }
	switch {
	case nth(f.RefuseEvery):
		return effect{act: actRefuse}
	case nth(f.NeverAnswerEvery):
		return effect{act: actSilent}
	case nth(f.SlowEvery):
		return effect{late: true}
	}
	if f.BadTokenPercent+f.UnregisteredPercent+f.TooManyRequestsPercent+f.InternalErrorPercent+
		f.ServiceUnavailablePercent == 0 {
		return effect{}
	}
	p := rand.Float64() * 100
	for _, share := range [...]struct {
		percent float64
		act     act
		reason  Reason
	}{
		{f.BadTokenPercent, actReject, ReasonBadDeviceToken},
		{f.UnregisteredPercent, actUnregistered, ReasonUnregistered},
		{f.TooManyRequestsPercent, actReject, ReasonTooManyRequests},
		{f.InternalErrorPercent, actReject, ReasonInternalServerError},
		{f.ServiceUnavailablePercent, actReject, ReasonServiceUnavailable},
	} {
		if p -= share.percent; p < 0 {
			return effect{act: share.act, reason: share.reason}
		}
	}
	return effect{}
}

// timeOf is the time that a magic token carries, or now.
func timeOf(token []byte, now time.Time) time.Time {
	if faultOf(token) == NoFault {
		return now
	}
	if ms := binary.BigEndian.Uint64(token[8:]); ms != 0 {
		return time.UnixMilli(int64(ms))
	}
	return now
}

// newUUID makes the apns-id of a request that brought none: random, in capitals as Apple's.
func newUUID(dst []byte) {
	const digits = "0123456789ABCDEF"
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], rand.Uint64())
	binary.BigEndian.PutUint64(b[8:], rand.Uint64())
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	at := 0
	for i, v := range b {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			dst[at] = '-'
			at++
		}
		dst[at], dst[at+1] = digits[v>>4], digits[v&15]
		at += 2
	}
}
