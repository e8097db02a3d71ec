package sender

import "time"

const (
	windowMin    = 16               // a gateway slower than this per target is rare, and still served
	windowStart  = 64               // before anything is known of the gateway; it doubles with each round trip
	windowPeriod = 10 * time.Second // how long a measured base latency is believed
)

// window bounds a route's bulk recipients in flight so that their queue inside the transport stays about target deep in
// time: an urgent notification that is sent behind them then waits no longer than that. The bound follows the gateway's
// own speed: by Little's law what is in flight divided by its latency is the rate, and rate × (base latency + target)
// may be in flight, where the base latency is the shortest seen lately. Once a period the bound drops to its minimum
// until one group has passed an empty queue; otherwise a standing queue would in time pass for the base latency.
//
// With target 0 the bound is fixed: the binary protocol needs that, for its results come with the evidence, seconds
// later, and say nothing about a queue.
type window struct {
	target time.Duration
	max    int
	size   float64

	slowStart bool
	shrunkAt  time.Time // of groups sent before, nothing more is learnt: they met the queue that the shrinking ended

	base, lastBase time.Duration // the shortest latency of this period and of the one before; 0 for none
	period         time.Time     // the start of this period
	draining       bool
}

func newWindow(target time.Duration, most int) window {
	w := window{target: target, max: most, size: float64(min(windowStart, most)), slowStart: true}
	if target == 0 {
		w.size = float64(most)
	}
	return w
}

// limit is the number of bulk recipients that may be in flight now.
func (w *window) limit() int {
	if w.draining {
		return min(windowMin, w.max)
	}
	return int(w.size)
}

// done takes in that n recipients, sent at sentAt when inFlight (they included) were in flight, have their results,
// half of them since halfAt.
func (w *window) done(n, inFlight int, sentAt, halfAt, now time.Time) {
	if w.target == 0 {
		return
	}
	latency := max(halfAt.Sub(sentAt), time.Microsecond)
	if w.period.IsZero() {
		w.period = now
	}
	if w.draining && sentAt.After(w.period) {
		w.draining = false
	}
	if w.base == 0 || latency < w.base {
		w.base = latency
	}
	base := w.base
	if w.lastBase != 0 {
		base = min(base, w.lastBase)
	}
	if now.Sub(w.period) >= windowPeriod {
		w.lastBase, w.base, w.period = w.base, 0, now
		w.draining = !w.slowStart // in slow start the queue was never full
	}
	switch allowed := base + w.target; {
	case sentAt.Before(w.shrunkAt):
	case latency > allowed:
		w.slowStart, w.shrunkAt = false, now
		w.size = max(windowMin, float64(inFlight)*float64(allowed)/float64(latency))
	case inFlight*2 < int(w.size): // not the window but the supply was the limit: nothing is learnt of the gateway
	case w.slowStart:
		w.size += float64(n) // doubles with each round trip
	default:
		w.size += float64(n) / 8
	}
	w.size = min(w.size, float64(w.max))
}
