package http2

import (
	"slices"
	"time"
)

// stream is one request that is not answered yet.
type stream struct {
	ref     ref
	id      uint32
	sent    uint32 // by the connection's clock
	length  int32  // the answer's content-length, or noLength
	status  uint16 // 0 until the answer's header block was read
	partial bool   // its own body is not written whole
	kept    bool   // there is something of its answer in kept
}

// keptAnswer is what is kept of an answer that came in several frames.
type keptAnswer struct {
	body   []byte
	fields [][]byte
}

// streamTable holds the streams of a connection by their identifiers. One that stays unanswered while the identifiers
// go round the table moves to overflow, so that a slow request neither holds up the others nor lets the table grow.
//
// A pointer to a stream is good until the next put, take or remove.
type streamTable struct {
	ring     []stream // its length is a power of two
	overflow map[uint32]*stream
	kept     map[uint32]keptAnswer
	raised   map[uint32]int64 // by how much the peer has raised the windows of bodies that are written, where it is much
	n        int
}

func newStreamTable() streamTable {
	return streamTable{ring: make([]stream, 256), overflow: map[uint32]*stream{}, kept: map[uint32]keptAnswer{},
		raised: map[uint32]int64{}}
}

func (t *streamTable) place(id uint32) *stream { return &t.ring[int(id>>1)&(len(t.ring)-1)] }

func (t *streamTable) put(s stream) {
	t.n++
	if t.n > len(t.ring)/2 && len(t.ring) < 2*streamsLimit {
		old := t.ring
		t.ring = make([]stream, 2*len(old))
		for _, o := range old {
			if o.id != 0 {
				*t.place(o.id) = o
			}
		}
	}
	p := t.place(s.id)
	if p.id != 0 {
		old := *p
		t.overflow[p.id] = &old
	}
	*p = s
}

// find is the stream, or nil. There is none with identifier 0.
func (t *streamTable) find(id uint32) *stream {
	if p := t.place(id); p.id == id && id != 0 {
		return p
	}
	return t.overflow[id]
}

// remove removes a stream that find has found, and what is kept of its answer.
func (t *streamTable) remove(s *stream) {
	id, kept := s.id, s.kept
	*s = stream{}
	t.n--
	if len(t.overflow) > 0 {
		delete(t.overflow, id)
	}
	if len(t.raised) > 0 {
		delete(t.raised, id)
	}
	if kept {
		delete(t.kept, id)
	}
}

// ids lists the identifiers of the streams that match, in their order.
func (t *streamTable) ids(match func(*stream) bool) []uint32 {
	var ids []uint32
	for i := range t.ring {
		if s := &t.ring[i]; s.id != 0 && match(s) {
			ids = append(ids, s.id)
		}
	}
	for id, s := range t.overflow {
		if match(s) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// clock is the connection's: milliseconds, in few bits, for there is one in each stream. It goes round after 49 days,
// which a connection may well live; a stream does not.
func (c *conn) clock(now time.Time) uint32 { return uint32(now.Sub(c.since) / time.Millisecond) }

// sentAt is when the request was sent, to the millisecond below.
func (c *conn) sentAt(s *stream, now time.Time) time.Time {
	age := time.Duration(c.clock(now)-s.sent) * time.Millisecond
	return c.since.Add(now.Sub(c.since).Truncate(time.Millisecond) - age)
}

// takeAbove removes all streams with identifiers above last, and returns their requests in the order they were sent.
func (c *conn) takeAbove(last uint32) []ref {
	ids := c.streams.ids(func(s *stream) bool { return s.id > last })
	refs := make([]ref, 0, len(ids))
	for _, id := range ids {
		if s, ok := c.take(id); ok {
			refs = append(refs, s.ref)
		}
	}
	return refs
}

// take removes a stream, and its body that waits to be written.
func (c *conn) take(id uint32) (stream, bool) {
	p := c.streams.find(id)
	if p == nil {
		return stream{}, false
	}
	s := *p
	c.remove(p)
	return s, true
}

// remove is take for a stream that was found.
func (c *conn) remove(s *stream) {
	if s.partial {
		id := s.id
		c.partial = slices.DeleteFunc(c.partial, func(p partial) bool { return p.id == id })
	}
	c.streams.remove(s)
}
