package http2

import "time"

// maxTries is how often a request is put on a connection that then fails it, before the caller hears of it.
const maxTries = 5

// maxResets is how often it is put on one whose streams, but not itself, the peer ends.
const maxResets = 2

// ended collects requests that have ended, so that groups and the bound in flight are touched once for many.
type ended struct {
	groups []groupCount
	n      int
	answer Answer // for ends without one
}

type groupCount struct {
	group *group
	n     int64
}

// add notes that a request has ended; its caller knows how.
func (e *ended) add(r ref) {
	e.n++
	if last := len(e.groups) - 1; last >= 0 && e.groups[last].group == r.group {
		e.groups[last].n++
		return
	}
	e.groups = append(e.groups, groupCount{r.group, 1})
}

// without ends a request without an answer.
func (e *ended) without(r ref, o Outcome, now time.Time) {
	if (o == NotSent || o == Refused) && r.written {
		o = Lost
	}
	e.answer = Answer{Outcome: o, At: now, Again: r.again}
	r.group.Answer(int(r.index), &e.answer)
	e.add(r)
}

// finish calls Done of the groups that are complete. No lock is held.
func (cl *Client) finish(e *ended) {
	if e.n == 0 {
		return
	}
	release, done := int64(0), 0
	for _, c := range e.groups {
		if !c.group.whole {
			release += c.n
		}
		if c.group.remaining.Add(-c.n) > 0 {
			continue
		}
		done++
		if c.group.whole {
			release += int64(cl.cfg.MaxInFlight)
		}
		r := c.group.Requests
		c.group.Requests = nil
		groups.Put(c.group)
		r.Done()
	}
	clear(e.groups)
	e.groups, e.n = e.groups[:0], 0
	cl.room.Release(release)
	if done > 0 {
		cl.mu.Lock()
		if cl.groups.Leave(done) {
			cl.since = time.Now()
		}
		cl.mu.Unlock()
	}
}

// requeue puts requests that a connection failed back to the front, in their order, but for those that have had all
// their tries, and for all when the client is ending: those end.
func (cl *Client) requeue(refs []ref, e *ended) {
	again := refs[:0]
	now := time.Now()
	cl.mu.Lock()
	for _, r := range refs {
		switch {
		case r.isCulprit(cl.failures) && !cl.stopped:
			e.without(r, Culprit, now)
		case cl.stopped:
			e.without(r, NotSent, now)
		case r.outOfTries():
			e.without(r, Refused, now) // or Lost, where it was ever written
		case r.goesLast():
			cl.queue.PushBack(r)
			cl.wake()
		default:
			again = append(again, r)
		}
	}
	if len(again) > 0 {
		cl.queue.pushFront(again)
		cl.wake()
	}
	cl.mu.Unlock()
	cl.metrics.Resent.Add(float64(len(again)))
}

// returnQueue ends everything that waits in the queue. Callers are told at the end, and not in between: what they send
// in answer is not returned with it.
func (cl *Client) returnQueue(o Outcome, e *ended) {
	var refs [256]ref
	for {
		cl.mu.Lock()
		n := cl.queue.pop(refs[:])
		cl.mu.Unlock()
		if n == 0 {
			break
		}
		now := time.Now()
		for _, r := range refs[:n] {
			e.without(r, o, now)
		}
	}
	cl.finish(e)
}
