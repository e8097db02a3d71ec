package events

import (
	"bytes"
	"compress/flate"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/push"
)

// noShard is more than any shard's number: it means none.
const noShard = 64

// What a row holds at the most: events, and bytes before they are compressed.
const (
	rowEvents = 1000
	rowBytes  = 512 << 10
	// compressFrom is the length from which compressing is worth it.
	compressFrom = 300
)

// Lease is the right to a shard under which a transaction writes. What is written under the leases of one shard is read
// in the order in which it was written.
type Lease struct {
	Shard uint8
	Epoch uint64
}

// Writer gathers the events of one transaction. It is to be made anew when the transaction is run again.
type Writer struct {
	store *Store
	now   time.Time
	rows  map[rowKey]*row
	order []*row
	// finished are rows of what is finished (see Finish): they come after the others, as the last of each notification.
	finished      map[rowKey]*row
	finishedOrder []*row
}

type rowKey struct {
	shard uint32
	epoch uint64
	app   string
}

type row struct {
	rowKey
	n    int
	body []byte
}

// line is an event as a row's body has it.
type line struct {
	Type push.EventType  `json:"t"`
	At   time.Time       `json:"at"`
	Data json.RawMessage `json:"d"`
	// finished is the notification that it tells of, where it is no more than a reference, or has what it says in single:
	// it has no Type or Data then.
	finished uuid.UUID
	single   *Single
}

// Write begins the events of a transaction that runs now. A nil Store gives a Writer that writes nothing.
func (s *Store) Write(now time.Time) *Writer {
	return &Writer{store: s, now: now.UTC().Truncate(time.Microsecond)}
}

// Wanted reports whether the app's events are kept.
func (w *Writer) Wanted(app string) bool { return w.store.Wanted(app) }

// Add adds an event that is of no lease.
func (w *Writer) Add(app string, t push.EventType, data any) error {
	if w.store == nil {
		return nil
	}
	return w.add(rowKey{noShard, w.store.epoch, app}, t, data)
}

// AddUnder adds an event of what is settled under a lease.
func (w *Writer) AddUnder(l Lease, app string, t push.EventType, data any) error {
	return w.add(rowKey{uint32(l.Shard), l.Epoch, app}, t, data)
}

// Finish adds that the notification is finished in this transaction: done or cancelled, whichever its row says. It is
// the last event of the notification; l is nil where it is of no lease. It is kept as a mere reference, as it
// is written far more often than read, and a finished notification does not change any more.
func (w *Writer) Finish(l *Lease, app string, id uuid.UUID) {
	if !w.store.Wanted(app) {
		return
	}
	r := w.finishedRow(l, app, 1+len(id))
	r.body = appendReference(r.body, id)
}

// FinishSingle is Finish for the most usual ones, of which nothing needs to be read again.
func (w *Writer) FinishSingle(l *Lease, app string, one *Single) {
	platform, known := itemPlatform(one.Platform)
	if !known || one.CreatedAt.IsZero() || one.FirstSentAt.IsZero() {
		w.Finish(l, app, one.ID)
		return
	}
	if !w.store.Wanted(app) {
		return
	}
	r := w.finishedRow(l, app, 64+len(one.Name))
	r.body = appendSingle(r.body, one, platform, w.now)
}

// finishedRow is where the next item goes, which is up to size bytes long.
func (w *Writer) finishedRow(l *Lease, app string, size int) *row {
	k := rowKey{shard: noShard, epoch: w.store.epoch, app: app}
	if l != nil {
		k.shard, k.epoch = uint32(l.Shard), l.Epoch
	}
	r := w.finished[k]
	if r == nil || r.n == rowEvents || len(r.body)+size > rowBytes {
		r = &row{rowKey: k, body: binary.BigEndian.AppendUint64([]byte{finishedOnes}, uint64(w.now.UnixMicro()))}
		if w.finished == nil {
			w.finished = map[rowKey]*row{}
		}
		w.finished[k] = r
		w.finishedOrder = append(w.finishedOrder, r)
	}
	r.n++
	w.store.metrics.finished.Inc()
	return r
}

func (w *Writer) add(k rowKey, t push.EventType, data any) error {
	if !w.store.Wanted(k.app) {
		return nil
	}
	encoded, err := json.Marshal(data)
	if err == nil {
		encoded, err = json.Marshal(line{Type: t, At: w.now, Data: encoded})
	}
	if err != nil {
		return fmt.Errorf("encode an event: %w", err)
	}
	r := w.rows[k]
	if r == nil || r.n == rowEvents || len(r.body)+len(encoded) > rowBytes {
		r = &row{rowKey: k, body: []byte{plain}}
		if w.rows == nil {
			w.rows = map[rowKey]*row{}
		}
		w.rows[k] = r
		w.order = append(w.order, r)
	}
	r.n++
	r.body = append(append(r.body, encoded...), '\n')
	w.store.metrics.written.WithLabelValues(string(t)).Inc()
	return nil
}

// Flush writes what was added.
func (w *Writer) Flush(ctx context.Context, tx *sqlx.Tx) error {
	rows := append(w.order, w.finishedOrder...)
	if len(rows) == 0 {
		return nil
	}
	places, err := w.store.placesIn(ctx, tx, rows)
	if err != nil {
		return fmt.Errorf("insert events: %w", err)
	}
	in := database.NewInsert("events", "shard, epoch, id, seq, n, app, at, body", "")
	at := stamp(w.now)
	for i, r := range rows {
		if r.body[0] == plain && len(r.body) > compressFrom {
			r.body = compress(r.body[1:])
		}
		if err := in.Add(ctx, tx, r.shard, r.epoch, w.store.nextID(), places[i], r.n, r.app, at, r.body); err != nil {
			return fmt.Errorf("insert events: %w", err)
		}
	}
	if err := in.Flush(ctx, tx); err != nil {
		return fmt.Errorf("insert events: %w", err)
	}
	w.store.rouse()
	return nil
}

// nextID grows with each call, and follows the time so that it grows from process to process. Under a lease only one
// process writes, and within a transaction that holds the shard's row.
func (s *Store) nextID() int64 {
	for {
		last := s.last.Load()
		next := max(last+1, s.now().UnixMicro())
		if s.last.CompareAndSwap(last, next) {
			return next
		}
	}
}

// The first byte of a body says how the rest is encoded.
const (
	plain byte = iota
	deflated
	_
	finishedOnes // the time in Unix microseconds, and the notifications that were finished then (finished.go)
)

var deflaters = sync.Pool{New: func() any {
	w, _ := flate.NewWriter(nil, flate.BestSpeed) // it fails for wrong levels only
	return w
}}

func compress(body []byte) []byte {
	var out bytes.Buffer
	out.Grow(len(body) / 3)
	out.WriteByte(deflated)
	w := deflaters.Get().(*flate.Writer)
	defer deflaters.Put(w)
	w.Reset(&out)
	_, _ = w.Write(body) // a buffer takes everything
	_ = w.Close()
	return out.Bytes()
}
