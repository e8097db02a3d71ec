package apns

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/net/http2"

	"github.com/lhspn/lhspn/internal/push"
)

const (
	http2FrameHeaderLen = 9
	// http2WriteSize is how many bytes of frames are packed into one write: four full TLS records.
	http2WriteSize = 64 << 10
	// http2ChunkSize is how many deliveries are taken from the queue at a time.
	http2ChunkSize = 32
	// http2MaxPartial bounds the requests whose body waits for a window.
	http2MaxPartial = 128
	// http2MaxControl bounds the answers to a peer's own frames (PING, SETTINGS) that wait to be written. A peer that asks
	// faster than it reads reaches it.
	http2MaxControl = 64 << 10
	http2MaxID      = 1<<31 - 1
	// http2DefaultWindow and http2DefaultFrame are the protocol's initial values, before any SETTINGS.
	http2DefaultWindow = 1<<16 - 1
	http2DefaultFrame  = 1 << 14
	http2MaxWindow     = 1<<31 - 1

	// What we allow the peer. Answers are small, so that little is ever needed.
	http2OurStreamWindow = 16 << 10
	http2OurConnWindow   = 1 << 20
	http2OurHeaderBlock  = 16 << 10
	http2OurMaxBody      = 1 << 10
)

// http2Stream is one request that is not answered yet.
type http2Stream struct {
	ref     http2Ref
	id      uint32
	sent    uint32 // by the connection's clock
	status  uint16 // 0 until the answer's header block was read
	body    uint16 // bytes of the answer's body so far
	partial bool   // its own body is not written whole
}

// http2Partial is a request whose body waits for a window.
type http2Partial struct {
	id     uint32
	window int64 // the stream's
	rest   []byte
}

// http2Conn is one connection. Its writer (run) and its reader share what mu guards; each takes mu once for a whole write
// or read, never for a single notification.
type http2Conn struct {
	h     *HTTP2
	nc    net.Conn
	slot  *http2Slot
	since time.Time
	wakes chan struct{} // to the writer: something may be written
	// retired is closed when the connection takes no more notifications.
	retired chan struct{}

	mu       sync.Mutex
	enc      *http2Encoder
	streams  []http2Stream // by identifier; its length is a power of two
	overflow map[uint32]http2Stream
	bodies   map[uint32][]byte // of answers that came in several frames
	opened   int               // streams without an answer
	together int               // how many streams may be open while those are that are open now; see http2Ref.together
	nextID   uint32
	partial  []http2Partial
	control  []byte // frames that go before all others
	// The peer's SETTINGS, and what is left of its windows.
	maxStreams    uint32
	initialWindow int64
	sendWindow    int64
	maxFrame      int
	maxHeaderList uint32
	// received counts the bytes of DATA not yet given back to the peer's window for the connection.
	received int64
	// verified: APNs has accepted a provider token on this connection. Before that it allows one stream.
	verified  bool
	answers   int
	isRetired bool
	replaced  bool // by our own wish
	goAway    bool
	ended     bool
	err       error  // why it ended, with cause for the metric
	cause     string // an end... constant
	lastRead  time.Time
	// lastAnswer is when a request was last answered: with whatever, APNs answers.
	lastAnswer time.Time
	// doubts counts the answers in a row that were taken for the fault of single notifications; see doubt.
	doubts   int
	pingSent time.Time // zero when none is unanswered
	lastScan time.Time
	blocked  time.Time // since when the queue waits although no stream is open
	busy     time.Time // when the first of the open streams was opened, after none was
	resend   []http2Ref

	// The reader's: a header block that is continued.
	contID    uint32
	contFlags http2.Flags
	cont      []byte
	contCount int
	scratch   hpackScratch
	readDone  http2Settled

	// The writer's.
	writeDone http2Settled
	chunk     [http2ChunkSize]http2Ref
}

// connect opens a connection, up to the gateway's SETTINGS: before them nothing is known of what it allows.
func (h *HTTP2) connect(ctx context.Context) (*http2Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, h.cfg.DialTimeout)
	defer cancel()
	nc, err := h.open(ctx)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	c := &http2Conn{
		h: h, nc: nc, since: now, lastRead: now, lastScan: now,
		wakes: make(chan struct{}, 1), retired: make(chan struct{}),
		enc:      newHTTP2Encoder(http2Authority(h.cfg.Address)),
		streams:  make([]http2Stream, 256),
		overflow: map[uint32]http2Stream{}, bodies: map[uint32][]byte{},
		nextID: 1, maxStreams: 1<<32 - 1, initialWindow: http2DefaultWindow, sendWindow: http2DefaultWindow,
		maxFrame: http2DefaultFrame, maxHeaderList: 1<<32 - 1,
	}
	if err := c.greet(ctx); err != nil {
		nc.Close()
		return nil, err
	}
	return c, nil
}

// greet exchanges the prefaces. The frame that carries the peer's SETTINGS is left to the reader, all but its header.
func (c *http2Conn) greet(ctx context.Context) error {
	// The deadline follows ctx, which ends on shutdown too.
	stop := context.AfterFunc(ctx, func() { _ = c.nc.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	var hello bytes.Buffer
	hello.WriteString(http2.ClientPreface)
	fr := http2.NewFramer(&hello, nil)
	err := errors.Join(
		fr.WriteSettings(
			// No dynamic table for the peer: its header blocks can then be read without any state. See hpackStatus.
			http2.Setting{ID: http2.SettingHeaderTableSize, Val: 0},
			http2.Setting{ID: http2.SettingEnablePush, Val: 0},
			http2.Setting{ID: http2.SettingInitialWindowSize, Val: http2OurStreamWindow},
			http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: http2OurHeaderBlock},
		),
		fr.WriteWindowUpdate(0, http2OurConnWindow-http2DefaultWindow),
	)
	if err != nil {
		return fmt.Errorf("write the connection preface: %w", err)
	}
	if _, err := c.nc.Write(hello.Bytes()); err != nil {
		return fmt.Errorf("write the connection preface: %w", greetError(ctx, err))
	}
	var head [http2FrameHeaderLen]byte
	if _, err := io.ReadFull(c.nc, head[:]); err != nil {
		if errors.Is(err, io.EOF) && ctx.Err() == nil {
			return errors.New("the gateway closed the connection right after the handshake; " +
				"a certificate or key for the other environment has that effect")
		}
		return fmt.Errorf("read the gateway's SETTINGS: %w", greetError(ctx, err))
	}
	f := parseFrameHeader(head[:])
	if f.typ != http2.FrameSettings || f.flags.Has(http2.FlagSettingsAck) || f.stream != 0 || f.length > http2DefaultFrame {
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

func (c *http2Conn) signal() {
	select {
	case c.wakes <- struct{}{}:
	default:
	}
}

// run writes until the connection ends, with the reader beside it, and settles what is left.
func (c *http2Conn) run(ctx context.Context) {
	c.h.metrics.connections.Inc()
	defer c.h.metrics.connections.Dec()
	var reader sync.WaitGroup
	reader.Go(c.read)
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		c.mu.Lock()
		c.fail(endStopped, errHTTP2Stopped)
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
	left := c.takeAbove(0)
	for i := range left {
		left[i].tries++
		if c.cause != endStopped {
			left[i].breaks++
		}
	}
	cause, err := c.cause, c.err
	c.mu.Unlock()
	c.h.metrics.ends[cause].Inc()
	c.h.log.Debug("connection ended", "cause", cause, "error", err, "answers", c.answers, "unanswered", len(left))
	c.h.requeue(left, verdictLost, &c.writeDone)
	c.h.settle(&c.writeDone)
	if c.h.unwanted() {
		c.h.returnQueue(verdictLost)
	}
}

// fail ends the connection. What is in control, a last GOAWAY say, is still written. mu is held.
func (c *http2Conn) fail(cause string, err error) {
	if c.ended {
		return
	}
	c.ended, c.cause, c.err = true, cause, err
	if cause != endLost {
		code := http2.ErrCodeNo
		if ce := http2.ConnectionError(0); errors.As(err, &ce) {
			code = http2.ErrCode(ce)
		}
		c.control = appendFrameHeader(c.control, 8, http2.FrameGoAway, 0, 0)
		c.control = append(c.control, 0, 0, 0, 0, byte(code>>24), byte(code>>16), byte(code>>8), byte(code))
	}
	c.retire(err)
	// A writer that is stuck in a write now gets only as long as the last words may take.
	_ = c.nc.SetWriteDeadline(time.Now().Add(http2LastWords))
}

// http2LastWords is how long the writes of a connection that ends may take.
const http2LastWords = time.Second

// retire lets the connection take no more notifications; it ends when those it has are answered. mu is held.
func (c *http2Conn) retire(err error) {
	if !c.isRetired {
		c.isRetired = true
		c.h.retired(c, err)
		close(c.retired)
	}
}

// write is the writer: it packs what may be sent into one write after another, and keeps the connection's clock.
func (c *http2Conn) write() {
	buf := make([]byte, 0, http2WriteSize+http2ChunkSize*1024)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	shown := 0 // of opened, in the metric
	defer func() { c.h.metrics.unconfirmed.Add(float64(-shown)) }()
	for {
		c.mu.Lock()
		now := time.Now()
		c.tick(now)
		buf = append(buf[:0], c.control...)
		c.control = c.control[:0]
		if !c.ended {
			buf = c.fill(buf, now)
		}
		if c.isRetired && !c.ended && c.opened == 0 {
			cause := endRetired
			if c.goAway {
				cause = endGoAway
			}
			c.fail(cause, nil)
			buf = append(buf, c.control...)
			c.control = c.control[:0]
		}
		ended := c.ended
		next := c.nextTick()
		open := c.opened
		c.mu.Unlock()

		if open != shown {
			c.h.metrics.unconfirmed.Add(float64(open - shown))
			shown = open
		}
		c.h.settle(&c.writeDone)
		if len(buf) > 0 {
			timeout := c.h.cfg.WriteTimeout
			if ended {
				timeout = http2LastWords
			}
			_ = c.nc.SetWriteDeadline(time.Now().Add(timeout))
			_, err := c.nc.Write(buf)
			c.h.metrics.written.Add(float64(len(buf)))
			if err != nil {
				c.mu.Lock()
				cause := endLost
				if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() {
					cause = endSilent
				}
				c.fail(cause, fmt.Errorf("write: %w", err))
				c.mu.Unlock()
				return
			}
			if !ended {
				continue
			}
		}
		if ended {
			return
		}
		timer.Reset(time.Until(next))
		select {
		case <-c.wakes:
		case <-timer.C:
		}
	}
}

// limit is how many streams may be open now.
func (c *http2Conn) limit() int {
	n := int(min(c.maxStreams, uint32(c.h.cfg.MaxStreams)))
	if c.h.cfg.Tokens != nil && !c.verified {
		return min(n, 1)
	}
	return n
}

// fill appends frames to buf: first bodies that waited for a window, then new requests, as many as streams, windows and
// the size of a write allow. mu is held.
func (c *http2Conn) fill(buf []byte, now time.Time) []byte {
	if len(c.partial) > 0 {
		buf = c.fillPartial(buf)
	}
	if c.h.cfg.Tokens != nil && !c.isRetired {
		value, err := c.h.cfg.Tokens.authorization(now)
		if err != nil {
			c.fail(endRetired, err)
			return buf
		}
		c.enc.setAuthorization(value)
	}
	start := c.nextID
	more := true
	for more && len(buf) < http2WriteSize && !c.isRetired {
		n := 0
		if c.sendWindow > 0 && len(c.partial) < http2MaxPartial {
			if c.opened == 0 {
				c.together = http2MaxStreams
			}
			n = min(c.limit()-c.opened, c.together-c.opened, len(c.chunk))
		}
		c.h.mu.Lock()
		if n <= 0 {
			waiting := c.h.queue.n > 0
			if waiting && !c.h.saturated {
				c.h.saturated = true
				c.h.wake()
			}
			c.h.mu.Unlock()
			if waiting && c.opened == 0 && c.blocked.IsZero() {
				c.blocked = now
			}
			return buf
		}
		n = c.h.queue.pop(c.chunk[:n])
		more = c.h.queue.n > 0
		c.h.mu.Unlock()
		for i := range n {
			together := min(c.together, c.chunk[i].together())
			if c.sendWindow <= 0 || len(c.partial) >= http2MaxPartial || c.nextID > http2MaxID || c.opened >= together {
				c.h.mu.Lock()
				c.h.queue.pushFront(c.chunk[i:n])
				c.h.mu.Unlock()
				if c.nextID > http2MaxID {
					// Its identifiers have run out: another connection begins again at 1.
					c.retire(nil)
				}
				more = false
				break
			}
			c.together = together
			buf = c.request(buf, c.chunk[i], now)
		}
	}
	if c.nextID != start {
		c.blocked = time.Time{}
	}
	return buf
}

// request appends one notification's frames. mu is held.
func (c *http2Conn) request(buf []byte, ref http2Ref, now time.Time) []byte {
	d := ref.delivery()
	n := d.Notification
	if n.Expired(now) {
		c.writeDone.add(ref, verdictExpired.result())
		return buf
	}
	if c.maxHeaderList < 1<<20 && c.enc.listSize(n, d.Token.Address()) > int(c.maxHeaderList) {
		c.writeDone.add(ref, verdictUnsendable.result())
		return buf
	}
	if c.opened == 0 {
		c.busy = now
	}
	id := c.nextID
	c.nextID += 2
	length := n.Payload.Len(d.Badge)
	flags := http2.FlagHeadersEndHeaders
	if length == 0 {
		flags |= http2.FlagHeadersEndStream
	}
	start := len(buf)
	buf = appendFrameHeader(buf, 0, http2.FrameHeaders, flags, id)
	buf = c.enc.appendBlock(buf, n, d.Token.Address(), length)
	block := len(buf) - start - http2FrameHeaderLen
	if block > c.maxFrame {
		buf = splitHeaders(buf, start, c.maxFrame)
	} else {
		putFrameLength(buf[start:], block)
	}
	s := http2Stream{ref: ref, id: id, sent: c.clock(now)}
	switch {
	case length == 0:
	case int64(length) <= min(c.sendWindow, c.initialWindow) && length <= c.maxFrame:
		buf = appendFrameHeader(buf, length, http2.FrameData, http2.FlagDataEndStream, id)
		buf = n.Payload.AppendTo(buf, d.Badge)
		c.sendWindow -= int64(length)
	default:
		s.partial = true
		c.partial = append(c.partial, http2Partial{id: id, window: c.initialWindow, rest: n.Payload.AppendTo(nil, d.Badge)})
		c.put(s)
		return c.fillPartial(buf)
	}
	c.put(s)
	return buf
}

// fillPartial appends what the windows allow of the bodies that wait. mu is held.
func (c *http2Conn) fillPartial(buf []byte) []byte {
	keep := c.partial[:0]
	for _, p := range c.partial {
		for len(p.rest) > 0 && c.sendWindow > 0 && p.window > 0 {
			n := int(min(int64(len(p.rest)), c.sendWindow, p.window, int64(c.maxFrame)))
			var flags http2.Flags
			if n == len(p.rest) {
				flags = http2.FlagDataEndStream
			}
			buf = appendFrameHeader(buf, n, http2.FrameData, flags, p.id)
			buf = append(buf, p.rest[:n]...)
			p.rest = p.rest[n:]
			p.window -= int64(n)
			c.sendWindow -= int64(n)
		}
		if len(p.rest) > 0 {
			keep = append(keep, p)
		} else if s, ok := c.find(p.id); ok {
			s.partial = false
			c.update(s)
		}
	}
	clear(c.partial[len(keep):])
	c.partial = keep
	return buf
}

// splitHeaders turns the HEADERS frame that begins at start, longer than the peer takes, into one of the full size and
// CONTINUATIONs.
func splitHeaders(buf []byte, start, maxFrame int) []byte {
	flags := http2.Flags(buf[start+4])
	stream := buf[start+5 : start+9]
	id := uint32(stream[0])<<24 | uint32(stream[1])<<16 | uint32(stream[2])<<8 | uint32(stream[3])
	block := slices.Clone(buf[start+http2FrameHeaderLen:])
	buf = appendFrameHeader(buf[:start], maxFrame, http2.FrameHeaders, flags&^http2.FlagHeadersEndHeaders, id)
	buf = append(buf, block[:maxFrame]...)
	for block = block[maxFrame:]; len(block) > 0; {
		n := min(len(block), maxFrame)
		var f http2.Flags
		if n == len(block) {
			f = http2.FlagContinuationEndHeaders
		}
		buf = appendFrameHeader(buf, n, http2.FrameContinuation, f, id)
		buf = append(buf, block[:n]...)
		block = block[n:]
	}
	return buf
}

// tick does what is due by the clock: a PING, a request's own deadline, the end of a connection that shows no life. mu is held.
func (c *http2Conn) tick(now time.Time) {
	if c.ended {
		return
	}
	cfg := &c.h.cfg
	if !c.pingSent.IsZero() && !c.lastRead.Before(c.pingSent) {
		c.pingSent = time.Time{} // whatever came, it lives
	}
	switch {
	case !c.pingSent.IsZero():
		if now.Sub(c.pingSent) >= cfg.PingTimeout {
			c.fail(endSilent, fmt.Errorf("no sign of life in %v after a PING", cfg.PingTimeout))
			return
		}
	case !now.Before(c.pingDue()):
		c.pingSent = now
		c.control = appendFrameHeader(c.control, 8, http2.FramePing, 0, 0)
		c.control = append(c.control, "apnsping"...)
	}
	if !c.blocked.IsZero() {
		switch {
		case c.opened > 0:
			c.blocked = time.Time{}
		case now.Sub(c.blocked) >= cfg.StreamTimeout:
			c.fail(endSilent, errHTTP2Stalled)
			return
		}
	}
	if c.opened > 0 && now.Sub(c.lastScan) >= cfg.StreamTimeout/8 {
		c.lastScan = now
		c.giveUp(now)
	}
}

// pingDue is when the peer is asked for a sign of life, if it gives none before.
func (c *http2Conn) pingDue() time.Time {
	due := c.lastRead.Add(c.h.cfg.PingInterval)
	if c.opened == 0 {
		return due
	}
	asked := c.busy
	if c.lastRead.After(asked) {
		asked = c.lastRead
	}
	if early := asked.Add(c.h.cfg.PingTimeout); early.Before(due) {
		return early
	}
	return due
}

// nextTick is when tick has something to do next. mu is held.
func (c *http2Conn) nextTick() time.Time {
	next := c.pingDue()
	if !c.pingSent.IsZero() {
		next = c.pingSent.Add(c.h.cfg.PingTimeout)
	}
	earlier := func(t time.Time) {
		if t.Before(next) {
			next = t
		}
	}
	if c.opened > 0 {
		earlier(c.lastScan.Add(c.h.cfg.StreamTimeout / 8))
	}
	if !c.blocked.IsZero() {
		earlier(c.blocked.Add(c.h.cfg.StreamTimeout))
	}
	return next
}

// giveUp cancels the requests whose own deadline has passed. mu is held.
func (c *http2Conn) giveUp(now time.Time) {
	late := func(s *http2Stream) bool { return s.id != 0 && now.Sub(c.sentAt(s, now)) >= c.h.cfg.StreamTimeout }
	var ids []uint32
	for i := range c.streams {
		if late(&c.streams[i]) {
			ids = append(ids, c.streams[i].id)
		}
	}
	for id, s := range c.overflow {
		if late(&s) {
			ids = append(ids, id)
		}
	}
	for _, id := range ids {
		if s, ok := c.take(id); ok {
			c.reset(id, http2.ErrCodeCancel)
			c.writeDone.add(s.ref, c.unanswered(c.sentAt(&s, now)).result())
		}
	}
}

// clock is the connection's: milliseconds, in few bits, for there is one in each stream. It goes round after 49 days, which a
// connection may well live; a stream does not.
func (c *http2Conn) clock(now time.Time) uint32 { return uint32(now.Sub(c.since) / time.Millisecond) }

// sentAt is when the request was sent, to the millisecond below.
func (c *http2Conn) sentAt(s *http2Stream, now time.Time) time.Time {
	age := time.Duration(c.clock(now)-s.sent) * time.Millisecond
	return c.since.Add(now.Sub(c.since).Truncate(time.Millisecond) - age)
}

// reset tells the peer that we are done with a stream. mu is held.
func (c *http2Conn) reset(id uint32, code http2.ErrCode) {
	c.control = appendFrameHeader(c.control, 4, http2.FrameRSTStream, 0, id)
	c.control = append(c.control, byte(code>>24), byte(code>>16), byte(code>>8), byte(code))
}

// The table of streams. Each has its place by its identifier; one that stays unanswered while the identifiers go round the
// table moves to overflow, so that a slow request neither holds up the others nor lets the table grow.

func (c *http2Conn) place(id uint32) *http2Stream { return &c.streams[int(id>>1)&(len(c.streams)-1)] }

func (c *http2Conn) put(s http2Stream) {
	c.opened++
	if c.opened > len(c.streams)/2 && len(c.streams) < 2*http2MaxStreams {
		old := c.streams
		c.streams = make([]http2Stream, 2*len(old))
		for _, o := range old {
			if o.id != 0 {
				*c.place(o.id) = o
			}
		}
	}
	p := c.place(s.id)
	if p.id != 0 {
		c.overflow[p.id] = *p
	}
	*p = s
}

func (c *http2Conn) find(id uint32) (http2Stream, bool) {
	if p := c.place(id); p.id == id && id != 0 {
		return *p, true
	}
	s, ok := c.overflow[id]
	return s, ok
}

func (c *http2Conn) update(s http2Stream) {
	if p := c.place(s.id); p.id == s.id {
		*p = s
		return
	}
	c.overflow[s.id] = s
}

// take removes a stream, and all that is kept for it.
func (c *http2Conn) take(id uint32) (http2Stream, bool) {
	s := http2Stream{}
	if p := c.place(id); p.id == id && id != 0 {
		s, *p = *p, http2Stream{}
	} else if o, ok := c.overflow[id]; ok {
		s = o
		delete(c.overflow, id)
	} else {
		return s, false
	}
	c.opened--
	if s.body > 0 {
		delete(c.bodies, id)
	}
	if s.partial {
		c.partial = slices.DeleteFunc(c.partial, func(p http2Partial) bool { return p.id == id })
	}
	return s, true
}

// takeAbove removes all streams with identifiers above last, and returns their deliveries in the order they were sent.
func (c *http2Conn) takeAbove(last uint32) []http2Ref {
	var ids []uint32
	for i := range c.streams {
		if c.streams[i].id > last {
			ids = append(ids, c.streams[i].id)
		}
	}
	for id := range c.overflow {
		if id > last {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	refs := make([]http2Ref, 0, len(ids))
	for _, id := range ids {
		if s, ok := c.take(id); ok {
			refs = append(refs, s.ref)
		}
	}
	return refs
}

// http2GoAwayReason reads the JSON that APNs puts into a GOAWAY. It is a reason of the table, or empty.
func http2GoAwayReason(debug []byte) string {
	var d struct {
		Reason string `json:"reason"`
	}
	if json.Unmarshal(debug, &d) != nil {
		return ""
	}
	if row, ok := verdictByReason[d.Reason]; ok {
		return row.reason.String()
	}
	if d.Reason == "" {
		return ""
	}
	return push.UnknownReason.String()
}
