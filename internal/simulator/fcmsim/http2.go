package fcmsim

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"slices"

	"golang.org/x/net/http2"

	"github.com/lhspn/lhspn/internal/simulator/h2"
	"github.com/lhspn/lhspn/internal/simulator/record"
)

const (
	headerAuthorization = h2.FirstHeader + iota
	headerContentType
)

var headers = h2.NewNames(func(name []byte) h2.Header {
	switch string(name) {
	case "authorization":
		return headerAuthorization
	case "content-type":
		return headerContentType
	}
	return h2.HeaderOther
})

// exchange is a request and the answer that was decided on.
type exchange struct {
	request
	answer answer
}

type stream = h2.Stream[exchange]

// conn is one HTTP/2 connection: the h2.Service of its requests.
type conn struct {
	s       *Simulator
	session *session
	http    *h2.Conn[exchange]
	tally   record.Tally
	faults  *Faults
	bearer  *bearer // that of authorization
	text    []byte  // the authorization that was met last
	content string  // the content type
	fields  []byte  // of the answer that is being made
}

func (s *Simulator) serveHTTP2(ctx context.Context, raw net.Conn, secure *tls.Conn) {
	c := &conn{s: s, session: s.newSession()}
	c.http = h2.New(h2.Config{
		MaxStreams: s.cfg.MaxStreams, EndBeyondStreams: !s.cfg.RefuseStreams, ConnectionWindow: 1 << 20, StreamWindow: maxBody, MaxBody: maxBody + 1,
	}, headers, c, raw, secure)
	var violation h2.Violation
	if err := c.http.Serve(ctx); errors.As(err, &violation) {
		s.log.Debug("FCM connection: protocol violated", "remote", raw.RemoteAddr(), "error", err)
	}
}

// Begin reads the faults that are in force.
func (c *conn) Begin() { c.faults = c.s.faults.Load() }

// End reports what was counted.
func (c *conn) End() { c.s.recorder.Add(&c.tally) }

// Open makes a stream fit for a new request.
func (c *conn) Open(st *stream) { st.Value = exchange{} }

// Refused counts a stream that was one too many.
func (c *conn) Refused() { c.tally[record.StreamRefused]++ }

// Header takes one header.
func (c *conn) Header(st *stream, h h2.Header, value []byte, _ bool) {
	r := &st.Value.request
	switch h {
	case h2.HeaderPath:
		r.endpoint = endpointOf(value)
	case headerAuthorization:
		if !bytes.Equal(c.text, value) {
			c.text, c.bearer = append(c.text[:0], value...), c.s.bearers.find(value)
		}
		r.authorized, r.bearer = true, c.bearer
	case headerContentType:
		if c.content != string(value) {
			c.content = string(value)
		}
		r.contentType = c.content
	case h2.HeaderOther, h2.HeaderMethod, h2.HeaderScheme: // none of ours
	}
}

// Request decides on a complete request, records it, and answers it now, later or never.
func (c *conn) Request(ctx context.Context, st *stream, body []byte) error {
	e := &st.Value
	e.post = st.Post
	e.answer = c.session.answer(&e.request, body, st.Size, c.http.Now(), &c.tally)
	switch e.answer.act {
	case actDrop, actReset:
		return c.http.Close(e.answer.act == actReset)
	case actSilent:
		c.http.Silence(st)
		return nil
	case actRefuse:
		c.http.Reset(st, http2.ErrCodeRefusedStream)
		return nil
	case actStreamError:
		c.http.Reset(st, http2.ErrCodeInternal)
		return nil
	case actAnswer, actGoAway, actDead:
	}
	goAway := e.answer.act == actGoAway
	delay := c.faults.Latency
	if e.answer.late {
		delay += c.faults.lateDelay()
	}
	if delay > 0 && e.endpoint != endpointToken {
		e.answer.body = slices.Clone(e.answer.body) // which is valid until the next
		c.http.Later(ctx, st, c.http.Now().Add(delay))
	} else {
		c.Answer(st)
	}
	if goAway {
		c.http.GoAway("session_timed_out")
	}
	return nil
}

// Answer sends the answer of a stream and ends it.
func (c *conn) Answer(st *stream) {
	a := &st.Value.answer
	f := c.fields[:0]
	if a.kind == kindHTML {
		f = h2.AppendField(f, "content-type", "text/html; charset=UTF-8")
	} else {
		f = h2.AppendField(f, "content-type", "application/json; charset=UTF-8")
	}
	if a.retryAfter != "" {
		f = h2.AppendField(f, "retry-after", a.retryAfter)
	}
	if a.challenge {
		f = h2.AppendField(f, "www-authenticate", challenge)
	}
	c.fields = f
	c.http.Respond(st, a.status, f, a.body)
}

const challenge = `Bearer realm="https://accounts.google.com/"`
