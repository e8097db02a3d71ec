package binary

import (
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/ring"
)

const (
	// shrink is by how much less is written on the next connection after one broke without any progress.
	shrink = 8
	// breaksOfCulprit is how often a notification must have broken a connection on which it was alone to be taken for
	// the cause.
	breaksOfCulprit = 3
	// maxCulprits is how many notifications are taken for the cause, each once, with nothing accepted in between; after
	// them it is the gateway.
	maxCulprits = 4
)

// search is the search for the one notification that breaks each connection it is sent on.
type search struct {
	breaks    int // connections in a row that ended without having brought anything forward
	lastBreak time.Time
	// The culprit is among the first so many of what is to be written, and limit of them are written on one connection;
	// 0: nothing is searched for.
	among, limit int
	// alone is the one that was alone on the last connection, and aloneFor how often it has been.
	alone    target
	aloneFor int
	found    []culprit // since something was accepted
	// fruitless: it was given up because whatever is written breaks the connection. That one can be opened and stays
	// says nothing then: the gateway is back when something was accepted or refused.
	fruitless bool
}

// target identifies a delivery across resends, by this transport and by the queue, which may have read the notification
// anew.
type target struct {
	notification uuid.UUID
	token        push.Token
}

// culprit is a delivery that was found to be one, and what Transport.advances was then.
type culprit struct {
	target
	advances uint64
}

// clear takes n that have their results off those among which the culprit is. When none is left there was none.
func (s *search) clear(n int) {
	if s.limit == 0 {
		return
	}
	if s.among -= n; s.among <= 0 {
		s.limit = 0
	}
}

// accepted notes that something was: the culprits are found, and no more care is needed.
func (s *search) accepted() {
	if len(s.found) > 0 {
		clear(s.found)
		s.found, s.limit = s.found[:0], 0
	}
}

// setback notes that a connection with n unconfirmed deliveries ended without having brought anything forward. The
// first time may be chance; after that fewer and fewer are written on a connection, until those that can be accepted
// are, and the one that is the cause is alone.
func (s *slot) setback(n int) {
	s.search.lastBreak = time.Now()
	if s.search.breaks++; s.search.breaks > 1 || s.search.limit > 0 {
		s.dials.postpone()
		s.search.limit, s.search.among = max(n/shrink, 1), n
	}
}

// broken handles the end of a connection without an error response: it is no evidence of anything.
func (s *slot) broken(c *conn) {
	n, head := c.unconfirmed, c.window.At(0).span
	s.putBack(c)
	s.dials.wary = true
	if c.progressed || c.opened.Before(s.search.lastBreak) {
		return // it brought something forward; or it broke along with another one
	}
	s.setback(n)
	if n > 1 {
		s.search.aloneFor = 0
		return
	}
	d := &head.deliveries()[0]
	p := target{d.Notification.ID, d.Token}
	if s.search.alone != p {
		s.search.alone, s.search.aloneFor = p, 0
	}
	// All but the first of those connections were watched before: they did not end by themselves.
	if s.search.aloneFor++; s.search.aloneFor >= breaksOfCulprit || s.search.fruitless { // then the next one is tried soon
		s.giveBackCulprit(head, p, c.err)
	}
}

// giveBackCulprit finishes the notification that broke every connection it was alone on, to be sent again with its
// count grown, so that it ends some time and holds up no other. When one after the other does so, or one does so again,
// with nothing accepted or refused in between, it is the gateway: a broken connection is no evidence against a
// notification.
func (s *slot) giveBackCulprit(head span, p target, err error) {
	s.search.aloneFor = 0
	next := s.todo.At(0)
	if next.job != head.job || next.from != head.from {
		return // something that was sent before it has been put back meanwhile: that is to be looked at first
	}
	advances, found := s.t.advances.Load(), s.search.found
	switch i := slices.IndexFunc(found, func(c culprit) bool { return c.target == p }); {
	case i < 0 && len(found) < maxCulprits:
		s.search.found = append(found, culprit{p, advances})
	case i >= 0 && found[i].advances != advances: // by another slot
		found[i].advances = advances
	default:
		s.search.fruitless = true
		s.dials.postpone()
		s.returnAll(fmt.Errorf("it breaks off whatever is written: %w", err), brokenOff)
		return
	}
	one := span{job: next.job, from: next.from, to: next.from + 1}
	if next.from++; next.from == next.to {
		s.todo.PopFront()
	}
	d := &one.deliveries()[0]
	s.t.log.Warn("notification breaks each connection it is sent on", "token", d.Token, "notification",
		d.Notification.ID, "error", err)
	s.t.finish(one, push.Result{Outcome: push.Retry, Reason: push.ConnectionLost})
}

// putBack puts what is unconfirmed on c to the front of what is to be written, in the order of Send.
func (s *slot) putBack(c *conn) {
	s.t.metrics.Resent.Add(float64(c.unconfirmed))
	s.uncount(c, c.unconfirmed)
	// what is to be written and was sent before what is put back: of connections that ended earlier
	var later ring.Ring[span]
	for s.todo.Len() > 0 && c.window.Len() > 0 && s.todo.At(0).before(c.window.At(c.window.Len()-1).span) {
		later.PushBack(s.todo.PopFront())
	}
	var merged ring.Ring[span]
	for c.window.Len() > 0 || later.Len() > 0 {
		if later.Len() == 0 || c.window.Len() > 0 && c.window.At(0).before(*later.At(0)) {
			merged.PushBack(c.window.PopFront().span)
		} else {
			merged.PushBack(later.PopFront())
		}
	}
	for i := merged.Len() - 1; i >= 0; i-- {
		s.todo.PushFront(*merged.At(i))
	}
}
