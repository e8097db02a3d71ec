package sender

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/lhspn/lhspn/internal/delay"
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/queue"
)

// fakeQueue is the queue in memory: rows, leases, counts. It consumes a row exactly once, as the real one does.
type fakeQueue struct {
	mu         sync.Mutex
	rows       map[queue.Key]*queue.Batch
	notes      map[uuid.UUID]*push.Notification
	audience   map[uuid.UUID][]push.Recipient // what is left of each
	ways       map[uuid.UUID][]push.Route     // of those to an audience of all routes, in turn
	gone       map[uuid.UUID]bool             // cancelled
	refuses    map[uuid.UUID]bool             // what of these is to be settled
	final      map[uuid.UUID]map[push.Token]push.Result
	attempts   map[uuid.UUID]map[push.Token]uint8
	retryAt    []time.Duration // from now, of each settlement with follow-ups
	settles    int             // calls
	batches    int             // settled
	statements int
	twice      int // recipients with a second final result
	epochs     [queue.Shards]uint64
	owned      [queue.Shards]bool
	acquired   [queue.Shards]int
	changed    chan struct{}
	seq        uint32
	down       error // what every call returns
	settleBy   time.Duration
	loadBy     time.Duration // of each notification
	// The answer of each expansion, or of the next settlement, comes so long after the commit.
	expandLate, settleLate time.Duration
}

func newFakeQueue() *fakeQueue {
	q := &fakeQueue{
		rows: map[queue.Key]*queue.Batch{}, notes: map[uuid.UUID]*push.Notification{}, audience: map[uuid.UUID][]push.Recipient{},
		ways: map[uuid.UUID][]push.Route{}, gone: map[uuid.UUID]bool{}, final: map[uuid.UUID]map[push.Token]push.Result{},
		attempts: map[uuid.UUID]map[push.Token]uint8{}, changed: make(chan struct{}, 1),
	}
	for i := range q.owned {
		q.owned[i], q.epochs[i] = true, 1
	}
	return q
}

func token(n int) push.Token {
	var b [32]byte
	binary.BigEndian.PutUint64(b[:], uint64(n))
	return push.Token(b[:])
}

func recipients(from, n int) []push.Recipient {
	rs := make([]push.Recipient, n)
	for i := range rs {
		rs[i].Token = token(from + i)
	}
	return rs
}

// note makes a notification of the app.
func note(app string) *push.Notification {
	now := time.Now()
	return &push.Notification{
		ID: uuid.Must(uuid.NewV7()), App: app, Key: "t", Expiration: now.Add(24 * time.Hour), CreatedAt: now, SendAt: now,
		Payload: push.Payload{JSON: []byte(`{}`)},
	}
}

// accept puts the notification with n recipients into rows, and returns the batches as a handoff has them.
func (q *fakeQueue) accept(n *push.Notification, count int) []*queue.Batch {
	return q.acceptFrom(n, 0, count)
}

// acceptFrom is accept of other tokens than the first.
func (q *fakeQueue) acceptFrom(n *push.Notification, first, count int) []*queue.Batch {
	return q.acceptFor("", n, first, count)
}

// acceptFor is acceptFrom of tokens that go that way.
func (q *fakeQueue) acceptFor(route push.Route, n *push.Notification, first, count int) []*queue.Batch {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.notes[n.ID] = n
	lane, kind := queue.Bulk, queue.Ready
	if count == 1 {
		lane = queue.Urgent
	}
	if n.BadgeIncrement > 0 {
		kind = queue.Badges
	}
	var batches []*queue.Batch
	for from := 0; from < count; from += queue.MaxBatch {
		batches = append(batches, q.add(&queue.Batch{
			Key: queue.Key{Lane: lane, DueAt: n.SendAt.UnixMicro(), Notification: n.ID}, App: n.App, Route: route, Kind: kind,
			Recipients: recipients(first+from, min(queue.MaxBatch, count-from)),
		}))
	}
	return batches
}

// broadcast puts a notification to an audience of that size into rows.
func (q *fakeQueue) broadcast(n *push.Notification, count int) *queue.Batch {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.notes[n.ID] = n
	q.audience[n.ID] = recipients(0, count)
	return q.add(&queue.Batch{Key: queue.Key{Lane: queue.Bulk, DueAt: n.SendAt.UnixMicro(), Notification: n.ID}, App: n.App, Kind: queue.Audience})
}

// toUser puts a notification to a user with so many devices, in turn on these routes, into rows.
func (q *fakeQueue) toUser(n *push.Notification, devices int, ways ...push.Route) *queue.Batch {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.notes[n.ID], q.ways[n.ID] = n, ways
	q.audience[n.ID] = recipients(0, devices)
	return q.add(&queue.Batch{Key: queue.Key{Lane: queue.Urgent, DueAt: n.SendAt.UnixMicro(), Notification: n.ID}, App: n.App, Kind: queue.Audience})
}

// add gives the batch its sequence number and shard. mu is held.
func (q *fakeQueue) add(b *queue.Batch) *queue.Batch {
	q.seq++
	b.Seq, b.Shard = q.seq, b.Notification[len(b.Notification)-1]%queue.Shards // one for all of a notification, as it is
	if b.Route == "" && len(q.ways[b.Notification]) == 0 {
		b.Route = push.Production
	}
	q.rows[b.Key] = b
	return clone(b)
}

func clone(b *queue.Batch) *queue.Batch {
	c := *b
	c.Recipients = slices.Clone(b.Recipients)
	return &c
}

func (q *fakeQueue) setDown(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.down = err
}

func (q *fakeQueue) Owned() []queue.Lease {
	q.mu.Lock()
	defer q.mu.Unlock()
	var leases []queue.Lease
	for i := range q.owned {
		if q.owned[i] {
			leases = append(leases, queue.Lease{Shard: uint8(i), Epoch: q.epochs[i]})
		}
	}
	return leases
}

func (q *fakeQueue) Changed() <-chan struct{} { return q.changed }

func (q *fakeQueue) Acquire(shard uint8) (queue.Lease, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.owned[shard] {
		return queue.Lease{}, false
	}
	q.acquired[shard]++
	return queue.Lease{Shard: shard, Epoch: q.epochs[shard]}, true
}

func (q *fakeQueue) Release(l queue.Lease) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.epochs[l.Shard] == l.Epoch {
		q.acquired[l.Shard]--
	}
}

// held is the number of leases acquired that were not released.
func (q *fakeQueue) held() (n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, h := range q.acquired {
		n += h
	}
	return n
}

// lose takes all shards away, and give gives them back under a new epoch.
func (q *fakeQueue) lose() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range q.owned {
		q.owned[i] = false
		q.epochs[i]++
		q.acquired[i] = 0
	}
	signal(q.changed)
}

func (q *fakeQueue) give() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range q.owned {
		q.owned[i] = true
	}
	signal(q.changed)
}

func (q *fakeQueue) Heads(_ context.Context, leases []queue.Lease) ([]queue.Head, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.statements++
	if q.down != nil {
		return nil, q.down
	}
	var due [queue.Shards][2]time.Time
	for k := range q.rows {
		if d := time.UnixMicro(k.DueAt); due[k.Shard][k.Lane].IsZero() || d.Before(due[k.Shard][k.Lane]) {
			due[k.Shard][k.Lane] = d
		}
	}
	heads := make([]queue.Head, len(leases))
	for i, l := range leases {
		heads[i] = queue.Head{Shard: l.Shard, Due: due[l.Shard]}
	}
	return heads, nil
}

func compareKeys(a, b queue.Key) int {
	return cmp.Or(cmp.Compare(a.DueAt, b.DueAt), bytes.Compare(a.Notification[:], b.Notification[:]), cmp.Compare(a.Seq, b.Seq))
}

func (q *fakeQueue) Due(_ context.Context, query queue.DueQuery) ([]*queue.Batch, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.statements++
	if q.down != nil {
		return nil, q.down
	}
	var found []*queue.Batch
	for _, after := range query.After {
		var part []*queue.Batch
		for k, b := range q.rows {
			if k.Shard == after.Shard && k.Lane == query.Lane && k.DueAt <= query.Until.UnixMicro() &&
				compareKeys(k, after) > 0 && !slices.Contains(query.Without, queue.Outlet{App: b.App, Route: b.Route}) {
				part = append(part, clone(b))
			}
		}
		slices.SortFunc(part, func(a, b *queue.Batch) int { return compareKeys(a.Key, b.Key) })
		found = append(found, part[:min(len(part), query.Limit)]...)
	}
	return found, nil
}

func (q *fakeQueue) Singles(context.Context, []*queue.Batch, func(queue.Key) bool) ([]*queue.Batch, error) {
	return nil, nil
}

func (q *fakeQueue) Notifications(ctx context.Context, _ string, ids []uuid.UUID) (map[uuid.UUID]*push.Notification, error) {
	if q.loadBy > 0 && delay.For(ctx, time.Duration(len(ids))*q.loadBy) != nil {
		return nil, ctx.Err()
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.statements++
	if q.down != nil {
		return nil, q.down
	}
	found := map[uuid.UUID]*push.Notification{}
	for _, id := range ids {
		if n := q.notes[id]; n != nil {
			found[id] = n
		}
	}
	return found, nil
}

func (q *fakeQueue) Settle(_ context.Context, settlements []queue.Settlement) ([]*queue.Batch, error) {
	if q.settleBy > 0 {
		time.Sleep(q.settleBy) //nolint:forbidigo // a database that takes its time; the clock is the bubble's
	}
	q.mu.Lock()
	defer func(d time.Duration) { q.mu.Unlock(); late(d) }(q.settleLate)
	if q.down != nil {
		return nil, q.down
	}
	for _, s := range settlements {
		if q.refuses[s.Batch.Notification] {
			return nil, errors.New("data too long")
		}
	}
	q.settleLate = 0
	q.settles++
	var followUps []*queue.Batch
	var lost []queue.Lease
	for _, s := range settlements {
		if !q.owned[s.Lease.Shard] || q.epochs[s.Lease.Shard] != s.Lease.Epoch {
			lost = append(lost, s.Lease)
			continue
		}
		if q.rows[s.Batch.Key] == nil {
			continue
		}
		delete(q.rows, s.Batch.Key)
		q.batches++
		var again []push.Recipient
		for i, r := range s.Results {
			to := s.Batch.Recipients[i]
			if r.Outcome == push.Retry {
				to.Attempts++
			}
			if !r.Outcome.Final() {
				again = append(again, to)
				continue
			}
			q.record(s.Batch.Notification, to, r)
		}
		if len(again) > 0 {
			q.retryAt = append(q.retryAt, time.Until(s.RetryAt))
			followUps = append(followUps, q.add(&queue.Batch{
				Key: queue.Key{Lane: s.Batch.Lane, DueAt: s.RetryAt.UnixMicro(), Notification: s.Batch.Notification},
				App: s.Batch.App, Route: s.Batch.Route, Recipients: again,
			}))
		}
	}
	if len(lost) > 0 {
		return followUps, &queue.FencedError{Leases: lost}
	}
	return followUps, nil
}

// late has an answer take so long; the clock is the bubble's.
func late(d time.Duration) { time.Sleep(d) } //nolint:forbidigo // in a synctest bubble

// record is called with mu held.
func (q *fakeQueue) record(id uuid.UUID, to push.Recipient, r push.Result) {
	if q.final[id] == nil {
		q.final[id], q.attempts[id] = map[push.Token]push.Result{}, map[push.Token]uint8{}
	}
	if _, ok := q.final[id][to.Token]; ok {
		q.twice++
	}
	q.final[id][to.Token], q.attempts[id][to.Token] = r, to.Attempts
}

func (q *fakeQueue) Expand(_ context.Context, l queue.Lease, b *queue.Batch, limit int) (ready []*queue.Batch, next *queue.Batch, err error) {
	defer late(q.expandLate)
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.down != nil {
		return nil, nil, q.down
	}
	if !q.owned[l.Shard] || q.epochs[l.Shard] != l.Epoch {
		return nil, nil, &queue.FencedError{Leases: []queue.Lease{l}}
	}
	if q.rows[b.Key] == nil {
		return nil, nil, nil
	}
	delete(q.rows, b.Key)
	for limit > 0 && len(q.audience[b.Notification]) > 0 {
		rest := q.audience[b.Notification]
		n := min(limit, queue.MaxBatch, len(rest))
		route := b.Route
		if ways := q.ways[b.Notification]; route == "" {
			n, route = max(1, n/len(ways)), ways[len(ready)%len(ways)]
		}
		ready = append(ready, q.add(&queue.Batch{Key: b.Key, App: b.App, Route: route, Recipients: rest[:n]}))
		q.audience[b.Notification] = rest[n:]
		limit -= n
	}
	if rest := q.audience[b.Notification]; len(rest) > 0 {
		next = q.add(&queue.Batch{Key: b.Key, App: b.App, Route: b.Route, Kind: queue.Audience,
			Cursor: queue.Cursor{After: rest[0].Token}})
	}
	return ready, next, nil
}

func (q *fakeQueue) CountBadges(_ context.Context, held []queue.Leased) ([]*queue.Batch, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.down != nil {
		return nil, q.down
	}
	var ready []*queue.Batch
	for _, h := range held {
		row := q.rows[h.Batch.Key]
		if row == nil || row.Kind != queue.Badges {
			continue
		}
		counted := clone(row) // the same key: the row is updated in its place
		counted.Kind = queue.Ready
		for i := range counted.Recipients {
			counted.Recipients[i].Badge++
		}
		q.rows[counted.Key] = counted
		ready = append(ready, clone(counted))
	}
	return ready, nil
}

func (q *fakeQueue) cancel(notifications ...uuid.UUID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, id := range notifications {
		q.gone[id] = true
	}
}

func (q *fakeQueue) Cancellations(context.Context, uuid.UUID) (all []queue.Cancellation, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.statements++
	for id := range q.gone {
		all = append(all, queue.Cancellation{App: "a", Notification: id})
	}
	return all, q.down
}

func (q *fakeQueue) CancelledBatches(_ context.Context, _ []queue.Cancellation, _ []queue.Lease, after *queue.Batch, limit int) ([]*queue.Batch, error) {
	found, err := q.cancelled(after, func(b *queue.Batch) bool { return len(b.Recipients) != 1 })
	return found[:min(len(found), limit)], err
}

func (q *fakeQueue) CancelledSingles(context.Context, []queue.Cancellation, []queue.Lease) ([]*queue.Batch, error) {
	return q.cancelled(nil, func(b *queue.Batch) bool { return len(b.Recipients) == 1 })
}

func (q *fakeQueue) cancelled(after *queue.Batch, match func(b *queue.Batch) bool) ([]*queue.Batch, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.statements++
	if q.down != nil {
		return nil, q.down
	}
	var found []*queue.Batch
	for k, b := range q.rows {
		if q.gone[k.Notification] && match(b) && (after == nil || compareShards(k, after.Key) > 0) {
			found = append(found, clone(b))
		}
	}
	slices.SortFunc(found, func(a, b *queue.Batch) int { return compareShards(a.Key, b.Key) })
	return found, nil
}

func compareShards(a, b queue.Key) int {
	return cmp.Or(cmp.Compare(a.Shard, b.Shard), cmp.Compare(a.Lane, b.Lane), compareKeys(a, b))
}

// outcomes counts the notification's final results.
func (q *fakeQueue) outcomes(n *push.Notification) map[push.Outcome]int {
	q.mu.Lock()
	defer q.mu.Unlock()
	m := map[push.Outcome]int{}
	for _, r := range q.final[n.ID] {
		m[r.Outcome]++
	}
	return m
}

func (q *fakeQueue) left() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.rows)
}
