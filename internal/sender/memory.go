package sender

import (
	"sync"
	"time"

	"github.com/lhspn/lhspn/internal/queue"
)

// memory knows which batches are in memory, so that none is there twice, and which shards they may be of.
//
// A batch that was found in the database (by a read, or by being told of after a commit) can be settled by the time
// that it is admitted: it would be sent twice. So the keys that left the memory are remembered for longer than finding
// takes.
type memory struct {
	mu      sync.Mutex // guards all below
	shards  [queue.Shards]shardMemory
	batches map[queue.Key]*batch
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
	return &memory{batches: map[queue.Key]*batch{}, gone: map[queue.Key]struct{}{}, goneBefore: map[queue.Key]struct{}{}}
}

// admission is what became of a batch that was offered.
type admission uint8

const (
	admitted  admission = iota
	known               // it is, or just was, in memory
	noRoom              // its route has enough
	postponed           // it could not be sent soon
	notOurs             // its shard is another replica's
)

// add takes the batch in, unless it is known or another replica's.
func (m *memory) add(b *batch) admission {
	m.mu.Lock()
	defer m.mu.Unlock()
	shard := m.shards[b.Shard%queue.Shards]
	if !shard.owned {
		return notOurs
	}
	if _, ok := m.batches[b.Key]; ok {
		return known
	}
	if _, ok := m.gone[b.Key]; ok {
		return known
	}
	if _, ok := m.goneBefore[b.Key]; ok {
		return known
	}
	b.epoch = shard.epoch
	m.batches[b.Key] = b
	return admitted
}

// settled removes the batch, which was settled.
func (m *memory) settled(b *batch) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.batches, b.Key)
	m.gone[b.Key] = struct{}{}
}

// evict removes the batch, which was not settled: it may be admitted again.
func (m *memory) evict(b *batch) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.batches, b.Key)
}

// has reports whether the batch is in memory or just was.
func (m *memory) has(k queue.Key) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, in := m.batches[k]
	_, left := m.gone[k]
	_, before := m.goneBefore[k]
	return in || left || before
}

// turn forgets the keys that left long ago. The reader calls it between two reads, so that none is forgotten during
// one.
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

// ours reports whether the batch may still be sent under the lease it was admitted under.
func (m *memory) ours(b *batch) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.shards[b.Shard%queue.Shards]
	return s.owned && s.epoch == b.epoch
}

// releaseAll releases the leases of what is left when the sender ends.
func (m *memory) releaseAll(leases Leases) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, b := range m.batches {
		if b.leased {
			b.leased = false
			leases.Release(b.lease)
		}
	}
	clear(m.batches)
}
