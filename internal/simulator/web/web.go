// Package web serves a simulated service over HTTP/2 and HTTP/1.1 alike: the service decides on a request, and an
// answer says what becomes of the connection, too.
package web

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/lhspn/lhspn/internal/simulator/h2"
	"github.com/lhspn/lhspn/internal/simulator/listen"
	"github.com/lhspn/lhspn/internal/simulator/record"
)

// maxFields is how many headers a service may want.
const maxFields = 8

// Act is what is done with a request in place of, or beside, answering it.
type Act uint8

// The acts.
const (
	Answered    Act = iota
	GoAway          // answered, and then the connection goes away
	Drop            // the connection is closed without an answer
	Abort           // the connection is reset
	Silence         // never answered
	Refuse          // REFUSED_STREAM; HTTP/1.1: the connection is closed
	StreamError     // RST_STREAM INTERNAL_ERROR; HTTP/1.1: the connection is closed
)

// Verdict is what the record says of a request with such an act; ok is false where that is the answer's own.
func (a Act) Verdict() (v record.Verdict, ok bool) {
	switch a {
	case Drop:
		return record.Dropped, true
	case Abort:
		return record.ConnReset, true
	case Silence:
		return record.NeverAnswered, true
	case Refuse:
		return record.StreamRefused, true
	case StreamError:
		return record.StreamReset, true
	case Answered, GoAway:
	}
	return 0, false
}

// Field is a header of an answer, its name in lower case.
type Field struct{ Name, Value string }

// Answer is an answer to a request.
type Answer struct {
	Status int
	Fields []Field
	Body   []byte
	Act    Act
	Delay  time.Duration
}

// Request is a request without its body. What it holds is valid until it has been answered.
type Request struct {
	Method, Path []byte // the path with its query
	fields       [maxFields]struct {
		value []byte
		set   bool
	}
}

// NewRequest makes a request without headers.
func NewRequest(method, path string) *Request {
	return &Request{Method: []byte(method), Path: []byte(path)}
}

// Get is the i-th of Config.Fields: nil where the request has it not, and the last where it has several.
func (r *Request) Get(i int) []byte {
	if !r.fields[i].set {
		return nil
	}
	return r.fields[i].value
}

// Set sets the i-th of Config.Fields.
func (r *Request) Set(i int, value []byte) {
	r.fields[i].value = append(r.fields[i].value[:0], value...)
	r.fields[i].set = true
}

func (r *Request) clear() {
	r.Method, r.Path = r.Method[:0], r.Path[:0]
	for i := range r.fields {
		r.fields[i].set = false
	}
}

// Session decides on the requests of one connection, one at a time.
type Session interface {
	// Answer decides on a request, and counts it in the tally where it is a message. body is at most Config.MaxBody + 1
	// bytes of the size that it had. The answer's slices are valid until the next.
	Answer(r *Request, body []byte, size int, now time.Time, tally *record.Tally) Answer
}

// Config says what is served and how.
type Config struct {
	Name       string // of the service, for the log
	TLS        *tls.Config
	Log        *slog.Logger
	Recorder   *record.Recorder
	NewSession func() Session
	// Fields are the names of the headers that the service wants to see, at most eight, in lower case.
	Fields []string
	// MaxBody is how much of a body is read.
	MaxBody int
	// MaxStreams and RefuseStreams: see h2.Config. A connection with one stream too many ends unless RefuseStreams is
	// set.
	MaxStreams    uint32
	RefuseStreams bool
}

// Serve serves the connections of a listener until ctx ends, and returns once all of its goroutines have ended.
func Serve(ctx context.Context, listener net.Listener, cfg Config) error {
	names := h2.NewNames(func(name []byte) h2.Header {
		for i, known := range cfg.Fields {
			if string(name) == known {
				return h2.FirstHeader + h2.Header(i) // at most maxFields
			}
		}
		return h2.HeaderOther
	})
	return listen.Accept(ctx, listener, func(ctx context.Context, raw net.Conn) {
		cfg.Recorder.Connected()
		conn := listen.Handshake(ctx, raw, cfg.TLS, cfg.Log)
		switch {
		case conn == nil:
		case conn.ConnectionState().NegotiatedProtocol == "h2":
			serveHTTP2(ctx, &cfg, names, raw, conn)
		default:
			listen.HTTP1(ctx, conn, http1(&cfg, raw))
		}
	})
}

// wait reports false where ctx ends first.
func wait(ctx context.Context, delay time.Duration) bool {
	if delay <= 0 {
		return true
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// HTML is the page that a front end shows where it does not reach the service.
func HTML(status int) []byte {
	text := http.StatusText(status)
	return []byte("<!DOCTYPE html>\n<html lang=en>\n<title>" + text + "</title>\n<h1>" + text +
		"</h1>\n<p>That’s an error.\n")
}
