// The search for the one notification that breaks each connection it is written to.

package apns

import (
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/lhspn/lhspn/internal/push"
)

// target identifies a delivery across resends, by this transport and by the queue, which may have read the notification anew.
type target struct {
	notification uuid.UUID
	token        push.Token
}

// culprit is a delivery that was blamed, and what Binary.settlements was then.
type culprit struct {
	target
	settlements uint64
}

// clear takes n settled deliveries off those among which a culprit is looked for. When none is left there was none.
func (l *slot) clear(n int) {
	if l.limit == 0 {
		return
	}
	if l.suspects -= n; l.suspects <= 0 {
		l.limit = 0
	}
}

// setback notes that a connection with n unconfirmed deliveries ended without having brought anything forward. The first
// time may be chance; after that fewer and fewer are written on a connection, until those that can be accepted are, and the
// one that is the cause is alone.
func (l *slot) setback(n int) {
	l.lastBreak = time.Now()
	if l.breaks++; l.breaks > 1 || l.limit > 0 {
		l.postpone()
		l.limit, l.suspects = max(n/shrink, 1), n
	}
}

// broken handles the end of a connection without an error response: it is no evidence of anything.
func (l *slot) broken(c *binaryConn) {
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
	p := target{d.Notification.ID, d.Token}
	if l.alone != p {
		l.alone, l.aloneFor = p, 0
	}
	// All but the first of those connections were watched before: they did not end by themselves.
	if l.aloneFor++; l.aloneFor >= breaksOfCulprit || l.fruitless { // then the next one is to have its turn soon
		l.failCulprit(head, p, c.err)
	}
}

// failCulprit gives the notification that broke every connection it was alone on back, to be sent again with its count grown,
// so that it ends some time and holds up no other. When one after the other does so, or one does so again, with nothing
// settled in between, it is the gateway: a broken connection is no evidence against a notification.
func (l *slot) failCulprit(head span, p target, err error) {
	l.aloneFor = 0
	s := l.todo.at(0)
	if s.job != head.job || s.from != head.from {
		return // something that was sent before it has been put back meanwhile: that is to be looked at first
	}
	settlements := l.b.settlements.Load()
	switch i := slices.IndexFunc(l.blamed, func(c culprit) bool { return c.target == p }); {
	case i < 0 && len(l.blamed) < maxCulprits:
		l.blamed = append(l.blamed, culprit{p, settlements})
	case i >= 0 && l.blamed[i].settlements != settlements: // by another lane
		l.blamed[i].settlements = settlements
	default:
		l.fruitless = true
		l.postpone()
		l.returnAll("gateway breaks off whatever is written", err, brokenOff)
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
func (l *slot) putBack(c *binaryConn) {
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
