package queue

import (
	"context"
	"math/bits"
	"sync"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/push"
)

// entrySize is the number of notifications that one entry names at the most.
const entrySize = 256

// entry is a Singles batch, as far as this replica knows what was settled of it.
type entry struct {
	key  Key
	size int
	// settled has a bit for each place, set when what waited there was settled for certain. Guarded by entries.mu.
	settled [entrySize / 64]uint64
}

func (e *entry) left() int {
	n := e.size
	for _, word := range e.settled {
		n -= bits.OnesCount64(word)
	}
	return n
}

// place is that of one notification in an entry; without an entry where that is not known.
type place struct {
	entry *entry
	at    uint8
}

// entries are those that this replica works on.
type entries struct {
	mu     sync.Mutex // guards all below, and the settled bits
	known  map[Key]*entry
	empty  map[Key]struct{} // nothing waits of them, but their rows are there still
	epochs [Shards]uint64   // of the leases at the last look; 0 for none
}

// learn takes in what was just accepted and is handed over. What is due later is learned when it is read.
func (e *entries) learn(b *Batch) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.init()
	if of := b.place.entry; of != nil {
		e.known[of.key] = of
	}
}

func (e *entries) init() {
	if e.known == nil {
		e.known, e.empty = map[Key]*entry{}, map[Key]struct{}{}
	}
}

// of is the entry of a Singles batch that was read.
func (e *entries) of(b *Batch) *entry {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.init()
	of := e.known[b.Key]
	if of == nil {
		of = &entry{key: b.Key, size: len(b.singles)}
		e.known[b.Key] = of
	}
	return of
}

// own forgets the entries of shards that changed hands.
func (e *entries) own(leases []Lease) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var now [Shards]uint64
	for _, l := range leases {
		now[l.Shard%Shards] = l.Epoch
	}
	if now == e.epochs {
		return
	}
	for k := range e.known {
		if now[k.Shard%Shards] != e.epochs[k.Shard%Shards] {
			delete(e.known, k)
			delete(e.empty, k)
		}
	}
	e.epochs = now
}

// emptied returns the entries whose rows can go once what is at these places is settled.
func (e *entries) emptied(settling []place) (keys []Key) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for k := range e.empty {
		if len(keys) == maxKeys {
			break
		}
		keys = append(keys, k)
	}
	left := map[*entry]int{}
	for _, p := range settling {
		if p.entry == nil || p.entry.settled[p.at/64]&(1<<(p.at%64)) != 0 {
			continue
		}
		if _, counted := left[p.entry]; !counted {
			left[p.entry] = p.entry.left()
		}
		if left[p.entry]--; left[p.entry] == 0 {
			keys = append(keys, p.entry.key)
		}
	}
	return keys
}

// settled notes that what is at the places is settled, and that the rows of the entries are removed.
func (e *entries) settled(places []place, removed []Key) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, p := range places {
		if p.entry == nil {
			continue
		}
		p.entry.settled[p.at/64] |= 1 << (p.at % 64)
		if p.entry.left() == 0 && e.known[p.entry.key] == p.entry {
			e.empty[p.entry.key] = struct{}{}
		}
	}
	for _, k := range removed {
		delete(e.known, k)
		delete(e.empty, k)
	}
}

// newEntries are those of the notifications that are accepted in one transaction.
type newEntries struct {
	now  int64
	open map[entryOf]*Batch
	all  []*Batch
}

// entryOf is what the notifications of an entry have in common.
type entryOf struct {
	app   string
	route push.Route
	due   int64 // 0 for at once
}

func (q *Queue) newEntries() *newEntries {
	return &newEntries{now: q.now().UnixMicro(), open: map[entryOf]*Batch{}}
}

// add takes in what waits in its notification's own row.
func (e *newEntries) add(b *Batch) {
	k := entryOf{b.App, b.Route, b.DueAt}
	if b.DueAt <= e.now {
		k.due = 0
	}
	of := e.open[k]
	if of == nil || len(of.singles) == entrySize {
		of = &Batch{Key: Key{Shard: b.Shard, Lane: b.Lane, DueAt: b.DueAt, Notification: uuid.Must(uuid.NewV7())},
			App: b.App, Route: b.Route, Kind: Singles, place: place{entry: &entry{}}}
		e.open[k] = of
		e.all = append(e.all, of)
	}
	of.DueAt = max(of.DueAt, b.DueAt)
	b.single, b.place = true, place{of.place.entry, uint8(len(of.singles))} // of at most entrySize
	of.singles = append(of.singles, b.Key)
}

// insert adds the entries' rows.
func (e *newEntries) insert(ctx context.Context, tx *sqlx.Tx, batches *database.Insert) error {
	for _, b := range e.all {
		*b.place.entry = entry{key: b.Key, size: len(b.singles)}
		if err := addBatch(ctx, tx, batches, b, b.body()); err != nil {
			return err
		}
	}
	return nil
}
