package http2

import (
	"net"
	"sync"
)

// packedConn lies below TLS and joins the records of one large write, of 16 KiB each, into one write to the socket.
//
// TLS numbers its records, so their order must be kept. The one writer of application data holds, writes and releases;
// TLS itself may write an alert or a key update meanwhile, from the reader's goroutine.
type packedConn struct {
	net.Conn
	out     sync.Mutex // held while the socket is written
	mu      sync.Mutex // guards what follows, for moments only; taken inside out
	holding bool
	held    []byte
}

func (c *packedConn) hold() {
	c.mu.Lock()
	c.holding = true
	c.mu.Unlock()
}

// release writes what was held. Whoever finds holding false waits for out, and so comes after it.
func (c *packedConn) release() error {
	c.out.Lock()
	defer c.out.Unlock()
	c.mu.Lock()
	c.holding = false
	held := c.held
	c.held = c.held[:0]
	c.mu.Unlock()
	if len(held) == 0 {
		return nil
	}
	_, err := c.Conn.Write(held)
	return err
}

func (c *packedConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	if c.holding {
		c.held = append(c.held, p...)
		c.mu.Unlock()
		return len(p), nil
	}
	c.mu.Unlock()
	c.out.Lock()
	defer c.out.Unlock()
	return c.Conn.Write(p)
}
