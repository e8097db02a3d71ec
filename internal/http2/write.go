package http2

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"golang.org/x/net/http2"
)

const (
	// writeSize is how many bytes of frames are packed into one write: four full TLS records.
	writeSize = 64 << 10
	// chunkSize is how many requests are taken from the queue at a time.
	chunkSize = 32
	// maxPartial bounds the requests whose body waits for a window.
	maxPartial = 128
)

// partial is a request whose body waits for a window.
type partial struct {
	id     uint32
	window int64 // the stream's
	rest   []byte
}

// write is the writer: it packs what may be sent into one write after another, and keeps the connection's clock.
func (c *conn) write() {
	var buf []byte
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	shown := 0 // of the open streams, in the metric
	defer func() { c.cl.metrics.Open.Add(float64(-shown)) }()
	for {
		c.mu.Lock()
		now := time.Now()
		c.tick(now)
		buf = append(buf[:0], c.control...)
		c.control = c.control[:0]
		if !c.ended {
			buf = c.fill(buf, now)
		}
		if c.isRetired && !c.ended && c.streams.n == 0 {
			cause := EndRetired
			if c.goAway {
				cause = EndGoAway
			}
			c.fail(cause, nil)
			buf = append(buf, c.control...)
			c.control = c.control[:0]
		}
		ended := c.ended
		next := c.nextTick()
		open := c.streams.n
		c.mu.Unlock()

		if open != shown {
			c.cl.metrics.Open.Add(float64(open - shown))
			shown = open
		}
		c.cl.finish(&c.writeDone)
		if len(buf) > 0 {
			timeout := c.cl.cfg.WriteTimeout
			if ended {
				timeout = lastWords
			}
			_ = c.nc.SetWriteDeadline(time.Now().Add(timeout))
			_, err := c.nc.Write(buf)
			c.cl.metrics.Written.Add(float64(len(buf)))
			if err != nil {
				c.mu.Lock()
				cause := EndLost
				if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() {
					cause = EndSilent
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
func (c *conn) limit() int {
	n := int(min(c.maxStreams, uint32(c.cl.cfg.MaxStreams)))
	if c.cl.cfg.OneUntilAccepted && !c.accepted {
		return min(n, 1)
	}
	return n
}

// fill appends frames to buf: first bodies that waited for a window, then new requests, as many as streams, windows and
// the size of a write allow. mu is held.
func (c *conn) fill(buf []byte, now time.Time) []byte {
	if len(c.partial) > 0 {
		buf = c.fillPartial(buf)
	}
	start, clock := c.nextID, c.clock(now)
	c.head.now = now
	more := true
	for more && len(buf) < writeSize && !c.isRetired {
		n := 0
		if c.sendWindow > 0 && len(c.partial) < maxPartial {
			if c.streams.n == 0 {
				c.together = streamsLimit
			}
			n = min(c.limit()-c.streams.n, c.together-c.streams.n, len(c.chunk))
		}
		c.cl.mu.Lock()
		if n <= 0 {
			waiting := c.cl.queue.Len() > 0
			if waiting && !c.cl.saturated {
				c.cl.saturated = true
				c.cl.wake()
			}
			c.cl.mu.Unlock()
			if waiting && c.streams.n == 0 && c.blocked.IsZero() {
				c.blocked = now
			}
			return buf
		}
		n = c.cl.queue.pop(c.chunk[:n])
		more = c.cl.queue.Len() > 0
		c.cl.mu.Unlock()
		for i := range n {
			together := min(c.together, c.chunk[i].together())
			if c.sendWindow <= 0 || len(c.partial) >= maxPartial || c.nextID > maxID || c.streams.n >= together {
				c.cl.mu.Lock()
				c.cl.queue.pushFront(c.chunk[i:n])
				c.cl.mu.Unlock()
				if c.nextID > maxID {
					// Its identifiers have run out: another connection begins again at 1.
					c.retire(nil)
				}
				more = false
				break
			}
			c.together = together
			buf = c.request(buf, c.chunk[i], now, clock)
		}
	}
	if c.nextID != start {
		c.blocked = time.Time{}
	}
	return buf
}

// request appends one request's frames; clock is now by the connection's. mu is held.
func (c *conn) request(buf []byte, r ref, now time.Time, clock uint32) []byte {
	start, id, h := len(buf), c.nextID, c.head
	h.begin(buf, id)
	length, send := r.group.Header(int(r.index), h)
	switch {
	case !send:
		c.writeDone.add(r)
		return h.undo()
	case h.size > int(c.maxHeaderList):
		c.writeDone.without(r, Unsendable, now)
		return h.undo()
	}
	buf = h.end(length)
	if c.streams.n == 0 {
		c.busy = now
	}
	c.nextID += 2
	if length == 0 {
		buf[start+4] |= byte(http2.FlagHeadersEndStream)
	}
	if block := len(buf) - start - frameHeaderLen; block > c.maxFrame {
		buf = splitHeaders(buf, start, c.maxFrame)
	} else {
		putFrameLength(buf[start:], block)
	}
	s := stream{ref: r, id: id, sent: clock, length: noLength}
	switch {
	case length == 0:
	case int64(length) <= min(c.sendWindow, c.initialWindow) && length <= c.maxFrame:
		buf = appendFrameHeader(buf, length, http2.FrameData, http2.FlagDataEndStream, id)
		before := len(buf)
		if buf = r.group.AppendBody(int(r.index), buf); len(buf)-before != length {
			return c.wrongLength(buf[:before-frameHeaderLen], r, id, now)
		}
		c.sendWindow -= int64(length)
	default:
		body := r.group.AppendBody(int(r.index), nil)
		if len(body) != length {
			return c.wrongLength(buf, r, id, now)
		}
		s.partial = true
		c.partial = append(c.partial, partial{id: id, window: c.initialWindow, rest: body})
		c.streams.put(s)
		return c.fillPartial(buf)
	}
	c.streams.put(s)
	return buf
}

// wrongLength ends a request whose header block is in buf and whose body is not as long as that says.
func (c *conn) wrongLength(buf []byte, r ref, id uint32, now time.Time) []byte {
	c.writeDone.without(r, Unsendable, now)
	c.resets.add(id)
	buf = appendFrameHeader(buf, 4, http2.FrameRSTStream, 0, id)
	return append(buf, 0, 0, 0, byte(http2.ErrCodeCancel))
}

// fillPartial appends what the windows allow of the bodies that wait. mu is held.
func (c *conn) fillPartial(buf []byte) []byte {
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
		} else if s := c.streams.find(p.id); s != nil {
			s.partial = false
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
	id := parseFrameHeader(buf[start:]).stream
	block := slices.Clone(buf[start+frameHeaderLen:])
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
