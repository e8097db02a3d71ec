// Package memconn is a connection in memory for tests, with what matters of TCP. It never leaves the process and needs
// no time but that of testing/synctest. Nothing that is not a test imports it.
package memconn

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// stream is one direction of a Conn: a bounded buffer that ends like a TCP stream does.
type stream struct {
	mu   sync.Mutex
	cond *sync.Cond
	buf  []byte
	eof  bool  // the writer has ended it
	err  error // it was reset: reads fail once buf is empty, writes at once
	size int

	readBy, writeBy time.Time
	timers          []*time.Timer
}

func newStream(size int) *stream {
	s := &stream{size: size}
	s.cond = sync.NewCond(&s.mu)
	return s
}

func (s *stream) read(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.buf) == 0 {
		switch {
		case s.err != nil:
			return 0, s.err
		case s.eof:
			return 0, io.EOF
		case !s.readBy.IsZero() && !time.Now().Before(s.readBy):
			return 0, os.ErrDeadlineExceeded
		}
		s.cond.Wait()
	}
	n := copy(b, s.buf)
	s.buf = s.buf[n:]
	s.cond.Broadcast()
	return n, nil
}

func (s *stream) write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	done := 0
	for {
		switch {
		case s.err != nil:
			return done, s.err
		case s.eof:
			return done, syscall.EPIPE
		case !s.writeBy.IsZero() && !time.Now().Before(s.writeBy):
			return done, os.ErrDeadlineExceeded
		}
		n := min(len(b)-done, s.size-len(s.buf))
		s.buf = append(s.buf, b[done:done+n]...)
		s.cond.Broadcast()
		if done += n; done == len(b) {
			return done, nil
		}
		s.cond.Wait()
	}
}

func (s *stream) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	s.cond.Broadcast()
}

func (s *stream) deadline(field *time.Time, t time.Time) {
	s.set(func() {
		*field = t
		if d := time.Until(t); d > 0 {
			s.timers = append(s.timers, time.AfterFunc(d, func() { s.set(func() {}) }))
		}
	})
}

// Conn is a connection in memory with what matters of TCP here: half-close, bounded buffers, and a reset when a side
// closes with unread bytes or is written to after it has closed.
type Conn struct {
	in, out *stream
}

// Pipe returns the two ends of a connection that holds size bytes in each direction.
func Pipe(size int) (client, server *Conn) {
	a, b := newStream(size), newStream(size)
	return &Conn{in: a, out: b}, &Conn{in: b, out: a}
}

// Read implements net.Conn.
func (c *Conn) Read(b []byte) (int, error) { return c.in.read(b) }

// Write implements net.Conn.
func (c *Conn) Write(b []byte) (int, error) { return c.out.write(b) }

// SetReadDeadline implements net.Conn.
func (c *Conn) SetReadDeadline(t time.Time) error { c.in.deadline(&c.in.readBy, t); return nil }

// SetWriteDeadline implements net.Conn.
func (c *Conn) SetWriteDeadline(t time.Time) error { c.out.deadline(&c.out.writeBy, t); return nil }

// SetDeadline implements net.Conn.
func (c *Conn) SetDeadline(t time.Time) error {
	_ = c.SetReadDeadline(t)
	return c.SetWriteDeadline(t)
}

// LocalAddr implements net.Conn.
func (c *Conn) LocalAddr() net.Addr { return &net.UnixAddr{Net: "memory"} }

// RemoteAddr implements net.Conn.
func (c *Conn) RemoteAddr() net.Addr { return &net.UnixAddr{Net: "memory"} }

// CloseWrite ends what the peer reads.
func (c *Conn) CloseWrite() error { c.out.set(func() { c.out.eof = true }); return nil }

// Unread is how many bytes the peer has written that were not read.
func (c *Conn) Unread() (n int) {
	c.in.set(func() { n = len(c.in.buf) })
	return n
}

// Close implements net.Conn.
func (c *Conn) Close() error {
	unread := false
	c.in.set(func() {
		unread = len(c.in.buf) > 0
		c.in.buf = nil
		c.in.err = syscall.ECONNRESET // for the peer's writes, and our own reads
		for _, t := range c.in.timers {
			t.Stop()
		}
	})
	c.out.set(func() {
		c.out.eof = true
		if unread {
			c.out.err = syscall.ECONNRESET
		}
		for _, t := range c.out.timers {
			t.Stop()
		}
	})
	return nil
}

// PeerClosed reports whether the other side has closed the connection, or it was reset.
func (c *Conn) PeerClosed() (closed bool) {
	c.out.set(func() { closed = c.out.err != nil })
	return closed
}

// Reset breaks the connection. What the peer has not read yet is lost if destroy is set, as it may be with TCP.
func (c *Conn) Reset(destroy bool) {
	c.in.set(func() { c.in.buf, c.in.err = nil, syscall.ECONNRESET })
	c.out.set(func() {
		c.out.err = syscall.ECONNRESET
		if destroy {
			c.out.buf = nil
		}
	})
}
