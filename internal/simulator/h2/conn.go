// Package h2 is the server side of HTTP/2 for the simulated services: strict with its clients, able to misbehave on
// request, and so cheap that it is not what a benchmark of a client measures. It therefore reads and writes frames
// itself rather than by http2.Framer, which allocates for each.
package h2

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/net/http2"

	"github.com/lhspn/lhspn/internal/simulator/listen"
)

const (
	frameHead      = 9
	maxFrame       = 16 << 10 // SETTINGS_MAX_FRAME_SIZE, the protocol's default
	maxHeaderBlock = 32 << 10 // compressed, with all CONTINUATION frames
	defaultWindow  = 1<<16 - 1
	maxWindow      = 1<<31 - 1
	unlimited      = 1<<32 - 1
	readBuffer     = 128 << 10
	writeTimeout   = 30 * time.Second
	settingEntry   = 6 // bytes
)

// ErrClosed ends a connection that a fault has closed.
var ErrClosed = errors.New("closed by a fault")

// Violation is what ends a connection with a GOAWAY that says so.
type Violation struct {
	Code   http2.ErrCode
	Detail string
}

func (e Violation) Error() string { return fmt.Sprintf("%s: %s", e.Code, e.Detail) }

// Config is what a server allows its clients.
type Config struct {
	// MaxStreams is MAX_CONCURRENT_STREAMS; FirstStreams, unless it is 0, holds until Conn.Succeeded.
	MaxStreams, FirstStreams uint32
	// EndBeyondStreams ends the connection of a client that opens more (GOAWAY with PROTOCOL_ERROR, as Google does),
	// where otherwise the stream is refused.
	EndBeyondStreams bool
	// ConnectionWindow and StreamWindow are the flow-control windows, at least 1.
	ConnectionWindow, StreamWindow uint32
	// MaxBody is how much of a request's body is kept. Stream.Size says how long it was.
	MaxBody int
}

// Service is what a server does with requests, on one connection. All of its methods are called with the connection's
// lock held, so that none runs beside another, and none may wait.
type Service[T any] interface {
	// Begin precedes, and End follows, the work on what was read at once.
	Begin()
	End()
	// Open makes a stream's Value fit for a new request. It may hold what it held for an earlier one.
	Open(st *Stream[T])
	// Header takes a field that the service knows, or the path; again says that it was there before. The value is valid
	// until it returns.
	Header(st *Stream[T], h Header, value []byte, again bool)
	// Refused is told that a stream was refused since there were too many.
	Refused()
	// Request decides on a complete request: Conn.Respond, Later, Silence, Refuse or Reset. body is valid until it
	// returns. ErrClosed, or any other error, ends the connection.
	Request(ctx context.Context, st *Stream[T], body []byte) error
	// Answer responds to a request that Later put off.
	Answer(st *Stream[T])
}

// Conn is one connection.
//
// The goroutine that reads owns what is above mu. It holds mu while it works on what one read gave, and the goroutine
// that sends delayed answers while it does that; neither holds it while it waits.
type Conn[T any] struct {
	cfg       Config
	service   Service[T]
	raw       net.Conn
	conn      net.Conn // raw, with TLS
	headers   *headerDecoder
	block     []byte // of a header block that goes on in CONTINUATION frames
	blockID   uint32 // its stream; 0 while there is none
	blockEnds bool   // its HEADERS had END_STREAM
	dependent bool   // its HEADERS had it depend on itself

	mu  sync.Mutex
	out []byte    // what is written at the end of the chunk
	now time.Time // of the chunk

	current *Stream[T] // the stream opened last, while its request is incomplete
	streams map[uint32]*Stream[T]
	free    []*Stream[T]
	open    int    // streams that are neither answered whole nor reset
	silent  int    // those of them that never will be
	maxID   uint32 // the highest stream that was opened
	// refused are the streams that were reset, or not processed, before their requests were whole: more of those may be
	// on its way.
	refused map[uint32]struct{}

	limits
	goingAway     bool
	receiveWindow int64
	sendWindow    int64
	peerWindow    int64              // the initial window of the client's streams
	peerTable     uint32             // what the client takes our encoder's table for at the most
	sizeUpdate    []byte             // what the next header block begins with
	blocked       []*Stream[T]       // whose answers wait for the client's windows, in their order
	delayed       []delayedAnswer[T] // in the order in which they are due
	waiting       bool               // the goroutine that sends them has been started
	wake          chan struct{}      // tells it that the first one is another
	workers       sync.WaitGroup
}

// New makes a connection of what was accepted: raw, and the same with TLS. Serve serves it.
func New[T any](cfg Config, names *Names, service Service[T], raw, conn net.Conn) *Conn[T] {
	c := &Conn[T]{
		cfg: cfg, service: service, raw: raw, conn: conn, now: time.Now(),
		streams: map[uint32]*Stream[T]{}, refused: map[uint32]struct{}{}, wake: make(chan struct{}, 1),
		limits:        limits{ackedLimit: unlimited, limit: unlimited},
		receiveWindow: max(defaultWindow, int64(cfg.ConnectionWindow)),
		sendWindow:    defaultWindow, peerWindow: defaultWindow, peerTable: headerTableSize,
	}
	c.headers = newHeaderDecoder(names, c.header)
	return c
}

// Wait waits for the goroutine that sends delayed answers, which ends with the context of Feed. Serve does that itself.
func (c *Conn[T]) Wait() { c.workers.Wait() }

// Check is for tests: whether what the connection counts is consistent.
func (c *Conn[T]) Check() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open < c.silent || uint32(c.open) > c.cfg.MaxStreams || len(c.streams) > c.open {
		return fmt.Errorf("open %d, silent %d, kept %d", c.open, c.silent, len(c.streams))
	}
	return nil
}

// Now is the time at which what is being worked on was read.
func (c *Conn[T]) Now() time.Time { return c.now }

// Serve serves the connection until it ends. It returns a Violation where the client broke the protocol, nil where the
// connection had gone away and everything was answered, and otherwise what the connection ended with.
func (c *Conn[T]) Serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer c.workers.Wait()
	defer cancel()
	err := c.serve(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.service.End()
	var violation Violation
	switch {
	case errors.As(err, &violation):
		c.appendGoAway(c.maxID, violation.Code, violation.Detail)
		if c.flush() == nil {
			c.finish()
		}
	case err == nil: // gone away
		c.finish()
	}
	return err
}

func (c *Conn[T]) finish() {
	if conn, ok := c.conn.(listen.HalfCloser); ok {
		listen.Finish(conn, c.raw)
	}
}

// serve reads until the connection has gone away (nil), or ends or fails.
func (c *Conn[T]) serve(ctx context.Context) error {
	buf := make([]byte, readBuffer)
	held, needPreface := 0, true
	if err := c.Greet(); err != nil {
		return err
	}
	for {
		n, readErr := c.conn.Read(buf[held:])
		b := buf[:held+n]
		if needPreface && len(b) >= len(http2.ClientPreface) {
			if string(b[:len(http2.ClientPreface)]) != http2.ClientPreface {
				return Violation{http2.ErrCodeProtocol, "no HTTP/2 preface"}
			}
			needPreface = false
			b = b[len(http2.ClientPreface):]
		}
		used := 0
		if !needPreface {
			var done bool
			var err error
			if used, done, err = c.Feed(ctx, b); err != nil || done {
				return err
			}
		}
		if readErr != nil {
			return c.ended(readErr)
		}
		held = copy(buf, b[used:])
	}
}

// Greet sends our SETTINGS.
func (c *Conn[T]) Greet() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	limit := c.cfg.MaxStreams
	if c.cfg.FirstStreams != 0 {
		limit = c.cfg.FirstStreams
	}
	c.out = appendFrameHead(c.out, 3*settingEntry, http2.FrameSettings, 0, 0)
	c.out = appendSetting(c.out, http2.SettingMaxConcurrentStreams, limit)
	c.out = appendSetting(c.out, http2.SettingInitialWindowSize, c.cfg.StreamWindow)
	c.out = appendSetting(c.out, http2.SettingMaxHeaderListSize, maxHeaderList/2)
	c.noteLimit(limit)
	if grow := int64(c.cfg.ConnectionWindow) - defaultWindow; grow > 0 {
		c.out = appendWindowUpdate(c.out, 0, grow)
	}
	return c.flush()
}

// Feed works on what one read gave: all of its whole frames, then one write of all there is to say to them. done says
// that the connection has gone away.
func (c *Conn[T]) Feed(ctx context.Context, b []byte) (used int, done bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = time.Now()
	c.service.Begin()
	var frameErr error
	for {
		rest := b[used:]
		if len(rest) < frameHead {
			break
		}
		length := int(rest[0])<<16 | int(rest[1])<<8 | int(rest[2])
		if length > maxFrame {
			frameErr = Violation{http2.ErrCodeFrameSize, "frame too large"}
			break
		}
		if len(rest) < frameHead+length {
			break
		}
		used += frameHead + length
		id := binary.BigEndian.Uint32(rest[5:]) & maxWindow
		if frameErr = c.frame(ctx, http2.FrameType(rest[3]), http2.Flags(rest[4]), id,
			rest[frameHead:frameHead+length]); frameErr != nil {
			break
		}
	}
	if frameErr == nil {
		c.replenish()
	}
	c.service.End()
	if err := c.flush(); err != nil {
		return used, false, err
	}
	return used, c.goneAway(), frameErr
}

// ended is what a failed read means: nothing bad where the last delayed answer has ended the connection.
func (c *Conn[T]) ended(readErr error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.goneAway() {
		return nil
	}
	return readErr
}

// goneAway reports whether everything was answered that a GOAWAY had promised.
func (c *Conn[T]) goneAway() bool {
	return c.goingAway && c.open <= c.silent
}

// flush writes what has been collected. Its caller holds mu.
func (c *Conn[T]) flush() error {
	if len(c.out) == 0 {
		return nil
	}
	_ = c.raw.SetWriteDeadline(time.Now().Add(writeTimeout))
	_, err := c.conn.Write(c.out)
	c.out = c.out[:0]
	return err
}

// Close closes the connection without answering what is open, after what was answered, and by a TCP reset where it is
// to be abrupt. Request returns what it returns.
func (c *Conn[T]) Close(abrupt bool) error {
	c.service.End()
	if err := c.flush(); err != nil {
		return err
	}
	if abrupt {
		listen.Reset(c.raw)
	} else {
		_ = c.raw.Close()
	}
	return ErrClosed
}

// GoAway tells the client that no further stream is processed. What was opened before is.
func (c *Conn[T]) GoAway(detail string) {
	if c.goingAway {
		return
	}
	c.goingAway = true
	c.appendGoAway(c.maxID, http2.ErrCodeNo, detail)
}

func (c *Conn[T]) appendGoAway(lastID uint32, code http2.ErrCode, detail string) {
	c.out = appendFrameHead(c.out, 8+len(detail), http2.FrameGoAway, 0, 0)
	c.out = binary.BigEndian.AppendUint32(c.out, lastID)
	c.out = binary.BigEndian.AppendUint32(c.out, uint32(code))
	c.out = append(c.out, detail...)
}

// limits are the MAX_CONCURRENT_STREAMS of a connection.
type limits struct {
	sent       []uint32 // those that were sent and not yet acknowledged
	ackedLimit uint32   // the last that was acknowledged
	raised     bool     // a success has raised the first limit
	raiseOnAck bool     // one has, before the client said that it knows that limit
	limit      uint32   // what is enforced: the largest of them
	sentLimit  uint32   // the last that was sent
}

// Limit changes MAX_CONCURRENT_STREAMS.
func (c *Conn[T]) Limit(limit uint32) {
	if c.sentLimit == limit {
		return
	}
	c.out = appendFrameHead(c.out, settingEntry, http2.FrameSettings, 0, 0)
	c.out = appendSetting(c.out, http2.SettingMaxConcurrentStreams, limit)
	c.noteLimit(limit)
}

func (c *Conn[T]) noteLimit(limit uint32) {
	c.sentLimit = limit
	c.sent = append(c.sent, limit)
	c.limit = max(c.ackedLimit, slices.Max(c.sent))
}

// settingsAcked: a client can follow a limit only once it has read it, so the largest limit that it may still believe
// in is the one that is enforced.
func (c *Conn[T]) settingsAcked() {
	if len(c.sent) == 0 {
		return
	}
	if len(c.sent) == 1 && c.raiseOnAck {
		c.raiseOnAck = false
		c.Limit(c.cfg.MaxStreams)
	}
	if c.ackedLimit == unlimited {
		c.shrinkStreams()
	}
	c.ackedLimit = c.sent[0]
	c.sent = c.sent[1:]
	c.limit = c.ackedLimit
	if len(c.sent) > 0 {
		c.limit = max(c.limit, slices.Max(c.sent))
	}
}

// Succeeded allows all streams once a request has succeeded after the client knew that it had only FirstStreams.
func (c *Conn[T]) Succeeded() {
	switch {
	case len(c.sent) == 0:
		c.raised = true
		c.Limit(c.cfg.MaxStreams)
	case !c.raised: // the first limit of all: nothing was sent in the knowledge of it, but its purpose is served
		c.raised, c.raiseOnAck = true, true
	}
}
