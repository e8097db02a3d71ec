package apns

import (
	"context"
	"net"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/lhspn/lhspn/internal/push"
)

const (
	// writeSize is how much is packed into one write, if there is as much.
	writeSize = 128 << 10
	// takeSize is how many deliveries a lane takes from the queue at a time.
	takeSize = 1024
	// maxDraining is how many half-closed connections of a lane may wait for their end while a fresh one is written to.
	maxDraining = 3
	// maxSilent is how many more of them are read, although silence counts, in case a response comes late; and maxHeld how
	// many windows of notifications may thereby be held back from counting as accepted. It leaves the sender, whose number in
	// flight is bounded, one window to go on with.
	maxSilent = 8
	maxHeld   = 2
	// lastIdentifier ends a connection that has lived so long that its identifiers would run out.
	lastIdentifier = 1 << 31

	// probeTime is how long a connection is watched before anything is written to it while the gateway is suspect, and
	// how long one on which a culprit is looked for is watched before it is half-closed. It is longer than a round trip, in
	// which a gateway that refuses the certificate or drops a notification closes.
	probeTime = 250 * time.Millisecond
	// earlyEnd is the age up to which a connection that ends with nothing written counts as refused.
	earlyEnd = 5 * time.Second
	// refusalsToReport is how many refused connections in a row are a fault of the configuration.
	refusalsToReport = 3

	// shrink is by how much less is written on the next connection after one broke without any progress.
	shrink = 8
	// breaksOfCulprit is how often a notification must have broken a connection on which it was alone to be taken for the cause.
	breaksOfCulprit = 3
	// maxCulprits is how many notifications are blamed, each once, with nothing accepted in between; after them it is the
	// gateway.
	maxCulprits = 4
)

// slot keeps one connection at work, and those that it has half-closed and that drain. One goroutine owns all of it.
type slot struct {
	b *Binary
	// todo is what is to be written next, in the order of Send: what was put back, and then what was taken from the queue.
	todo ring[span]

	conn     *binaryConn   // written to
	spare    *binaryConn   // opened ahead, to take over when the window of conn is full
	draining []*binaryConn // nothing more is written to them: half-closed, or soon to be; oldest first
	held     []*binaryConn // ended, and yet to be judged whether that is evidence
	dialing  bool
	judging  bool

	ended  chan *binaryConn // room for every connection the lane can have, so that no reader waits
	dialed chan dialResult  // room for the one dial at a time
	judged chan bool        // room for the one judgement at a time: whether the gateway ends connections abruptly
	wake   chan struct{}
	usable atomic.Bool // for the other lanes: it can take from the queue, or soon will
	// connected is for the other lanes: the gateway answers.
	connected atomic.Bool

	timer *time.Timer
	due   time.Time // when something is next to be done without an event; zero: never
	last  time.Time // of the lane's last turn, to notice that the process stood still

	backoff  *backoff.ExponentialBackOff
	nextDial time.Time
	suspect  bool // the next connection is watched before it is written to
	refusals int  // connections in a row that ended with nothing written

	// The search for a notification that breaks each connection it is written to: breaks in a row without progress; how
	// many deliveries, from the front of what is to be written, it is looked for among, and how many of them are written on
	// one connection (0: no search); the one that was alone on the last, and how often; and who was blamed since something
	// was accepted.
	breaks    int
	lastBreak time.Time
	suspects  int
	limit     int
	alone     target
	aloneFor  int
	blamed    []culprit
	// fruitless: it was given up because whatever is written breaks the connection. That one can be opened and stays says
	// nothing then: the gateway is back when something was settled.
	fruitless bool

	buf  []byte
	note prepared
}

type dialResult struct {
	nc  net.Conn
	err error
}

func newSlot(b *Binary) *slot {
	bo := backoff.NewExponentialBackOff()
	bo.InitialInterval, bo.MaxInterval, bo.Multiplier, bo.RandomizationFactor = b.cfg.BackoffMin, b.cfg.BackoffMax, 2, 0.5
	bo.Reset()
	return &slot{
		b: b, backoff: bo,
		ended: make(chan *binaryConn, 3+2*maxDraining+maxSilent), dialed: make(chan dialResult, 1), judged: make(chan bool, 1),
		wake: make(chan struct{}, 1),
	}
}

func (l *slot) wakeUp() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// run works until ctx ends, and then lets go of everything.
func (l *slot) run(ctx context.Context) {
	l.timer = time.NewTimer(time.Hour)
	defer l.timer.Stop()
	defer l.shutdown()
	for ctx.Err() == nil {
		l.events()
		l.askAbrupt(ctx)
		now := time.Now()
		l.due = time.Time{}
		l.noticeStandstill(now)
		l.evidence(now)
		l.acceptSilent(now)
		l.passProbe(now)
		l.retire(now)
		l.rotate(now)
		l.connect(ctx, now)
		l.publish()
		if l.write(now) {
			continue
		}
		l.sleep(ctx)
	}
}

// at asks for a turn at t.
func (l *slot) at(t time.Time) {
	if l.due.IsZero() || t.Before(l.due) {
		l.due = t
	}
}

// sleep waits for an event, or for the time that was asked for.
func (l *slot) sleep(ctx context.Context) {
	var timer <-chan time.Time
	if !l.due.IsZero() {
		l.timer.Reset(time.Until(l.due))
		timer = l.timer.C
	}
	select {
	case c := <-l.ended:
		l.end(c)
	case r := <-l.dialed:
		l.connectedOrNot(r)
	case abrupt := <-l.judged:
		l.judging = false
		l.decideAbrupt(abrupt)
	case <-l.wake:
	case <-timer:
	case <-ctx.Done():
	}
	l.timer.Stop()
}

// events handles what has been reported, without waiting.
func (l *slot) events() {
	for {
		select {
		case c := <-l.ended:
			l.end(c)
		case r := <-l.dialed:
			l.connectedOrNot(r)
		case abrupt := <-l.judged:
			l.judging = false
			l.decideAbrupt(abrupt)
		default:
			return
		}
	}
}

// publish tells the other lanes what this one can do.
func (l *slot) publish() {
	usable := l.limit == 0 && (l.conn != nil || l.dialing)
	if l.usable.Swap(usable) && !usable && l.b.hasWork() {
		l.b.wakeSlots() // another lane must see to it
	}
	l.connected.Store(l.conn != nil && !l.suspect)
}

// slack is by how much the lane may run late before silence is no longer believed.
func (l *slot) slack() time.Duration { return max(l.b.cfg.ConfirmAfter/8, 10*time.Millisecond) }

// noticeStandstill begins the silence anew after the process itself did not run (a suspended machine, a starved container):
// what the gateway said meanwhile may not have been read yet, and a gateway that stood still with us has said nothing yet.
// So that no standstill passes for sleep, the lane never sleeps for long while silence may become evidence.
func (l *slot) noticeStandstill(now time.Time) {
	slack := l.slack()
	stood := now.Sub(l.last) > slack
	l.last = now
	for c := range l.conns {
		if stood {
			c.quietSince = now
		}
		if c.unconfirmed > 0 {
			l.at(now.Add(slack / 2))
		}
	}
}

// conns yields every connection of the lane.
func (l *slot) conns(yield func(*binaryConn) bool) {
	for _, c := range l.draining {
		if !yield(c) {
			return
		}
	}
	if l.conn != nil && !yield(l.conn) {
		return
	}
	if l.spare != nil {
		yield(l.spare)
	}
}

// passProbe lets a connection be written to that has been watched and did not end.
func (l *slot) passProbe(now time.Time) {
	c := l.conn
	if c == nil || c.writeAfter.IsZero() || !c.writable() {
		return
	}
	if c.writeAfter.After(now) {
		l.at(c.writeAfter)
		return
	}
	c.writeAfter = time.Time{}
	l.suspect, l.refusals = false, 0
	if !l.fruitless {
		l.backoff.Reset()
		l.b.back()
	}
}

// retire stops writing to the connection when there is nothing more to write, or it has waited long enough for evidence.
func (l *slot) retire(now time.Time) {
	c := l.conn
	if c == nil || !c.writable() || !c.writeAfter.IsZero() {
		return
	}
	more := l.todo.len() > 0 || l.b.hasWork()
	var t time.Time
	switch {
	case c.limit > 0 && c.next > 0 && (!more || c.room(l.b.cfg.Window) <= 0):
		t = c.lastWrite.Add(probeTime)
	case c.next >= lastIdentifier, c.overdue && l.awaiting() < maxDraining:
		t = now
	case more:
		return
	case l.b.draining.Load():
		t = now
	case c.unconfirmed > 0 && l.b.resets.Load(): // it would be kept open until then in any case
		t = c.lastWrite.Add(max(l.b.cfg.IdleClose, l.b.cfg.ConfirmAfter))
	case c.next > 0:
		t = c.lastWrite.Add(l.b.cfg.IdleClose)
	default:
		t = c.opened.Add(l.b.cfg.IdleClose)
	}
	if t.After(now) {
		l.at(t)
		return
	}
	l.drain(c, now)
	l.conn = nil
	if l.spare != nil {
		l.drain(l.spare, now)
		l.spare = nil
	}
}

// drain writes nothing more to c, and leaves it to be read to its end. It is half-closed at once, or, where the gateway
// answers that by a reset, once it has been silent for long enough: such a gateway would otherwise get everything again
// and again.
func (l *slot) drain(c *binaryConn, now time.Time) {
	l.draining = append(l.draining, c)
	l.awaitEnd(c, now)
}

// awaiting is how many connections wait for evidence. Those of which silence is evidence do not count.
func (l *slot) awaiting() (n int) {
	for _, c := range l.draining {
		if c.silentSince.IsZero() {
			n++
		}
	}
	return n
}

// rotate puts the spare in the place of a connection whose window is full: the end of that one is the evidence for all of
// it, long before silence would be.
func (l *slot) rotate(now time.Time) {
	c := l.conn
	if c == nil || l.spare == nil || c.room(l.b.cfg.Window) > 0 || l.limit > 0 || l.awaiting() >= maxDraining || !c.writable() {
		return
	}
	l.drain(c, now)
	l.conn, l.spare = l.spare, nil
}

// connect starts a dial if there is work for another connection and the backoff allows it.
func (l *slot) connect(ctx context.Context, now time.Time) {
	awaiting := l.awaiting() + len(l.held)
	if l.dialing || l.spare != nil || awaiting >= maxDraining {
		return
	}
	switch c := l.conn; {
	case c == nil:
		if l.limit > 0 && awaiting > 0 {
			return // what was written alone must show first whether it is the culprit
		}
		if l.todo.len() == 0 && !l.b.wanted(l) {
			return
		}
	case l.limit > 0 || !c.writable() || c.unconfirmed < l.b.cfg.Window/2 || l.todo.len() == 0 && !l.b.hasWork():
		return
	}
	if l.nextDial.After(now) {
		l.at(l.nextDial)
		return
	}
	l.dialing = true
	go func() {
		nc, err := l.b.dial(ctx)
		l.dialed <- dialResult{nc, err}
	}()
}

// connectedOrNot takes the result of a dial.
func (l *slot) connectedOrNot(r dialResult) {
	l.dialing = false
	if r.err != nil {
		l.b.metrics.connects[connectFailed].Inc()
		l.postpone()
		if l.conn == nil {
			l.returnAll("gateway unreachable", r.err, notSent)
		}
		return
	}
	l.b.metrics.connects[connectOK].Inc()
	l.b.metrics.connections.Inc()
	c := newBinaryConn(r.nc)
	go c.read(l.ended, l.wakeUp)
	if l.conn != nil {
		l.spare = c
		return
	}
	l.adopt(c)
}

// adopt makes c the connection that is written to, with the care that the last ones call for.
func (l *slot) adopt(c *binaryConn) {
	l.conn = c
	c.limit = l.limit
	if l.suspect {
		c.writeAfter = time.Now().Add(probeTime)
	}
}

// postpone makes the next dial wait.
func (l *slot) postpone() {
	l.nextDial = time.Now().Add(l.backoff.NextBackOff())
}

// returnAll finishes all that waits as not sent, with result: the gateway is away. What waits elsewhere can be cancelled and can
// expire.
func (l *slot) returnAll(what string, err error, result push.Result) {
	l.suspect = true
	if !l.b.otherConnected(l) {
		l.b.goneAway(what, err)
		l.b.returnQueue()
	}
	for l.todo.len() > 0 {
		l.b.finish(l.todo.popFront(), result)
	}
}

// shutdown closes every connection, waits for every goroutine, and finishes what is left as not sent.
func (l *slot) shutdown() {
	if l.dialing { // ctx, which has ended, makes it return
		if r := <-l.dialed; r.nc != nil {
			_ = r.nc.Close()
		}
	}
	if l.judging {
		<-l.judged
	}
	for _, c := range l.held {
		l.putBack(c)
	}
	open := 0
	for c := range l.conns {
		c.close()
		open++
	}
	for range open {
		c := <-l.ended
		l.b.metrics.connections.Dec()
		if c.unconfirmed > 0 {
			l.putBack(c)
		}
	}
	for l.todo.len() > 0 {
		l.b.finish(l.todo.popFront(), notSent)
	}
	l.usable.Store(false)
	l.connected.Store(false)
}
