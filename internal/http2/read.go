package http2

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"golang.org/x/net/http2"
)

const (
	// readSize is the size of the read buffer: several of the largest frames we allow. A connection begins with
	// readFirst, which holds one.
	readFirst = defaultFrame + 4<<10
	readSize  = 64 << 10
	// maxContinuations bounds the frames of one header block, of which each may be empty.
	maxContinuations = 16
	// maxControl bounds the answers to a peer's own frames (PING, SETTINGS) that wait to be written. A peer that asks
	// faster than it reads reaches it.
	maxControl = 64 << 10
)

// continuedBlock is a header block of which more is to come.
type continuedBlock struct {
	id    uint32 // 0 for none
	flags http2.Flags
	block []byte
	count int
}

// read is the reader: it works off whole buffers, until the connection ends.
func (c *conn) read() {
	buf := make([]byte, readFirst)
	start, end := 0, 0
	var resend []ref
	for {
		if len(buf)-end < defaultFrame/4 && start > 0 {
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
			c.answer.At = c.lastRead
			var ferr error
			used, ferr = c.frames(buf[start:end])
			if ferr != nil {
				c.fail(EndProtocol, ferr)
			}
		}
		if err != nil {
			switch {
			case errors.Is(err, io.EOF) && c.isRetired && c.streams.n == 0:
				// The peer was first to close what both were done with.
			case errors.Is(err, io.EOF):
				err = errors.New("the gateway closed the connection")
			default:
				err = fmt.Errorf("read: %w", err)
			}
			c.fail(EndLost, err)
		}
		ended := c.ended
		wake := ended || len(c.control) > 0 || c.capacity() > before || len(c.partial) > 0 || c.isRetired && c.streams.n == 0
		resend = append(resend[:0], c.resend...)
		c.resend = c.resend[:0]
		c.mu.Unlock()

		if wake {
			c.signal()
		}
		if len(resend) > 0 {
			c.cl.requeue(resend, &c.readDone)
		}
		c.cl.finish(&c.readDone)
		if ended {
			return
		}
		full := end == len(buf)
		if start += used; start == end {
			start, end = 0, 0
		}
		if full && len(buf) < readSize {
			buf = append(buf, make([]byte, readSize-len(buf))...)
		}
	}
}

// capacity is how many streams could be opened now. mu is held.
func (c *conn) capacity() int {
	if c.sendWindow <= 0 {
		return 0
	}
	return c.limit() - c.streams.n
}

// frames works off the whole frames in p and returns how many bytes they were. mu is held.
func (c *conn) frames(p []byte) (used int, err error) {
	for len(p)-used >= frameHeaderLen {
		f := parseFrameHeader(p[used:])
		if f.length > defaultFrame {
			return used, fmt.Errorf("a frame of %d bytes: %w", f.length, errFrameSize)
		}
		if len(p)-used < frameHeaderLen+f.length {
			break
		}
		payload := p[used+frameHeaderLen : used+frameHeaderLen+f.length]
		used += frameHeaderLen + f.length
		if err := c.frame(f, payload); err != nil {
			return used, fmt.Errorf("%v frame: %w", f.typ, err)
		}
		if len(c.control) > maxControl {
			return used, fmt.Errorf("the gateway asks faster than it reads: %w", errCalm)
		}
	}
	return used, nil
}

func (c *conn) frame(f frameHeader, p []byte) error {
	if c.continued.id != 0 && (f.typ != http2.FrameContinuation || f.stream != c.continued.id) {
		return errProtocol
	}
	switch f.typ {
	case http2.FrameHeaders:
		return c.onHeaders(f, p)
	case http2.FrameContinuation:
		return c.onContinuation(f, p)
	case http2.FrameData:
		return c.onData(f, p)
	case http2.FrameRSTStream:
		return c.onReset(f.stream, p)
	case http2.FrameSettings:
		if f.stream != 0 {
			return errProtocol
		}
		return c.onSettings(f.flags, p)
	case http2.FramePing:
		return c.onPing(f, p)
	case http2.FrameGoAway:
		return c.onGoAway(f.stream, p)
	case http2.FrameWindowUpdate:
		return c.onWindowUpdate(f.stream, p)
	case http2.FramePriority:
		return c.onPriority(f.stream, p)
	case http2.FramePushPromise:
		return errProtocol // our SETTINGS forbid it
	default:
		return nil // what extensions bring is ignored (RFC 9113, 4.1)
	}
}

// known looks a stream up; nil where it is closed. A frame on one that never was opened ends the connection (RFC 9113,
// 5.1).
func (c *conn) known(id uint32) (*stream, error) {
	if id&1 == 0 || id >= c.nextID {
		return nil, errProtocol
	}
	return c.streams.find(id), nil
}

// answering is known for HEADERS and DATA: on a stream that is closed these end the connection too, but where we have
// closed it they may have crossed our RST_STREAM.
func (c *conn) answering(id uint32) (*stream, error) {
	s, err := c.known(id)
	if err == nil && s == nil && !c.resets.maybe(id) {
		err = errStreamClosed
	}
	return s, err
}

func (c *conn) onHeaders(f frameHeader, p []byte) error {
	p, err := unpad(p, f.flags.Has(http2.FlagHeadersPadded))
	if err != nil {
		return err
	}
	if f.flags.Has(http2.FlagHeadersPriority) {
		if len(p) < 5 {
			return errFrameSize
		}
		p = p[5:]
	}
	if f.flags.Has(http2.FlagHeadersEndHeaders) {
		return c.onBlock(f, p)
	}
	if f.stream == 0 {
		return errProtocol
	}
	c.continued.id, c.continued.flags, c.continued.count = f.stream, f.flags, 0
	c.continued.block = append(c.continued.block[:0], p...)
	return nil
}

func (c *conn) onContinuation(f frameHeader, p []byte) error {
	b := &c.continued
	if b.id == 0 {
		return errProtocol
	}
	if b.count++; b.count > maxContinuations || len(b.block)+len(p) > ourHeaderBlock {
		return errCalm
	}
	b.block = append(b.block, p...)
	if !f.flags.Has(http2.FlagContinuationEndHeaders) {
		return nil
	}
	f.flags, b.id = b.flags, 0
	return c.onBlock(f, b.block)
}

// onBlock reads a whole header block: an answer, or its trailers.
func (c *conn) onBlock(f frameHeader, block []byte) error {
	s, err := c.answering(f.stream)
	if err != nil {
		return err
	}
	valid, decoded := c.blocks.read(block, s != nil && s.status != 0)
	if !decoded {
		return errCompression
	}
	if s == nil {
		return nil
	}
	end := f.flags.Has(http2.FlagHeadersEndStream)
	status := c.blocks.status
	switch {
	case !valid, s.status != 0 && !end: // what comes after the answer is its trailers
		if s.status == 0 && !c.blocks.vague { // whatever else is wrong with it
			s.status = uint16(status)
		}
		c.resetStream(s.id, http2.ErrCodeProtocol)
	case s.status != 0:
		c.onEnd(s, nil, nil)
	case status/100 == 1 && status != 101 && !end: // interim; the answer follows
	case status < 200:
		c.resetStream(s.id, http2.ErrCodeProtocol)
	default:
		s.status, s.length = uint16(status), int32(c.blocks.length)
		var fields [][]byte
		if c.blocks.anyWanted {
			fields = c.blocks.values
		}
		if end {
			c.onEnd(s, nil, fields)
		} else if fields != nil {
			c.keepFields(s, fields)
		}
	}
	return nil
}

// keepFields keeps the wanted fields of an answer whose body is to come.
func (c *conn) keepFields(s *stream, fields [][]byte) {
	kept := make([][]byte, len(fields))
	for i, v := range fields {
		kept[i] = slices.Clone(v)
	}
	s.kept = true
	c.streams.kept[s.id] = keptAnswer{fields: kept}
}

func (c *conn) onData(f frameHeader, p []byte) error {
	s, err := c.answering(f.stream)
	if err != nil {
		return err
	}
	if err := c.receive(f.length); err != nil {
		return err
	}
	if p, err = unpad(p, f.flags.Has(http2.FlagDataPadded)); err != nil {
		return err
	}
	end := f.flags.Has(http2.FlagDataEndStream)
	switch {
	case s == nil:
	case s.status == 0:
		c.resetStream(s.id, http2.ErrCodeProtocol)
	case end && !s.kept && len(p) <= c.cl.cfg.MaxBody:
		c.onEnd(s, p, nil)
	default:
		c.onBody(s, p, end)
	}
	return nil
}

// onBody takes a part of a body that comes in several frames. Of one that is longer than what is kept the rest is
// refused.
func (c *conn) onBody(s *stream, p []byte, end bool) {
	k := c.streams.kept[s.id]
	room := c.cl.cfg.MaxBody - len(k.body)
	k.body = append(k.body, p[:min(len(p), room)]...)
	switch {
	case len(p) > room:
		if !end {
			c.reset(s.id, http2.ErrCodeCancel)
		}
		c.answered(s, k.body, k.fields, true)
	case end:
		s.kept = true
		c.streams.kept[s.id] = k
		c.onEnd(s, nil, nil)
	case len(p) > 0: // what take removes with the stream is what was kept
		s.kept = true
		c.streams.kept[s.id] = k
	}
}

// onEnd ends a request whose answer is complete; p is its body and fields are its fields, as far as they are not kept.
func (c *conn) onEnd(s *stream, p []byte, fields [][]byte) {
	if s.kept {
		k := c.streams.kept[s.id]
		p, fields = k.body, k.fields
	}
	if s.length != noLength && int(s.length) != len(p) && s.status != 304 {
		c.resetStream(s.id, http2.ErrCodeProtocol) // RFC 9113, 8.1.1
		return
	}
	c.answered(s, p, fields, false)
}

// answered tells the caller of an answer, and does what it asks for then.
func (c *conn) answered(s *stream, body []byte, fields [][]byte, truncated bool) {
	r := s.ref
	if s.partial {
		// Answered before it was heard to the end: the peer has seen enough.
		c.reset(s.id, http2.ErrCodeCancel)
	}
	switch c.tell(s, body, fields, truncated) {
	case Finished:
	case SendAgain:
		if !r.again {
			r.again = true
			c.resend = append(c.resend, r)
			return
		}
	case Replace:
		c.retire(nil)
	}
	c.readDone.add(r)
}

// tell removes the stream, and tells the caller of its answer.
func (c *conn) tell(s *stream, body []byte, fields [][]byte, truncated bool) Next {
	r, status := s.ref, s.status
	c.remove(s)
	c.lastAnswer = c.lastRead
	if c.answers++; c.answers == 1 {
		c.cl.reached()
	}
	if status/100 == 2 {
		c.accepted = true
	}
	a := &c.answer
	a.Status, a.Body, a.Truncated, a.Again, a.fields = int(status), body, truncated, r.again, fields
	return r.group.Answer(int(r.index), a)
}

// heard ends a request whose stream is over without the end of its answer, if what came of that says that it was
// accepted: sent again it would arrive twice.
func (c *conn) heard(id uint32, done *ended) bool {
	s := c.streams.find(id)
	if s == nil || s.status/100 != 2 {
		return false
	}
	r, k := s.ref, c.streams.kept[id]
	c.tell(s, k.body, k.fields, true)
	done.add(r)
	return true
}

// reset tells the peer that we are done with a stream. mu is held.
func (c *conn) reset(id uint32, code http2.ErrCode) {
	c.resets.add(id)
	c.control = appendFrameHeader(c.control, 4, http2.FrameRSTStream, 0, id)
	c.control = append(c.control, byte(code>>24), byte(code>>16), byte(code>>8), byte(code))
}

// resetStream ends one stream on which the peer broke the rules.
func (c *conn) resetStream(id uint32, code http2.ErrCode) {
	c.reset(id, code)
	c.abandoned(id, true)
}

// abandoned ends one stream that got no answer and will get none. Where again is set it is sent again once, since that
// may be chance; more often is for the caller, who knows to wait between.
func (c *conn) abandoned(id uint32, again bool) {
	if c.heard(id, &c.readDone) {
		return
	}
	s, _ := c.take(id)
	s.ref.written = true
	if s.ref.tries++; again && s.ref.tries < maxResets {
		c.resend = append(c.resend, s.ref)
		return
	}
	c.readDone.without(s.ref, c.unanswered(c.lastRead.Add(-c.cl.cfg.StreamTimeout)), c.lastRead)
}
