package http2

import (
	"sync/atomic"

	"github.com/lhspn/lhspn/internal/ring"
)

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
	// tries counts how often it was resent because a connection failed it, and breaks how many of those connections
	// broke while it was open on them; see together.
	tries, breaks uint8
	// again: it has been sent again at the caller's wish.
	again bool
	// written: it was on a connection that broke, so that the peer may have processed it.
	written bool
}

// queue holds what is taken and not on a connection. What is sent again goes back to the front. It is not safe for
// concurrent use: Client.mu guards it.
type queue struct{ ring.Ring[ref] }

func (q *queue) pushGroup(g *group, n int) {
	first, rest := q.Extend(n)
	for i := range first {
		first[i] = ref{group: g, index: uint32(i)}
	}
	for i := range rest {
		rest[i] = ref{group: g, index: uint32(len(first) + i)}
	}
}

// pushFront puts refs before all others, in their order.
func (q *queue) pushFront(refs []ref) {
	for i := len(refs) - 1; i >= 0; i-- {
		q.PushFront(refs[i])
	}
}

// pop moves up to len(dst) from the front into dst.
func (q *queue) pop(dst []ref) int {
	n := min(len(dst), q.Len())
	for i := range n {
		dst[i] = q.PopFront()
	}
	return n
}
