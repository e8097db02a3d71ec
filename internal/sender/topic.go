package sender

import (
	"time"

	"github.com/lhspn/lhspn/internal/push"
)

// topicHold holds back the notifications of one topic. What a service says of a topic is no verdict on the app's credentials, and
// a topic can come from a single request (topic_suffix): it must not hold the notifications of the app's other topics.
type topicHold struct {
	asked  bool      // the service does not refuse the topic, but asked to wait with it
	until  time.Time // when one notification may go, to see
	since  time.Time
	parked fifo[*batch]
	left   int // recipients of parked
}

// keep removes what keep returns false for from what is parked.
func (h *topicHold) keep(keep func(*batch) bool) {
	h.parked.keep(keep)
	h.left = 0
	for i := range h.parked.len() {
		h.left += h.parked.at(i).left()
	}
}

func (h *topicHold) pop() *batch {
	it := h.parked.pop()
	h.left -= it.left()
	return it
}

// parked is the number of recipients that wait for their topic. a.mu is held.
func (a *route) parked() (n int) {
	for _, h := range a.topics {
		n += h.left
	}
	return n
}

// holdTopics learns from a group in which something was held for its topic, or which went while topics are held. a.mu is held.
func (a *route) holdTopics(g *group, now time.Time) {
	for i := range g.Deliveries {
		d := &g.Deliveries[i]
		topic := d.Notification.Key
		h := a.topics[topic]
		switch r := d.Result; {
		case r.Outcome != push.Blocked && r.RetryAfter > 0 && scope(r.Reason, d.Notification) == push.ClassKey:
			if h == nil {
				h = &topicHold{asked: true}
				a.topics[topic] = h
				a.log.Warn("the service asks to wait with the topic; its notifications wait so long",
					"topic", topic, "reason", r.Reason.String(), "wait", r.RetryAfter)
			}
			h.since, h.until = now, later(h.until, now.Add(r.RetryAfter))
		case r.Outcome == push.Blocked && scope(r.Reason, d.Notification) == push.ClassKey:
			if h == nil || h.asked {
				if h == nil {
					h = &topicHold{since: now}
					a.topics[topic] = h
				}
				h.asked = false
				a.log.Error("the service refuses the topic; its notifications wait, and one is tried now and then",
					"topic", topic, "reason", r.Reason.String(), "remedy", remedy(r.Reason), "every", a.s.cfg.Hold)
			}
			h.until = later(h.until, now.Add(max(a.s.cfg.Hold, r.RetryAfter)))
		case h == nil || h.asked && !g.sentAt.After(h.since): // it was sent before, and says nothing of the wait
		case r.Outcome == push.Accepted || r.Outcome == push.Failed || r.Outcome == push.Unregistered || r.Outcome == push.Retry:
			a.log.Info("the topic is taken again", "topic", topic, "held", now.Sub(h.since).Round(time.Millisecond))
			a.releaseTopic(topic, h)
		default: // it did not get there, and says nothing
		}
	}
}

// releaseTopic ends the hold. a.mu is held.
func (a *route) releaseTopic(topic string, h *topicHold) {
	delete(a.topics, topic)
	for h.parked.len() > 0 {
		it := h.pop()
		a.ready[it.Lane] -= it.left() // enqueue counts it again
		a.enqueue(it, false)
	}
	a.s.reader.rewindAll() // for what was not taken meanwhile
	signal(a.wakePrepare)
}

// topicAllows is how many of k the item's topic lets go: all of them, one as a probe, or none. a.mu is held.
func (a *route) topicAllows(it *batch, k int, now time.Time) int {
	h := a.topics[it.n.Key]
	switch {
	case h == nil:
		return k
	case now.Before(h.until):
		return 0
	}
	h.until = now.Add(a.s.cfg.Hold)
	return min(1, k)
}

// park sets the item aside until its topic is released; one for which there is no room leaves the memory. a.mu is held; the item
// is in no queue.
func (a *route) park(it *batch) {
	h := a.topics[it.n.Key]
	if h.parked.len() > 0 && it.next == 0 && a.parked()+it.left() > a.cfg.Memory/8 {
		a.drop(it)
		return
	}
	h.parked.push(it)
	h.left += it.left()
}

// probeTopics puts one notification of each held topic whose time has come back into its queue. a.mu is held.
func (a *route) probeTopics(now time.Time) {
	for topic, h := range a.topics {
		switch {
		case now.Before(h.until):
		case h.parked.len() > 0:
			it := h.pop()
			a.ready[it.Lane] -= it.left() // enqueue counts it again
			a.enqueue(it, true)
		case now.Sub(h.until) > time.Minute: // nothing of it is left: the next one will tell
			delete(a.topics, topic)
		}
	}
}
