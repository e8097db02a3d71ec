package sender

import (
	"math/rand/v2"
	"time"

	"github.com/lhspn/lhspn/internal/push"
)

// cause is why a route is paused. It is a closed enum.
type cause uint8

const (
	notPaused          cause = iota
	causeConnection          // nothing reaches the gateway
	causeConfiguration       // the service refuses the route's credentials, or a key
	causeUnavailable         // the service answers "later", whatever is sent
	causeThrottled           // the service takes nothing for a while, for a reason that has a remedy
)

var causeNames = [...]string{
	causeConnection: "connection", causeConfiguration: "configuration", causeUnavailable: "unavailable", causeThrottled: "throttled",
}

// pause is an app's breaker. Closed, everything is sent. Open, nothing is until a time that grows with each failure; then
// one notification goes as a probe, whose result closes it or opens it for longer. One app is one gateway, so this is per
// gateway, and it counts whole groups: a token's own failure says nothing about the gateway.
type pause struct {
	cause    cause
	failures int
	until    time.Time
	probing  bool
	// another: the last probe was answered, or ignored, in a way that may be its own fault, so that the next is to be of another.
	// In a lost connection there is none, and the order stays.
	another bool
	since   time.Time
	// epoch tells the groups sent before the last opening from those sent after: when a gateway goes away with many groups
	// in flight that is one failure, not many.
	epoch uint64
	ramp  ramp
	// asked says that the service named the time to wait, which answers of what was sent before do not shorten.
	asked bool
	// ended is the cause of the pause that the ramp follows.
	ended cause
}

// open pauses after a failure.
func (p *pause) open(c cause, delay time.Duration, now time.Time) {
	if p.shown() == notPaused {
		p.since = now
	}
	p.cause, p.probing, p.until, p.ramp, p.asked = c, false, now.Add(delay), 0, false
	p.failures++
	p.epoch++
}

// close ends the pause. After an outage sending begins with little, and failures are remembered until it is at its full
// width: the next pause is no shorter for one delivery that was taken.
func (p *pause) close() {
	next := pause{epoch: p.epoch}
	if p.cause == causeUnavailable || p.asked {
		next.ramp, next.ended, next.failures, next.since = rampStart, p.cause, p.failures, p.since
	}
	*p = next
}

// shown is the cause for logs and metrics: an outage lasts until sending is at its full width again.
func (p *pause) shown() cause {
	if p.cause == notPaused && p.ramp > 0 {
		return p.ended
	}
	return p.cause
}

// backoff is the exponential delay after n failures (from 0) with full jitter: base × 2ⁿ at most, capped.
func backoff(base, most time.Duration, n int) time.Duration {
	d := most
	if n < 32 && base<<n > 0 {
		d = min(most, base<<n)
	}
	return 1 + rand.N(d)
}

// remedy says what to look at when the service refuses everything of a route or key.
func remedy(r *push.Reason) string {
	if r != nil && r.Remedy != "" {
		return r.Remedy
	}
	return "check the app's credentials and settings"
}
