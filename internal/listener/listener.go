// Package listener is what stands between the open internet and an HTTP handler: bounds on connections, in all and for
// each client address, the certificate that follows its files, and the address of the client behind trusted proxies.
//
// It knows no route, no key and no app, and imports nothing else of ours but what follows files.
package listener

import (
	"container/list"
	"context"
	"net"
	"net/http"
	"net/netip"
	"sync"
)

// Config bounds the connections. Zero means no bound.
type Config struct {
	// Max is the number of connections. Beyond it the one that has been without a request for the longest is closed for
	// each that comes, those first that never had one.
	Max int
	// PerAddress is the number of connections of one address, trusted proxies excepted. Beyond it one of the same address
	// is closed, likewise.
	PerAddress int
	// Trusted are the proxies.
	Trusted Proxies
	// Refusal is the whole answer, its status line included, in place of the plain text that net/http answers by itself
	// to what is no HTTP request; nil leaves that as it is. It is not asked on connections with TLS.
	Refusal func(status int, why string) []byte
	// Closed is called for each connection that is closed because of a bound; it may be nil.
	Closed func()
}

// Listener is a net.Listener with bounds. It never waits for a connection to end: a new one always gets in, unless all
// others have a request that is being served.
type Listener struct {
	net.Listener
	config Config

	mu        sync.Mutex // guards all below, and the connections' own fields
	conns     map[*conn]struct{}
	fresh     list.List // connections without a request so far, the oldest first
	idle      list.List // those that have had one, and have none now, the longest idle first
	byAddress map[netip.Addr]int
}

// New bounds the connections of l. Track must see the requests that are served over it.
func New(l net.Listener, c Config) *Listener {
	return &Listener{Listener: l, config: c, conns: map[*conn]struct{}{}, byAddress: map[netip.Addr]int{}}
}

// conn is one connection. Its fields are guarded by the listener's mu.
type conn struct {
	net.Conn
	of      *Listener
	address netip.Addr // as it is counted
	trusted bool
	serving int           // requests
	where   *list.List    // fresh, idle, or nil while it serves
	at      *list.Element // in where
}

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		accepted, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		from := addressOf(accepted.RemoteAddr().String())
		c := &conn{Conn: accepted, of: l, address: Prefix(from), trusted: l.config.Trusted.Contains(from)}
		if l.add(c) {
			return c, nil
		}
		_ = accepted.Close()
		l.closed()
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
	var victim *conn
	full := l.config.Max > 0 && len(l.conns) >= l.config.Max
	greedy := l.config.PerAddress > 0 && l.byAddress[c.address] >= l.config.PerAddress && !c.trusted
	if full || greedy {
		of := netip.Addr{}
		if greedy {
			of = c.address
		}
		if victim = l.longestIdle(of); victim == nil {
			l.mu.Unlock()
			return false
		}
		l.forget(victim)
	}
	l.conns[c] = struct{}{}
	l.byAddress[c.address]++
	l.put(c, &l.fresh)
	l.mu.Unlock()
	if victim != nil {
		_ = victim.Conn.Close()
		l.closed()
	}
	return true
}

// longestIdle is a connection of the address, or where that is the zero Addr of any; nil where all of these serve. mu
// is held.
func (l *Listener) longestIdle(of netip.Addr) *conn {
	for _, in := range []*list.List{&l.fresh, &l.idle} {
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

// Close implements net.Conn.
func (c *conn) Close() error {
	c.of.mu.Lock()
	c.of.forget(c)
	c.of.mu.Unlock()
	return c.Conn.Close()
}

// serves notes that a request begins, or ends.
func (c *conn) serves(n int) {
	l := c.of
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, there := l.conns[c]; !there {
		return
	}
	c.serving += n
	switch c.serving {
	case 0:
		l.put(c, &l.idle)
	case n:
		l.put(c, nil)
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

// Track has the listener know which connections serve a request. The server must have ConnContext.
func Track(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, ok := r.Context().Value(connKey{}).(*conn); ok {
			c.serves(1)
			defer c.serves(-1)
		}
		next.ServeHTTP(w, r)
	})
}
