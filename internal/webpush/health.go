package webpush

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/lhspn/lhspn/internal/push"
)

// health is what a push service's answers, and their absence, say of it: whether it is to be sent to now, and how much.
// It is a plain value.
type health struct {
	// failures counts those in a row; laters the answers in a row that said "later".
	failures, laters int
	// until is when the next message may go; reason why it may not go before. held: the service refuses our
	// authorization.
	until  time.Time
	reason *push.Reason
	held   bool
	// proven is the authorization with which a message was taken.
	proven *authorization
	// refusers are the last subscriptions over which the authorization was refused, and others is when a message to
	// another one was last turned away for that.
	refusers []push.Token
	others   time.Time
}

const (
	pauseMin = time.Second
	pauseMax = 5 * time.Minute
	// holdFor is how long a service that refuses our authorization is left alone, before one message tries it again.
	holdFor = 30 * time.Second
	// latersMost is the number of "later" in a row from which on it is the service that fails, and not the
	// subscriptions.
	latersMost = 16
	// mostRefusers bounds health.refusers.
	mostRefusers = 8
)

// accepted notes that a message with the authorization was taken.
func (h *health) accepted(auth *authorization) { *h = health{proven: auth} }

// answered notes an answer that refused a message and nothing else.
func (h *health) answered() {
	if !h.held {
		*h = health{proven: h.proven}
	}
}

// later notes an answer that said "later", and reports whether it is the service that fails.
func (h *health) later(reason *push.Reason, now time.Time) bool {
	if h.laters++; h.laters < latersMost && h.failures == 0 {
		return false
	}
	h.failed(reason, now)
	return true
}

// failed notes that the service did not answer, or failed. What was sent before the pause began adds nothing to it.
func (h *health) failed(reason *push.Reason, now time.Time) {
	if now.Before(h.until) {
		return
	}
	pause := pauseMax
	if h.failures < 16 {
		pause = min(pauseMax, pauseMin<<h.failures)
	}
	h.failures++
	h.until, h.reason = now.Add(pause/2+rand.N(pause/2)), reason
}

// refused notes that the service refused the authorization, and reports whether it is that which is refused. Once a
// message was taken with it, it is one subscription that it does not fit.
func (h *health) refused(auth *authorization, reason *push.Reason, now time.Time) bool {
	if h.proven == auth && auth != nil {
		return false
	}
	h.held, h.until, h.reason = true, now.Add(holdFor), reason
	return true
}

// waits is how long nothing may be sent to the service, 0 when something may.
func (h *health) waits(now time.Time) time.Duration { return max(0, h.until.Sub(now)) }

// doubtful reports whether a few messages, or one where the authorization was refused, are to show that the service is
// well.
func (h *health) doubtful() bool { return h.held || h.failures > 0 }

// result is that of a message that is not sent because of what is wrong with the service.
func (h *health) result(now time.Time) push.Result {
	r := push.Result{Outcome: push.NotSent, Reason: h.reason, RetryAfter: max(h.waits(now), pauseMin)}
	if h.held {
		r.Outcome = push.Blocked
	}
	return r
}

// refusedOver notes over which subscription the authorization was refused.
func (h *health) refusedOver(token push.Token) {
	if slices.Contains(h.refusers, token) {
		return
	}
	if len(h.refusers) == mostRefusers {
		h.refusers = h.refusers[1:]
	}
	h.refusers = append(h.refusers, token)
}

// turnedAway notes that a message to the subscription has to wait.
func (h *health) turnedAway(token push.Token, now time.Time) {
	if h.held && !slices.Contains(h.refusers, token) {
		h.others = now
	}
}

// yields reports whether the message that tries the service is to be one to another subscription, which comes soon:
// else those over which it refused the authorization before, and which it may be that are at fault, would try it for
// ever.
func (h *health) yields(token push.Token, now time.Time) bool {
	return h.held && now.Sub(h.others) < 3*holdFor && slices.Contains(h.refusers, token)
}

// own is result for the message that told of it: it comes back after the others, so that it is one of those that shows
// whether the service is well. Else what alone fails would be the one that is tried, again and again.
func (h *health) own(now time.Time) push.Result {
	r := h.result(now)
	r.RetryAfter += max(r.RetryAfter/4, pauseMin)
	return r
}
