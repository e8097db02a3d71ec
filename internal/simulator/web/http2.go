package web

import (
	"context"
	"errors"
	"net"
	"slices"

	"golang.org/x/net/http2"

	"github.com/lhspn/lhspn/internal/simulator/h2"
	"github.com/lhspn/lhspn/internal/simulator/record"
)

// exchange is a request and the answer that was decided on.
type exchange struct {
	Request
	answer Answer
}

type stream = h2.Stream[exchange]

// conn is one HTTP/2 connection: the h2.Service of its requests.
type conn struct {
	cfg     *Config
	session Session
	http    *h2.Conn[exchange]
	tally   record.Tally
	fields  []byte // of the answer that is being made
}

func serveHTTP2(ctx context.Context, cfg *Config, names *h2.Names, raw, secure net.Conn) {
	c := &conn{cfg: cfg, session: cfg.NewSession()}
	c.http = h2.New(h2.Config{
		MaxStreams: cfg.MaxStreams, EndBeyondStreams: !cfg.RefuseStreams,
		ConnectionWindow: 1 << 20, StreamWindow: 1<<16 - 1, MaxBody: cfg.MaxBody + 1,
	}, names, c, raw, secure)
	var violation h2.Violation
	if err := c.http.Serve(ctx); errors.As(err, &violation) {
		cfg.Log.Debug(cfg.Name+" connection: protocol violated", "remote", raw.RemoteAddr(), "error", err)
	}
}

// Begin does nothing.
func (c *conn) Begin() {}

// End reports what was counted.
func (c *conn) End() { c.cfg.Recorder.Add(&c.tally) }

// Open makes a stream fit for a new request.
func (c *conn) Open(st *stream) {
	st.Value.clear()
	st.Value.answer = Answer{}
}

// Refused counts a stream that was one too many.
func (c *conn) Refused() { c.tally[record.StreamRefused]++ }

// Header takes one header.
func (c *conn) Header(st *stream, h h2.Header, value []byte, _ bool) {
	r := &st.Value.Request
	switch {
	case h == h2.HeaderPath:
		r.Path = append(r.Path[:0], value...)
	case h >= h2.FirstHeader:
		r.Set(int(h-h2.FirstHeader), value)
	}
}

// Request decides on a complete request, records it, and answers it now, later or never.
func (c *conn) Request(ctx context.Context, st *stream, body []byte) error {
	e := &st.Value
	e.Method = append(e.Method, st.Method...)
	e.answer = c.session.Answer(&e.Request, body, st.Size, c.http.Now(), &c.tally)
	act := e.answer.Act
	switch act {
	case Drop, Abort:
		return c.http.Close(act == Abort)
	case Silence:
		c.http.Silence(st)
		return nil
	case Refuse:
		c.http.Reset(st, http2.ErrCodeRefusedStream)
		return nil
	case StreamError:
		c.http.Reset(st, http2.ErrCodeInternal)
		return nil
	case Answered, GoAway:
	}
	if e.answer.Delay > 0 {
		e.answer.Body = slices.Clone(e.answer.Body) // which is valid until the next
		c.http.Later(ctx, st, c.http.Now().Add(e.answer.Delay))
	} else {
		c.Answer(st)
	}
	if act == GoAway {
		c.http.GoAway("session_timed_out")
	}
	return nil
}

// Answer sends the answer of a stream and ends it.
func (c *conn) Answer(st *stream) {
	a := &st.Value.answer
	f := c.fields[:0]
	for _, field := range a.Fields {
		f = h2.AppendField(f, field.Name, field.Value)
	}
	c.fields = f
	c.http.Respond(st, a.Status, f, a.Body)
}
