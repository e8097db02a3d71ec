package apns

import (
	"time"

	"github.com/lhspn/lhspn/internal/apns/frame"
	"github.com/lhspn/lhspn/internal/push"
)

// prepared is what is the same for all deliveries of a notification that are written one after the other.
type prepared struct {
	notification *push.Notification
	expired      bool
	expiration   uint32
	command      uint8
	priority     uint8
}

// write packs what is to be written into one write, as far as the window and the buffer go. It reports whether it did
// anything.
func (l *slot) write(now time.Time) bool {
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
	for i := entries; i < c.window.len(); i++ {
		c.window.at(i).at = after
	}
	c.lastWrite = after
	if c.wire != nil {
		c.end = c.wire.written.Load()
	}
	if after.Sub(now) > l.slack() {
		c.quietSince = after // the peer was not reading, or we were not running
	}
	l.b.metrics.written.Add(float64(len(l.buf)))
	return err == nil
}

// encode appends the frames of at most room deliveries of s to the buffer, advances s, and puts them into the window. What
// has expired, or what no frame can hold, gets its result instead.
func (l *slot) encode(c *binaryConn, s *span, room int, now time.Time) int {
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

func (l *slot) prepare(n *push.Notification, now time.Time) {
	l.note = prepared{
		notification: n, expired: n.Expired(now), expiration: n.ExpirationUnix(),
		command: l.b.cfg.Command, priority: frame.PriorityImmediate,
	}
	if n.Priority != 0 && n.Priority != frame.PriorityImmediate { // 1 is unknown to this protocol
		l.note.command, l.note.priority = frame.Command2, frame.PriorityConserve
	}
}
