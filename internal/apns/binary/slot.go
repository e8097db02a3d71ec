package binary

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/ring"
)

const (
	// maxDraining is how many connections of a slot may wait for their end while a fresh one is written to.
	maxDraining = 3
	// maxSilent is how many more of them are read, although silence counts, in case a response comes late; and
	// maxUnreported how many windows of notifications may thereby be kept from counting as accepted. It leaves the
	// sender, whose number in flight is bounded, one window to go on with.
	maxSilent     = 8
	maxUnreported = 2
)

// slot keeps one connection at work, and those before it that wait for their end. One goroutine owns all of it.
type slot struct {
	t *Transport
	// todo is what is to be written next, in the order of Send: what was put back, and then what was taken from the
	// queue.
	todo ring.Ring[span]

	conn      *conn   // written to
	spare     *conn   // opened ahead, to take over when the window of conn is full
	draining  []*conn // nothing more is written to them: half-closed, or soon to be; oldest first
	undecided []*conn // ended abruptly: whether that is evidence is not known yet
	dialing   bool
	asking    bool

	ended  chan *conn      // room for every connection the slot can have, so that no reader waits
	dialed chan dialResult // room for the one dial at a time
	asked  chan bool       // room for the one question at a time: whether the gateway ends connections abruptly
	wake   chan struct{}
	// For the other slots: it can take from the queue, or soon will; and the gateway answers.
	usable, connected atomic.Bool

	timer *time.Timer
	due   time.Time // when something is next to be done without an event; zero: never
	last  time.Time // when it last looked, to notice that the process was stopped

	dials  dials
	search search

	buf  []byte
	note prepared
}

func newSlot(t *Transport) *slot {
	return &slot{
		t: t, dials: newDials(t.cfg.BackoffMin, t.cfg.BackoffMax), ended: make(chan *conn, 3+2*maxDraining+maxSilent),
		dialed: make(chan dialResult, 1), asked: make(chan bool, 1), wake: make(chan struct{}, 1),
	}
}

func (s *slot) wakeUp() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// run works until ctx ends, and then finishes everything.
func (s *slot) run(ctx context.Context) {
	s.timer = time.NewTimer(time.Hour)
	defer s.timer.Stop()
	defer s.shutdown()
	for ctx.Err() == nil {
		s.events()
		s.askAbrupt(ctx)
		now := time.Now()
		s.due = time.Time{}
		s.noticeStandstill(now)
		s.evidence(now)
		s.acceptSilent(now)
		s.passProbe(now)
		s.stopWriting(now)
		s.rotate(now)
		s.connect(ctx, now)
		s.publish()
		if s.write(now) {
			continue
		}
		s.sleep(ctx)
	}
}

// at asks for a look at t.
func (s *slot) at(t time.Time) {
	if s.due.IsZero() || t.Before(s.due) {
		s.due = t
	}
}

// overdue reports whether limit has passed since t, and asks for a look then if not.
func (s *slot) overdue(now, t time.Time, limit time.Duration) bool {
	if t = t.Add(limit); t.After(now) {
		s.at(t)
		return false
	}
	return true
}

// sleep waits for an event, or for the time that was asked for.
func (s *slot) sleep(ctx context.Context) {
	var timer <-chan time.Time
	if !s.due.IsZero() {
		s.timer.Reset(time.Until(s.due))
		timer = s.timer.C
	}
	select {
	case c := <-s.ended:
		s.end(c)
	case r := <-s.dialed:
		s.connectedOrNot(r)
	case abrupt := <-s.asked:
		s.asking = false
		s.decideAbrupt(abrupt)
	case <-s.wake:
	case <-timer:
	case <-ctx.Done():
	}
	s.timer.Stop()
}

// events handles what has been reported, without waiting.
func (s *slot) events() {
	for {
		select {
		case c := <-s.ended:
			s.end(c)
		case r := <-s.dialed:
			s.connectedOrNot(r)
		case abrupt := <-s.asked:
			s.asking = false
			s.decideAbrupt(abrupt)
		default:
			return
		}
	}
}

// publish tells the other slots what this one can do.
func (s *slot) publish() {
	usable := s.search.limit == 0 && (s.conn != nil || s.dialing)
	if s.usable.Swap(usable) && !usable && s.t.queue.size() > 0 {
		s.t.wakeSlots() // another slot must see to it
	}
	s.connected.Store(s.conn != nil && !s.dials.wary)
}

// slack is by how much the slot may run late before silence is no longer believed.
func (s *slot) slack() time.Duration { return max(s.t.cfg.ConfirmAfter/8, 10*time.Millisecond) }

// noticeStandstill begins the silence anew after the process itself did not run (a suspended machine, a starved
// container): what the gateway said meanwhile may not have been read yet, and a gateway that was stopped with us has
// said nothing yet. So that no standstill passes for sleep, the slot never sleeps for long while silence may become
// evidence.
func (s *slot) noticeStandstill(now time.Time) {
	slack := s.slack()
	stood := now.Sub(s.last) > slack
	s.last = now
	for c := range s.conns {
		if stood {
			c.quietSince = now
		}
		if c.unconfirmed > 0 {
			s.at(now.Add(slack / 2))
		}
	}
}

// conns yields every connection of the slot.
func (s *slot) conns(yield func(*conn) bool) {
	for _, c := range s.draining {
		if !yield(c) {
			return
		}
	}
	if s.conn != nil && !yield(s.conn) {
		return
	}
	if s.spare != nil {
		yield(s.spare)
	}
}

// returnAll finishes all that waits as not sent, with result: the gateway is away. What waits elsewhere can be
// cancelled and can expire.
func (s *slot) returnAll(err error, result push.Result) {
	s.dials.wary = true
	if !s.t.otherConnected(s) {
		s.t.down(err)
		s.t.returnQueue()
	}
	for s.todo.Len() > 0 {
		s.t.finish(s.todo.PopFront(), result)
	}
}

// shutdown closes every connection, waits for every goroutine, and finishes what is left as not sent.
func (s *slot) shutdown() {
	if s.dialing { // ctx, which has ended, makes it return
		if r := <-s.dialed; r.nc != nil {
			_ = r.nc.Close()
		}
	}
	if s.asking {
		<-s.asked
	}
	for _, c := range s.undecided {
		s.putBack(c)
	}
	open := 0
	for c := range s.conns {
		c.close()
		open++
	}
	for range open {
		c := <-s.ended
		s.t.metrics.Connections.Dec()
		if c.unconfirmed > 0 {
			s.putBack(c)
		}
	}
	for s.todo.Len() > 0 {
		s.t.finish(s.todo.PopFront(), notSent)
	}
	s.usable.Store(false)
	s.connected.Store(false)
}
