package http2

import (
	"context"
	"crypto/tls"
	"net"
	"net/url"
	"time"
)

// Config says where and how a client's requests go.
type Config struct {
	Address string // host:port; it is also the :authority, without the port where that is 443
	// TLS holds the roots and, where the peer asks for one, the client certificate. What HTTP/2 itself asks of it is
	// set here.
	TLS   *tls.Config
	Proxy *url.URL // an HTTP CONNECT proxy; nil for none
	// Dial opens the connection below TLS; nil for net.Dialer's, which resolves the name anew each time. It is the
	// place to check what address is dialled.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	// Fields are the header fields of the requests, by whose place in this list Header.Add names them.
	Fields []Field
	// AnswerFields are the fields of answers that Answer.Field gives, in lower case. The values of others are not
	// looked at.
	AnswerFields []string
	// MaxBody is how many bytes of an answer's body are kept. The rest of a longer one is refused.
	MaxBody int

	// Connections is how many connections there are at most. Each is opened when those before it are busy, and then
	// kept.
	Connections int
	// MaxStreams bounds the requests in flight on one connection, whatever the peer allows; AssumedStreams does where
	// the peer's SETTINGS name no number.
	MaxStreams, AssumedStreams int
	// MaxInFlight bounds the requests that are taken and not finished. Send waits when it is reached.
	MaxInFlight int
	// OneUntilAccepted has each connection begin with one request at a time, until one was answered with a 2xx status.
	OneUntilAccepted bool

	StreamTimeout time.Duration // for the answer to one request
	PingInterval  time.Duration // an idle connection is asked for a sign of life this often
	// for that sign; also how long a connection with open streams may be silent before it is asked
	PingTimeout  time.Duration
	DialTimeout  time.Duration // for everything up to the peer's SETTINGS
	WriteTimeout time.Duration // for one write: a peer that stops reading
	BackoffMin   time.Duration // between connections that failed
	BackoffMax   time.Duration
	// IdleTimeout ends Run when no request was under way for so long; 0 for never. A client that is used seldom then
	// costs nothing, and the next request takes a new one.
	IdleTimeout time.Duration

	Metrics Metrics
}

// Field is a header field of the requests.
type Field struct {
	Name     string // in lower case
	Indexing Indexing
}

// Indexing says how a field's values go into the table that HPACK keeps for a connection (RFC 7541). What is in it
// costs a byte or two in the next request.
type Indexing uint8

// How a field may be indexed.
const (
	Always   Indexing = iota // the first time: there are few values, and each is used again and again
	Repeated                 // when a value comes twice in a row
	Never                    // not at all: each request has a value of its own
)

// streamsLimit is the most that MaxStreams can be: the table of streams grows with it.
const streamsLimit = 1 << 14

func (c Config) withDefaults() Config {
	number := func(p *int, v int) {
		if *p <= 0 {
			*p = v
		}
	}
	duration := func(p *time.Duration, v time.Duration) {
		if *p <= 0 {
			*p = v
		}
	}
	number(&c.Connections, 1)
	number(&c.MaxStreams, 4096)
	c.MaxStreams = min(c.MaxStreams, streamsLimit)
	number(&c.AssumedStreams, c.MaxStreams)
	number(&c.MaxInFlight, max(4*c.Connections*c.MaxStreams, 1<<12))
	number(&c.MaxBody, 1<<10)
	duration(&c.StreamTimeout, 30*time.Second)
	duration(&c.PingInterval, time.Minute)
	duration(&c.PingTimeout, 10*time.Second)
	duration(&c.DialTimeout, 20*time.Second)
	duration(&c.WriteTimeout, 20*time.Second)
	duration(&c.BackoffMin, time.Second)
	duration(&c.BackoffMax, 15*time.Second)
	c.BackoffMax = max(c.BackoffMax, c.BackoffMin)
	if c.Dial == nil {
		c.Dial = new(net.Dialer).DialContext
	}
	c.Metrics = c.Metrics.withDefaults()
	return c
}
