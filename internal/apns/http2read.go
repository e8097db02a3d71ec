package apns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/net/http2"

	"github.com/lhspn/lhspn/internal/push"
)

// http2ReadSize is the size of the read buffer: several of the largest frames we allow.
const http2ReadSize = 64 << 10

// http2MaxContinuations bounds the frames of one header block, of which each may be empty.
const http2MaxContinuations = 16

// http2Frame is the header of a frame. x/net's Framer allocates a value for each HEADERS frame it reads, so frames are
// taken apart here, in the read buffer, and Framer is left to where nothing depends on its speed.
type http2Frame struct {
	length int
	typ    http2.FrameType
	flags  http2.Flags
	stream uint32
}

func parseFrameHeader(p []byte) http2Frame {
	return http2Frame{
		length: int(p[0])<<16 | int(p[1])<<8 | int(p[2]),
		typ:    http2.FrameType(p[3]),
		flags:  http2.Flags(p[4]),
		stream: binary.BigEndian.Uint32(p[5:]) & http2MaxID,
	}
}

func putFrameLength(p []byte, length int) {
	p[0], p[1], p[2] = byte(length>>16), byte(length>>8), byte(length)
}

// read is the reader: it works off whole buffers, until the connection ends.
func (c *http2Conn) read() {
	buf := make([]byte, http2ReadSize)
	start, end := 0, 0
	var resend []http2Ref
	for {
		if len(buf)-end < http2DefaultFrame/4 && start > 0 {
			end = copy(buf, buf[start:end])
			start = 0
		}
		n, err := c.nc.Read(buf[end:])
		end += n
		c.mu.Lock()
		before := c.capacity()
		var used int
		if n > 0 {
			c.lastRead = time.Now()
			var ferr error
			used, ferr = c.frames(buf[start:end])
			if ferr != nil {
				c.fail(endProtocol, ferr)
			}
		}
		if err != nil {
			switch {
			case errors.Is(err, io.EOF) && c.isRetired && c.opened == 0:
				// The gateway was first to close what both were done with.
			case errors.Is(err, io.EOF):
				err = errors.New("the gateway closed the connection")
			default:
				err = fmt.Errorf("read: %w", err)
			}
			c.fail(endLost, err)
		}
		ended := c.ended
		wake := ended || len(c.control) > 0 || c.capacity() > before || len(c.partial) > 0 || c.isRetired && c.opened == 0
		resend = append(resend[:0], c.resend...)
		c.resend = c.resend[:0]
		c.mu.Unlock()

		if wake {
			c.signal()
		}
		if len(resend) > 0 {
			c.h.requeue(resend, verdictLost, &c.readDone)
		}
		c.h.settle(&c.readDone)
		if ended {
			return
		}
		if start += used; start == end {
			start, end = 0, 0
		}
	}
}

// capacity is how many streams could be opened now. mu is held.
func (c *http2Conn) capacity() int {
	if c.sendWindow <= 0 {
		return 0
	}
	return c.limit() - c.opened
}

// frames works off the whole frames in p and returns how many bytes they were. mu is held.
func (c *http2Conn) frames(p []byte) (used int, err error) {
	for len(p)-used >= http2FrameHeaderLen {
		f := parseFrameHeader(p[used:])
		if f.length > http2DefaultFrame {
			return used, fmt.Errorf("a frame of %d bytes: %w", f.length, http2.ConnectionError(http2.ErrCodeFrameSize))
		}
		if len(p)-used < http2FrameHeaderLen+f.length {
			break
		}
		payload := p[used+http2FrameHeaderLen : used+http2FrameHeaderLen+f.length]
		used += http2FrameHeaderLen + f.length
		if err := c.frame(f, payload); err != nil {
			return used, fmt.Errorf("%v frame: %w", f.typ, err)
		}
		if len(c.control) > http2MaxControl {
			return used, fmt.Errorf("the gateway asks faster than it reads: %w", http2.ConnectionError(http2.ErrCodeEnhanceYourCalm))
		}
	}
	return used, nil
}

const (
	errHTTP2Protocol    = http2.ConnectionError(http2.ErrCodeProtocol)
	errHTTP2FrameSize   = http2.ConnectionError(http2.ErrCodeFrameSize)
	errHTTP2Flow        = http2.ConnectionError(http2.ErrCodeFlowControl)
	errHTTP2Compression = http2.ConnectionError(http2.ErrCodeCompression)
	errHTTP2Calm        = http2.ConnectionError(http2.ErrCodeEnhanceYourCalm)
)

func (c *http2Conn) frame(f http2Frame, p []byte) error {
	if c.contID != 0 && (f.typ != http2.FrameContinuation || f.stream != c.contID) {
		return errHTTP2Protocol
	}
	switch f.typ {
	case http2.FrameHeaders:
		return c.onHeaders(f, p)
	case http2.FrameContinuation:
		return c.onContinuation(f, p)
	case http2.FrameData:
		return c.onData(f, p)
	case http2.FrameRSTStream:
		if len(p) != 4 {
			return errHTTP2FrameSize
		}
		return c.onReset(f.stream, http2.ErrCode(binary.BigEndian.Uint32(p)))
	case http2.FrameSettings:
		if f.stream != 0 {
			return errHTTP2Protocol
		}
		return c.onSettings(f.flags, p)
	case http2.FramePing:
		if f.stream != 0 {
			return errHTTP2Protocol
		}
		if len(p) != 8 {
			return errHTTP2FrameSize
		}
		if !f.flags.Has(http2.FlagPingAck) {
			c.control = appendFrameHeader(c.control, 8, http2.FramePing, http2.FlagPingAck, 0)
			c.control = append(c.control, p...)
		}
		return nil
	case http2.FrameGoAway:
		if f.stream != 0 {
			return errHTTP2Protocol
		}
		if len(p) < 8 {
			return errHTTP2FrameSize
		}
		c.onGoAway(binary.BigEndian.Uint32(p)&http2MaxID, http2.ErrCode(binary.BigEndian.Uint32(p[4:])), p[8:])
		return nil
	case http2.FrameWindowUpdate:
		if len(p) != 4 {
			return errHTTP2FrameSize
		}
		return c.onWindowUpdate(f.stream, int64(binary.BigEndian.Uint32(p)&http2MaxID))
	case http2.FramePushPromise:
		return errHTTP2Protocol // our SETTINGS forbid it
	default:
		return nil // PRIORITY, and what extensions bring, is ignored (RFC 9113, 4.1)
	}
}

// known looks a stream up. A frame on one that never was opened ends the connection; on one that is closed it is ignored, for
// it may have crossed our RST_STREAM.
func (c *http2Conn) known(id uint32) (s http2Stream, ok bool, err error) {
	if id&1 == 0 || id >= c.nextID {
		return s, false, errHTTP2Protocol
	}
	s, ok = c.find(id)
	return s, ok, nil
}

// unpad removes the padding of a DATA or HEADERS frame.
func unpad(p []byte, padded bool) ([]byte, error) {
	if !padded {
		return p, nil
	}
	if len(p) == 0 || int(p[0]) >= len(p) {
		return nil, errHTTP2Protocol
	}
	return p[1 : len(p)-int(p[0])], nil
}

func (c *http2Conn) onHeaders(f http2Frame, p []byte) error {
	p, err := unpad(p, f.flags.Has(http2.FlagHeadersPadded))
	if err != nil {
		return err
	}
	if f.flags.Has(http2.FlagHeadersPriority) {
		if len(p) < 5 {
			return errHTTP2FrameSize
		}
		p = p[5:]
	}
	if f.flags.Has(http2.FlagHeadersEndHeaders) {
		return c.onBlock(f, p)
	}
	if f.stream == 0 {
		return errHTTP2Protocol
	}
	c.contID, c.contFlags, c.contCount = f.stream, f.flags, 0
	c.cont = append(c.cont[:0], p...)
	return nil
}

func (c *http2Conn) onContinuation(f http2Frame, p []byte) error {
	if c.contID == 0 {
		return errHTTP2Protocol
	}
	if c.contCount++; c.contCount > http2MaxContinuations || len(c.cont)+len(p) > http2OurHeaderBlock {
		return errHTTP2Calm
	}
	c.cont = append(c.cont, p...)
	if !f.flags.Has(http2.FlagContinuationEndHeaders) {
		return nil
	}
	f.stream, f.flags, c.contID = c.contID, c.contFlags, 0
	return c.onBlock(f, c.cont)
}

// onBlock reads a whole header block: an answer, or its trailers.
func (c *http2Conn) onBlock(f http2Frame, block []byte) error {
	s, ok, err := c.known(f.stream)
	if err != nil {
		return err
	}
	status, valid := hpackStatus(block, &c.scratch)
	if !valid {
		return errHTTP2Compression
	}
	end := f.flags.Has(http2.FlagHeadersEndStream)
	switch {
	case !ok:
		return nil
	case s.status != 0: // trailers
		if !end {
			return errHTTP2Protocol
		}
		c.answer(s, c.bodies[s.id])
	case status/100 == 1 && !end: // interim; the answer follows
	case status < 200:
		c.resetStream(s, http2.ErrCodeProtocol)
	case end:
		s.status = uint16(status)
		c.answer(s, nil)
	default:
		s.status = uint16(status)
		c.update(s)
	}
	return nil
}

func (c *http2Conn) onData(f http2Frame, p []byte) error {
	s, ok, err := c.known(f.stream)
	if err != nil {
		return err
	}
	// The whole frame counts against the connection's window, and so does what comes on a closed stream.
	if c.received += int64(f.length); c.received > http2OurConnWindow {
		return errHTTP2Flow
	}
	if c.received > http2OurConnWindow/2 {
		c.control = appendFrameHeader(c.control, 4, http2.FrameWindowUpdate, 0, 0)
		c.control = binary.BigEndian.AppendUint32(c.control, uint32(c.received))
		c.received = 0
	}
	if p, err = unpad(p, f.flags.Has(http2.FlagDataPadded)); err != nil {
		return err
	}
	switch {
	case !ok:
	case s.status == 0:
		c.resetStream(s, http2.ErrCodeProtocol)
	case f.flags.Has(http2.FlagDataEndStream) && s.body == 0:
		c.answer(s, p)
	default:
		c.onLongBody(s, p, f.flags.Has(http2.FlagDataEndStream))
	}
	return nil
}

// onLongBody gathers a body that comes in several frames. APNs' are below 100 bytes: of one that is longer than any of them
// the rest is refused, and the status alone decides.
func (c *http2Conn) onLongBody(s http2Stream, p []byte, end bool) {
	body := c.bodies[s.id]
	if len(body)+len(p) > http2OurMaxBody {
		if !end {
			c.reset(s.id, http2.ErrCodeCancel)
		}
		c.answer(s, nil)
		return
	}
	if s.status != 200 && len(p) > 0 { // what take removes with the stream is what has bytes
		body = append(body, p...)
		c.bodies[s.id] = body
	}
	if end {
		c.answer(s, body)
		return
	}
	s.body += uint16(len(p))
	if s.status == 200 && s.body > http2OurMaxBody {
		c.reset(s.id, http2.ErrCodeCancel)
		c.answer(s, nil)
		return
	}
	c.update(s)
}

// answer settles a request by APNs' answer, and does what that asks of the connection.
func (c *http2Conn) answer(s http2Stream, body []byte) {
	c.take(s.id)
	if s.partial {
		// Answered before it was heard to the end: APNs has seen enough.
		c.reset(s.id, http2.ErrCodeCancel)
	}
	c.lastAnswer = c.lastRead
	if c.answers++; c.answers == 1 {
		c.h.reached()
	}
	result, action := judgeAnswer(int(s.status), body, c.lastRead)
	switch action {
	case actionNone:
	case actionRenewToken:
		if c.h.cfg.Tokens != nil && !s.ref.renewed {
			c.h.cfg.Tokens.renew(c.lastRead)
			s.ref.renewed = true
			c.resend = append(c.resend, s.ref)
			return
		}
	case actionReconnect:
		c.retire(nil)
	case actionDoubt:
		result.Outcome = c.doubt()
	}
	if s.status == 200 {
		c.verified, c.doubts = true, 0
	}
	c.readDone.add(s.ref, result)
}

// http2MaxDoubts is how many answers in a row may be the fault of single notifications.
const http2MaxDoubts = 8

// doubt is the outcome of an answer that may be about the app's configuration. Where the connection's other requests are
// accepted it is about this one notification: that is to be tried again and counted, for held it would hold up all others.
func (c *http2Conn) doubt() push.Outcome {
	if !c.verified || c.doubts == http2MaxDoubts {
		return push.Blocked
	}
	c.doubts++
	return push.Retry
}

// resetStream ends one stream on which the peer broke the rules.
func (c *http2Conn) resetStream(s http2Stream, code http2.ErrCode) {
	c.reset(s.id, code)
	c.abandoned(s)
}

// abandoned ends one stream that got no answer and will get none: it is sent again a few times, since that may be chance.
func (c *http2Conn) abandoned(s http2Stream) {
	c.take(s.id)
	if s.ref.tries++; s.ref.tries < http2MaxTries {
		c.resend = append(c.resend, s.ref)
		return
	}
	c.readDone.add(s.ref, c.unanswered(c.lastRead.Add(-c.h.cfg.StreamTimeout)).result())
}

// unanswered is the verdict on a request without an answer, by whether others have had theirs since then.
func (c *http2Conn) unanswered(since time.Time) verdict {
	if !c.lastAnswer.Before(since) {
		return verdictOthersAnswered
	}
	return verdictNoAnswer
}

func (c *http2Conn) onReset(id uint32, code http2.ErrCode) error {
	s, ok, err := c.known(id)
	if err != nil || !ok {
		return err
	}
	switch {
	case code == http2.ErrCodeRefusedStream:
		// Not processed, that much is certain (RFC 9113, 8.7).
		c.take(id)
		s.ref.tries++
		c.resend = append(c.resend, s.ref)
	case code == http2.ErrCodeNo && s.status != 0:
		// The answer was complete but for its end.
		c.answer(s, c.bodies[id])
	default:
		c.abandoned(s)
	}
	return nil
}

// onSettings follows the peer's SETTINGS, which may come at any moment, and acknowledges them.
func (c *http2Conn) onSettings(flags http2.Flags, p []byte) error {
	if flags.Has(http2.FlagSettingsAck) {
		if len(p) != 0 {
			return errHTTP2FrameSize
		}
		return nil
	}
	if len(p)%6 != 0 {
		return errHTTP2FrameSize
	}
	for ; len(p) > 0; p = p[6:] {
		v := binary.BigEndian.Uint32(p[2:])
		switch http2.SettingID(binary.BigEndian.Uint16(p)) {
		case http2.SettingHeaderTableSize:
			c.enc.setTableSize(v)
		case http2.SettingMaxConcurrentStreams:
			c.maxStreams = v
		case http2.SettingInitialWindowSize:
			if v > http2MaxWindow {
				return errHTTP2Flow
			}
			// It changes the windows of open streams too, and may make them negative (RFC 9113, 6.9.2).
			delta := int64(v) - c.initialWindow
			for i := range c.partial {
				if c.partial[i].window += delta; c.partial[i].window > http2MaxWindow {
					return errHTTP2Flow
				}
			}
			c.initialWindow = int64(v)
		case http2.SettingMaxFrameSize:
			if v < http2DefaultFrame || v > 1<<24-1 {
				return errHTTP2Protocol
			}
			c.maxFrame = int(v)
		case http2.SettingMaxHeaderListSize:
			c.maxHeaderList = v
		default: // what does not concern a client that pushes, and what is not known yet (RFC 9113, 6.5.2)
		}
	}
	c.control = appendFrameHeader(c.control, 0, http2.FrameSettings, http2.FlagSettingsAck, 0)
	return nil
}

func (c *http2Conn) onWindowUpdate(id uint32, n int64) error {
	if id == 0 {
		if c.sendWindow += n; n == 0 {
			return errHTTP2Protocol
		}
		if c.sendWindow > http2MaxWindow {
			return errHTTP2Flow
		}
		return nil
	}
	s, ok, err := c.known(id)
	if err != nil || !ok {
		return err
	}
	if n == 0 {
		c.resetStream(s, http2.ErrCodeProtocol)
		return nil
	}
	// Only a body that waits cares for its stream's window.
	for i := range c.partial {
		if p := &c.partial[i]; p.id == id {
			if p.window += n; p.window > http2MaxWindow {
				c.resetStream(s, http2.ErrCodeFlowControl)
			}
			break
		}
	}
	return nil
}

// onGoAway retires the connection. What is above the peer's last stream was not processed and is sent again at once; the
// rest is awaited. A first GOAWAY often names the highest identifier there is, and a second one the real one.
func (c *http2Conn) onGoAway(last uint32, code http2.ErrCode, debug []byte) {
	reason := http2GoAwayReason(debug)
	if !c.goAway {
		c.h.saidGoAway(reason, code)
	}
	c.goAway = true
	c.retire(fmt.Errorf("GOAWAY %v %s", code, reason))
	for _, ref := range c.takeAbove(last) {
		ref.tries++
		if code != http2.ErrCodeNo {
			ref.breaks++
		}
		c.resend = append(c.resend, ref)
	}
}

// saidGoAway logs a GOAWAY that gives a reason or an error. It may come for every connection, so the same one is logged once a
// minute.
func (h *HTTP2) saidGoAway(reason string, code http2.ErrCode) {
	if reason == "" && code == http2.ErrCodeNo {
		return
	}
	now := time.Now()
	h.mu.Lock()
	said := h.goAwayReason == reason && now.Sub(h.goAwayAt) < time.Minute
	if !said {
		h.goAwayReason, h.goAwayAt = reason, now
	}
	h.mu.Unlock()
	if !said {
		h.log.Warn("the gateway ends a connection", "reason", reason, "code", code)
	}
}
