package sender

import (
	"time"

	"github.com/google/uuid"

	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/queue"
	"github.com/lhspn/lhspn/internal/ring"
)

// backlog is what of a route is in memory: which batches wait, whose turn it is, and how much there may be. It is a
// plain value, which its route's mu guards.
//
// One recipient goes before many. Among the others the notifications take turns, so that none waits for a broadcast to
// end.
type backlog struct {
	platform      string
	rates         *rates
	payloads      *payloads
	limit         int   // recipients in memory at the most
	bytes         int64 // that its notifications take; see payloads
	notifications map[uuid.UUID]*active
	urgent        ring.Ring[*batch]
	// turns has the notifications with bulk batches that are ready.
	turns ring.Ring[*active]
	// blocked has, for each key that is not sent to for now, the batches that wait for it; waiting is the number of
	// recipients of all of them.
	blocked map[string]*blocked
	waiting int
	// unprepared has the batches whose recipients are not known or not counted yet, by lane.
	unprepared [2]ring.Ring[*batch]
	// inMemory is the number of recipients in memory, by lane; ready those of them that wait for dispatch.
	inMemory, ready [2]int
	// slow is the number of recipients in memory whose notifications' own rates let few of them go.
	slow int
	// full is set when a batch was refused; the reader is told when there is room again and little is ready.
	full bool
	// expires is the earliest expiration among the notifications, zero for none.
	expires time.Time
}

// blocked is what waits for one key.
type blocked struct {
	batches    ring.Ring[*batch]
	recipients int
}

func newBacklog(platform string, limit int, sharedRates *rates, sharedPayloads *payloads) backlog {
	return backlog{platform: platform, limit: limit, rates: sharedRates, payloads: sharedPayloads,
		notifications: map[uuid.UUID]*active{}, blocked: map[string]*blocked{}}
}

// room is how many recipients of the lane may still be admitted.
func (q *backlog) room(lane queue.Lane) int {
	bound, bytes := q.limit, q.bytes
	if lane != queue.Urgent { // so that no broadcast keeps the urgent ones out
		bound -= bound / 4
		bytes += bytes / 3
	}
	if !q.payloads.room(bytes) {
		return 0
	}
	return bound - q.inMemory[queue.Urgent] - q.inMemory[queue.Bulk]
}

// wants reports whether there is room for more of the lane, with enough of it that a read is worth while.
func (q *backlog) wants(lane queue.Lane) bool {
	if q.full && lane != queue.Urgent {
		return false
	}
	need := 1
	if lane == queue.Bulk {
		need = queue.MaxBatch
	}
	if q.room(lane) < need {
		q.full = true
		return false
	}
	return true
}

// sendable is the number of bulk recipients that are ready and not kept waiting by a low rate of their own or by their
// key, or fewer, for slow has also what is in flight.
func (q *backlog) sendable() int { return max(0, q.ready[queue.Bulk]-q.slow-q.waiting) }

// find is the notification with that id if it is in memory.
func (q *backlog) find(id uuid.UUID) *active { return q.notifications[id] }

// active is the notification's place in memory, a new one where it has none.
func (q *backlog) active(n *push.Notification) *active {
	if a := q.notifications[n.ID]; a != nil {
		return a
	}
	a := &active{n: n, own: n.For(q.platform), slow: n.Rate > 0 && int(n.Rate)*10 < q.limit/4}
	if a.own == nil {
		a.own, a.noContent = n, true
	}
	return a
}

// postpones reports whether the batch is better left in the queue for now: what cannot be sent soon must not take the
// memory that the route's other notifications need.
func (q *backlog) postpones(b *queue.Batch, a *active, now time.Time) bool {
	switch {
	case b.Kind == queue.Audience || a.own.Expired(now):
		return false
	case q.blocked[a.own.Key] != nil:
		return q.crowded()
	case !a.slow || b.Lane == queue.Urgent:
		return false
	}
	return !q.fits(a, max(1, len(b.Recipients)))
}

// fits reports whether n more recipients of a slow notification may be in memory: what its rate lets go in some
// seconds, as long as all the slow ones leave enough to the others; and as long as they leave anything, for each of
// them a first batch.
func (q *backlog) fits(a *active, n int) bool {
	if a.inMemory == 0 {
		return q.slow+n <= q.limit/2
	}
	return a.inMemory+n <= max(2*queue.MaxBatch, int(a.n.Rate)*10) && q.slow+n <= q.limit/3
}

// add counts the batch as in memory, and makes it its notification's.
func (q *backlog) add(b *batch, a *active) {
	if q.notifications[b.Notification] == nil {
		q.remember(a)
	}
	b.n, b.active = a.own, a // one copy of the payload, however often it was read
	a.batches++
	q.count(b, 1)
}

// count adds the batch to what is in memory, or with sign -1 takes it off.
func (q *backlog) count(b *batch, sign int) {
	q.inMemory[b.Lane] += sign * b.weight()
	if a := b.active; a != nil && a.slow && b.Lane == queue.Bulk && b.Kind != queue.Audience {
		a.inMemory += sign * b.weight()
		q.slow += sign * b.weight()
	}
}

// remove takes the batch, which waits nowhere, off what is in memory. again says that batches of its notification that
// were postponed have room now.
func (q *backlog) remove(b *batch, now time.Time) (again bool) {
	q.count(b, -1)
	a := b.active
	if a == nil {
		return false
	}
	if a.refused && a.inMemory <= max(queue.MaxBatch, int(a.n.Rate)*5) {
		a.refused, again = false, true
	}
	if a.batches--; a.batches == 0 {
		a.idle = now
		if a.limit == nil {
			q.forget(a)
		}
	}
	return again
}

// roomAgain reports, once, that there is room after a batch was refused, and that little is ready.
func (q *backlog) roomAgain() bool {
	if q.full && q.sendable() <= q.limit/8 && q.room(queue.Bulk) >= expandPage && q.payloads.room(2*q.bytes) {
		q.full = false
		return true
	}
	return false
}

// enqueue has the batch wait for dispatch, behind the others of its kind or before them.
func (q *backlog) enqueue(b *batch, front bool) {
	q.ready[b.Lane] += b.left()
	of := &q.urgent
	if b.Lane != queue.Urgent {
		of = &b.active.ready
	}
	if front {
		of.PushFront(b)
	} else {
		of.PushBack(b)
	}
	if a := b.active; b.Lane != queue.Urgent && !a.turn {
		a.turn = true
		q.turns.PushBack(a)
	}
}

// block has the batch, which waits nowhere, wait for its key. It is false where there is no room for more that wait so:
// of each key one batch is to wait, by which it is tried again, but an app may have any number of keys.
func (q *backlog) block(b *batch) bool {
	w := q.blocked[b.n.Key]
	if w == nil {
		w = &blocked{}
		q.blocked[b.n.Key] = w
	}
	most := q.limit / 8
	if w.batches.Len() == 0 {
		most = q.limit / 4
	}
	if b.next == 0 && q.waiting > 0 && (q.waiting+b.left() > most || !q.payloads.room(2*q.bytes)) {
		return false
	}
	w.batches.PushBack(b)
	w.recipients += b.left()
	q.waiting += b.left()
	return true
}

// unblock takes the first batch that waits for the key, nil where there is none. It is to be enqueued.
func (q *backlog) unblock(key string) *batch {
	w := q.blocked[key]
	if w == nil || w.batches.Len() == 0 {
		return nil
	}
	b := w.batches.PopFront()
	w.recipients -= b.left()
	q.waiting -= b.left()
	q.ready[b.Lane] -= b.left() // enqueue counts it again
	return b
}

// keep removes everything that keep returns false for from all that waits.
func (q *backlog) keep(keep func(b *batch) bool) {
	q.urgent.Keep(keep)
	q.unprepared[queue.Urgent].Keep(keep)
	q.unprepared[queue.Bulk].Keep(keep)
	for i := range q.turns.Len() {
		(*q.turns.At(i)).ready.Keep(keep)
	}
	q.pruneTurns()
	q.waiting = 0
	for _, w := range q.blocked {
		w.batches.Keep(keep)
		w.recipients = 0
		for i := range w.batches.Len() {
			w.recipients += (*w.batches.At(i)).left()
		}
		q.waiting += w.recipients
	}
}

// pruneTurns takes the notifications without ready batches out of the turns.
func (q *backlog) pruneTurns() {
	q.turns.Keep(func(a *active) bool {
		a.turn = a.ready.Len() > 0
		return a.turn
	})
}

// page is how many recipients of the audience are to be expanded now: 0 while enough of it is ready.
func (q *backlog) page(b *batch) int {
	page := expandPage
	switch a := b.active; {
	case b.Lane == queue.Urgent && b.Cursor.After == "": // a person's few devices, on whichever routes
		return page
	case b.Lane == queue.Urgent && q.ready[queue.Urgent] >= page: // who has thousands does not keep others waiting
		return 0
	case !b.ofAllRoutes() && q.holds(b.n.Key):
		return 0
	case !a.slow:
		if q.enough() {
			return 0
		}
	default: // what its own rate lets go in a few seconds
		page = min(max(100, 5*int(a.n.Rate)), expandPage)
		ready := 0
		for i := range a.ready.Len() {
			ready += (*a.ready.At(i)).left()
		}
		if ready >= page || !q.fits(a, page) {
			return 0
		}
	}
	if q.room(queue.Bulk) < page {
		return 0
	}
	return page
}

// holds reports whether nothing more need be ready of the key, which is not sent to for now: one recipient is enough to
// see whether it is taken again.
func (q *backlog) holds(key string) bool {
	w := q.blocked[key]
	return w != nil && (w.recipients > 0 || q.crowded())
}

// crowded reports whether no more is to wait for keys that are not sent to for now.
func (q *backlog) crowded() bool { return q.waiting >= q.limit/8 || !q.payloads.room(2*q.bytes) }

// enough reports whether so much is ready that no bulk batch need be prepared.
func (q *backlog) enough() bool { return q.sendable() >= q.limit/4 }

// expire looks again for the earliest expiration, after the expired ones were removed.
func (q *backlog) expire() {
	q.expires = time.Time{}
	for _, a := range q.notifications {
		q.expires = earlier(q.expires, a.own.Expiration)
	}
}

// remember takes the notification in.
func (q *backlog) remember(a *active) {
	q.notifications[a.n.ID] = a
	a.limit = q.rates.take(a.n)
	q.bytes += q.payloads.take(a.n)
	q.expires = earlier(q.expires, a.own.Expiration)
}

// forget forgets the notification, of which nothing is in memory. Its limit is left to the other routes.
func (q *backlog) forget(a *active) {
	if q.notifications[a.n.ID] != a {
		return
	}
	delete(q.notifications, a.n.ID)
	q.bytes -= q.payloads.release(a.n)
	if a.limit != nil {
		q.rates.release(a.n.ID)
		a.limit = nil
	}
}

// forgetIdle forgets the notifications of which nothing has been in memory for a while.
func (q *backlog) forgetIdle(now time.Time) {
	for _, a := range q.notifications {
		if a.batches == 0 && now.Sub(a.idle) > 2*time.Second {
			q.forget(a)
		}
	}
}

// forgetAll forgets all of them, when nothing is sent any more.
func (q *backlog) forgetAll() {
	for _, a := range q.notifications {
		q.forget(a)
	}
}

// earlier is the earlier of the two that are not zero.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
