package http2

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/net/http2"
)

const (
	frameHeaderLen = 9
	maxID          = 1<<31 - 1
	// defaultWindow and defaultFrame are the protocol's initial values, before any SETTINGS.
	defaultWindow = 1<<16 - 1
	defaultFrame  = 1 << 14
	maxWindow     = 1<<31 - 1

	// What we allow the peer. Answers are small, so that little is ever needed.
	ourStreamWindow = 16 << 10
	ourConnWindow   = 1 << 20
	ourHeaderBlock  = 16 << 10

	// lastWords is how long the writes of a connection that ends may take.
	lastWords = time.Second
)

// conn is one connection. Its writer (run) and its reader share what mu guards; each takes mu once for a whole write or
// read, never for a single request.
type conn struct {
	cl    *Client
	nc    net.Conn
	slot  *slot
	since time.Time
	wakes chan struct{} // to the writer: something may be written
	// retired is closed when the connection takes no more requests.
	retired chan struct{}

	mu       sync.Mutex
	head     *Header
	streams  streamTable
	together int // how many streams may be open while those are that are open now; see ref.together
	nextID   uint32
	partial  []partial
	control  []byte // frames that go before all others
	// The peer's SETTINGS, and what is left of its windows.
	maxStreams    uint32
	initialWindow int64
	sendWindow    int64
	maxFrame      int
	maxHeaderList uint32
	// received counts the bytes of DATA not yet given back to the peer's window for the connection.
	received int64
	resets   resetStreams
	// accepted: a request was answered with a 2xx status. See Config.OneUntilAccepted.
	accepted  bool
	answers   int
	opened    int // streams.n, when the connection was retired
	isRetired bool
	replaced  bool // by our own wish
	goAway    bool
	ended     bool
	err       error // why it ended, with cause for the metric
	cause     Cause
	lastRead  time.Time
	// lastAnswer is when a request was last answered: with whatever, the peer answers.
	lastAnswer time.Time
	pingSent   time.Time // zero when none is unanswered
	lastScan   time.Time
	blocked    time.Time // since when the queue waits although no stream is open
	busy       time.Time // when the first of the open streams was opened, after none was
	resend     []ref

	// The reader's.
	continued continuedBlock
	blocks    *blockReader
	answer    Answer
	readDone  ended

	// The writer's.
	writeDone ended
	chunk     [chunkSize]ref
}

// newConn returns a connection that has spoken to nobody yet.
func newConn(cl *Client, nc net.Conn) *conn {
	now := time.Now()
	return &conn{
		cl: cl, nc: nc, since: now, lastRead: now, lastScan: now,
		wakes: make(chan struct{}, 1), retired: make(chan struct{}),
		head:   newHeader(authorityOf(cl.cfg.Address), cl.cfg.Fields),
		blocks: newBlockReader(cl.cfg.AnswerFields), streams: newStreamTable(),
		nextID: 1, maxStreams: uint32(cl.cfg.AssumedStreams), initialWindow: defaultWindow, sendWindow: defaultWindow,
		maxFrame: defaultFrame, maxHeaderList: 1<<32 - 1,
	}
}

// connect opens a connection, up to the peer's SETTINGS: before them nothing is known of what it allows.
func (cl *Client) connect(ctx context.Context) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, cl.cfg.DialTimeout)
	defer cancel()
	nc, err := cl.open(ctx)
	if err != nil {
		return nil, err
	}
	c := newConn(cl, nc)
	if err := c.greet(ctx); err != nil {
		nc.Close()
		return nil, err
	}
	return c, nil
}

// greet exchanges the prefaces.
func (c *conn) greet(ctx context.Context) error {
	// The deadline follows ctx, which ends on shutdown too.
	stop := context.AfterFunc(ctx, func() { _ = c.nc.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	var hello bytes.Buffer
	hello.WriteString(http2.ClientPreface)
	fr := http2.NewFramer(&hello, nil)
	err := errors.Join(
		fr.WriteSettings(
			// No dynamic table for the peer: its header blocks can then be read without any state. See blockReader.
			http2.Setting{ID: http2.SettingHeaderTableSize, Val: 0},
			http2.Setting{ID: http2.SettingEnablePush, Val: 0},
			http2.Setting{ID: http2.SettingInitialWindowSize, Val: ourStreamWindow},
			http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: ourHeaderBlock},
		),
		fr.WriteWindowUpdate(0, ourConnWindow-defaultWindow),
	)
	if err != nil {
		return fmt.Errorf("write the connection preface: %w", err)
	}
	if _, err := c.nc.Write(hello.Bytes()); err != nil {
		return fmt.Errorf("write the connection preface: %w", greetError(ctx, err))
	}
	var head [frameHeaderLen]byte
	if _, err := io.ReadFull(c.nc, head[:]); err != nil {
		if errors.Is(err, io.EOF) && ctx.Err() == nil {
			return errors.New("the gateway closed the connection right after the handshake; " +
				"a certificate or key for the other environment has that effect")
		}
		return fmt.Errorf("read the gateway's SETTINGS: %w", greetError(ctx, err))
	}
	f := parseFrameHeader(head[:])
	if f.typ != http2.FrameSettings || f.flags.Has(http2.FlagSettingsAck) || f.stream != 0 || f.length > defaultFrame {
		return errors.New("the gateway does not speak HTTP/2: its first frame is not SETTINGS")
	}
	payload := make([]byte, f.length)
	if _, err := io.ReadFull(c.nc, payload); err != nil {
		return fmt.Errorf("read the gateway's SETTINGS: %w", greetError(ctx, err))
	}
	if err := c.onSettings(f.flags, payload); err != nil {
		return fmt.Errorf("the gateway's SETTINGS: %w", err)
	}
	if !stop() {
		return fmt.Errorf("read the gateway's SETTINGS: %w", ctx.Err())
	}
	return nil
}

// greetError is the reason why ctx ended, where that is what err comes from.
func greetError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

func (c *conn) signal() {
	select {
	case c.wakes <- struct{}{}:
	default:
	}
}

// run writes until the connection ends, with the reader beside it, and sees to what is left.
func (c *conn) run(ctx context.Context) {
	c.cl.metrics.Connections.Inc()
	defer c.cl.metrics.Connections.Dec()
	var reader sync.WaitGroup
	reader.Go(c.read)
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		c.mu.Lock()
		c.fail(EndStopped, ErrClosed)
		c.mu.Unlock()
		c.signal()
	})
	c.write()
	if !stop() {
		<-stopped
	}
	c.nc.Close()
	reader.Wait()

	// Both goroutines are gone: what is left is the last stream's end.
	c.mu.Lock()
	for _, id := range c.streams.ids(func(*stream) bool { return true }) {
		c.heard(id, &c.writeDone)
	}
	left := c.takeAbove(0)
	for i := range left {
		left[i].tries++
		left[i].written = true
		if c.cause != EndStopped {
			left[i].breaks++
		}
	}
	cause, err := c.cause, c.err
	c.mu.Unlock()
	c.cl.metrics.Ends[cause].Inc()
	c.cl.log.Debug("connection ended", "cause", cause, "error", err, "answers", c.answers, "unanswered", len(left))
	c.cl.requeue(left, &c.writeDone)
	if c.cl.unwanted() {
		c.cl.returnQueue(NotSent, &c.writeDone)
	} else {
		c.cl.finish(&c.writeDone)
	}
}

// fail ends the connection. What is in control, a last GOAWAY say, is still written. mu is held.
func (c *conn) fail(cause Cause, err error) {
	if c.ended {
		return
	}
	c.ended, c.cause, c.err = true, cause, err
	if cause != EndLost {
		code := http2.ErrCodeNo
		if ce := http2.ConnectionError(0); errors.As(err, &ce) {
			code = http2.ErrCode(ce)
		}
		c.control = appendFrameHeader(c.control, 8, http2.FrameGoAway, 0, 0)
		c.control = append(c.control, 0, 0, 0, 0, byte(code>>24), byte(code>>16), byte(code>>8), byte(code))
	}
	c.retire(err)
	// A writer that is stuck in a write now gets only as long as the last words may take.
	_ = c.nc.SetWriteDeadline(time.Now().Add(lastWords))
}

// replace retires the connection by our own wish.
func (c *conn) replace() {
	c.mu.Lock()
	c.replaced = true
	c.retire(nil)
	c.mu.Unlock()
	c.signal()
}

// retire lets the connection take no more requests; it ends when those it has are answered. mu is held.
func (c *conn) retire(err error) {
	if !c.isRetired {
		c.isRetired = true
		c.opened = c.streams.n
		c.cl.retired(c, err)
		close(c.retired)
	}
}
