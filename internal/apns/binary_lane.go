package apns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/google/uuid"

	"github.com/lhspn/lhspn/internal/apns/frame"
	"github.com/lhspn/lhspn/internal/push"
)

const (
	// writeSize is how much is packed into one write, if there is as much.
	writeSize = 128 << 10
	// takeSize is how many deliveries a lane takes from the queue at a time.
	takeSize = 1024
	// maxDraining is how many half-closed connections of a lane may wait for their end while a fresh one is written to.
	maxDraining = 3
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

// place identifies a delivery across resends, by this transport and by the queue, which may have read the notification anew.
type place struct {
	notification uuid.UUID
	token        push.Token
}

// culprit is a delivery that was blamed, and what Binary.settlements was then.
type culprit struct {
	place
	settlements uint64
}

// lane keeps one connection at work, and those that it has half-closed and that drain. One goroutine owns all of it.
type lane struct {
	b *Binary
	// todo is what is to be written next, in the order of Send: what was put back, and then what was taken from the queue.
	todo ring[span]

	conn     *binaryConn   // written to
	spare    *binaryConn   // opened ahead, to take over when the window of conn is full
	draining []*binaryConn // half-closed, oldest first
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
	alone     place
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

// prepared is what is the same for all deliveries of a notification that are written one after the other.
type prepared struct {
	notification *push.Notification
	expired      bool
	expiration   uint32
	command      uint8
	priority     uint8
}

func newLane(b *Binary) *lane {
	bo := backoff.NewExponentialBackOff()
	bo.InitialInterval, bo.MaxInterval, bo.Multiplier, bo.RandomizationFactor = b.cfg.BackoffMin, b.cfg.BackoffMax, 2, 0.5
	bo.Reset()
	return &lane{
		b: b, backoff: bo,
		ended: make(chan *binaryConn, 3+maxDraining), dialed: make(chan dialResult, 1), judged: make(chan bool, 1),
		wake: make(chan struct{}, 1),
	}
}

func (l *lane) wakeUp() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// run works until ctx ends, and then lets go of everything.
func (l *lane) run(ctx context.Context) {
	l.timer = time.NewTimer(time.Hour)
	defer l.timer.Stop()
	defer l.shutdown()
	for ctx.Err() == nil {
		l.events()
		l.judge(ctx)
		now := time.Now()
		l.due = time.Time{}
		l.noticeStandstill(now)
		l.evidence(now)
		l.passProbe(now)
		l.retire(now)
		l.rotate()
		l.connect(ctx, now)
		l.publish()
		if l.write(now) {
			continue
		}
		l.sleep(ctx)
	}
}

// at asks for a turn at t.
func (l *lane) at(t time.Time) {
	if l.due.IsZero() || t.Before(l.due) {
		l.due = t
	}
}

// sleep waits for an event, or for the time that was asked for.
func (l *lane) sleep(ctx context.Context) {
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
		l.sentence(abrupt)
	case <-l.wake:
	case <-timer:
	case <-ctx.Done():
	}
	l.timer.Stop()
}

// events handles what has been reported, without waiting.
func (l *lane) events() {
	for {
		select {
		case c := <-l.ended:
			l.end(c)
		case r := <-l.dialed:
			l.connectedOrNot(r)
		case abrupt := <-l.judged:
			l.judging = false
			l.sentence(abrupt)
		default:
			return
		}
	}
}

// publish tells the other lanes what this one can do.
func (l *lane) publish() {
	usable := l.limit == 0 && (l.conn != nil || l.dialing)
	if l.usable.Swap(usable) && !usable && l.b.hasWork() {
		l.b.wakeLanes() // another lane must see to it
	}
	l.connected.Store(l.conn != nil && !l.suspect)
}

// slack is by how much the lane may run late before silence is no longer believed.
func (l *lane) slack() time.Duration { return max(l.b.cfg.ConfirmAfter/8, 10*time.Millisecond) }

// noticeStandstill begins the silence anew after the process itself did not run (a suspended machine, a starved container):
// what the gateway said meanwhile may not have been read yet, and a gateway that stood still with us has said nothing yet.
// So that no standstill passes for sleep, the lane never sleeps for long while silence may become evidence.
func (l *lane) noticeStandstill(now time.Time) {
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
func (l *lane) conns(yield func(*binaryConn) bool) {
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

// evidence settles what has been acknowledged, or has met with silence for long enough where silence counts.
func (l *lane) evidence(now time.Time) {
	for c := range l.conns {
		l.acknowledge(c)
		if c.window.len() == 0 || !c.writable() {
			continue
		}
		if c.partial.Load() {
			// An error response has begun: no silence. If its rest never comes, the connection is no good.
			if l.overdue(now, c.window.at(0).at, l.b.cfg.ConfirmAfter+l.b.cfg.WriteTimeout) {
				c.close()
			}
			continue
		}
		if !c.halfClosedAt.IsZero() && !l.silenceCounts() {
			l.awaitEnd(c, now)
			continue
		}
		l.believeSilence(c, now)
	}
}

// silenceCounts reports whether silence is the best evidence that this gateway gives. The end of a half-closed connection is
// better: a gateway that is busy is silent, too, before it refuses. So silence counts only where the gateway has shown that
// it ends no such connection, or resets them.
func (l *lane) silenceCounts() bool { return l.b.endless.Load() || l.b.resets.Load() }

// awaitEnd waits for the end of a half-closed connection. A gateway that reads everything and does not end one in all of
// EndAfter never does.
func (l *lane) awaitEnd(c *binaryConn, now time.Time) {
	if c.wire.arrived() < c.window.at(c.window.len()-1).end {
		if l.overdue(now, c.halfClosedAt, l.b.cfg.ConfirmAfter+l.b.cfg.WriteTimeout) {
			c.close() // nothing gets through any more
			return
		}
		l.at(now.Add(l.slack()))
	}
	since := c.halfClosedAt
	if c.quietSince.After(since) {
		since = c.quietSince
	}
	if !l.overdue(now, since, l.b.cfg.EndAfter) {
		return
	}
	if !l.b.endless.Swap(true) {
		l.b.log.Warn("gateway does not end half-closed connections; from now on silence counts as acceptance",
			"waited", l.b.cfg.EndAfter, "confirm_after", l.b.cfg.ConfirmAfter)
	}
	l.believeSilence(c, now)
}

// believeSilence accepts what was written ConfirmAfter ago and has reached the peer's TCP, where silence counts. Elsewhere
// it has retire half-close the connection, whose end is better evidence.
func (l *lane) believeSilence(c *binaryConn, now time.Time) {
	if !l.silenceCounts() {
		c.overdue = l.overdue(now, c.window.at(0).at, l.b.cfg.ConfirmAfter)
		return
	}
	arrived := int64(-1)
	for c.window.len() > 0 {
		e := c.window.at(0)
		since := e.at
		if c.quietSince.After(since) {
			since = c.quietSince
		}
		if t := since.Add(l.b.cfg.ConfirmAfter); t.After(now) {
			l.at(t)
			return
		}
		if arrived < 0 {
			arrived = c.wire.arrived()
		}
		if e.end > arrived {
			if l.overdue(now, e.at, l.b.cfg.ConfirmAfter+l.b.cfg.WriteTimeout) {
				c.close() // nothing gets through any more
			}
			l.at(now.Add(l.slack()))
			return
		}
		l.remember(c, e.len())
		l.accept(c, e.len())
	}
}

// remember keeps a copy of the first n of the window, which silence alone is going to confirm: a response that comes late
// may yet tell that they were thrown away.
func (l *lane) remember(c *binaryConn, n int) {
	e := c.window.at(0)
	for i := range e.deliveries()[:n] {
		c.believed.pushBack(e.deliveries()[i])
	}
	for c.believed.len() > l.b.cfg.Window {
		c.believed.popFront()
	}
}

// overdue reports whether limit has passed since t, and asks for a turn then if not.
func (l *lane) overdue(now, t time.Time, limit time.Duration) bool {
	if t = t.Add(limit); t.After(now) {
		l.at(t)
		return false
	}
	return true
}

// acknowledge settles what a status 0 has acknowledged: that one and all before it.
func (l *lane) acknowledge(c *binaryConn) {
	acked := c.acked.Load()
	if c.window.len() == 0 || acked > uint64(c.next) {
		return // of what was never sent
	}
	if first := uint64(c.window.at(0).first); acked > first {
		l.accept(c, int(acked-first))
	}
}

// accept settles the first n of the window of c as accepted.
func (l *lane) accept(c *binaryConn, n int) {
	if n == 0 {
		return
	}
	whole := n
	for n > 0 {
		s := c.front(n)
		n -= s.len()
		l.forget(c, s.len())
		l.b.accept(s)
	}
	l.progress(c)
	l.clear(whole)
	if len(l.blamed) > 0 { // the culprits are found: no more need for care
		clear(l.blamed)
		l.blamed, l.limit = l.blamed[:0], 0
	}
}

// clear takes n settled deliveries off those among which a culprit is looked for. When none is left there was none.
func (l *lane) clear(n int) {
	if l.limit == 0 {
		return
	}
	if l.suspects -= n; l.suspects <= 0 {
		l.limit = 0
	}
}

// front takes a span of at most n deliveries from the front of the window.
func (c *binaryConn) front(n int) span {
	e := c.window.at(0)
	if e.len() <= n {
		return c.window.popFront().span
	}
	s := span{job: e.job, from: e.from, to: e.from + n}
	e.from += n
	e.first += uint32(n)
	return s
}

func (l *lane) forget(c *binaryConn, n int) {
	c.unconfirmed -= n
	l.b.metrics.unconfirmed.Sub(float64(n))
}

// progress notes that something written on c was settled: the gateway works.
func (l *lane) progress(c *binaryConn) {
	l.breaks, l.aloneFor, l.refusals, l.fruitless = 0, 0, 0, false
	l.b.settlements.Add(1)
	if !c.progressed {
		c.progressed = true
		l.backoff.Reset()
		l.suspect = false
		l.b.back()
	}
}

// passProbe lets a connection be written to that has been watched and did not end.
func (l *lane) passProbe(now time.Time) {
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

// retire half-closes the connection when there is nothing more to write to it, and sees to those that were half-closed.
func (l *lane) retire(now time.Time) {
	for _, c := range l.draining {
		// All was confirmed otherwise, and the peer has had as long as that to close.
		if c.unconfirmed == 0 && !c.stop.Load() && l.overdue(now, c.halfClosedAt, l.b.cfg.ConfirmAfter) {
			c.close()
		}
	}
	c := l.conn
	if c == nil || !c.writable() || !c.writeAfter.IsZero() {
		return
	}
	more := l.todo.len() > 0 || l.b.hasWork()
	var t time.Time
	switch {
	case c.limit > 0 && c.next > 0 && (!more || c.room(l.b.cfg.Window) <= 0):
		t = c.lastWrite.Add(probeTime)
	case c.next >= lastIdentifier, c.overdue && len(l.draining) < maxDraining:
		t = now
	case more:
		return
	case l.b.draining.Load():
		t = now
	case c.next > 0:
		t = c.lastWrite.Add(l.b.cfg.IdleClose)
	default:
		t = c.opened.Add(l.b.cfg.IdleClose)
	}
	if t.After(now) {
		l.at(t)
		return
	}
	if l.mustHear(c) {
		return // evidence asks for the turn in which it is
	}
	l.drain(c)
	l.conn = nil
	if l.spare != nil {
		l.drain(l.spare)
		l.spare = nil
	}
}

// mustHear reports whether c has to stay open until silence is evidence of what was written to it: the gateway gives no
// other. One that resets connections in answer to a half-close would get everything again and again.
func (l *lane) mustHear(c *binaryConn) bool { return c.unconfirmed > 0 && l.silenceCounts() }

// drain half-closes c, and leaves it to be read to its end.
func (l *lane) drain(c *binaryConn) {
	if err := c.halfClose(); err != nil {
		c.fail()
	}
	l.draining = append(l.draining, c)
	l.at(c.halfClosedAt.Add(l.b.cfg.ConfirmAfter)) // when retire looks at it again, should the gateway not close
}

// rotate puts the spare in the place of a connection whose window is full: the end of that one is the evidence for all of
// it, long before silence would be.
func (l *lane) rotate() {
	c := l.conn
	if c == nil || l.spare == nil || c.room(l.b.cfg.Window) > 0 || l.limit > 0 || len(l.draining) >= maxDraining || !c.writable() ||
		l.mustHear(c) {
		return
	}
	l.drain(c)
	l.conn, l.spare = l.spare, nil
}

// connect starts a dial if there is work for another connection and the backoff allows it.
func (l *lane) connect(ctx context.Context, now time.Time) {
	if l.dialing || l.spare != nil || len(l.draining)+len(l.held) >= maxDraining {
		return
	}
	switch c := l.conn; {
	case c == nil:
		if l.limit > 0 && len(l.draining)+len(l.held) > 0 {
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
func (l *lane) connectedOrNot(r dialResult) {
	l.dialing = false
	if r.err != nil {
		l.b.metrics.connects[connectFailed].Inc()
		l.postpone()
		if l.conn == nil {
			l.giveUp("gateway unreachable", r.err, notSent)
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
func (l *lane) adopt(c *binaryConn) {
	l.conn = c
	c.limit = l.limit
	if l.suspect {
		c.writeAfter = time.Now().Add(probeTime)
	}
}

// postpone makes the next dial wait.
func (l *lane) postpone() {
	l.nextDial = time.Now().Add(l.backoff.NextBackOff())
}

// giveUp finishes all that waits as not sent, with result: the gateway is away. What waits elsewhere can be cancelled and can
// expire.
func (l *lane) giveUp(what string, err error, result push.Result) {
	l.suspect = true
	if !l.b.otherConnected(l) {
		l.b.goneAway(what, err)
		l.b.giveUpQueue()
	}
	for l.todo.len() > 0 {
		l.b.finish(l.todo.popFront(), result)
	}
}

// end takes leave of a connection whose reader has ended.
func (l *lane) end(c *binaryConn) {
	c.close()
	l.b.metrics.connections.Dec()
	if l.conn == c {
		l.conn = nil
	} else if l.spare == c {
		l.spare = nil
	} else {
		l.draining = slices.DeleteFunc(l.draining, func(d *binaryConn) bool { return d == c })
	}
	l.acknowledge(c)
	switch {
	case c.next == 0 && c.halfClosedAt.IsZero():
		l.b.metrics.ends[endClosed].Inc()
		l.endedUnused(c)
	case c.hasResponse:
		l.b.metrics.ends[endResponse].Inc()
		l.refused(c)
	case c.err == nil && c.failedAt.IsZero():
		l.b.metrics.ends[endDrained].Inc()
		l.b.abrupt.Store(false)
		l.b.endless.Store(false)
		if c.unconfirmed > 0 {
			l.b.resets.Store(false)
		}
		l.accept(c, c.unconfirmed)
	case errors.Is(c.err, errAbruptEnd) && c.failedAt.IsZero() && c.unconfirmed > 0:
		l.held = append(l.held, c)
	case c.unconfirmed == 0:
		l.b.metrics.ends[endClosed].Inc()
	default:
		l.b.metrics.ends[endBroken].Inc()
		if !c.halfClosedAt.IsZero() && c.failedAt.IsZero() {
			l.b.resets.Store(true)
		}
		l.broken(c)
	}
	if l.conn == nil && l.spare != nil {
		l.adopt(l.spare)
		l.spare = nil
	}
}

// judge decides on the connections that ended after our half-close, but abruptly. A gateway that ends every connection so
// has accepted everything. Otherwise it has dropped the connection, maybe with notifications read and not processed. Which
// it is an empty connection tells; what it told is kept until a connection ends otherwise.
func (l *lane) judge(ctx context.Context) {
	if len(l.held) == 0 || l.judging {
		return
	}
	if l.b.abrupt.Load() {
		l.sentence(true)
		return
	}
	l.judging = true
	go func() {
		abrupt, err := endsAbruptly(ctx, l.b.dial, l.b.cfg.ConfirmAfter)
		l.judged <- abrupt && err == nil
	}()
}

// sentence settles the connections that are held, or puts what was sent on them back.
func (l *lane) sentence(abrupt bool) {
	l.b.abrupt.Store(abrupt)
	for _, c := range l.held {
		if abrupt {
			l.b.metrics.ends[endDrained].Inc()
			l.accept(c, c.unconfirmed)
		} else {
			l.b.metrics.ends[endBroken].Inc()
			l.broken(c)
		}
	}
	clear(l.held)
	l.held = l.held[:0]
}

// endedUnused handles a connection that the gateway closed with nothing written to it. Soon after the handshake, and again
// and again, that is how APNs answers a certificate of the wrong environment.
func (l *lane) endedUnused(c *binaryConn) {
	if time.Since(c.opened) > earlyEnd {
		return
	}
	l.b.metrics.connects[connectClosed].Inc()
	l.refusals++
	l.breaks, l.limit, l.aloneFor = 0, 0, 0 // it was not a notification that broke the connections before
	l.postpone()
	if l.conn != nil {
		return // of a spare: the other goes on
	}
	err := c.err
	if c.hasResponse {
		err = fmt.Errorf("error response with status %d (%v)", c.response.Status, c.response.Status)
	}
	l.giveUp("gateway closes connections right after the handshake", err, notSent)
	if l.refusals == refusalsToReport {
		l.b.log.Error("gateway closes every connection right after the handshake: check that the certificate is valid, "+
			"belongs to this app, and is for the gateway's environment", "error", err)
	}
}

// refused handles an error response: what came before the identified notification was accepted, what came after was
// thrown away by the gateway and is written again.
func (l *lane) refused(c *binaryConn) {
	status, id := c.response.Status, c.response.Identifier
	known := status.Known()
	retry := slices.Contains(l.b.cfg.RetryStatuses, uint8(status)) || slices.Contains(l.b.cfg.RetryStatuses, uint8(known))
	succeeded := known == frame.StatusShutdown && !retry // Apple's reading: the last that succeeded
	outcome := push.Failed
	if retry {
		outcome = push.Retry
	}
	verdict := push.Result{Outcome: outcome, Reason: binaryReason(known), Status: uint16(known), Identifier: id}
	first := c.next
	if c.window.len() > 0 {
		first = c.window.at(0).first
	}
	// Status 2, identifier 0 has been seen for whichever notification. Ours have a token and a payload, and so an answer that
	// says otherwise of identifier 0 says nothing of which one failed, unless no other was sent.
	filler := id == 0 && c.next > 1 && (known == frame.StatusMissingToken || known == frame.StatusMissingPayload)
	late := int64(first) - int64(id) // how far before the window it is
	switch {
	case late > 0 && late <= int64(c.believed.len()) && !filler && !succeeded:
		l.undo(c, int(late), verdict, status)
	case id >= first && id < c.next && !filler:
		l.accept(c, int(id-first))
		accepted := c.progressed
		if succeeded {
			l.accept(c, 1)
		} else {
			l.verdict(c, verdict, status)
			l.progress(c)
			l.clear(1)
		}
		if retry && !accepted {
			l.postpone() // the gateway takes nothing: a connection for each notification would be a tight loop
		}
	case succeeded && id < first:
		// The last that succeeded is known to have: what comes after is written again, and none has failed.
	case c.window.len() > 0:
		// Nothing says which one failed. The first has its count grown, so that one that is answered so each time ends.
		verdict.Outcome, verdict.Identifier = push.Retry, first
		l.b.log.Warn("error response for an identifier that is not among the unconfirmed",
			"identifier", id, "status", uint8(status), "status_name", status.String(), "first", first, "next", c.next)
		l.verdict(c, verdict, status)
	}
	if c.unconfirmed == 0 {
		return
	}
	if !c.progressed {
		l.setback(c.unconfirmed)
	}
	l.putBack(c)
}

// undo handles an error response for a notification that silence had confirmed: the one that is late from the end of what
// is remembered. It was counted as accepted, and so were those after it, which the gateway has thrown away: they are sent
// again, without a result of their own any more.
func (l *lane) undo(c *binaryConn, late int, verdict push.Result, raw frame.Status) {
	for c.believed.len() > late {
		c.believed.popFront()
	}
	d := c.believed.popFront()
	d.Result = verdict
	l.b.log.Warn("error response came after its notification had counted as accepted; those after it are sent again: "+
		"raise confirm_after", "identifier", verdict.Identifier, "status", uint8(raw), "status_name", raw.String(),
		"token", d.Token, "notification", d.Notification.ID, "again", c.believed.len())
	l.b.metrics.late.Inc()
	if verdict.Outcome != push.Retry && c.believed.len() == 0 {
		return
	}
	g := &push.Group{Done: func(*push.Group) {}}
	if verdict.Outcome == push.Retry {
		g.Deliveries = append(g.Deliveries, d)
	}
	for c.believed.len() > 0 {
		g.Deliveries = append(g.Deliveries, c.believed.popFront())
	}
	for i := range g.Deliveries {
		g.Deliveries[i].Result = push.Result{}
	}
	l.b.sendAgain(g)
}

// setback notes that a connection with n unconfirmed deliveries ended without having brought anything forward. The first
// time may be chance; after that fewer and fewer are written on a connection, until those that can be accepted are, and the
// one that is the cause is alone.
func (l *lane) setback(n int) {
	l.lastBreak = time.Now()
	if l.breaks++; l.breaks > 1 || l.limit > 0 {
		l.postpone()
		l.limit, l.suspects = max(n/shrink, 1), n
	}
}

// verdict settles the first of the window.
func (l *lane) verdict(c *binaryConn, r push.Result, raw frame.Status) {
	s := c.front(1)
	l.forget(c, 1)
	d := &s.deliveries()[0]
	d.Result = r
	l.b.logRefused(d, raw)
	l.b.finish(s, r)
}

// broken handles the end of a connection without an error response: it is no evidence of anything.
func (l *lane) broken(c *binaryConn) {
	n, head := c.unconfirmed, c.window.at(0).span
	l.putBack(c)
	l.suspect = true
	if c.progressed || c.opened.Before(l.lastBreak) {
		return // it brought something forward; or it broke along with another one
	}
	l.setback(n)
	if n > 1 {
		l.aloneFor = 0
		return
	}
	d := &head.deliveries()[0]
	p := place{d.Notification.ID, d.Token}
	if l.alone != p {
		l.alone, l.aloneFor = p, 0
	}
	// All but the first of those connections were watched before: they did not end by themselves.
	if l.aloneFor++; l.aloneFor >= breaksOfCulprit || l.fruitless { // then the next one is to have its turn soon
		l.blame(head, p, c.err)
	}
}

// blame gives the notification that broke every connection it was alone on back, to be sent again with its count grown,
// so that it ends some time and holds up no other. When one after the other does so, or one does so again, with nothing
// settled in between, it is the gateway: a broken connection is no evidence against a notification.
func (l *lane) blame(head span, p place, err error) {
	l.aloneFor = 0
	s := l.todo.at(0)
	if s.job != head.job || s.from != head.from {
		return // something that was sent before it has been put back meanwhile: that is to be looked at first
	}
	settlements := l.b.settlements.Load()
	switch i := slices.IndexFunc(l.blamed, func(c culprit) bool { return c.place == p }); {
	case i < 0 && len(l.blamed) < maxCulprits:
		l.blamed = append(l.blamed, culprit{p, settlements})
	case i >= 0 && l.blamed[i].settlements != settlements: // by another lane
		l.blamed[i].settlements = settlements
	default:
		l.fruitless = true
		l.postpone()
		l.giveUp("gateway breaks off whatever is written", err, brokenOff)
		return
	}
	one := span{job: s.job, from: s.from, to: s.from + 1}
	if s.from++; s.from == s.to {
		l.todo.popFront()
	}
	d := &one.deliveries()[0]
	l.b.log.Warn("notification breaks each connection it is written to", "token", d.Token, "notification", d.Notification.ID, "error", err)
	l.b.finish(one, push.Result{Outcome: push.Retry, Reason: push.ConnectionLost})
}

// putBack puts what is unconfirmed on c to the front of what is to be written, in the order of Send.
func (l *lane) putBack(c *binaryConn) {
	l.b.metrics.resent.Add(float64(c.unconfirmed))
	l.forget(c, c.unconfirmed)
	var later ring[span] // what is to be written and was sent before what is put back: of connections that ended earlier
	for l.todo.len() > 0 && c.window.len() > 0 && l.todo.at(0).before(c.window.at(c.window.len()-1).span) {
		later.pushBack(l.todo.popFront())
	}
	var merged ring[span]
	for c.window.len() > 0 || later.len() > 0 {
		if later.len() == 0 || c.window.len() > 0 && c.window.at(0).before(*later.at(0)) {
			merged.pushBack(c.window.popFront().span)
		} else {
			merged.pushBack(later.popFront())
		}
	}
	for i := merged.len() - 1; i >= 0; i-- {
		l.todo.pushFront(*merged.at(i))
	}
}

// write packs what is to be written into one write, as far as the window and the buffer go. It reports whether it did
// anything.
func (l *lane) write(now time.Time) bool {
	c := l.conn
	if c == nil || !c.writable() || !c.writeAfter.IsZero() {
		return false
	}
	room := c.room(l.b.cfg.Window)
	if room <= 0 || c.next >= lastIdentifier {
		return false
	}
	if l.todo.len() == 0 && l.b.take(&l.todo, min(room, takeSize)) == 0 {
		return false
	}
	l.buf = l.buf[:0]
	l.note.notification = nil // it was prepared for another time
	entries := c.window.len()
	for l.todo.len() > 0 && room > 0 && len(l.buf) < writeSize {
		s := l.todo.at(0)
		n := l.encode(c, s, room, now)
		room -= n
		if s.from == s.to {
			l.todo.popFront()
		}
		if room > 0 && len(l.buf) < writeSize && l.todo.len() == 0 {
			l.b.take(&l.todo, min(room, takeSize))
		}
	}
	if len(l.buf) == 0 {
		return true // nothing but what had expired
	}
	err := c.write(l.buf, l.b.cfg.WriteTimeout)
	after := time.Now()
	end := int64(0)
	if c.wire != nil {
		end = c.wire.written.Load()
	}
	for i := entries; i < c.window.len(); i++ {
		e := c.window.at(i)
		e.at, e.end = after, end
	}
	c.lastWrite = after
	if after.Sub(now) > l.slack() {
		c.quietSince = after // the peer was not reading, or we were not running
	}
	l.b.metrics.written.Add(float64(len(l.buf)))
	return err == nil
}

// encode appends the frames of at most room deliveries of s to the buffer, advances s, and puts them into the window. What
// has expired, or what no frame can hold, gets its result instead.
func (l *lane) encode(c *binaryConn, s *span, room int, now time.Time) int {
	ds := s.job.group.Deliveries
	buf, id, i := l.buf, c.next, s.from
	for ; i < s.to && int(id-c.next) < room && len(buf) < writeSize; i++ {
		d := &ds[i]
		if l.note.notification != d.Notification {
			l.prepare(d.Notification, now)
		}
		p := &d.Notification.Payload
		size, token := p.Len(d.Badge), d.Token.Address()
		if l.note.expired || uint(len(token)-1) >= frame.MaxToken || uint(size-1) >= frame.MaxPayload {
			break
		}
		if l.note.command == frame.Command1 {
			buf = frame.AppendCommand1Head(buf, id, l.note.expiration, token, size)
			buf = p.AppendTo(buf, d.Badge)
		} else {
			buf = frame.AppendCommand2Head(buf, id, l.note.expiration, l.note.priority, token, size)
			buf = p.AppendTo(buf, d.Badge)
		}
		id++
	}
	n := int(id - c.next)
	l.buf = buf
	if n > 0 {
		c.window.pushBack(sent{span: span{job: s.job, from: s.from, to: i}, first: c.next})
		c.unconfirmed += n
		l.b.metrics.unconfirmed.Add(float64(n))
		c.next = id
		s.from = i
		return n
	}
	// The first of s is one that is not written.
	one := span{job: s.job, from: s.from, to: s.from + 1}
	s.from++
	l.b.finish(one, unsendable(&ds[one.from], l.note.expired))
	return 0
}

// unsendable is the result of a delivery that is not written.
func unsendable(d *push.Delivery, expired bool) push.Result {
	switch size := d.Notification.Payload.Len(d.Badge); {
	case expired:
		return push.Result{Outcome: push.Expired, Reason: push.ExpiredReason}
	case d.Token.Address() == "":
		return push.Result{Outcome: push.Failed, Reason: MissingDeviceToken}
	case len(d.Token.Address()) > frame.MaxToken:
		return push.Result{Outcome: push.Failed, Reason: InvalidTokenSize}
	case size == 0:
		return push.Result{Outcome: push.Failed, Reason: MissingPayload}
	default:
		return push.Result{Outcome: push.Failed, Reason: InvalidPayloadSize}
	}
}

func (l *lane) prepare(n *push.Notification, now time.Time) {
	l.note = prepared{
		notification: n, expired: n.Expired(now), expiration: n.ExpirationUnix(),
		command: l.b.cfg.Command, priority: frame.PriorityImmediate,
	}
	if n.Priority != 0 && n.Priority != frame.PriorityImmediate { // 1 is unknown to this protocol
		l.note.command, l.note.priority = frame.Command2, frame.PriorityConserve
	}
}

// shutdown closes every connection, waits for every goroutine, and finishes what is left as not sent.
func (l *lane) shutdown() {
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
