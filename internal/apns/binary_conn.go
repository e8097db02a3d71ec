package apns

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lhspn/lhspn/internal/apns/frame"
)

// sent is a run of deliveries that were written, with consecutive identifiers.
type sent struct {
	span
	first uint32    // identifier of the first
	at    time.Time // when the write was over
}

// binaryConn is one connection, from the handshake to its end. All but what the reader sets is owned by the lane.
type binaryConn struct {
	nc net.Conn
	// wire is below TLS: what reaches the peer is counted there. Nil in tests without TLS.
	wire *wireConn

	// window holds what was written and is unconfirmed, in order; its identifiers are consecutive from its first entry to
	// next. unconfirmed is the number of deliveries in it, at most the configured window.
	window      ring[sent]
	unconfirmed int
	next        uint32 // the next identifier
	limit       int    // how many may be written on this connection while a culprit is looked for; 0: any number

	opened    time.Time
	lastWrite time.Time
	end       int64 // bytes on the wire up to the end of the last write
	// A connection opened while the gateway is suspect is watched until writeAfter before anything is written.
	writeAfter time.Time
	// Silence is counted from quietSince on where that is later than the write: before it the peer was not reading, or the
	// process itself stood still.
	quietSince   time.Time
	halfClosedAt time.Time
	failedAt     time.Time // of a write; from then on only the reader is waited for
	givenUp      bool      // closed by us before its end
	progressed   bool      // something written here was settled
	overdue      bool      // what was written waits for evidence so long that it is time to half-close
	heardOut     bool      // it was half-closed only after ConfirmAfter of silence
	endExpected  bool      // the gateway was known to end half-closed connections, or might, when this one was half-closed
	// silentSince is when silence became evidence of all that was written here. It is held back while something better may
	// still come.
	silentSince time.Time
	partialAt   time.Time // an error response was first seen to have begun

	// Set by the reader.
	acked   atomic.Uint64 // highest identifier acknowledged by a status 0, plus one
	partial atomic.Bool   // an error response has begun to arrive
	stop    atomic.Bool   // the reader is at its end: nothing may be written or confirmed any more
	// closing is held by the lane while it half-closes, and by the reader while it judges the end of the stream: that
	// must see either nothing of the half-close or all of it. It guards halfClosed.
	closing    sync.Mutex
	halfClosed bool

	// Written by the reader before it reports the end, read by the lane after.
	response    frame.ErrorResponse
	hasResponse bool
	err         error // why reading ended without an error response; nil for the orderly end after our half-close
}

var (
	errClosedByGateway = errors.New("closed by the gateway")
	// errAbruptEnd is an end in answer to our half-close, but without TLS's close_notify. Some gateways always end so; with
	// others it is a connection that was dropped with all of it read and not all of it processed. See lane.judge.
	errAbruptEnd = errors.New("closed by the gateway without close_notify")
)

// read reads until there is an error response or the end, and then reports itself to ended, which has room for every
// connection its lane can have. wake tells the lane of an acknowledgement.
func (c *binaryConn) read(ended chan<- *binaryConn, wake func()) {
	defer func() { ended <- c }()
	var buf [512]byte
	n := 0
	for {
		size, err := c.nc.Read(buf[n:])
		n += size
		for n > 0 {
			var r frame.ErrorResponse
			used, derr := r.Decode(buf[:n])
			if derr != nil {
				c.err = derr
				c.halt()
				return
			}
			if used == 0 {
				break
			}
			n = copy(buf[:], buf[used:n])
			if r.Status != frame.StatusNone {
				c.response, c.hasResponse = r, true
				c.halt()
				return
			}
			if a := uint64(r.Identifier) + 1; a > c.acked.Load() {
				c.acked.Store(a)
			}
			wake()
		}
		c.partial.Store(n > 0)
		if err != nil {
			c.err = c.endOf(err, n)
			c.halt()
			return
		}
	}
}

// endOf tells the orderly end, after which all that was written counts as accepted, from any other.
func (c *binaryConn) endOf(err error, partial int) error {
	c.closing.Lock()
	defer c.closing.Unlock()
	switch {
	case !errors.Is(err, io.EOF):
		return fmt.Errorf("read: %w", err)
	case !c.halfClosed:
		return errClosedByGateway
	case partial > 0:
		return errors.New("closed by the gateway within an error response")
	case !c.wire.delivered():
		return errors.New("closed by the gateway before all had arrived")
	case c.wire.abrupt():
		return errAbruptEnd
	}
	return nil
}

// halt makes a write that is under way, or one about to begin, return: the peer may not be reading any more.
func (c *binaryConn) halt() {
	c.stop.Store(true)
	_ = c.nc.SetWriteDeadline(time.Unix(1, 0))
}

// writable reports whether anything may be written.
func (c *binaryConn) writable() bool {
	return c.failedAt.IsZero() && !c.stop.Load()
}

// quietFrom is when the silence on it began.
func (c *binaryConn) quietFrom() time.Time {
	if c.quietSince.After(c.lastWrite) {
		return c.quietSince
	}
	return c.lastWrite
}

// arrived reports whether the peer's TCP has acknowledged all that was written.
func (c *binaryConn) arrived() bool { return c.wire.arrived() >= c.end }

// room is how many more deliveries may be written now.
func (c *binaryConn) room(window int) int {
	room := window - c.unconfirmed
	if c.limit > 0 {
		room = min(room, c.limit-int(c.next))
	}
	return room
}

// write writes all of b, or fails for good. After a failure the reader is given a moment to find the error response that
// explains it (a peer that closes a socket it has not read resets it), and then ends.
func (c *binaryConn) write(b []byte, timeout time.Duration) error {
	_ = c.nc.SetWriteDeadline(time.Now().Add(timeout))
	var err error
	if c.stop.Load() { // looked at after the deadline is set, which would undo the reader's
		err = errClosedByGateway
	} else {
		_, err = c.nc.Write(b)
	}
	if err != nil {
		c.fail()
	}
	return err
}

// readGrace is how long what the peer sent before it broke off may take to be read.
const readGrace = time.Second

func (c *binaryConn) fail() {
	c.failedAt = time.Now()
	_ = c.nc.SetReadDeadline(c.failedAt.Add(readGrace))
}

// halfClose ends our direction. The peer reads to the end of what was written, and closes.
func (c *binaryConn) halfClose() error {
	c.closing.Lock()
	defer c.closing.Unlock()
	c.halfClosedAt = time.Now()
	c.halfClosed = true
	if hc, ok := c.nc.(interface{ CloseWrite() error }); ok {
		if err := hc.CloseWrite(); err != nil {
			return fmt.Errorf("half-close: %w", err)
		}
	}
	return c.wire.closeWrite()
}

// giveUp is close for one that has not ended by itself. The slot calls it.
func (c *binaryConn) giveUp() {
	c.givenUp = true
	c.close()
}

// brokeInAnswer reports, at its end, whether the peer broke it off after our half-close, rather than we ourselves.
func (c *binaryConn) brokeInAnswer() bool {
	return !c.halfClosedAt.IsZero() && c.failedAt.IsZero() && !c.givenUp && !c.partial.Load()
}

// close closes at once; the reader ends. It does not go through TLS, which would wait to send its alert.
func (c *binaryConn) close() {
	if c.wire != nil {
		_ = c.wire.Close()
		return
	}
	_ = c.nc.Close()
}

// wireConn is the TCP connection below TLS. It counts what is written, so that it can be told which of it the peer's TCP
// has acknowledged: without that, a cable pulled out would look like the silence of success.
type wireConn struct {
	*net.TCPConn
	written atomic.Int64
	ended   atomic.Bool // TCP's end was read; after a close_notify TLS does not read so far
}

func (w *wireConn) Read(b []byte) (int, error) {
	n, err := w.TCPConn.Read(b)
	if errors.Is(err, io.EOF) {
		w.ended.Store(true)
	}
	return n, err // not wrapped: it stands in for the connection
}

// abrupt reports whether the stream ended without close_notify.
func (w *wireConn) abrupt() bool { return w != nil && w.ended.Load() }

func (w *wireConn) Write(b []byte) (int, error) {
	n, err := w.TCPConn.Write(b)
	w.written.Add(int64(n))
	return n, err // not wrapped: it stands in for the connection
}

// arrived is how many of the bytes written the peer's TCP has acknowledged. Where it cannot be told it is all of them.
func (w *wireConn) arrived() int64 {
	if w == nil {
		return 1<<63 - 1
	}
	return w.written.Load() - int64(unacknowledged(w.TCPConn))
}

// delivered reports, at the end of the stream after our half-close, whether the peer has had all of it. Our FIN, which
// counts as one, may still be under way: the peer may close as soon as it has read TLS's close_notify.
func (w *wireConn) delivered() bool {
	return w == nil || unacknowledged(w.TCPConn) <= 1
}

func (w *wireConn) closeWrite() error {
	if w == nil {
		return nil
	}
	if err := w.CloseWrite(); err != nil {
		return fmt.Errorf("half-close: %w", err)
	}
	return nil
}

// newBinaryConn takes a connection that has been dialled.
func newBinaryConn(nc net.Conn) *binaryConn {
	c := &binaryConn{nc: nc, opened: time.Now()}
	if t, ok := nc.(interface{ NetConn() net.Conn }); ok {
		c.wire, _ = t.NetConn().(*wireConn)
	}
	return c
}

// endsAbruptly opens a connection, half-closes it with nothing written, and reports whether the gateway ends it without
// close_notify, or an error if it does not end it.
func endsAbruptly(ctx context.Context, dial func(context.Context) (net.Conn, error), timeout time.Duration) (bool, error) {
	nc, err := dial(ctx)
	if err != nil {
		return false, err
	}
	c := newBinaryConn(nc)
	defer c.close()
	defer context.AfterFunc(ctx, c.close)()
	if err := c.halfClose(); err != nil {
		return false, err
	}
	_ = nc.SetReadDeadline(time.Now().Add(timeout))
	if _, err := io.Copy(io.Discard, nc); err != nil {
		return false, fmt.Errorf("read: %w", err)
	}
	return c.wire.abrupt(), nil
}

// newDialer makes the function that connects to the gateway, with its name resolved anew each time.
func newDialer(cfg BinaryConfig) func(context.Context) (net.Conn, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if cfg.TLS != nil {
		conf = cfg.TLS.Clone()
	}
	conf.MinVersion = max(conf.MinVersion, tls.VersionTLS12)
	// Full records from the start: a connection here lives for a few megabytes, most of which Go would send in small ones.
	conf.DynamicRecordSizingDisabled = true
	if conf.ClientSessionCache == nil {
		conf.ClientSessionCache = tls.NewLRUClientSessionCache(2 * max(cfg.Connections, 1))
	}
	if conf.ServerName == "" {
		conf.ServerName, _, _ = net.SplitHostPort(cfg.Address)
	}
	return func(ctx context.Context) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, cfg.DialTimeout)
		defer cancel()
		nc, err := (&net.Dialer{}).DialContext(ctx, "tcp", cfg.Address)
		if err != nil {
			return nil, fmt.Errorf("connect: %w", err)
		}
		wire := &wireConn{TCPConn: nc.(*net.TCPConn)}
		conn := tls.Client(wire, conf)
		if err := conn.HandshakeContext(ctx); err != nil {
			_ = wire.Close()
			return nil, fmt.Errorf("TLS handshake with %s: %w", cfg.Address, err)
		}
		return conn, nil
	}
}
