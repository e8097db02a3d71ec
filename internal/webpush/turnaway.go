package webpush

import "time"

// turnAway spreads the messages that find no place with a push service over the time that it needs for them, so that
// each comes back a few times and not once in every wait: whoever sends them writes them down each time. It is a plain
// value.
type turnAway struct {
	promised time.Time     // until when times to come back have been given out
	each     time.Duration // what the service takes for one message
	since    time.Time     // when that began to be measured, and how many messages were answered by then
	answered uint64
}

const (
	// awayMost bounds how long a message stays away: the service may have become faster.
	awayMost = time.Minute
	// awayTurns is how many messages come back in one wait where nothing is known of the service yet.
	awayTurns = 256
)

// next is how long one more message is to stay away: a multiple of wait, so that those of a batch come back together.
// answers is how many messages the service has answered up to now.
func (a *turnAway) next(wait time.Duration, answers uint64, now time.Time) time.Duration {
	switch measured := now.Sub(a.since); {
	case a.each == 0 || measured > 4*awayMost: // nobody was turned away for long
		a.each, a.since, a.answered = wait/awayTurns, now, answers
	case measured >= wait:
		n := max(answers-a.answered, 1)
		a.each = min(max(measured/time.Duration(n), wait/awayTurns), wait)
		a.since, a.answered = now, answers
	}
	if a.promised.Before(now) {
		a.promised = now
	}
	if a.promised.Sub(now) < awayMost {
		a.promised = a.promised.Add(a.each)
	}
	turns := (a.promised.Sub(now) + wait - 1).Truncate(wait) // whole waits, at least one
	return min(max(turns, wait), max(awayMost, wait))
}
