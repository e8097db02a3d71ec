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
}

// open pauses after a failure.
func (p *pause) open(c cause, delay time.Duration, now time.Time) {
	if p.cause == notPaused {
		p.since = now
	}
	p.cause, p.probing, p.until = c, false, now.Add(delay)
	p.failures++
	p.epoch++
}

// laterRun tells a service that answers everything with "later" from single deliveries that it so answers. The attempts of a
// delivery are for what fails while others succeed; while everything does it is the service that fails.
type laterRun struct {
	// on says that since the last delivery that was taken or refused all answers were "later".
	on bool
	// tokens counts answers in a row that blame the device token, as one for a device that gets too much.
	tokens int
}

const (
	// mostlyLater is how many "later" there are for each other answer of a group in which (nearly) all are.
	mostlyLater = 20
	// manyTokens is how many tokens in a row may each be the one that is to blame.
	manyTokens = 20
)

// add takes in a group's answers: those that took or refused a delivery, those that said "later", and how many of these
// blamed the token. all says that (nearly) all were "later"; counts, whether they count as attempts: the first after others
// were taken do.
func (l *laterRun) add(taken, later, tokens int) (all, counts bool) {
	if later == 0 || taken*mostlyLater > later {
		if taken > 0 {
			*l = laterRun{}
		}
		return false, true
	}
	if later == tokens {
		if l.tokens += tokens; l.tokens < manyTokens && !l.on {
			return false, true
		}
	}
	counts = !l.on
	l.on = true
	return true, counts
}

func (p *pause) close() { *p = pause{epoch: p.epoch} }

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
