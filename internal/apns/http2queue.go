package apns

import (
	"sync/atomic"

	"github.com/lhspn/lhspn/internal/push"
)

// http2Group is a group on its way, with the number of its deliveries that have no result yet.
type http2Group struct {
	group     *push.Group
	remaining atomic.Int64
	// whole: it is larger than the bound in flight and gives its room back in one piece.
	whole bool
}

// http2Ref is one delivery of a group, as it stands in the queue and in a connection's table of streams.
type http2Ref struct {
	group *http2Group
	index uint32
	// tries counts how often the transport has resent it because a connection failed it.
	tries uint8
	// breaks counts the connections that broke while it was open on them; see together.
	breaks uint8
	// renewed: it has had its second try after ExpiredProviderToken.
	renewed bool
}

const (
	// http2LoneBreaks is the number of breaks from which on a delivery goes alone.
	http2LoneBreaks = 3
	// http2MostBreaks is the number after which the delivery is the cause: it was alone on the last three of them.
	http2MostBreaks = http2LoneBreaks + 3
)

// together is how many deliveries may be open beside each other on a connection where r is one of them. A request can be
// such that the gateway, or we, end the connection over it. The first break may be chance; after that fewer and fewer go
// together, so that those without fault are answered and the one that is the cause is alone in the end.
func (r http2Ref) together() int {
	switch {
	case r.breaks < 2:
		return http2MaxStreams
	case r.breaks >= http2LoneBreaks:
		return 1
	default:
		return 16
	}
}

func (r http2Ref) delivery() *push.Delivery { return &r.group.group.Deliveries[r.index] }

// http2Queue holds what is taken and not on a connection, in a ring, so that it costs no allocation once it has grown. What
// is sent again goes back to the front. It is not safe for concurrent use: HTTP2.mu guards it.
type http2Queue struct {
	ring []http2Ref // its length is a power of two
	head int
	n    int
}

func (q *http2Queue) pushGroup(g *http2Group) {
	q.grow(len(g.group.Deliveries))
	for i := range g.group.Deliveries {
		q.ring[(q.head+q.n)&(len(q.ring)-1)] = http2Ref{group: g, index: uint32(i)}
		q.n++
	}
}

// pushFront puts refs before all others, in their order.
func (q *http2Queue) pushFront(refs []http2Ref) {
	q.grow(len(refs))
	for i := len(refs) - 1; i >= 0; i-- {
		q.head = (q.head - 1) & (len(q.ring) - 1)
		q.ring[q.head] = refs[i]
		q.n++
	}
}

// pushBack puts ref behind all others.
func (q *http2Queue) pushBack(ref http2Ref) {
	q.grow(1)
	q.ring[(q.head+q.n)&(len(q.ring)-1)] = ref
	q.n++
}

// pop moves up to len(dst) from the front into dst.
func (q *http2Queue) pop(dst []http2Ref) int {
	n := min(len(dst), q.n)
	for i := range n {
		dst[i] = q.ring[q.head]
		q.ring[q.head] = http2Ref{} // so that the ring keeps no finished group alive
		q.head = (q.head + 1) & (len(q.ring) - 1)
	}
	q.n -= n
	return n
}

func (q *http2Queue) grow(more int) {
	if q.n+more <= len(q.ring) {
		return
	}
	size := max(256, 2*len(q.ring))
	for size < q.n+more {
		size *= 2
	}
	ring := make([]http2Ref, size)
	for i := range q.n {
		ring[i] = q.ring[(q.head+i)&(len(q.ring)-1)]
	}
	q.ring, q.head = ring, 0
}
