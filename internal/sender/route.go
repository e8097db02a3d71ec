package sender

import (
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/time/rate"

	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/queue"
)

// route sends what goes one way out. Each has its own goroutines and bounds, so that one whose gateway stalls takes
// nothing from the others; they share only the reader and the settlers, which never wait for a transport.
//
// What waits is its backlog's to know, and whether it may be sent its breaker's; the route drives both.
type route struct {
	s       *Sender
	app     string
	name    push.Route
	cfg     RouteConfig
	log     *slog.Logger
	metrics routeMetrics
	share   *share
	limit   *rate.Limiter // MaxRate; nil for none

	// The two dispatchers and the expander sleep on these. Each has room for one signal, which is never lost.
	wakeUrgent, wakeBulk, wakePrepare chan struct{}

	mu       sync.Mutex // guards all below, and the batches of the route that are not settled
	backlog  backlog
	breaker  breaker
	inFlight int
	// trailing are those in flight of groups of which half has results: how long they take says nothing of the others, of
	// another push service it may be.
	trailing int
	window   window
	sums     [2]Sums // by queue.Lane
	// toldNoContent is set when the log has said that there are notifications without content for the route's platform.
	toldNoContent bool
	// stopping is set when the route is not to send any more; retired too where another has taken its place, or the
	// outlet is gone, while the sender runs on.
	stopping, retired bool
}

func newRoute(s *Sender, outlet queue.Outlet, cfg RouteConfig, known *share) *route {
	log := s.log.With("app", outlet.App, "route", outlet.Route)
	r := &route{
		s: s, app: outlet.App, name: outlet.Route, cfg: cfg, log: log,
		metrics: s.metrics.route(outlet, cfg.Kind, cfg.Reasons), share: known, limit: limiter(cfg.MaxRate),
		wakeUrgent: make(chan struct{}, 1), wakeBulk: make(chan struct{}, 1), wakePrepare: make(chan struct{}, 1),
		backlog: newBacklog(cfg.Platform, cfg.Memory, s.rates, s.payloads), breaker: newBreaker(&s.cfg, log),
		window: newWindow(cfg.QueueTarget, cfg.InFlight-cfg.InFlight/8),
	}
	r.breaker.outage.manyServices = cfg.ManyServices
	return r
}

// limiter allows perSecond with bursts of a tenth of a second; nil for no limit.
func limiter(perSecond int) *rate.Limiter {
	if perSecond <= 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(perSecond), max(1, perSecond/10))
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// notification is the one with that id, with its forms for all platforms, if it is in memory.
func (r *route) notification(id uuid.UUID) *push.Notification {
	r.mu.Lock()
	defer r.mu.Unlock()
	if a := r.backlog.find(id); a != nil {
		return a.n
	}
	return nil
}

// wants reports whether the route has room for more of the lane.
func (r *route) wants(lane queue.Lane) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.backlog.wants(lane)
}

// roomFor is how many recipients of the lane there is room for. Where that is less than the weight, the reader is told
// when there is room again.
func (r *route) roomFor(lane queue.Lane, weight int) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	room := r.backlog.room(lane)
	if room < weight {
		r.backlog.full = true
	}
	return room
}

// hasRoom reports whether there is room for one more urgent recipient.
func (r *route) hasRoom() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.backlog.room(queue.Urgent) > 0
}

// admit takes a batch into memory, to be sent.
func (r *route) admit(from *queue.Batch, n *push.Notification) admission {
	b := &batch{Batch: from, route: r, times: r.s.traced(n)}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.retired: // the reader took it for the one that sends now: it is read again
		r.s.reader.rewind(b.Shard, b.Lane)
		return notOurs
	case r.stopping:
		return notOurs
	}
	if r.backlog.room(b.Lane) < b.weight() {
		r.backlog.full = true
		return noRoom
	}
	a := r.backlog.active(n)
	if r.backlog.postpones(from, a, time.Now()) && !r.s.memory.has(b.Key) {
		a.refused = true
		return postponed
	}
	if refused := r.s.memory.add(b); refused != admitted {
		return refused
	}
	r.backlog.add(b, a)
	r.breaker.arrived(time.Now())
	switch {
	case a.noContent && !b.ofAllRoutes():
		r.failWithoutContent(b)
	case b.Kind != queue.Ready:
		r.backlog.unprepared[b.Lane].PushBack(b)
		signal(r.wakePrepare)
	default:
		r.enqueue(b, false)
	}
	return admitted
}

// enqueue has the batch wait for dispatch. r.mu is held.
func (r *route) enqueue(b *batch, front bool) {
	r.backlog.enqueue(b, front)
	r.metrics.ready[b.Lane].Set(float64(r.backlog.ready[b.Lane]))
	if b.Lane == queue.Bulk {
		signal(r.wakeBulk)
	}
	if b.Lane == queue.Urgent || r.breaker.route.cause != notPaused { // probes are the urgent dispatcher's
		signal(r.wakeUrgent)
	}
}

func (r *route) showReady() {
	for lane, n := range r.backlog.ready {
		r.metrics.ready[lane].Set(float64(n))
	}
}

// failWithoutContent settles a batch of a notification that has nothing for the route's platform. Nothing accepts such
// a one, so it is told once: something is wrong with the routes. r.mu is held; the batch waits nowhere.
func (r *route) failWithoutContent(b *batch) {
	if !r.toldNoContent {
		r.toldNoContent = true
		r.log.Error("a notification has no content for the route's platform; its recipients there fail",
			"notification", b.Notification, "platform", r.cfg.Platform, "recipients", len(b.Recipients))
	}
	r.metrics.reasons[push.NoContent].Add(float64(b.left()))
	if b.Kind == queue.Ready {
		r.backlog.ready[b.Lane] += b.left()
	}
	r.conclude(b, noContent)
}

// The results that the sender gives itself.
var (
	expired   = push.Result{Outcome: push.Expired, Reason: push.ExpiredReason}
	unsent    = push.Result{Outcome: push.NotSent}
	noContent = push.Result{Outcome: push.Failed, Reason: push.NoContent}
)

// conclude gives all recipients of the batch that were not dispatched the result. r.mu is held; the batch waits
// nowhere.
func (r *route) conclude(b *batch, result push.Result) {
	if !b.leased {
		lease, ok := r.acquire(b)
		if !ok { // another replica will come to the same result
			r.evict(b)
			return
		}
		b.lease, b.leased, b.sentAt = lease, true, time.Now()
	}
	if b.Kind == queue.Ready {
		r.backlog.ready[b.Lane] -= b.left()
	}
	if len(b.Recipients) > 0 {
		b.start()
	}
	for i := b.next; i < len(b.Recipients); i++ {
		b.results[i] = result
	}
	r.metrics.outcomes[result.Outcome].Add(float64(b.left()))
	b.next = len(b.Recipients)
	if b.inFlight == 0 {
		r.s.settlers.add(b)
	}
}

// acquire takes the lease that the batch was admitted under. It is false where that was lost, though it may have been
// won again: another replica may have sent the batch meanwhile.
func (r *route) acquire(b *batch) (queue.Lease, bool) {
	lease, ok := r.s.q.Acquire(b.Shard)
	if ok && lease.Epoch != b.epoch {
		r.s.q.Release(lease)
		ok = false
	}
	return lease, ok
}

// evict removes a batch that was not sent from memory; its row stays. r.mu is held; the batch waits nowhere.
func (r *route) evict(b *batch) {
	if b.Kind == queue.Ready {
		r.backlog.ready[b.Lane] -= b.left()
	}
	r.s.memory.evict(b)
	b.free()
	r.remove(b)
}

// remove releases what the batch takes in memory, and the lease. r.mu is held; the batch waits nowhere.
func (r *route) remove(b *batch) {
	if b.leased {
		b.leased = false
		r.s.q.Release(b.lease)
	}
	if r.backlog.remove(b, time.Now()) {
		r.s.reader.rewind(b.Shard, b.Lane)
		signal(r.s.reader.wake)
	}
	if r.backlog.roomAgain() {
		r.s.reader.rewindAll()
	}
	signal(r.wakePrepare)
}

// settled is called by the settlers when the batch is settled, or another replica's.
func (r *route) settled(b *batch) {
	r.recordSpans(b)
	r.s.memory.settled(b)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.remove(b)
	b.free()
}

// withdraw removes a batch whose shard is not to be sent from any more. r.mu is held; the batch waits nowhere.
func (r *route) withdraw(b *batch) {
	if b.next > 0 { // a part of it is in flight, or has its results
		r.conclude(b, unsent)
	} else {
		r.evict(b)
	}
}

// withdrawLost withdraws what is ready of shards that are another replica's by now. What is in flight is not called
// back: its settlement is fenced.
func (r *route) withdrawLost() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.backlog.keep(func(b *batch) bool {
		if r.s.memory.ours(b) {
			return true
		}
		r.withdraw(b)
		return false
	})
}

// retire leaves all that waits to the route that takes this one's place, or in the queue. What is in flight gets its
// results; of what has none the row is found again. Nothing finds or sends for the route any more.
func (r *route) retire() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stopping, r.retired = true, true
	r.metrics.detach()
	r.backlog.keep(func(b *batch) bool {
		r.withdraw(b)
		return false
	})
}

// cancel concludes what waits of the notification, here or in the transport.
func (r *route) cancel(id uuid.UUID) {
	r.mu.Lock()
	known := r.backlog.find(id) != nil
	if known {
		r.concludeWhere(func(b *batch) bool { return b.Notification == id }, push.Recalled)
	}
	r.mu.Unlock()
	if t, ok := r.cfg.Transport.(Recaller); ok && known {
		t.Recall(id)
	}
}

// concludeWhere concludes what waits and matches. r.mu is held.
func (r *route) concludeWhere(match func(*batch) bool, result push.Result) {
	r.backlog.keep(func(b *batch) bool {
		if !match(b) {
			return true
		}
		r.conclude(b, result)
		return false
	})
}

// cancelStored settles a cancelled batch that is not in memory. One that was in memory has been concluded, or is in
// flight.
func (r *route) cancelStored(from *queue.Batch) {
	b := &batch{Batch: from, n: &push.Notification{ID: from.Notification, App: r.app}, route: r}
	r.mu.Lock()
	defer r.mu.Unlock()
	// However full the memory is: it is gone as soon as it is settled, and a page at a time comes.
	if r.stopping || r.s.memory.add(b) != admitted {
		return
	}
	r.backlog.count(b, 1)
	if b.Kind == queue.Ready {
		r.backlog.ready[b.Lane] += b.left()
	}
	r.conclude(b, push.Recalled)
}
