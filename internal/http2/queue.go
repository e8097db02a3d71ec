package http2

import "sync/atomic"

// group is a group on its way, with the number of its requests that have not ended.
type group struct {
	Requests
	remaining atomic.Int64
	// whole: it is larger than the bound in flight and gives its room back in one piece.
	whole bool
}

// ref is one request of a group, in the queue or in a connection's table of streams.
type ref struct {
	group *group
	index uint32
	// tries counts how often it was resent because a connection failed it.
	tries uint8
	// breaks counts the connections that broke while it was open on them; see together.
	breaks uint8
	// again: it has been sent again at the caller's wish.
	again bool
	// written: it was on a connection that broke, so that the peer may have processed it.
	written bool
}

// queue holds what is taken and not on a connection, in a ring, so that it costs no allocation once it has grown. What is
// sent again goes back to the front. It is not safe for concurrent use: Client.mu guards it.
type queue struct {
	ring []ref // its length is a power of two
	head int
	n    int
}

func (q *queue) pushGroup(g *group, n int) {
	q.grow(n)
	for i := range n {
		q.ring[(q.head+q.n)&(len(q.ring)-1)] = ref{group: g, index: uint32(i)}
		q.n++
	}
}

// pushFront puts refs before all others, in their order.
func (q *queue) pushFront(refs []ref) {
	q.grow(len(refs))
	for i := len(refs) - 1; i >= 0; i-- {
		q.head = (q.head - 1) & (len(q.ring) - 1)
		q.ring[q.head] = refs[i]
		q.n++
	}
}

// pushBack puts r behind all others.
func (q *queue) pushBack(r ref) {
	q.grow(1)
	q.ring[(q.head+q.n)&(len(q.ring)-1)] = r
	q.n++
}

// pop moves up to len(dst) from the front into dst.
func (q *queue) pop(dst []ref) int {
	n := min(len(dst), q.n)
	for i := range n {
		dst[i] = q.ring[q.head]
		q.ring[q.head] = ref{} // so that the ring keeps no finished group alive
		q.head = (q.head + 1) & (len(q.ring) - 1)
	}
	q.n -= n
	return n
}

func (q *queue) grow(more int) {
	if q.n+more <= len(q.ring) {
		return
	}
	size := max(256, 2*len(q.ring))
	for size < q.n+more {
		size *= 2
	}
	ring := make([]ref, size)
	for i := range q.n {
		ring[i] = q.ring[(q.head+i)&(len(q.ring)-1)]
	}
	q.ring, q.head = ring, 0
}
