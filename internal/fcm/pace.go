package fcm

import "time"

const (
	// defaultMaxRate is a project's quota, 600,000 messages a minute, spread over the minute (scale-fcm).
	defaultMaxRate = 10_000
	// rampTime is how long it takes from nothing to the full rate (scale-fcm: "ramp up over at least 60 seconds").
	rampTime = 60 * time.Second
	// rampFree is a rate that nobody needs to be led to, in messages a second.
	rampFree = 100
	// paceFree is how many messages may go before their turn, rampFree a second of them in all, for as long as the debt is
	// below paceDebt: what is urgent does not wait behind the group of a broadcast, whose own small groups do.
	paceFree = 32
	paceDebt = 5 * time.Second
)

// pacer spreads messages over time, at a rate that grows to its full height over rampTime of sending and falls again as
// slowly when nothing is sent. It is a plain value.
type pacer struct {
	level float64   // from 0 to 1: the part of the full rate that is reached
	at    time.Time // when level was reckoned
	next  time.Time // when all that was let through has had its time
	free  time.Time // when those that went before their turn have, at rampFree a second
}

// reserve lets n messages through and returns how long they have to wait. rate is the full rate at this time, in
// messages a second.
func (p *pacer) reserve(n int, rate float64, now time.Time) time.Duration {
	if !p.at.IsZero() && now.After(p.at) {
		// The rate rises while messages were waiting for it, and falls while none were.
		idle := max(0, now.Sub(p.next))
		idle = min(idle, now.Sub(p.at))
		p.rise(now.Sub(p.at) - 2*idle)
	}
	p.at = now
	if p.next.Before(now) {
		p.next = now
	}
	wait := p.next.Sub(now)
	// What n take at a rate that rises meanwhile, in steps. level itself follows the clock, not the plan.
	const step = 64
	plan := *p
	plan.rise(wait)
	for left := n; left > 0; left -= step {
		d := time.Duration(float64(min(left, step)) / plan.rate(rate) * float64(time.Second))
		p.next = p.next.Add(d)
		plan.rise(d)
	}
	if wait > 0 && n <= paceFree && wait < paceDebt && p.overtakes(n, now) {
		return 0
	}
	return wait
}

// overtakes reports whether n messages may go before their turn.
func (p *pacer) overtakes(n int, now time.Time) bool {
	if p.free.After(now) {
		return false
	}
	if second := now.Add(-time.Second); p.free.Before(second) {
		p.free = second
	}
	p.free = p.free.Add(time.Duration(n) * time.Second / rampFree)
	return true
}

func (p *pacer) rise(d time.Duration) {
	p.level = min(1, max(0, p.level+d.Seconds()/rampTime.Seconds()))
}

// rate is what is let through at this level. The ramp begins with what its first second would end with.
func (p *pacer) rate(full float64) float64 {
	return max(full*max(p.level, 1/rampTime.Seconds()), min(full, rampFree))
}
