package binary

import (
	"sync"
	"sync/atomic"

	"github.com/lhspn/lhspn/internal/drain"
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/ring"
)

// job is a group on its way through the transport.
type job struct {
	group *push.Group
	seq   uint64       // its place in the order of Send
	left  atomic.Int32 // deliveries without a result
}

// span is a run of deliveries of one group that are in the same state.
type span struct {
	job      *job
	from, to int
}

func (s span) len() int { return s.to - s.from }

func (s span) deliveries() []push.Delivery { return s.job.group.Deliveries[s.from:s.to] }

// before orders spans as they were given to Send.
func (s span) before(o span) bool {
	return s.job.seq < o.job.seq || s.job.seq == o.job.seq && s.from < o.from
}

// queue is what no slot has taken yet, and counts the groups that are not done.
type queue struct {
	limit    int           // how many deliveries may wait before Send does
	space    chan struct{} // has an element while Send may look again for room
	draining atomic.Bool   // no more Sends will come

	mu      sync.Mutex // guards what follows; held for moments, never while calling out
	spans   ring.Ring[span]
	waiting int        // deliveries in spans
	groups  drain.Gate // taken and not done
	seq     uint64
	free    []*job
	closed  bool // Run has ended or is ending
}

func (q *queue) init(limit int) {
	q.limit, q.space, q.groups = limit, make(chan struct{}, 1), drain.NewGate()
}

// add puts a group to the end, and reports whether there was room for it.
func (q *queue) add(g *push.Group) (bool, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed || q.draining.Load() {
		return false, errClosed
	}
	if q.waiting >= q.limit {
		return false, nil
	}
	var j *job
	if n := len(q.free); n > 0 {
		j, q.free = q.free[n-1], q.free[:n-1]
	} else {
		j = new(job)
	}
	j.group, j.seq = g, q.seq
	j.left.Store(int32(len(g.Deliveries)))
	q.seq++
	q.groups.Enter()
	q.spans.PushBack(span{job: j, to: len(g.Deliveries)})
	if q.waiting += len(g.Deliveries); q.waiting < q.limit {
		q.signalSpace()
	}
	return true, nil
}

// take appends spans of up to n deliveries to dst, from the front, and returns how many deliveries.
func (q *queue) take(dst *ring.Ring[span], n int) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	taken := 0
	for taken < n && q.spans.Len() > 0 {
		sp := q.spans.At(0)
		size := min(sp.len(), n-taken)
		dst.PushBack(span{job: sp.job, from: sp.from, to: sp.from + size})
		taken += size
		if sp.from += size; sp.from == sp.to {
			q.spans.PopFront()
		}
	}
	if q.waiting -= taken; taken > 0 && q.waiting < q.limit {
		q.signalSpace()
	}
	return taken
}

// done takes back the job of a group that is done.
func (q *queue) done(j *job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	j.group = nil
	q.free = append(q.free, j)
	q.groups.Leave(1)
}

// size is how many deliveries wait.
func (q *queue) size() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.waiting
}

// drain refuses all further groups.
func (q *queue) drain() {
	q.mu.Lock()
	q.draining.Store(true)
	q.groups.Close()
	q.mu.Unlock()
	q.signalSpace()
}

// close does the same for the end of Run.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
}

func (q *queue) signalSpace() {
	select {
	case q.space <- struct{}{}:
	default:
	}
}
