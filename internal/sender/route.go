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

// route is all that the sender keeps of one route. Each has its own goroutines and bounds, so that one whose gateway stalls takes
// nothing from the others; they share only the reader and the settlers, which never wait for a transport.
type route struct {
	s       *Sender
	name    string
	route   push.Route
	cfg     RouteConfig
	log     *slog.Logger
	metrics routeMetrics
	share   *share
	limit   *rate.Limiter // MaxRate; nil for none

	// The two dispatchers and the expander sleep on these. Each has room for one signal, which is never lost.
	wakeUrgent, wakeBulk, wakePrepare chan struct{}

	mu sync.Mutex // guards all below, and the items of the app that are not finished
	// streams has every notification of which there is something in memory.
	streams map[uuid.UUID]*active
	urgent  fifo[*batch]
	// turns has the streams with bulk batches that are ready, in the order in which they get their turns.
	turns fifo[*active]
	// unprepared has the batches whose recipients are not known or not counted yet.
	unprepared [2]fifo[*batch] // by lane
	// inMemory is the number of recipients in memory, by lane; ready those of them that wait for dispatch.
	inMemory, ready [2]int
	inFlight        int
	window          window
	pause           pause
	outage          outage
	topics          map[string]*topicHold // the topics that the service refuses
	waiting         waiting               // the device tokens that nothing is sent to for a while
	// toldNoContent is set when the log has said that there are notifications without content for the route's platform.
	toldNoContent bool
	// slow is the number of recipients in memory, of inMemory, whose notifications' own rates let few of them go.
	slow int
	// full is set when a batch was refused; the reader is told when there is room again and little is ready.
	full bool
	// expires is the earliest expiration among the streams, zero for none.
	expires  time.Time
	stopping bool
}

// active is one notification's place in memory.
type active struct {
	n *push.Notification
	// own is n as the route's platform sends it, and n itself where it has nothing for that platform, as noContent says.
	own       *push.Notification
	noContent bool
	items     fifo[*batch] // bulk batches that are ready
	refs      int          // items in memory in any state
	limit     *rate.Limiter
	// slow says that its rate is so low that what is in memory of it must be bounded on its own; inMemory counts that, and
	// refused is set when a batch was not taken for it.
	slow, refused bool
	inMemory      int
	turn          bool      // it is in turns
	taken         bool      // by the service, for some recipient
	weighed       time.Time // when its "later" last counted as evidence, while none was taken
	idle          time.Time // since when refs is 0, which it may be for a while: its limiter must not forget what was just sent
}

func newRoute(s *Sender, outlet queue.Outlet, cfg RouteConfig) *route {
	a := &route{
		s: s, name: outlet.App, route: outlet.Route, cfg: cfg, log: s.log.With("app", outlet.App, "route", outlet.Route),
		metrics: s.metrics.app(outlet, cfg.Kind, cfg.Reasons), share: newShare(),
		limit:      limiter(cfg.MaxRate),
		wakeUrgent: make(chan struct{}, 1), wakeBulk: make(chan struct{}, 1), wakePrepare: make(chan struct{}, 1),
		streams: map[uuid.UUID]*active{}, topics: map[string]*topicHold{},
		window: newWindow(cfg.QueueTarget, cfg.InFlight-cfg.InFlight/8),
	}
	return a
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

func (a *route) wakeAll() {
	signal(a.wakeUrgent)
	signal(a.wakeBulk)
	signal(a.wakePrepare)
}

// room is how many recipients of the lane may still be admitted. a.mu is held.
func (a *route) room(lane queue.Lane) int {
	bound := a.cfg.Memory
	if lane != queue.Urgent { // so that no broadcast keeps the urgent ones out
		bound -= bound / 4
	}
	return bound - a.inMemory[queue.Urgent] - a.inMemory[queue.Bulk]
}

// pending is the number of bulk recipients that are ready and not held back by a low rate of their own or by their topic:
// what the app has in memory to send. a.mu is held.
func (a *route) pending() int { return a.ready[queue.Bulk] - a.slow - a.parked() }

// waits reports whether the batch is better left in the queue for now: what cannot be sent soon must not take the memory
// that other notifications of the app need. Once it has expired it can be settled at once. a.mu is held.
func (a *route) waits(b *queue.Batch, n *push.Notification, st *active, weight int) bool {
	switch {
	case b.Kind == queue.Audience || n.Expired(time.Now()):
		return false
	case a.topics[n.Key] != nil:
		return a.parked() >= a.cfg.Memory/8
	case !st.slow || b.Lane == queue.Urgent:
		return false
	}
	return !a.fits(st, weight)
}

// fits reports whether n more recipients of a slow stream may be in memory: what its rate lets go in some seconds, as long as
// all the slow ones leave enough to the others; and as long as they leave anything, for each of them a first batch. a.mu is held.
func (a *route) fits(st *active, n int) bool {
	if st.inMemory == 0 {
		return a.slow+n <= a.cfg.Memory/2
	}
	return st.inMemory+n <= max(2*queue.MaxBatch, int(st.n.Rate)*10) && a.slow+n <= a.cfg.Memory/3
}

// notification is the one with that id if it is in memory.
func (a *route) notification(id uuid.UUID) *push.Notification {
	a.mu.Lock()
	defer a.mu.Unlock()
	if st := a.streams[id]; st != nil {
		return st.n
	}
	return nil
}

// admit takes a batch into memory, to be sent.
func (a *route) admit(b *queue.Batch, n *push.Notification) admission {
	it := &batch{Batch: b, n: n, app: a}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stopping {
		return notOurs
	}
	if a.room(b.Lane) < it.weight() {
		a.full = true
		return noRoom
	}
	st := a.streams[b.Notification]
	if st == nil {
		st = a.newActive(n)
	}
	if a.waits(b, st.own, st, it.weight()) && !a.s.memory.has(b.Key) {
		st.refused = true
		return postponed
	}
	if r := a.s.memory.add(it); r != admitted {
		return r
	}
	if a.streams[b.Notification] == nil {
		a.streams[b.Notification] = st
		if e := st.own.Expiration; !e.IsZero() && (a.expires.IsZero() || e.Before(a.expires)) {
			a.expires = e
		}
	}
	it.n, it.stream = st.own, st // one copy of the payload, however often it was read
	st.refs++
	a.count(it, 1)
	if st.noContent && (b.Kind != queue.Audience || b.Route != "") { // an audience without a route is of all platforms
		a.failWithoutContent(it)
		return admitted
	}
	if b.Kind != queue.Ready {
		a.unprepared[it.Lane].push(it)
		signal(a.wakePrepare)
		return admitted
	}
	a.enqueue(it, false)
	return admitted
}

func (a *route) newActive(n *push.Notification) *active {
	st := &active{n: n, own: n.For(a.cfg.Platform), limit: limiter(int(n.Rate)), slow: n.Rate > 0 && int(n.Rate)*10 < a.cfg.Memory/4}
	if st.own == nil {
		st.own, st.noContent = n, true
	}
	return st
}

// failWithoutContent settles a batch of a notification that has nothing for the route's platform. Nothing accepts such a one,
// so it is told once: something is wrong with the routes. a.mu is held; the item is in no queue.
func (a *route) failWithoutContent(it *batch) {
	if !a.toldNoContent {
		a.toldNoContent = true
		a.log.Error("a notification has no content for the route's platform; its recipients there fail",
			"notification", it.Notification, "platform", a.cfg.Platform, "recipients", len(it.Recipients))
	}
	a.metrics.reasons[push.NoContent].Add(float64(it.left()))
	if it.Kind == queue.Ready {
		a.ready[it.Lane] += it.left()
	}
	a.retire(it, noContent)
}

// count adds the item to what is in memory, or with sign -1 takes it off. a.mu is held.
func (a *route) count(it *batch, sign int) {
	a.inMemory[it.Lane] += sign * it.weight()
	if st := it.stream; st != nil && st.slow && it.Lane == queue.Bulk && it.Kind != queue.Audience {
		st.inMemory += sign * it.weight()
		a.slow += sign * it.weight()
	}
}

// enqueue makes the item ready for dispatch. a.mu is held.
func (a *route) enqueue(it *batch, front bool) {
	a.ready[it.Lane] += it.left()
	a.metrics.ready[it.Lane].Set(float64(a.ready[it.Lane]))
	switch {
	case it.Lane == queue.Urgent && front:
		a.urgent.pushFront(it)
	case it.Lane == queue.Urgent:
		a.urgent.push(it)
	default:
		st := it.stream
		if front {
			st.items.pushFront(it)
		} else {
			st.items.push(it)
		}
		if !st.turn {
			st.turn = true
			a.turns.push(st)
		}
		signal(a.wakeBulk)
	}
	if it.Lane == queue.Urgent || a.pause.cause != notPaused { // probes are the urgent dispatcher's
		signal(a.wakeUrgent)
	}
}

// forget lets go of the item's memory. a.mu is held; the item is in none of the app's queues any more.
func (a *route) forget(it *batch) {
	if it.held {
		it.held = false
		a.s.q.Unhold(it.lease)
	}
	a.count(it, -1)
	if st := it.stream; st != nil {
		if st.refused && st.inMemory <= max(queue.MaxBatch, int(st.n.Rate)*5) {
			st.refused = false
			a.s.reader.rewind(it.Shard, it.Lane)
			signal(a.s.reader.wake)
		}
		if st.refs--; st.refs == 0 {
			st.idle = time.Now()
			if st.limit == nil {
				delete(a.streams, it.Notification)
			}
		}
	}
	if a.full && a.pending() <= a.cfg.Memory/8 && a.room(queue.Bulk) >= expandPage {
		a.full = false
		a.s.reader.rewindAll()
	}
	signal(a.wakePrepare)
}

// dropLost forgets what is ready but of shards that are another replica's by now. What is in flight is not called back: its
// settlement is fenced.
func (a *route) dropLost() {
	a.mu.Lock()
	defer a.mu.Unlock()
	keep := func(it *batch) bool {
		if a.s.memory.ours(it) {
			return true
		}
		a.lose(it)
		return false
	}
	a.keepWaiting(keep)
}

// lose lets go of an item whose shard is not to be sent from any more. a.mu is held; the item is in no queue.
func (a *route) lose(it *batch) {
	if it.next > 0 { // a part of it is in flight, or has its results
		a.retire(it, unsent)
	} else {
		a.drop(it)
	}
}

// keepWaiting removes what keep returns false for from all that waits. a.mu is held.
func (a *route) keepWaiting(keep func(it *batch) bool) {
	a.urgent.keep(keep)
	a.unprepared[queue.Urgent].keep(keep)
	a.unprepared[queue.Bulk].keep(keep)
	for i := range a.turns.len() {
		a.turns.at(i).items.keep(keep)
	}
	a.pruneTurns()
	for _, h := range a.topics {
		h.keep(keep)
	}
}

// drop forgets a ready item that is not to be sent by this replica. a.mu is held.
func (a *route) drop(it *batch) {
	if it.Kind == queue.Ready {
		a.ready[it.Lane] -= it.left()
		a.metrics.ready[it.Lane].Set(float64(a.ready[it.Lane]))
	}
	a.s.memory.drop(it)
	it.free()
	a.forget(it)
}

// pruneTurns takes the streams without ready batches out of the turns. a.mu is held.
func (a *route) pruneTurns() {
	a.turns.keep(func(st *active) bool {
		st.turn = st.items.len() > 0
		return st.turn
	})
}
