package simulator

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/net/http2"
)

const (
	frameHead      = 9
	maxFrame       = 16 << 10 // SETTINGS_MAX_FRAME_SIZE, the protocol's default
	maxHeaderBlock = 32 << 10 // compressed, with all CONTINUATION frames
	defaultWindow  = 1<<16 - 1
	maxWindow      = 1<<31 - 1
	unlimited      = 1<<32 - 1
	providerBuffer = 128 << 10
	writeTimeout   = 30 * time.Second
	settingEntry   = 6 // bytes
	// minDelayStep is the least time between two writes of delayed answers, so that they share one.
	minDelayStep = 100 * time.Microsecond
)

// errClosed ends a connection that a fault has closed.
var errClosed = errors.New("closed by a fault")

// connError is a violation of the protocol that ends the connection.
type connError struct {
	code   http2.ErrCode
	detail string
}

func (e connError) Error() string { return fmt.Sprintf("%s: %s", e.code, e.detail) }

// providerConn is one connection of the provider API. HTTP/2's frames are read and written here rather than by
// http2.Framer, which allocates for each frame: the simulator must not be what a benchmark of a client measures.
//
// The goroutine that reads owns what is above mu. It holds mu while it works on what one read gave, and the goroutine
// that sends delayed answers while it does that; neither holds it while it waits.
type providerConn struct {
	lastPayload []byte // the last that was found to be one
	s           *Simulator
	raw         net.Conn
	conn        *tls.Conn
	certTopic   string // of the client certificate; empty without one
	hasCert     bool
	headers     *headerDecoder
	block       []byte // of a header block that goes on in CONTINUATION frames
	blockID     uint32 // its stream; 0 while there is none
	blockEnds   bool   // its HEADERS had END_STREAM
	topics      topicCache
	auth        authorization

	mu     sync.Mutex
	out    []byte // what is written at the end of the chunk
	tally  tally
	faults *Faults
	now    time.Time // of the chunk

	current *stream // the stream opened last, while its request is incomplete
	streams map[uint32]*stream
	free    []*stream
	open    int    // streams that are neither answered nor reset
	silent  int    // those of them that never will be
	maxID   uint32 // the highest stream that was opened

	limits        []uint32 // MAX_CONCURRENT_STREAMS that were sent and not yet acknowledged
	ackedLimit    uint32   // the last that was acknowledged
	raised        bool     // a success has raised the first limit
	raiseOnAck    bool     // one has, before the client said that it knows that limit
	limit         uint32   // what is enforced: the largest of them
	sentLimit     uint32   // the last that was sent
	requests      int
	goingAway     bool
	lastID        uint32 // with goingAway: streams above it are not processed
	receiveWindow int64
	sendWindow    int64
	peerWindow    int64  // the initial window of the client's streams
	peerTable     uint32 // what the client takes our encoder's table for at the most
	sizeUpdate    []byte // what the next header block begins with
	blocked       []blockedData
	delayed       []delayedAnswer // in the order in which they are due
	waiting       bool            // the goroutine that sends them has been started
	wake          chan struct{}   // tells it that the first one is another
	workers       sync.WaitGroup
}

// blockedData is a response body that waits for the client's flow-control window.
type blockedData struct {
	id    uint32
	extra int64 // WINDOW_UPDATEs of the stream
	body  []byte
}

type delayedAnswer struct {
	due    time.Time
	stream *stream
}

func (s *Simulator) serveProvider(ctx context.Context, raw net.Conn) {
	conn := s.handshake(ctx, raw, s.providerTLS)
	if conn == nil {
		return
	}
	c := &providerConn{
		s: s, raw: raw, conn: conn, faults: s.faults.Load(), now: time.Now(),
		streams: map[uint32]*stream{}, wake: make(chan struct{}, 1),
		ackedLimit: unlimited, limit: unlimited,
		receiveWindow: max(defaultWindow, int64(s.cfg.ConnectionWindow)),
		sendWindow:    defaultWindow, peerWindow: defaultWindow, peerTable: headerTableSize,
	}
	c.headers = newHeaderDecoder(c.header)
	if peers := conn.ConnectionState().PeerCertificates; len(peers) > 0 {
		c.hasCert, c.certTopic = true, topicOf(peers[0])
	}
	s.log.Debug("provider connection", "remote", raw.RemoteAddr(), "certificate_topic", c.certTopic)
	ctx, cancel := context.WithCancel(ctx)
	defer c.workers.Wait()
	defer cancel()

	err := c.serve(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	s.recorder.add(&c.tally)
	var violation connError
	switch {
	case errors.As(err, &violation):
		s.log.Debug("provider connection: protocol violated", "remote", raw.RemoteAddr(), "error", err)
		c.appendGoAway(c.maxID, violation.code, violation.detail)
		if c.flush() == nil {
			finish(conn, raw)
		}
	case err == nil: // gone away
		finish(conn, raw)
	}
}

// serve reads until the connection has gone away (nil), or ends or fails.
func (c *providerConn) serve(ctx context.Context) error {
	buf := make([]byte, providerBuffer)
	held, needPreface := 0, true
	c.mu.Lock()
	c.greet()
	err := c.flush()
	c.mu.Unlock()
	if err != nil {
		return err
	}
	for {
		n, readErr := c.conn.Read(buf[held:])
		b := buf[:held+n]
		if needPreface && len(b) >= len(http2.ClientPreface) {
			if string(b[:len(http2.ClientPreface)]) != http2.ClientPreface {
				return connError{http2.ErrCodeProtocol, "no HTTP/2 preface"}
			}
			needPreface = false
			b = b[len(http2.ClientPreface):]
		}
		used := 0
		if !needPreface {
			var done bool
			if used, done, err = c.chunk(ctx, b); err != nil || done {
				return err
			}
		}
		if readErr != nil {
			return c.ended(readErr)
		}
		held = copy(buf, b[used:])
	}
}

// chunk works on what one read gave: all of its whole frames, then one write of all there is to say to them.
func (c *providerConn) chunk(ctx context.Context, b []byte) (used int, done bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults, c.now = c.s.faults.Load(), time.Now()
	var frameErr error
	for {
		rest := b[used:]
		if len(rest) < frameHead {
			break
		}
		length := int(rest[0])<<16 | int(rest[1])<<8 | int(rest[2])
		if length > maxFrame {
			frameErr = connError{http2.ErrCodeFrameSize, "frame too large"}
			break
		}
		if len(rest) < frameHead+length {
			break
		}
		used += frameHead + length
		id := binary.BigEndian.Uint32(rest[5:]) & maxWindow
		if frameErr = c.frame(ctx, http2.FrameType(rest[3]), http2.Flags(rest[4]), id, rest[frameHead:frameHead+length]); frameErr != nil {
			break
		}
	}
	if frameErr == nil {
		c.replenish()
	}
	c.s.recorder.add(&c.tally)
	if err := c.flush(); err != nil {
		return used, false, err
	}
	return used, c.goneAway(), frameErr
}

// ended is what a failed read means: nothing bad where the last delayed answer has ended the connection.
func (c *providerConn) ended(readErr error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.goneAway() {
		return nil
	}
	return readErr
}

// goneAway reports whether everything was answered that a GOAWAY had promised.
func (c *providerConn) goneAway() bool {
	return c.goingAway && c.open <= c.silent && len(c.blocked) == 0
}

// flush writes what has been collected. Its caller holds mu.
func (c *providerConn) flush() error {
	if len(c.out) == 0 {
		return nil
	}
	_ = c.raw.SetWriteDeadline(time.Now().Add(writeTimeout))
	_, err := c.conn.Write(c.out)
	c.out = c.out[:0]
	return err
}

// greet sends our SETTINGS. With a provider token, only one stream is allowed until one was found valid.
func (c *providerConn) greet() {
	limit := c.s.cfg.MaxConcurrentStreams
	if !c.hasCert {
		limit = 1
	}
	c.out = appendFrameHead(c.out, 3*settingEntry, http2.FrameSettings, 0, 0)
	c.out = appendSetting(c.out, http2.SettingMaxConcurrentStreams, limit)
	c.out = appendSetting(c.out, http2.SettingInitialWindowSize, c.s.cfg.StreamWindow)
	c.out = appendSetting(c.out, http2.SettingMaxHeaderListSize, maxHeaderList/2)
	c.noteLimit(limit)
	if grow := int64(c.s.cfg.ConnectionWindow) - defaultWindow; grow > 0 {
		c.out = appendWindowUpdate(c.out, 0, grow)
	}
}

// sendLimit changes MAX_CONCURRENT_STREAMS.
func (c *providerConn) sendLimit(limit uint32) {
	if c.sentLimit == limit {
		return
	}
	c.out = appendFrameHead(c.out, settingEntry, http2.FrameSettings, 0, 0)
	c.out = appendSetting(c.out, http2.SettingMaxConcurrentStreams, limit)
	c.noteLimit(limit)
}

func (c *providerConn) noteLimit(limit uint32) {
	c.sentLimit = limit
	c.limits = append(c.limits, limit)
	c.limit = max(c.ackedLimit, slices.Max(c.limits))
}

// settingsAcked: a client can follow a limit only once it has read it, so the largest limit that it may still believe in
// is the one that is enforced.
func (c *providerConn) settingsAcked() {
	if len(c.limits) == 0 {
		return
	}
	if len(c.limits) == 1 && c.raiseOnAck {
		c.raiseOnAck = false
		c.sendLimit(c.s.cfg.MaxConcurrentStreams)
	}
	c.ackedLimit = c.limits[0]
	c.limits = c.limits[1:]
	c.limit = c.ackedLimit
	if len(c.limits) > 0 {
		c.limit = max(c.limit, slices.Max(c.limits))
	}
}

// frame handles one frame. Every error it returns ends the connection.
func (c *providerConn) frame(ctx context.Context, kind http2.FrameType, flags http2.Flags, id uint32, b []byte) error {
	if c.blockID != 0 && (kind != http2.FrameContinuation || id != c.blockID) {
		return connError{http2.ErrCodeProtocol, "a header block was interrupted"}
	}
	switch kind {
	case http2.FrameData:
		return c.data(ctx, flags, id, b)
	case http2.FrameHeaders:
		return c.headersFrame(ctx, flags, id, b)
	case http2.FrameContinuation:
		if c.blockID == 0 {
			return connError{http2.ErrCodeProtocol, "CONTINUATION without HEADERS"}
		}
		if len(c.block)+len(b) > maxHeaderBlock {
			return connError{http2.ErrCodeEnhanceYourCalm, "header block too large"}
		}
		c.block = append(c.block, b...)
		if !flags.Has(http2.FlagContinuationEndHeaders) {
			return nil
		}
		c.blockID = 0
		return c.headerBlock(ctx, id, c.block, c.blockEnds)
	case http2.FrameSettings:
		return c.settings(flags, id, b)
	case http2.FramePing:
		if id != 0 || len(b) != 8 {
			return connError{http2.ErrCodeProtocol, "malformed PING"}
		}
		if !flags.Has(http2.FlagPingAck) {
			c.out = appendFrameHead(c.out, 8, http2.FramePing, http2.FlagPingAck, 0)
			c.out = append(c.out, b...)
		}
		return nil
	case http2.FrameWindowUpdate:
		return c.windowUpdate(id, b)
	case http2.FrameRSTStream:
		return c.resetByClient(id, b)
	case http2.FramePushPromise:
		return connError{http2.ErrCodeProtocol, "PUSH_PROMISE from a client"}
	case http2.FramePriority:
		if id == 0 || len(b) != 5 {
			return connError{http2.ErrCodeProtocol, "malformed PRIORITY"}
		}
		return nil
	case http2.FrameGoAway:
		return nil // the client closes when it has its answers
	default:
		return nil // unknown frames are to be ignored
	}
}

// unpad strips the padding of DATA and HEADERS.
func unpad(b []byte, padded bool) ([]byte, error) {
	if !padded {
		return b, nil
	}
	if len(b) == 0 || int(b[0]) >= len(b) {
		return nil, connError{http2.ErrCodeProtocol, "more padding than frame"}
	}
	return b[1 : len(b)-int(b[0])], nil
}

func (c *providerConn) headersFrame(ctx context.Context, flags http2.Flags, id uint32, b []byte) error {
	if id%2 == 0 {
		return connError{http2.ErrCodeProtocol, "HEADERS on a stream that no client may open"}
	}
	b, err := unpad(b, flags.Has(http2.FlagHeadersPadded))
	if err != nil {
		return err
	}
	if flags.Has(http2.FlagHeadersPriority) {
		if len(b) < 5 {
			return connError{http2.ErrCodeFrameSize, "HEADERS too short for its priority"}
		}
		b = b[5:]
	}
	ends := flags.Has(http2.FlagHeadersEndStream)
	if flags.Has(http2.FlagHeadersEndHeaders) {
		return c.headerBlock(ctx, id, b, ends)
	}
	c.blockID, c.blockEnds = id, ends
	c.block = append(c.block[:0], b...)
	return nil
}

// headerBlock opens a stream, or ends one with trailers. The block is decoded whatever becomes of the stream, since all
// later ones depend on the table.
func (c *providerConn) headerBlock(ctx context.Context, id uint32, block []byte, ends bool) error {
	if st := c.find(id); st != nil {
		return c.trailers(ctx, st, block, ends)
	}
	if id <= c.maxID {
		return connError{http2.ErrCodeStreamClosed, "HEADERS on a closed stream"}
	}
	if c.current != nil {
		c.streams[c.current.id] = c.current
	}
	c.maxID = id
	st := c.newStream(id)
	c.current = st
	switch err := c.headers.decode(block); {
	case errors.Is(err, errHeaderTooLong):
		return connError{http2.ErrCodeEnhanceYourCalm, err.Error()}
	case err != nil:
		return connError{http2.ErrCodeCompression, err.Error()}
	}
	switch {
	case c.goingAway:
		// Above the last stream of the GOAWAY: not processed, and the client knows it.
		c.current = nil
		c.free = append(c.free, st)
		return nil
	case uint32(c.open) >= c.limit:
		c.current = nil
		c.free = append(c.free, st)
		c.tally[streamRefused]++
		c.out = appendReset(c.out, id, http2.ErrCodeRefusedStream)
		return nil
	}
	if st.malformed || !st.has(headerMethod) || !st.has(headerPath) || !st.has(headerScheme) {
		c.current = nil
		c.free = append(c.free, st)
		c.out = appendReset(c.out, id, http2.ErrCodeProtocol)
		return nil
	}
	c.open++
	if ends {
		return c.request(ctx, st, nil)
	}
	return nil
}

// trailers ends a request that has some. They are decoded into a stream that is thrown away.
func (c *providerConn) trailers(ctx context.Context, st *stream, block []byte, ends bool) error {
	if !ends || st.complete {
		return connError{http2.ErrCodeProtocol, "HEADERS in the middle of a request"}
	}
	current := c.current
	c.current = c.newStream(st.id)
	err := c.headers.decode(block)
	c.free = append(c.free, c.current)
	c.current = current
	if err != nil {
		return connError{http2.ErrCodeCompression, err.Error()}
	}
	return c.request(ctx, st, st.payload)
}

func (c *providerConn) data(ctx context.Context, flags http2.Flags, id uint32, b []byte) error {
	if id == 0 || id > c.maxID {
		return connError{http2.ErrCodeProtocol, "DATA on a stream that is not open"}
	}
	// All of the frame counts, its padding and what is for closed streams too.
	size := int64(len(b))
	if c.receiveWindow -= size; c.receiveWindow < 0 {
		return connError{http2.ErrCodeFlowControl, "the connection's window was overrun"}
	}
	b, err := unpad(b, flags.Has(http2.FlagDataPadded))
	if err != nil {
		return err
	}
	st := c.find(id)
	if st == nil || st.complete {
		return nil // refused, reset or not processed: the client did not know yet when it sent this
	}
	if st.receiveWindow -= size; st.receiveWindow < 0 {
		c.drop(st)
		c.out = appendReset(c.out, id, http2.ErrCodeFlowControl)
		return nil
	}
	if flags.Has(http2.FlagDataEndStream) {
		if len(st.payload) == 0 {
			return c.request(ctx, st, b)
		}
		st.add(b)
		return c.request(ctx, st, st.payload)
	}
	st.add(b)
	if window := int64(c.s.cfg.StreamWindow); st.receiveWindow <= window/2 {
		c.out = appendWindowUpdate(c.out, id, window-st.receiveWindow)
		st.receiveWindow = window
	}
	return nil
}

// replenish gives the client its connection window back.
func (c *providerConn) replenish() {
	if window := int64(c.s.cfg.ConnectionWindow); c.receiveWindow <= window/2 {
		c.out = appendWindowUpdate(c.out, 0, window-c.receiveWindow)
		c.receiveWindow = window
	}
}

func (c *providerConn) settings(flags http2.Flags, id uint32, b []byte) error {
	if id != 0 || len(b)%settingEntry != 0 {
		return connError{http2.ErrCodeFrameSize, "malformed SETTINGS"}
	}
	if flags.Has(http2.FlagSettingsAck) {
		c.settingsAcked()
		return nil
	}
	for ; len(b) > 0; b = b[settingEntry:] {
		value := binary.BigEndian.Uint32(b[2:])
		switch http2.SettingID(binary.BigEndian.Uint16(b)) {
		case http2.SettingInitialWindowSize:
			if value > maxWindow {
				return connError{http2.ErrCodeFlowControl, "initial window too large"}
			}
			c.peerWindow = int64(value)
		case http2.SettingHeaderTableSize:
			// Our header blocks are encoded without a table, but that it has become smaller must be said (RFC 7541, 4.2). As 0 it
			// is said once and for all.
			if value < c.peerTable {
				c.peerTable, c.sizeUpdate = 0, []byte{0x20}
			}
		default: // our frames are small
		}
	}
	c.out = appendFrameHead(c.out, 0, http2.FrameSettings, http2.FlagSettingsAck, 0)
	c.unblock()
	return nil
}

func (c *providerConn) windowUpdate(id uint32, b []byte) error {
	if len(b) != 4 {
		return connError{http2.ErrCodeFrameSize, "malformed WINDOW_UPDATE"}
	}
	n := int64(binary.BigEndian.Uint32(b) & maxWindow)
	if n == 0 {
		return connError{http2.ErrCodeProtocol, "WINDOW_UPDATE of nothing"}
	}
	if id == 0 {
		if c.sendWindow += n; c.sendWindow > maxWindow {
			return connError{http2.ErrCodeFlowControl, "connection window too large"}
		}
	} else if st := c.find(id); st != nil {
		st.extraWindow += n
	}
	for i := range c.blocked {
		if id != 0 && c.blocked[i].id == id {
			c.blocked[i].extra += n
		}
	}
	c.unblock()
	return nil
}

// sendBody sends a response body as far as the client's windows allow it, and keeps the rest.
func (c *providerConn) sendBody(d blockedData) (sent bool) {
	size := int64(len(d.body))
	if size > c.sendWindow || size > c.peerWindow+d.extra {
		return false
	}
	c.sendWindow -= size
	c.out = appendFrameHead(c.out, len(d.body), http2.FrameData, http2.FlagDataEndStream, d.id)
	c.out = append(c.out, d.body...)
	return true
}

func (c *providerConn) unblock() {
	c.blocked = slices.DeleteFunc(c.blocked, c.sendBody)
}

func (c *providerConn) resetByClient(id uint32, b []byte) error {
	if id == 0 || id > c.maxID || len(b) != 4 {
		return connError{http2.ErrCodeProtocol, "RST_STREAM on a stream that was never open"}
	}
	c.blocked = slices.DeleteFunc(c.blocked, func(d blockedData) bool { return d.id == id })
	if st := c.find(id); st != nil {
		c.delayed = slices.DeleteFunc(c.delayed, func(d delayedAnswer) bool { return d.stream == st })
		c.drop(st)
	}
	return nil
}

// find is the open stream with the identifier, nil where there is none.
func (c *providerConn) find(id uint32) *stream {
	if c.current != nil && c.current.id == id {
		return c.current
	}
	return c.streams[id]
}

// drop ends a stream.
func (c *providerConn) drop(st *stream) {
	if c.current == st {
		c.current = nil
	} else {
		delete(c.streams, st.id)
	}
	c.open--
	if st.silent {
		c.silent--
	}
	c.free = append(c.free, st)
}

// keep remembers a stream whose request is complete and whose answer comes later or never.
func (c *providerConn) keep(st *stream) {
	if c.current == st {
		c.current = nil
		c.streams[st.id] = st
	}
}

// goAway tells the client that no further stream is processed. What was opened before is.
func (c *providerConn) goAway(reason Reason) {
	if c.goingAway {
		return
	}
	c.goingAway, c.lastID = true, c.maxID
	c.appendGoAway(c.lastID, http2.ErrCodeNo, fmt.Sprintf(`{"reason":%q}`, reason))
}

func (c *providerConn) appendGoAway(lastID uint32, code http2.ErrCode, detail string) {
	c.out = appendFrameHead(c.out, 8+len(detail), http2.FrameGoAway, 0, 0)
	c.out = binary.BigEndian.AppendUint32(c.out, lastID)
	c.out = binary.BigEndian.AppendUint32(c.out, uint32(code))
	c.out = append(c.out, detail...)
}

// delay puts an answer off. Nearly always it is due after all others, so it is looked for from the end.
func (c *providerConn) delay(ctx context.Context, st *stream, due time.Time) {
	i := len(c.delayed)
	for i > 0 && c.delayed[i-1].due.After(due) {
		i--
	}
	c.delayed = slices.Insert(c.delayed, i, delayedAnswer{due, st})
	c.keep(st)
	if !c.waiting {
		c.waiting = true
		c.workers.Go(func() { c.answerDelayed(ctx) })
	} else if i == 0 {
		select {
		case c.wake <- struct{}{}:
		default:
		}
	}
}

// answerDelayed sends the delayed answers when they are due, all that are in one write, until the connection ends.
func (c *providerConn) answerDelayed(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.wake:
		case <-timer.C:
		}
		next, err := c.answerDue(time.Now())
		if err != nil {
			_ = c.raw.Close() // the reader ends with it
			return
		}
		if next >= 0 {
			timer.Reset(next)
		}
	}
}

// answerDue sends what is due and says how long it is until the next, negative where there is none.
func (c *providerConn) answerDue(now time.Time) (next time.Duration, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for n < len(c.delayed) && !c.delayed[n].due.After(now) {
		c.answer(c.delayed[n].stream)
		n++
	}
	c.delayed = slices.Delete(c.delayed, 0, n)
	if err := c.flush(); err != nil {
		return 0, err
	}
	if c.goneAway() {
		// The reader waits in a read that may never return anything more.
		_ = c.raw.SetReadDeadline(now)
	}
	if len(c.delayed) == 0 {
		return -1, nil
	}
	return max(minDelayStep, c.delayed[0].due.Sub(now)), nil
}

func appendFrameHead(dst []byte, length int, kind http2.FrameType, flags http2.Flags, id uint32) []byte {
	return append(dst, byte(length>>16), byte(length>>8), byte(length), byte(kind), byte(flags),
		byte(id>>24), byte(id>>16), byte(id>>8), byte(id))
}

func appendSetting(dst []byte, id http2.SettingID, value uint32) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(dst, uint16(id)), value)
}

func appendWindowUpdate(dst []byte, id uint32, n int64) []byte {
	dst = appendFrameHead(dst, 4, http2.FrameWindowUpdate, 0, id)
	return binary.BigEndian.AppendUint32(dst, uint32(n)) // a window has 31 bits
}

func appendReset(dst []byte, id uint32, code http2.ErrCode) []byte {
	dst = appendFrameHead(dst, 4, http2.FrameRSTStream, 0, id)
	return binary.BigEndian.AppendUint32(dst, uint32(code))
}
