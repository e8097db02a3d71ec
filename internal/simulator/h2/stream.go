package h2

import (
	"context"
	"slices"
	"strconv"

	"golang.org/x/net/http2"
)

// Stream is one request and its answer. Streams are used again, with their buffers.
type Stream[T any] struct {
	ID         uint32
	Value      T // the service's own
	Method     []byte
	Post, Head bool // the method
	Size       int  // of the body, as far as it came in more frames than one

	whole         bool // the request is complete
	silent        bool // it will never be answered
	malformed     bool // against HTTP/2's rules for fields (RFC 9113, 8.2 and 8.3)
	regular       bool // a field that is no pseudo-header has come
	seen          uint32
	length        int64 // content-length, -1 where none was given
	receiveWindow int64
	extraWindow   int64  // what WINDOW_UPDATEs added to the client's initial window, less what was sent
	body          []byte // the DATA of all frames but the last, as long as it may be
	rest          []byte // of the answer's body, while it waits for the client's windows
}

// Has reports whether the request has such a header.
func (st *Stream[T]) Has(h Header) bool { return st.seen&(1<<h) != 0 }

func (c *Conn[T]) newStream(id uint32) *Stream[T] {
	var st *Stream[T]
	if n := len(c.free); n > 0 {
		st = c.free[n-1]
		c.free = c.free[:n-1]
	} else {
		st = &Stream[T]{}
	}
	// Until our SETTINGS are acknowledged the client may go by the protocol's default.
	window := max(int64(c.cfg.StreamWindow), defaultWindow)
	if c.ackedLimit != unlimited {
		window = int64(c.cfg.StreamWindow)
	}
	st.ID, st.Method, st.Post, st.Head, st.Size = id, st.Method[:0], false, false, 0
	st.whole, st.silent, st.malformed, st.regular, st.seen, st.length = false, false, false, false, 0, -1
	st.receiveWindow, st.extraWindow, st.body = window, 0, st.body[:0]
	c.service.Open(st)
	return st
}

// header takes one header of the stream that is being opened.
func (c *Conn[T]) header(h Header, name, value []byte) {
	st := c.current
	if len(name) > 0 && name[0] == ':' {
		if st.regular || h == HeaderOther && string(name) != ":authority" || h != HeaderOther && st.Has(h) {
			st.malformed = true // after the others, unknown, or twice
			return
		}
	} else {
		st.regular = true
	}
	if h == HeaderOther {
		st.other(name, value)
		return
	}
	again := st.Has(h)
	st.seen |= 1 << h
	switch h {
	case HeaderMethod:
		st.Method = append(st.Method, value...)
		st.Post, st.Head = string(value) == "POST", string(value) == "HEAD"
	case HeaderScheme:
	default:
		st.malformed = st.malformed || h == HeaderPath && len(value) == 0 // RFC 9113, 8.3.1
		c.service.Header(st, h, value, again)
	}
}

// other takes a field that is not the service's, of which only HTTP/2's own rules are checked.
func (st *Stream[T]) other(name, value []byte) {
	for _, c := range name {
		if c >= 'A' && c <= 'Z' || c <= ' ' || c >= 0x7f {
			st.malformed = true
		}
	}
	switch string(name) {
	case "":
		st.malformed = true
	case "connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade":
		st.malformed = true
	case "te":
		st.malformed = st.malformed || string(value) != "trailers"
	case "content-length":
		n, err := strconv.ParseInt(string(value), 10, 63)
		if err != nil || n < 0 || st.length >= 0 && st.length != n {
			st.malformed = true
		}
		st.length = n
	}
}

// add keeps a part of the body.
func (c *Conn[T]) add(st *Stream[T], b []byte) {
	st.Size += len(b)
	st.body = append(st.body, b[:min(len(b), c.cfg.MaxBody-len(st.body))]...)
}

// complete hands a complete request on.
func (c *Conn[T]) complete(ctx context.Context, st *Stream[T], body []byte) error {
	st.whole = true
	st.Size = max(st.Size, len(body))
	if st.length >= 0 && st.length != int64(st.Size) {
		c.Reset(st, http2.ErrCodeProtocol) // RFC 9113, 8.1.1
		return nil
	}
	return c.service.Request(ctx, st, body)
}

// find is the open stream with the identifier, nil where there is none.
func (c *Conn[T]) find(id uint32) *Stream[T] {
	if c.current != nil && c.current.ID == id {
		return c.current
	}
	return c.streams[id]
}

// drop ends a stream.
func (c *Conn[T]) drop(st *Stream[T]) {
	if c.current == st {
		c.current = nil
	} else {
		delete(c.streams, st.ID)
	}
	c.open--
	if st.silent {
		c.silent--
	}
	c.free = append(c.free, st)
}

// end drops a stream that may have an answer that waits.
func (c *Conn[T]) end(st *Stream[T]) {
	c.blocked = slices.DeleteFunc(c.blocked, func(other *Stream[T]) bool { return other == st })
	c.delayed = slices.DeleteFunc(c.delayed, func(d delayedAnswer[T]) bool { return d.stream == st })
	c.drop(st)
}

// reset ends a stream over a fault of the client. More of its request may be on its way.
func (c *Conn[T]) reset(st *Stream[T], code http2.ErrCode) {
	id, whole := st.ID, st.whole
	c.end(st)
	c.out = appendReset(c.out, id, code)
	if !whole {
		c.refuse(id)
	}
}

// mostRefused is how many streams are remembered as refused. A client that leaves more of them unfinished is not waited
// for.
const mostRefused = 1 << 16

// refuse remembers a stream of which more may come.
func (c *Conn[T]) refuse(id uint32) {
	if len(c.refused) >= mostRefused {
		clear(c.refused)
	}
	c.refused[id] = struct{}{}
}

// onRefused reports whether the stream is one of which more was to come, and forgets it where this is the last of it.
func (c *Conn[T]) onRefused(id uint32, ends bool) bool {
	_, is := c.refused[id]
	if is && ends {
		delete(c.refused, id)
	}
	return is
}

// idle reports whether the client has not opened the stream.
func (c *Conn[T]) idle(id uint32) bool { return id > c.maxID || id%2 == 0 }

// keep remembers a stream whose request is complete and whose answer comes later or never.
func (c *Conn[T]) keep(st *Stream[T]) {
	if c.current == st {
		c.current = nil
		c.streams[st.ID] = st
	}
}
