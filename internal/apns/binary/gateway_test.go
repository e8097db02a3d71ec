package binary

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/lhspn/lhspn/internal/apns/frame"
	"github.com/lhspn/lhspn/internal/memconn"
	"github.com/lhspn/lhspn/internal/push/pushtest"
)

// gateway is a scripted gateway: serve handles the n-th connection, n from 0, and the connection is closed after it.
type gateway struct {
	serve func(n int, c *gatewayConn)
	size  int // of the connections' buffers
	wg    sync.WaitGroup

	mu    sync.Mutex
	dials int
	conns []*gatewayConn
	down  bool
	// refuse, if there is one, says which dials fail.
	refuse func(dial int) bool
}

type gatewayConn struct {
	*memconn.Conn
	buf []byte
	// got is what was received, in order, by the number of the delivery.
	got    []int
	opened time.Time
	chunk  int // how much is read at a time
}

var errRefused = errors.New("connection refused")

func (g *gateway) dial(context.Context) (net.Conn, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.dials++
	if g.down || g.refuse != nil && g.refuse(g.dials-1) {
		return nil, errRefused
	}
	size := g.size
	if size == 0 {
		size = 1 << 20
	}
	client, server := memconn.Pipe(size)
	c := &gatewayConn{Conn: server, opened: time.Now()}
	n := len(g.conns)
	g.conns = append(g.conns, c)
	g.wg.Go(func() {
		defer c.Close()
		g.serve(n, c)
	})
	return client, nil
}

func (g *gateway) setDown(down bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.down = down
}

func (g *gateway) counts() (dials, conns int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.dials, len(g.conns)
}

// next reads one notification; ok is false at the end. It checks that identifiers count from 0.
func (c *gatewayConn) next(t pushtest.Reporter) (n frame.Notification, ok bool) {
	for {
		size, err := n.Decode(c.buf)
		if err != nil {
			t.Errorf("the client sent %v", err)
			return n, false
		}
		if size > 0 {
			if int(n.Identifier) != len(c.got) {
				t.Errorf("identifier %d, want %d", n.Identifier, len(c.got))
			}
			c.buf = c.buf[size:]
			c.got = append(c.got, pushtest.NumberOf(n.Token))
			return n, true
		}
		chunk := make([]byte, cmp.Or(c.chunk, 4096))
		m, err := c.Read(chunk)
		c.buf = append(c.buf, chunk[:m]...)
		if err != nil {
			return n, false
		}
	}
}

// reject answers an error and does what a careful gateway does: it ends its direction and reads to the end.
func (c *gatewayConn) reject(s frame.Status, identifier uint32) {
	_, _ = c.Write(frame.AppendErrorResponse(nil, s, identifier))
	_ = c.CloseWrite()
	_, _ = io.Copy(io.Discard, readerOf{c})
}

type readerOf struct{ io.Reader }

// drain takes everything until the end.
func (c *gatewayConn) drain(t pushtest.Reporter) {
	for {
		if _, ok := c.next(t); !ok {
			return
		}
	}
}
