package binary

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// stream is one direction of a memConn: a bounded buffer that ends like a TCP stream does.
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

// memConn is a connection in memory with what matters of TCP here: half-close, bounded buffers, and a reset when a side
// closes with unread bytes or is written to after it has closed.
type memConn struct {
	net.Conn // nil: what is not needed panics
	in, out  *stream
}

func memPipe(size int) (client, server *memConn) {
	a, b := newStream(size), newStream(size)
	return &memConn{in: a, out: b}, &memConn{in: b, out: a}
}

func (c *memConn) Read(b []byte) (int, error)         { return c.in.read(b) }
func (c *memConn) Write(b []byte) (int, error)        { return c.out.write(b) }
func (c *memConn) SetReadDeadline(t time.Time) error  { c.in.deadline(&c.in.readBy, t); return nil }
func (c *memConn) SetWriteDeadline(t time.Time) error { c.out.deadline(&c.out.writeBy, t); return nil }
func (c *memConn) CloseWrite() error                  { c.out.set(func() { c.out.eof = true }); return nil }

func (c *memConn) Close() error {
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

// peerClosed reports whether the other side has closed the connection, or it was reset.
func (c *memConn) peerClosed() (closed bool) {
	c.out.set(func() { closed = c.out.err != nil })
	return closed
}

// reset breaks the connection. What the peer has not read yet is lost if destroy is set, as it may be with TCP.
func (c *memConn) reset(destroy bool) {
	c.in.set(func() { c.in.buf, c.in.err = nil, syscall.ECONNRESET })
	c.out.set(func() {
		c.out.err = syscall.ECONNRESET
		if destroy {
			c.out.buf = nil
		}
	})
}
