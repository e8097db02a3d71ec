package sender

import (
	"slices"
	"sync"
	"time"

	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/queue"
	"github.com/lhspn/lhspn/internal/ring"
)

// batch is a batch in memory. Its fields are guarded by its route's mu until all of it is settled or about to be; then
// it belongs to the settlers.
type batch struct {
	*queue.Batch
	n     *push.Notification // as the route's platform sends it
	route *route
	// active is its notification's; nil for a batch that is in memory only to be settled as cancelled.
	active *active
	epoch  uint64 // of the shard's lease when it was admitted

	lease    queue.Lease
	leased   bool          // the lease is kept for it
	results  []push.Result // in the order of Recipients; from the first dispatch on
	next     int           // recipients before it were given to the transport, or got their result from us
	inFlight int           // of them, those that have no result yet
	sentAt   time.Time
	tries    int // sends of all of a now-or-never notification's batch of which nothing came

	retryAt time.Time
	// waitsWhole: no recipient is sent to again before the longest wait of the batch is over.
	waitsWhole bool
	// granted: what was answered "later" is sent at least once more, also where nothing else is sent again.
	granted bool
	decided bool // the settlers have made its results final
	refused int  // times that the database refused to settle it by itself
	times   *times
	one     [1]push.Result
}

// ofAllRoutes reports whether the batch is an audience of all of its app's routes: what it is expanded to goes each of
// them, so that it is not up to one of them when.
func (b *batch) ofAllRoutes() bool { return b.Kind == queue.Audience && b.Route == "" }

// left is the number of recipients that wait to be dispatched.
func (b *batch) left() int { return len(b.Recipients) - b.next }

// weight is what the batch counts against its route's memory: one without recipients is still a batch.
func (b *batch) weight() int { return max(1, len(b.Recipients)) }

// rotate puts its first n recipients, with their results, behind the others.
func (b *batch) rotate(n int) {
	rotate(b.Recipients, n)
	if b.results != nil {
		rotate(b.results, n)
	}
}

func rotate[T any](s []T, n int) {
	first := slices.Clone(s[:n])
	copy(s[copy(s, s[n:]):], first)
}

// untriedFirst puts what was tried behind what was not. What is left of the batch is then not tried with the same
// recipient first, over which a pause may have begun.
func (b *batch) untriedFirst() {
	tried, again := 0, false
	for ; tried < b.next && b.results[tried] != unsent; tried++ {
		again = again || !b.results[tried].Outcome.Final()
	}
	if again && tried < len(b.Recipients) {
		b.rotate(tried)
	}
}

// start readies the batch for its first results.
func (b *batch) start() {
	switch {
	case b.results != nil:
	case len(b.Recipients) == 1:
		b.results = b.one[:]
	default:
		r := resultPool.Get().(*[]push.Result) // only this type is put there
		b.results = (*r)[:len(b.Recipients)]
	}
}

// free returns the batch's results to the pool.
func (b *batch) free() {
	if len(b.results) > 1 {
		clear(b.results)
		r := b.results[:cap(b.results)]
		resultPool.Put(&r)
	}
	b.results = nil
}

var resultPool = sync.Pool{New: func() any { r := make([]push.Result, queue.MaxBatch); return &r }}

// active is a notification of which something is in memory, or just was.
type active struct {
	n *push.Notification
	// own is n as the route's platform sends it, and n itself where it has nothing for that platform, as noContent
	// says.
	own       *push.Notification
	noContent bool
	ready     ring.Ring[*batch] // bulk batches that wait for dispatch
	batches   int               // in memory, in any state
	limit     *ownRate          // shared with the other routes; nil for none
	// granted is what the limit lets go from then on, and has not gone yet.
	granted     int
	grantedFrom time.Time
	// slow says that its rate is so low that what is in memory of it must be bounded on its own; inMemory counts that,
	// and refused is set when a batch was not taken for it.
	slow, refused bool
	inMemory      int
	turn          bool      // it has a place among the turns
	taken         bool      // by the service, for some recipient
	weighed       time.Time // when its "later" last counted as evidence, while none was taken
	// since when nothing is in memory of it: its limiter must not forget at once what was just sent
	idle time.Time
}

// expired reports whether nothing of the notification is to be sent any more, on no platform.
func (a *active) expired(now time.Time) bool {
	return a.n.Expired(now) && !slices.ContainsFunc(a.n.Others, func(n *push.Notification) bool { return !n.Expired(now) })
}
