package sender

import (
	"log/slog"
	"time"

	"github.com/lhspn/lhspn/internal/push"
)

// breaker decides whether a route and its keys are sent to. It is a plain value, which its route's mu guards.
//
// What is refused, put off or does not arrive has a scope: the device token, the notification's key, or the route. Each
// is paused on its own; when its time has come one notification goes as a probe, whose result ends the pause or begins
// it anew.
type breaker struct {
	cfg    *Config
	log    *slog.Logger
	route  routePause
	keys   map[string]*pause
	tokens tokenWaits
	outage outage
	// moved is when something was last taken, or came in an outage.
	moved time.Time
}

func newBreaker(cfg *Config, log *slog.Logger) breaker {
	return breaker{cfg: cfg, log: log, keys: map[string]*pause{}}
}

// cause is why something is paused. It is a closed enum.
type cause uint8

const (
	notPaused          cause = iota
	causeConnection          // nothing reaches the gateway
	causeConfiguration       // the service refuses the route's credentials, or a key
	causeUnavailable         // the service answers "later", whatever is sent
	causeThrottled           // the service asked to wait, or takes nothing for a while, for a reason that has a remedy
)

var causeNames = [...]string{
	causeConnection: "connection", causeConfiguration: "configuration", causeUnavailable: "unavailable",
	causeThrottled: "throttled",
}

// pause is one of a key, or the part of the route's that is the same.
type pause struct {
	cause cause
	since time.Time
	until time.Time // when one notification may go, to see
	// askedAt is when the service last named the time to wait, which answers of what was sent before do not shorten; zero
	// where it named none.
	askedAt time.Time
	// reason is what the service gave as such, for who looks; nil where it gave none.
	reason *push.Reason
}

// asked reports whether the service named the time to wait.
func (p *pause) asked() bool { return !p.askedAt.IsZero() }

// routePause is a route's. It counts whole groups: a token's own failure says nothing about the gateway.
type routePause struct {
	pause
	failures int
	probing  bool
	// another: the last probe was answered, or ignored, in a way that may be its own fault, so that the next is to be
	// of another. In a lost connection there is none, and the order stays.
	another bool
	// epoch tells the groups sent before the last opening from those sent after: when a gateway goes away with many
	// groups in flight that is one failure, not many.
	epoch uint64
	ramp  ramp
	// ended is the cause of the pause that the ramp follows.
	ended cause
	// long says that the next probe may be later than PauseMax allows, as long as nothing new comes.
	long bool
}

// begin pauses after a failure.
func (p *routePause) begin(c cause, reason *push.Reason, delay time.Duration, now time.Time) {
	if p.shown() == notPaused {
		p.since = now
	}
	p.reason = reason
	p.cause, p.probing, p.until, p.ramp, p.askedAt, p.long = c, false, now.Add(delay), 0, time.Time{}, false
	p.failures++
	p.epoch++
}

// end ends the pause. After an outage, or where the service had asked to wait, sending begins with little, and failures
// are remembered until it is at its full width: the next pause is no shorter for one delivery that was taken.
func (p *routePause) end() {
	next := routePause{epoch: p.epoch}
	if p.cause == causeUnavailable || p.asked() {
		next.ramp, next.ended, next.failures, next.since = rampStart, p.cause, p.failures, p.since
		next.reason = p.reason
	}
	*p = next
}

// shown is the cause for logs and metrics: an outage lasts until sending is at its full width again.
func (p *routePause) shown() cause {
	if p.cause == notPaused && p.ramp > 0 {
		return p.ended
	}
	return p.cause
}

// shown is what the route is paused for, and where it is not, what one of its keys is.
func (b *breaker) shown() cause {
	shown := b.route.shown()
	if shown != notPaused {
		return shown
	}
	for _, p := range b.keys {
		shown = max(shown, p.cause)
		if p.cause == causeConfiguration {
			return p.cause
		}
	}
	return shown
}

// allows is how many of k the key lets go: all of them, one as a probe, or none.
func (b *breaker) allows(key string, k int, now time.Time) int {
	p := b.keys[key]
	switch {
	case p == nil:
		return k
	case now.Before(p.until):
		return 0
	}
	return min(1, k)
}

// sends notes that something of the key is sent: where the key is paused that is the probe, and there is no other for a
// while.
func (b *breaker) sends(key string, now time.Time) {
	if p := b.keys[key]; p != nil {
		p.until = now.Add(b.cfg.Blocked)
	}
}

// groupNews is what a group's answers say of the route.
type groupNews struct {
	now       time.Time
	sentAt    time.Time
	epoch     uint64
	probe     bool
	first     push.Result // of the first delivery, for the log
	answers   int         // that show that the service is there
	lost      int         // deliveries that did not reach it
	keys      bool        // a key is refused
	blocked   *push.Reason
	throttled *push.Reason
	asked     asked
	outage    bool // the service fails, and the answers count as its failure
	excused   bool // in an outage: the answers blame their tokens, and say nothing of the service
	// idle says that all that waited is taken, and most is how many recipients may be in flight.
	idle bool
	most int
}

// update takes in what became of a group. resumed says that the route's pause has ended.
func (b *breaker) update(g *groupNews) (resumed bool) {
	p := &b.route
	if g.probe {
		p.probing = false
		p.another = g.first.Reason != push.ConnectionLost
	}
	before := g.epoch != p.epoch // it was sent before the pause began
	switch {
	case before && p.cause != notPaused && g.asked.route > 0: // it may ask for a longer one
		if until := g.now.Add(g.asked.route); until.After(p.until) {
			p.until, p.askedAt = until, g.now
		}
	case before && (p.cause == causeConfiguration || p.asked() || g.answers == 0): // it says nothing new
	case g.blocked != nil:
		if p.cause != causeConfiguration {
			b.log.Error("the service refuses the route's credentials or settings; its notifications wait, and one is tried "+
				"now and then",
				"reason", g.blocked.String(), "remedy", remedy(g.blocked), "every", b.cfg.Blocked)
		}
		p.begin(causeConfiguration, g.blocked, max(b.cfg.Blocked, g.asked.route), g.now)
	case g.asked.route > 0:
		if p.shown() != causeThrottled {
			b.log.Warn("the service asks to wait with everything of the route; its notifications wait so long",
				"reason", g.asked.reason.String(), "remedy", remedy(g.asked.reason), "wait", g.asked.route)
		}
		p.begin(causeThrottled, g.asked.reason, g.asked.route, g.now)
		p.askedAt = g.now
	case g.outage && g.excused && p.cause != notPaused: // soon another is the probe, and the pause is no longer for it
		p.until, p.long = g.now.Add(b.cfg.Pause), false
	case g.outage:
		if p.shown() != causeUnavailable {
			b.warnOutage(g.first)
		}
		b.beginOutage(g)
	case g.answers > 0 || g.keys && g.lost == 0: // a refused key is an answer too
		return b.taken(g)
	case g.lost > 0 && g.throttled != nil:
		if p.cause != causeThrottled {
			b.log.Warn("the service takes nothing of the route for now; its notifications wait",
				"reason", g.throttled.String(), "remedy", remedy(g.throttled))
		}
		p.begin(causeThrottled, g.throttled, backoff(b.cfg.Pause, b.cfg.Blocked, p.failures), g.now)
	case g.lost > 0:
		if p.cause == notPaused { // the warning is the transport's, which knows why; this is what follows from it
			b.log.Info("nothing reaches the gateway; the route's notifications wait", "reason", g.first.Reason.String())
		}
		p.begin(causeConnection, g.first.Reason, b.backoff(), g.now)
	}
	return false
}

// warnOutage names the remedy only where the reason has one: an error of the service's own passes.
func (b *breaker) warnOutage(first push.Result) {
	args := []any{"reason", first.Reason.String(), "status", first.Status}
	if first.Reason != nil && first.Reason.Remedy != "" {
		args = append(args, "remedy", first.Reason.Remedy)
	}
	b.log.Warn("the service answers everything with \"later\"; the route's notifications wait, and one is tried now "+
		"and then", args...)
}

// taken ends the route's pause, or widens what may be in flight after one.
func (b *breaker) taken(g *groupNews) (resumed bool) {
	p := &b.route
	b.moved = g.now
	was, since := p.shown(), p.since
	switch {
	case p.cause != notPaused:
		p.end()
		resumed = true
	case p.ramp > 0:
		p.ramp = p.ramp.widen(g.most)
	}
	if p.ramp > 0 && g.idle {
		p.ramp = 0
	}
	if p.ramp == 0 {
		p.failures = 0
	}
	if was != notPaused && p.shown() == notPaused {
		b.log.Info("sending again", "cause", causeNames[was], "paused", g.now.Sub(since).Round(time.Millisecond))
	}
	return resumed
}

// forgetIdle ends a pause when nothing has waited for a while that could be tried: the next notification will tell.
func (b *breaker) forgetIdle(now time.Time) {
	if p := &b.route; p.cause != notPaused && !p.probing && now.Sub(p.until) > idlePause {
		b.log.Info("nothing is left to be tried; the next notification will tell", "cause", causeNames[p.cause],
			"paused", now.Sub(p.since).Round(time.Second))
		b.route = routePause{epoch: p.epoch}
	}
}

// beginOutage pauses for up to PauseMax, and for longer the longer nothing is taken and nothing new comes: a lone
// notification that is itself at fault is not to be sent every few seconds all day.
func (b *breaker) beginOutage(g *groupNews) {
	p := &b.route
	wait := b.backoff()
	if p.shown() == causeUnavailable {
		lasted := g.now.Sub(later(p.since, b.moved))
		if most := min(lasted/longPart, longMax); most > b.cfg.PauseMax {
			wait = backoff(b.cfg.Pause, most, p.failures)
		}
	}
	p.begin(causeUnavailable, g.first.Reason, max(g.asked.service, wait), g.now)
	p.long = g.asked.service == 0 && wait > b.cfg.PauseMax
}

// arrived has something that comes in a long pause be tried as soon as it would be in a short one.
func (b *breaker) arrived(now time.Time) {
	p := &b.route
	if p.cause != causeUnavailable {
		return
	}
	b.moved = now
	if p.long {
		p.until, p.long = earlier(p.until, now.Add(b.backoff())), false
	}
}

// backoff is how long the next pause is, where nothing names the time.
func (b *breaker) backoff() time.Duration {
	return backoff(b.cfg.Pause, b.cfg.PauseMax, b.route.failures)
}

// answered takes in the answer of one delivery of a key. resumed says that the key's pause has ended.
func (b *breaker) answered(d *push.Delivery, sentAt, now time.Time) (resumed bool) {
	key := d.Notification.Key
	p := b.keys[key]
	r := d.Result
	of := scope(r.Reason, d.Notification)
	switch {
	case r.Outcome == push.Blocked && of == push.ClassKey:
		if p == nil {
			p = &pause{since: now}
			b.keys[key] = p
		}
		if p.cause != causeConfiguration {
			p.cause, p.askedAt = causeConfiguration, time.Time{}
			b.log.Error("the service refuses the key; its notifications wait, and one is tried now and then",
				"key", key, "reason", r.Reason.String(), "remedy", remedy(r.Reason), "every", b.cfg.Blocked)
		}
		p.until, p.reason = later(p.until, now.Add(max(b.cfg.Blocked, r.RetryAfter))), r.Reason
	case !r.Outcome.Final() && r.RetryAfter > 0 && of == push.ClassKey:
		if p == nil {
			p = &pause{cause: causeThrottled, since: now}
			b.keys[key] = p
			b.log.Warn("the service asks to wait with the key; its notifications wait so long",
				"key", key, "reason", r.Reason.String(), "wait", r.RetryAfter)
		}
		p.until = later(p.until, now.Add(r.RetryAfter))
		if p.cause == causeThrottled {
			p.askedAt, p.reason = now, r.Reason
		}
	case p == nil || p.asked() && !sentAt.After(p.askedAt): // it was sent before, and says nothing of the wait
	case r.Outcome == push.Accepted || r.Outcome == push.Failed || r.Outcome == push.Unregistered ||
		r.Outcome == push.Retry:
		b.log.Info("the key is taken again", "key", key, "paused", now.Sub(p.since).Round(time.Millisecond))
		delete(b.keys, key)
		return true
	}
	return false
}

// remedy says what to look at when the service refuses everything of a route or key.
func remedy(r *push.Reason) string {
	if r != nil && r.Remedy != "" {
		return r.Remedy
	}
	return "check the app's credentials and settings"
}
