// Package listener is what the open internet meets before an HTTP handler: bounds on connections, in all and for
// each client address, the certificate that follows its files, and the address of the client behind trusted proxies.
//
// It knows no route, no key and no app, and imports nothing else of ours but what follows files.
package listener

import (
	"container/list"
	"context"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// Bounds are the numbers of connections. Zero means no bound.
type Bounds struct {
	// Max is how many there are at the most. Beyond it one is closed for each that comes: one that never had a request,
	// or else one that has none now, the longest idle first; or else the one whose request has been coming for the longest
	// with the least to show for it.
	Max int
	// PerAddress is how many of one address, trusted proxies excepted. Beyond it one of the same address is closed,
	// likewise.
	PerAddress int
}

// Config bounds the connections.
type Config struct {
	Bounds
	// Trusted are the proxies.
	Trusted Proxies
	// Refusal is the whole answer, its status line included, in place of the plain text that net/http answers by itself
	// to what is no HTTP request; nil leaves that as it is.
	Refusal func(status int, why string) []byte
	// Closed is called for each connection that is closed because of a bound, or by watchResets; it may be nil.
	Closed func()
}

// Listener is a net.Listener with bounds. It never waits for a connection to end: a new one always gets in, unless all
// others have a whole request that is being served.
type Listener struct {
	net.Listener
	config Config

	mu        sync.Mutex // guards all below, and the connections' own fields
	bounds    Bounds
	conns     map[*conn]struct{}
	most      int       // connections there were at once, since Subsided said so
	fresh     list.List // connections without a request so far, the oldest first
	idle      list.List // those that have had one, and have none now, the longest idle first
	coming    list.List // those with requests of which none has been received in full, the slowest first
	byAddress map[netip.Addr]int
}

// New bounds the connections of l. Track must see the requests that are served over it.
func New(l net.Listener, c Config) *Listener {
	return &Listener{
		Listener: l, config: c, bounds: c.Bounds, conns: map[*conn]struct{}{}, byAddress: map[netip.Addr]int{},
	}
}

// SetBounds has these bounds hold from the next connection on.
func (l *Listener) SetBounds(b Bounds) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.bounds = b
}

// conn is one connection. Its fields are guarded by the listener's mu.
type conn struct {
	net.Conn
	of      *Listener
	address netip.Addr // as it is counted
	trusted bool
	serving int           // requests that are there as a whole
	coming  int           // requests whose bodies are not
	where   *list.List    // fresh, idle, coming, or nil while it serves
	at      *list.Element // in where
	later   float64       // see SetReadDeadline

	requests, resets int // over HTTP/2: in all, and those that were taken back at once
}

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		accepted, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c := l.newConn(accepted, addressOf(accepted.RemoteAddr().String()))
		if l.add(c) {
			return c, nil
		}
		_ = accepted.Close()
		l.closed()
	}
}

func (l *Listener) newConn(c net.Conn, from netip.Addr) *conn {
	return &conn{
		Conn: c, of: l, address: Prefix(from), trusted: l.config.Trusted.Contains(from), later: later * rand.Float64(),
	}
}

func (l *Listener) closed() {
	if l.config.Closed != nil {
		l.config.Closed()
	}
}

// add takes the connection in, if there is room or room can be made.
func (l *Listener) add(c *conn) bool {
	l.mu.Lock()
	victims, room := l.makeRoom(c)
	if room {
		l.conns[c] = struct{}{}
		l.most = max(l.most, len(l.conns))
		l.byAddress[c.address]++
		l.put(c, &l.fresh)
	}
	l.mu.Unlock()
	for _, victim := range victims {
		_ = victim.Conn.Close()
		l.closed()
	}
	return room
}

// makeRoom forgets connections, which are then to be closed, until the bounds allow one more like c. It is more than
// one where the bounds have become narrower. mu is held.
func (l *Listener) makeRoom(c *conn) (victims []*conn, room bool) {
	for {
		full := l.bounds.Max > 0 && len(l.conns) >= l.bounds.Max
		greedy := l.bounds.PerAddress > 0 && l.byAddress[c.address] >= l.bounds.PerAddress && !c.trusted
		if !full && !greedy {
			return victims, true
		}
		of := netip.Addr{}
		if greedy {
			of = c.address
		}
		victim := l.dispensable(of)
		if victim == nil {
			return victims, false
		}
		l.forget(victim)
		victims = append(victims, victim)
	}
}

// dispensable is a connection of the address, or where that is the zero Addr of any; nil where all of these serve. mu
// is held.
func (l *Listener) dispensable(of netip.Addr) *conn {
	for _, in := range []*list.List{&l.fresh, &l.idle, &l.coming} {
		for e := in.Front(); e != nil; e = e.Next() {
			if c := e.Value.(*conn); !of.IsValid() || c.address == of { // nothing else is put there
				return c
			}
		}
	}
	return nil
}

// put moves the connection to the end of a list, or to none. mu is held.
func (l *Listener) put(c *conn, to *list.List) {
	if c.where != nil {
		c.where.Remove(c.at)
	}
	if c.where = to; to != nil {
		c.at = to.PushBack(c)
	}
}

// forget takes the connection out, once. mu is held.
func (l *Listener) forget(c *conn) {
	if _, there := l.conns[c]; !there {
		return
	}
	delete(l.conns, c)
	l.put(c, nil)
	if l.byAddress[c.address]--; l.byAddress[c.address] == 0 {
		delete(l.byAddress, c.address)
	}
}

// later is by how much of it a deadline may be later.
const later = 0.25

// SetReadDeadline implements net.Conn. Each connection's deadline is lengthened by its own random part of up to a
// quarter. Otherwise clients that connected together would be cut off, and reconnect, together, and the requests of
// others would wait for their turn behind them.
func (c *conn) SetReadDeadline(t time.Time) error {
	if left := time.Until(t); left > 0 {
		t = t.Add(time.Duration(c.later * float64(left)))
	}
	return c.Conn.SetReadDeadline(t)
}

// CloseWrite is how net/http ends a connection whose client has not been read to its end: were it just closed, the
// reset could take the answer with it.
func (c *conn) CloseWrite() error {
	if half, is := c.Conn.(interface{ CloseWrite() error }); is {
		return half.CloseWrite()
	}
	return nil
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.of.mu.Lock()
	c.of.forget(c)
	c.of.mu.Unlock()
	return c.Conn.Close()
}

// serves notes that so many more requests are coming, and are there as a whole.
func (c *conn) serves(coming, whole int) {
	l := c.of
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, there := l.conns[c]; !there {
		return
	}
	c.coming += coming
	c.serving += whole
	to := &l.idle
	switch {
	case c.serving > 0:
		to = nil
	case c.coming > 0:
		to = &l.coming
	}
	if to != c.where || coming > 0 {
		l.put(c, to)
	}
}

// progress is how much of a body has to come for its connection to be taken for one of the faster ones.
const progress = 64 << 10

// body tells the listener when the body of a request is there as a whole, and how it comes.
type body struct {
	io.ReadCloser
	of    *conn
	come  int
	whole bool
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.come += n
	switch {
	case err != nil && !b.whole:
		b.whole = true
		b.of.serves(-1, 1)
	case b.come >= progress:
		b.come = 0
		b.of.comesOn()
	}
	return n, err
}

// comesOn notes that a body makes progress.
func (c *conn) comesOn() {
	c.of.mu.Lock()
	defer c.of.mu.Unlock()
	if c.where == &c.of.coming {
		c.of.coming.MoveToBack(c.at)
	}
}

// Subsided reports, once, that there were as many connections as crowd or more, of which no quarter is left.
func (l *Listener) Subsided(crowd int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.most < crowd || len(l.conns) > l.most/4 {
		return false
	}
	l.most = len(l.conns)
	return true
}

type connKey struct{}

// ConnContext is for http.Server: it lets Track find a request's connection.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	for {
		if of, ok := c.(*conn); ok {
			return context.WithValue(ctx, connKey{}, of)
		}
		under, ok := c.(interface{ NetConn() net.Conn }) // of TLS
		if !ok {
			return ctx
		}
		c = under.NetConn()
	}
}

// Track has the listener know which connections serve a request. The server must have ConnContext.
func Track(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, ok := r.Context().Value(connKey{}).(*conn)
		if ok {
			defer c.watchResets(r, time.Now())
		}
		switch {
		case !ok:
		case r.ContentLength == 0:
			c.serves(0, 1)
			defer c.serves(0, -1)
		default:
			b := &body{ReadCloser: r.Body, of: c}
			r.Body = b
			c.serves(1, 0)
			defer func() {
				if b.whole {
					c.serves(0, -1)
				} else { // nobody wanted to read it
					c.serves(-1, 0)
				}
			}()
		}
		next.ServeHTTP(w, r)
	})
}
