package sender

import "time"

// sending takes what the backlog gives out.
type sending interface {
	// send takes up to k of the recipients of a batch whose turn it is, and says how many it took. With k = 0 its rate
	// allows none now, but it may have expired.
	send(b *batch, k int, now time.Time) (sent int, what sendOutcome)
	// sentAll is called when none of the batch's recipients waits any more.
	sentAll(b *batch)
}

// sendOutcome is what becomes of a batch whose turn it was.
type sendOutcome uint8

const (
	sendTaken   sendOutcome = iota
	sendGone                // it is not to be sent any more
	sendBlocked             // its key is
)

// sendUrgent has up to budget urgent recipients sent.
func (q *backlog) sendUrgent(budget int, now time.Time, to sending) {
	for budget > 0 && q.urgent.Len() > 0 {
		b := *q.urgent.At(0)
		sent, what := to.send(b, min(budget, b.left()), now)
		if budget -= sent; what != sendTaken {
			q.urgent.PopFront()
		} else if b.left() == 0 {
			to.sentAll(q.urgent.PopFront())
		}
	}
}

// sendBulk has up to budget bulk recipients sent, a part of one batch of each notification in turn. wait is how long a
// notification's own rate allows none, where that is all that keeps some waiting.
func (q *backlog) sendBulk(budget int, now time.Time, to sending) (wait time.Duration) {
	for progress := true; progress && budget > 0 && q.turns.Len() > 0; {
		progress = false
		for turns := q.turns.Len(); turns > 0 && budget > 0; turns-- {
			a := q.turns.PopFront()
			sent, moved, w := q.sendOf(a, budget, now, to)
			budget -= sent
			progress = progress || moved
			if w > 0 && (wait == 0 || w < wait) {
				wait = w
			}
			if a.turn = a.ready.Len() > 0; a.turn {
				q.turns.PushBack(a)
			}
		}
	}
	return wait
}

// sendOf has a part of the notification's first batch sent. moved says that something changed, wait that its rate
// allows none so long.
func (q *backlog) sendOf(a *active, budget int, now time.Time, to sending) (sent int, moved bool, wait time.Duration) {
	for a.ready.Len() > 0 {
		b := *a.ready.At(0)
		k := min(budget, b.left())
		k, wait = a.allows(k, now)
		sent, what := to.send(b, k, now)
		if k == 0 && what == sendTaken {
			return 0, moved, wait
		}
		if a.limit != nil {
			a.granted -= sent
		}
		switch {
		case what != sendTaken:
			a.ready.PopFront()
		case b.left() == 0:
			to.sentAll(a.ready.PopFront())
		}
		if what != sendGone {
			return sent, true, 0
		}
		moved = true
	}
	return 0, moved, 0
}

// rotate puts what the last probe was of behind the others: the fault may be its own, and must not hold them up.
func (q *backlog) rotate() {
	if q.urgent.Len() > 1 {
		q.urgent.PushBack(q.urgent.PopFront())
	}
	if q.turns.Len() > 0 { // among the notifications the turns go round
		if a := *q.turns.At(0); a.ready.Len() > 1 {
			a.ready.PushBack(a.ready.PopFront())
		}
	}
}
