package binary

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lhspn/lhspn/internal/apns/frame"
	"github.com/lhspn/lhspn/internal/ring"
)

// sent is a run of deliveries that were written, with consecutive identifiers.
type sent struct {
	span
	first uint32    // identifier of the first
	at    time.Time // when the write was over
}

// conn is one connection, from the handshake to its end. All but what the reader sets is owned by the slot.
type conn struct {
	nc net.Conn
	// wire is below TLS: what reaches the peer is counted there. Nil in tests without TLS.
	wire *wireConn

	// window holds what was written and is unconfirmed, in order; its identifiers are consecutive from its first entry
	// to next. unconfirmed is the number of deliveries in it, at most the configured window.
	window      ring.Ring[sent]
	unconfirmed int
	next        uint32 // the next identifier
	limit       int    // how many may be written on this connection while a culprit is searched for; 0: any number

	opened    time.Time
	lastWrite time.Time
	end       int64 // bytes on the wire up to the end of the last write
	// A connection opened while the gateway may not be well is watched until writeAfter before anything is written.
	writeAfter time.Time
	// Silence is counted from quietSince on where that is later than the write: before it the peer was not reading, or
	// the process itself was stopped.
	quietSince   time.Time
	halfClosedAt time.Time
	failedAt     time.Time // of a write; from then on only the reader is waited for
	givenUp      bool      // closed by us before its end
	progressed   bool      // something written here was accepted or refused
	overdue      bool      // what was written waits for evidence so long that it is time to half-close
	heardOut     bool      // it was half-closed only after ConfirmAfter of silence
	endExpected  bool      // the gateway was known to end half-closed connections, or might, when this one was half-closed
	// silentSince is when silence became evidence of all that was written here. It is held back while something better
	// may still come.
	silentSince time.Time
	partialAt   time.Time // an error response was first seen to have begun

	// Set by the reader.
	acked   atomic.Uint64 // highest identifier acknowledged by a status 0, plus one
	partial atomic.Bool   // an error response has begun to arrive
	stop    atomic.Bool   // the reader is at its end: nothing may be written or confirmed any more
	// closing is held by the slot while it half-closes, and by the reader while it looks at the end of the stream: that
	// must see either nothing of the half-close or all of it. It guards halfClosed.
	closing    sync.Mutex
	halfClosed bool

	// Written by the reader before it reports the end, read by the slot after.
	response    frame.ErrorResponse
	hasResponse bool
	err         error // why reading ended without an error response; nil for the orderly end after our half-close
}

// newConn takes a connection that has been dialled.
func newConn(nc net.Conn) *conn {
	c := &conn{nc: nc, opened: time.Now()}
	if t, ok := nc.(interface{ NetConn() net.Conn }); ok {
		c.wire, _ = t.NetConn().(*wireConn)
	}
	return c
}

var (
	errClosedByGateway = errors.New("closed by the gateway")
	// errAbruptEnd is an end in answer to our half-close, but without TLS's close_notify. Some gateways always end so;
	// with others it is a connection that was dropped with all of it read and not all of it processed. See askAbrupt.
	errAbruptEnd = errors.New("closed by the gateway without close_notify")
)

// read reads until there is an error response or the end, and then reports itself to ended, which has room for every
// connection its slot can have. wake tells the slot of an acknowledgement.
func (c *conn) read(ended chan<- *conn, wake func()) {
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
func (c *conn) endOf(err error, partial int) error {
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
func (c *conn) halt() {
	c.stop.Store(true)
	_ = c.nc.SetWriteDeadline(time.Unix(1, 0))
}

// writable reports whether anything may be written.
func (c *conn) writable() bool {
	return c.failedAt.IsZero() && !c.stop.Load()
}

// quietFrom is when the silence on it began.
func (c *conn) quietFrom() time.Time {
	if c.quietSince.After(c.lastWrite) {
		return c.quietSince
	}
	return c.lastWrite
}

// arrived reports whether the peer's TCP has acknowledged all that was written.
func (c *conn) arrived() bool { return c.wire.arrived() >= c.end }

// room is how many more deliveries may be written now.
func (c *conn) room(window int) int {
	room := window - c.unconfirmed
	if c.limit > 0 {
		room = min(room, c.limit-int(c.next))
	}
	return room
}

// write writes all of b, or fails for good. After a failure the reader is given a moment to find the error response
// that explains it (a peer that closes a socket it has not read resets it), and then ends.
func (c *conn) write(b []byte, timeout time.Duration) error {
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

func (c *conn) fail() {
	c.failedAt = time.Now()
	_ = c.nc.SetReadDeadline(c.failedAt.Add(readGrace))
}

// halfClose ends our direction. The peer reads to the end of what was written, and closes.
func (c *conn) halfClose() error {
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
func (c *conn) giveUp() {
	c.givenUp = true
	c.close()
}

// brokeInAnswer reports, at its end, whether the peer broke it off after our half-close, rather than we ourselves.
func (c *conn) brokeInAnswer() bool {
	return !c.halfClosedAt.IsZero() && c.failedAt.IsZero() && !c.givenUp && !c.partial.Load()
}

// close closes at once; the reader ends. It does not go through TLS, which would wait to send its alert.
func (c *conn) close() {
	if c.wire != nil {
		_ = c.wire.Close()
		return
	}
	_ = c.nc.Close()
}

// endsAbruptly opens a connection, half-closes it with nothing written, and reports whether the gateway ends it without
// close_notify, or an error if it does not end it.
func endsAbruptly(ctx context.Context, dial func(context.Context) (net.Conn, error), timeout time.Duration) (bool,
	error) {
	nc, err := dial(ctx)
	if err != nil {
		return false, err
	}
	c := newConn(nc)
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
