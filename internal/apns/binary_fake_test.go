package apns

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/lhspn/lhspn/internal/apns/frame"
	"github.com/lhspn/lhspn/internal/push"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

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
	*memConn
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
	client, server := memPipe(size)
	c := &gatewayConn{memConn: server, opened: time.Now()}
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
func (c *gatewayConn) next(t reporter) (n frame.Notification, ok bool) {
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
			c.got = append(c.got, numberOf(n.Token))
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
func (c *gatewayConn) drain(t reporter) {
	for {
		if _, ok := c.next(t); !ok {
			return
		}
	}
}

// Tokens in tests carry a number.
func tokenOf(n int) push.Token {
	b := bytes.Repeat([]byte{0xaa}, 32)
	binary.BigEndian.PutUint32(b, uint32(n))
	return push.Token(b)
}

func numberOf(token []byte) int { return int(binary.BigEndian.Uint32(token)) }

var testNotification = &push.Notification{
	ID: uuid.MustParse("01890a5d-ac96-774b-bcce-b302099a8057"), Priority: 10,
	Payload: push.Payload{JSON: []byte(`{"aps":{"alert":"hello"}}`)},
}

// reporter is what *testing.T and *rapid.T share.
type reporter interface {
	Helper()
	Errorf(format string, args ...any)
}

// tester runs a Binary against a gateway and keeps the groups.
type tester struct {
	reporter
	*ledger
	b      *Binary
	gw     *gateway
	cancel context.CancelFunc
	ran    chan error
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func start(tb testing.TB, cfg BinaryConfig, serve func(n int, c *gatewayConn)) *tester {
	tb.Helper()
	return startWith(tb, cfg, &gateway{serve: serve})
}

func startWith(tb testing.TB, cfg BinaryConfig, gw *gateway) *tester {
	tb.Helper()
	t := newTester(tb, cfg, gw)
	tb.Cleanup(t.stop)
	return t
}

// newTester starts a Binary that the caller stops: rapid's tests have no cleanup of their own.
func newTester(tb reporter, cfg BinaryConfig, gw *gateway) *tester {
	cfg.App = "test"
	b := NewBinary(cfg, quiet(), NewMetrics(prometheus.NewRegistry()))
	if gw != nil {
		b.dial = gw.dial
	}
	ctx, cancel := context.WithCancel(context.Background())
	t := &tester{reporter: tb, ledger: newLedger(), b: b, gw: gw, cancel: cancel, ran: make(chan error, 1)}
	go func() { t.ran <- b.Run(ctx) }()
	return t
}

// stop ends the transport and checks that every group was done exactly once.
func (t *tester) stop() {
	t.cancel()
	if err := <-t.ran; err != nil {
		t.Errorf("Run: %v", err)
	}
	if t.gw != nil {
		t.gw.wg.Wait()
	}
	t.balanced(t)
}

// group makes a group of the deliveries numbered from to to-1, and send hands it over.
func (t *tester) send(from, to int) *push.Group {
	t.Helper()
	g := &push.Group{}
	for n := from; n < to; n++ {
		g.Deliveries = append(g.Deliveries, push.Delivery{Notification: testNotification, Recipient: push.Recipient{Token: tokenOf(n)}})
	}
	t.sendGroup(g)
	return g
}

func (t *tester) sendGroup(g *push.Group) {
	t.Helper()
	t.enter(g)
	if err := t.b.Send(context.Background(), g); err != nil {
		t.Errorf("Send: %v", err)
	}
}

// outcomes is the results of g in short: one word for all alike, or one for each.
func outcomes(g *push.Group) string {
	s := ""
	for i := range g.Deliveries {
		r := g.Deliveries[i].Result
		w := r.Outcome.String()
		if r.Reason != nil {
			w += fmt.Sprintf("/%v/%d/%d", r.Reason, r.Status, r.Identifier)
		}
		if s != "" {
			s += " "
		}
		s += w
	}
	return s
}

// runBinary runs b until the function it returns is called.
func runBinary(tb testing.TB, b *Binary) (stop func()) {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- b.Run(ctx) }()
	return func() {
		cancel()
		if err := <-ran; err != nil {
			tb.Errorf("Run: %v", err)
		}
	}
}
