package h2

import (
	"context"
	"encoding/binary"
	"slices"
	"strconv"
	"time"

	"golang.org/x/net/http2"
)

// minDelayStep is the least time between two writes of delayed answers, so that they share one.
const minDelayStep = 100 * time.Microsecond

type delayedAnswer[T any] struct {
	due    time.Time
	stream *Stream[T]
}

// Respond answers a request and ends its stream. fields are the answer's headers as AppendField makes them.
func (c *Conn[T]) Respond(st *Stream[T], status int, fields, body []byte) {
	start := len(c.out)
	flags := http2.FlagHeadersEndHeaders
	if st.Head { // the answer to HEAD has no body (RFC 9110, 9.3.2)
		body = nil
	}
	if len(body) == 0 {
		flags |= http2.FlagHeadersEndStream
	}
	c.out = appendFrameHead(c.out, 0, http2.FrameHeaders, flags, st.ID)
	c.out = append(c.out, c.sizeUpdate...)
	c.sizeUpdate = nil
	if status == 200 {
		c.out = append(c.out, 0x88) // of the static table
	} else {
		// ":status" by the name's place in the static table, as a literal.
		c.out = append(c.out, 0x08, 3)
		c.out = strconv.AppendInt(c.out, int64(status), 10)
	}
	c.out = append(c.out, fields...)
	putLength(c.out[start:], len(c.out)-start-frameHead)
	if rest := c.sendBody(st, body); len(rest) > 0 {
		st.rest = append(st.rest[:0], rest...)
		c.blocked = append(c.blocked, st)
		c.keep(st)
		return
	}
	c.drop(st)
}

// AppendField appends a header as a literal that goes into no table, so that answers need no encoder with a state. The
// name is shorter than 127 bytes.
func AppendField[S string | []byte](dst []byte, name string, value S) []byte {
	dst = append(append(dst, 0, byte(len(name))), name...)
	if len(value) < 127 {
		dst = append(dst, byte(len(value)))
	} else {
		dst = append(dst, 127)
		rest := len(value) - 127
		for ; rest >= 128; rest >>= 7 {
			dst = append(dst, byte(rest)|0x80)
		}
		dst = append(dst, byte(rest))
	}
	return append(dst, value...)
}

// Reset answers a request with RST_STREAM; http2.ErrCodeRefusedStream says that it was not processed.
func (c *Conn[T]) Reset(st *Stream[T], code http2.ErrCode) {
	c.out = appendReset(c.out, st.ID, code)
	c.drop(st)
}

// Silence leaves a request without an answer.
func (c *Conn[T]) Silence(st *Stream[T]) {
	st.silent = true
	c.silent++
	c.keep(st)
}

// sendBody sends of an answer's body what the client's windows allow, and returns the rest.
func (c *Conn[T]) sendBody(st *Stream[T], body []byte) (rest []byte) {
	for len(body) > 0 {
		n := min(int64(len(body)), maxFrame, c.sendWindow, c.peerWindow+st.extraWindow)
		if n <= 0 {
			break
		}
		flags := http2.Flags(0)
		if n == int64(len(body)) {
			flags = http2.FlagDataEndStream
		}
		c.sendWindow -= n
		st.extraWindow -= n
		c.out = appendFrameHead(c.out, int(n), http2.FrameData, flags, st.ID)
		c.out = append(c.out, body[:n]...)
		body = body[n:]
	}
	return body
}

// Later puts an answer off: Service.Answer is called when it is due. Nearly always it is due after all others, so it is
// looked for from the end.
func (c *Conn[T]) Later(ctx context.Context, st *Stream[T], due time.Time) {
	i := len(c.delayed)
	for i > 0 && c.delayed[i-1].due.After(due) {
		i--
	}
	c.delayed = slices.Insert(c.delayed, i, delayedAnswer[T]{due, st})
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
func (c *Conn[T]) answerDelayed(ctx context.Context) {
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
func (c *Conn[T]) answerDue(now time.Time) (next time.Duration, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for n < len(c.delayed) && !c.delayed[n].due.After(now) {
		c.service.Answer(c.delayed[n].stream)
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

// putLength sets the length of the frame that begins with head.
func putLength(head []byte, n int) { head[0], head[1], head[2] = byte(n>>16), byte(n>>8), byte(n) }

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
