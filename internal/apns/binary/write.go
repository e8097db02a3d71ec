package binary

import (
	"time"

	"github.com/lhspn/lhspn/internal/apns"
	"github.com/lhspn/lhspn/internal/apns/frame"
	"github.com/lhspn/lhspn/internal/push"
)

const (
	// writeSize is how much is packed into one write, if there is as much.
	writeSize = 128 << 10
	// takeSize is how many deliveries a slot takes from the queue at a time.
	takeSize = 1024
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
func (s *slot) write(now time.Time) bool {
	c := s.conn
	if c == nil || !c.writable() || !c.writeAfter.IsZero() {
		return false
	}
	room := c.room(s.t.cfg.Window)
	if room <= 0 || c.next >= lastIdentifier {
		return false
	}
	if s.todo.Len() == 0 && s.t.queue.take(&s.todo, min(room, takeSize)) == 0 {
		return false
	}
	s.buf = s.buf[:0]
	s.note.notification = nil // it was prepared for another time
	entries := c.window.Len()
	for s.todo.Len() > 0 && room > 0 && len(s.buf) < writeSize {
		sp := s.todo.At(0)
		n := s.encode(c, sp, room, now)
		room -= n
		if sp.from == sp.to {
			s.todo.PopFront()
		}
		if room > 0 && len(s.buf) < writeSize && s.todo.Len() == 0 {
			s.t.queue.take(&s.todo, min(room, takeSize))
		}
	}
	if len(s.buf) == 0 {
		return true // nothing but what had expired
	}
	err := c.write(s.buf, s.t.cfg.WriteTimeout)
	after := time.Now()
	for i := entries; i < c.window.Len(); i++ {
		c.window.At(i).at = after
	}
	c.lastWrite = after
	if c.wire != nil {
		c.end = c.wire.written.Load()
	}
	if after.Sub(now) > s.slack() {
		c.quietSince = after // the peer was not reading, or we were not running
	}
	s.t.metrics.Written.Add(float64(len(s.buf)))
	return err == nil
}

// encode appends the frames of at most room deliveries of sp to the buffer, advances sp, and puts them into the window.
// What has expired, or what no frame can hold, gets its result instead.
func (s *slot) encode(c *conn, sp *span, room int, now time.Time) int {
	ds := sp.job.group.Deliveries
	buf, id, i := s.buf, c.next, sp.from
	for ; i < sp.to && int(id-c.next) < room && len(buf) < writeSize; i++ {
		d := &ds[i]
		if s.note.notification != d.Notification {
			s.prepare(d.Notification, now)
		}
		p := &d.Notification.Payload
		size, token := p.Len(d.Badge), d.Token.Address()
		if s.note.expired || uint(len(token)-1) >= frame.MaxToken || uint(size-1) >= frame.MaxPayload {
			break
		}
		if s.note.command == frame.Command1 {
			buf = frame.AppendCommand1Head(buf, id, s.note.expiration, token, size)
			buf = d.Notification.AppendPayload(buf, d.Token, d.Badge)
		} else {
			buf = frame.AppendCommand2Head(buf, id, s.note.expiration, s.note.priority, token, size)
			buf = d.Notification.AppendPayload(buf, d.Token, d.Badge)
		}
		id++
	}
	n := int(id - c.next)
	s.buf = buf
	if n > 0 {
		c.window.PushBack(sent{span: span{job: sp.job, from: sp.from, to: i}, first: c.next})
		c.unconfirmed += n
		s.t.metrics.Unconfirmed.Add(float64(n))
		c.next = id
		sp.from = i
		return n
	}
	// The first of sp is one that is not written.
	one := span{job: sp.job, from: sp.from, to: sp.from + 1}
	sp.from++
	s.t.finish(one, unsendable(&ds[one.from], s.note.expired))
	return 0
}

// unsendable is the result of a delivery that is not written.
func unsendable(d *push.Delivery, expired bool) push.Result {
	switch size := d.Notification.Payload.Len(d.Badge); {
	case expired:
		return push.Result{Outcome: push.Expired, Reason: push.ExpiredReason}
	case d.Token.Address() == "":
		return push.Result{Outcome: push.Failed, Reason: apns.MissingDeviceToken}
	case len(d.Token.Address()) > frame.MaxToken:
		return push.Result{Outcome: push.Failed, Reason: apns.InvalidTokenSize}
	case size == 0:
		return push.Result{Outcome: push.Failed, Reason: apns.MissingPayload}
	default:
		return push.Result{Outcome: push.Failed, Reason: apns.InvalidPayloadSize}
	}
}

func (s *slot) prepare(n *push.Notification, now time.Time) {
	s.note = prepared{
		notification: n, expired: n.Expired(now), expiration: n.ExpirationUnix(),
		command: s.t.cfg.Command, priority: frame.PriorityImmediate,
	}
	if n.Priority != 0 && n.Priority != frame.PriorityImmediate { // 1 is unknown to this protocol
		s.note.command, s.note.priority = frame.Command2, frame.PriorityConserve
	}
}
