package sender

import (
	"sync"
	"time"

	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/queue"
)

// batch is a batch in memory. Its fields are guarded by its app's mu until it is finished; then it belongs to the settlers.
type batch struct {
	*queue.Batch
	n   *push.Notification
	app *route
	// stream is its notification's; nil for a batch that is in memory only to be settled as cancelled.
	stream *active
	epoch  uint64 // of the shard's lease when it was admitted

	lease   queue.Lease
	held    bool
	results []push.Result // in the order of Recipients; from the first dispatch on
	next    int           // recipients before it were given to the transport, or got their result from us
	open    int           // of them, those that have no result yet
	sentAt  time.Time
	tries   int // sends of a now-or-never notification that did not reach the service

	retryAt time.Time
	// waitsWhole has all that is sent again of the batch wait for the last of it.
	waitsWhole bool
	decided    bool // the settlers have made its results final
	one        [1]push.Result
}

// left is the number of recipients that wait to be dispatched.
func (it *batch) left() int { return len(it.Recipients) - it.next }

// weight is what the item counts against its app's memory: a batch without recipients is still a batch.
func (it *batch) weight() int { return max(1, len(it.Recipients)) }

// start readies the item for its first results.
func (it *batch) start() {
	switch {
	case it.results != nil:
	case len(it.Recipients) == 1:
		it.results = it.one[:]
	default:
		r := resultPool.Get().(*[]push.Result) // only this type is put there
		it.results = (*r)[:len(it.Recipients)]
	}
}

// free gives the item's results back.
func (it *batch) free() {
	if len(it.results) > 1 {
		clear(it.results)
		r := it.results[:cap(it.results)]
		resultPool.Put(&r)
	}
	it.results = nil
}

var resultPool = sync.Pool{New: func() any { r := make([]push.Result, queue.MaxBatch); return &r }}

// memory knows which batches are in memory, so that none is there twice, and which shards they may be of.
//
// A batch that was found in the database (by a read, or by being told of after a commit) can be settled by the time that it
// is admitted: it would be sent twice. So the keys that left the memory are remembered for longer than finding takes.
type memory struct {
	mu     sync.Mutex // guards all below
	shards [queue.Shards]shardMemory
	items  map[queue.Key]*batch
	// gone and goneBefore hold the keys that left in this period and in the one before.
	gone, goneBefore map[queue.Key]struct{}
	turned           time.Time
}

type shardMemory struct {
	owned bool
	epoch uint64
}

const goneFor = 2 * time.Second

func newMemory() *memory {
	return &memory{items: map[queue.Key]*batch{}, gone: map[queue.Key]struct{}{}, goneBefore: map[queue.Key]struct{}{}}
}

// admission is what became of a batch that was offered.
type admission uint8

const (
	admitted  admission = iota
	known               // it is, or just was, in memory
	noRoom              // its app has enough
	postponed           // it could not be sent soon
	notOurs             // its shard is another replica's
)

// add takes the item in, unless it is known or another replica's.
func (m *memory) add(it *batch) admission {
	m.mu.Lock()
	defer m.mu.Unlock()
	shard := m.shards[it.Shard%queue.Shards]
	if !shard.owned {
		return notOurs
	}
	if _, ok := m.items[it.Key]; ok {
		return known
	}
	if _, ok := m.gone[it.Key]; ok {
		return known
	}
	if _, ok := m.goneBefore[it.Key]; ok {
		return known
	}
	it.epoch = shard.epoch
	m.items[it.Key] = it
	return admitted
}

// remove forgets the item, which was settled.
func (m *memory) remove(it *batch) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.items, it.Key)
	m.gone[it.Key] = struct{}{}
}

// drop forgets the item, which was not settled: it may be admitted again.
func (m *memory) drop(it *batch) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.items, it.Key)
}

// has reports whether the batch is in memory or just was.
func (m *memory) has(k queue.Key) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, in := m.items[k]
	_, left := m.gone[k]
	_, before := m.goneBefore[k]
	return in || left || before
}

// turn forgets the keys that left long ago. The reader calls it between two reads, so that none is forgotten during one.
func (m *memory) turn() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if now := time.Now(); now.Sub(m.turned) > goneFor {
		m.gone, m.goneBefore, m.turned = m.goneBefore, m.gone, now
		clear(m.gone)
	}
}

// own takes in which leases the replica has. It returns the shards that are new, and whether any was lost.
func (m *memory) own(leases []queue.Lease) (fresh []uint8, lost bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var now [queue.Shards]shardMemory
	for _, l := range leases {
		now[l.Shard%queue.Shards] = shardMemory{owned: true, epoch: l.Epoch}
	}
	for i := range now {
		if now[i] == m.shards[i] {
			continue
		}
		lost = lost || m.shards[i].owned
		if now[i].owned {
			fresh = append(fresh, uint8(i))
		}
	}
	m.shards = now
	return fresh, lost
}

// ours reports whether the item may still be sent under the lease it was admitted under.
func (m *memory) ours(it *batch) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.shards[it.Shard%queue.Shards]
	return s.owned && s.epoch == it.epoch
}

// releaseAll gives back the holds of what is left when the sender ends.
func (m *memory) releaseAll(leases Leases) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, it := range m.items {
		if it.held {
			it.held = false
			leases.Unhold(it.lease)
		}
	}
	clear(m.items)
}
