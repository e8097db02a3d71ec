// Package listener is what the open internet meets before an HTTP handler: bounds on connections, in all and for
// each client address, the certificate that follows its files, and the address of the client behind trusted proxies.
//
// It knows no route, no key and no app, and imports nothing else of ours but what follows files.
package listener

import (
	"container/list"
	"context"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Bounds are the numbers of connections. Zero means no bound.
type Bounds struct {
	// Max is how many there are at the most. Beyond it one is closed for each that comes: where more than half never had
	// a request, of these the one that has been there for the longest; or else the one that has had none for the longest;
	// or else the one whose client has kept its request waiting for the longest, as it sends no more of the body or takes
	// no more of the answer.
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

// mostWaits is how many requests may wait for their clients beside one on each connection. Over HTTP/2 one connection
// has hundreds, each of which takes memory; beyond it the connection that has most of them is closed.
const mostWaits = 4096

// Listener is a net.Listener with bounds. It never waits for a connection to end: a new one always gets in, unless all
// others have a whole request that is being served.
type Listener struct {
	net.Listener
	config Config

	mu        sync.Mutex // guards all below, and the connections' own fields
	bounds    Bounds
	conns     map[*conn]struct{}
	waits     int // requests that wait for their clients, beside one on each connection
	all       group
	byAddress map[netip.Addr]*group
}

// state is what a connection does: one that serves is closed for no other.
type state int

const (
	fresh   state = iota // it had no request so far
	idle                 // it had one, and has none now
	waiting              // it waits for its client in all that it has: for the rest of a body, or to take an answer
	serving
)

// group is connections of which one may have to go: in each state but serving the one first that has been in it for
// the longest.
type group struct {
	connections int
	in          [serving]list.List // of *conn
}

// New bounds the connections of l. Track must see the requests that are served over it.
func New(l net.Listener, c Config) *Listener {
	return &Listener{
		Listener: l, config: c, bounds: c.Bounds, conns: map[*conn]struct{}{}, byAddress: map[netip.Addr]*group{},
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
	own     *group  // of its address
	work    int     // requests that are being served
	waits   int     // requests that wait for the client
	later   float64 // see SetReadDeadline

	state     state
	all, mine *list.Element // in the lists of all, and of its own group; nil while it serves

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
		if c.own = l.byAddress[c.address]; c.own == nil {
			c.own = &group{}
			l.byAddress[c.address] = c.own
		}
		c.own.connections++
		l.all.connections++
		l.put(c, fresh)
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
		from := &l.all
		own := l.byAddress[c.address]
		switch {
		case l.bounds.PerAddress > 0 && own != nil && own.connections >= l.bounds.PerAddress && !c.trusted:
			from = own
		case l.bounds.Max > 0 && len(l.conns) >= l.bounds.Max:
		default:
			return victims, true
		}
		victim := from.dispensable()
		if victim == nil {
			return victims, false
		}
		l.forget(victim)
		victims = append(victims, victim)
	}
}

// dispensable is nil where all serve. A connection that has just been made is fresh, too: were those always the first
// to go, many idle ones would keep everybody out.
func (g *group) dispensable() *conn {
	order := [...]state{idle, fresh, waiting}
	if 2*g.in[fresh].Len() > g.connections {
		order = [...]state{fresh, idle, waiting}
	}
	for _, s := range order {
		if first := g.in[s].Front(); first != nil {
			return first.Value.(*conn) // nothing else is put there
		}
	}
	return nil
}

// moreWaits is how many of its requests wait for the client beside one. A trusted proxy's has the requests of many.
func (c *conn) moreWaits() int {
	if c.trusted {
		return 0
	}
	return max(0, c.waits-1)
}

// mostWaiting is the connection that has most requests that wait, where there are too many; nil where there are not.
// mu is held.
func (l *Listener) mostWaiting() (most *conn) {
	if l.waits <= mostWaits {
		return nil
	}
	for c := range l.conns { // seldom: its end makes room for many
		if most == nil || c.moreWaits() > most.moreWaits() {
			most = c
		}
	}
	return most
}

// put has the connection be in the state from now on. mu is held.
func (l *Listener) put(c *conn, to state) {
	if c.all != nil {
		l.all.in[c.state].Remove(c.all)
		c.own.in[c.state].Remove(c.mine)
		c.all, c.mine = nil, nil
	}
	if c.state = to; to != serving {
		c.all, c.mine = l.all.in[to].PushBack(c), c.own.in[to].PushBack(c)
	}
}

// forget takes the connection out, once. mu is held.
func (l *Listener) forget(c *conn) {
	if _, there := l.conns[c]; !there {
		return
	}
	delete(l.conns, c)
	l.put(c, serving)
	l.waits -= c.moreWaits()
	l.all.connections--
	if c.own.connections--; c.own.connections == 0 {
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

// change notes that so many more requests wait for the client, and are being served. A connection on which one begins
// to wait is the last again of those that do.
func (c *conn) change(waits, work int) {
	l := c.of
	l.mu.Lock()
	l.changed(c, waits, work)
	victim := l.mostWaiting()
	if victim != nil {
		l.forget(victim)
	}
	l.mu.Unlock()
	if victim != nil {
		_ = victim.Conn.Close()
		l.closed()
	}
}

// changed is change. mu is held.
func (l *Listener) changed(c *conn, waits, work int) {
	if _, there := l.conns[c]; !there {
		return
	}
	l.waits -= c.moreWaits()
	c.waits += waits
	c.work += work
	l.waits += c.moreWaits()
	to := idle
	switch {
	case c.work > 0:
		to = serving
	case c.waits > 0:
		to = waiting
	}
	if to != c.state || waits > 0 {
		l.put(c, to)
	}
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
