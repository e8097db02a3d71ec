package sender

import (
	"strings"
	"time"

	"github.com/lhspn/lhspn/internal/push"
)

// tokensWaiting is how many device tokens are remembered at once; the batches of more than that wait as a whole.
const tokensWaiting = 10_000

// tokenWaits has the device tokens that the service asked to send nothing to for a while. It is a plain value.
type tokenWaits struct {
	until map[push.Token]time.Time
}

// add has nothing sent to the token until then. It is false where no more are remembered.
func (w *tokenWaits) add(t push.Token, until time.Time) bool {
	if known, ok := w.until[t]; ok {
		w.until[t] = later(known, until)
		return true
	}
	if len(w.until) >= tokensWaiting {
		return false
	}
	if w.until == nil {
		w.until = map[push.Token]time.Time{}
	}
	w.until[push.Token(strings.Clone(string(t)))] = until // the token may be a part of its batch's memory
	return true
}

// left is how long the token has to wait still.
func (w *tokenWaits) left(t push.Token, now time.Time) time.Duration {
	if until, ok := w.until[t]; ok && until.After(now) {
		return until.Sub(now)
	}
	return 0
}

// forget forgets the tokens whose time has come.
func (w *tokenWaits) forget(now time.Time) {
	for t, until := range w.until {
		if !until.After(now) {
			delete(w.until, t)
		}
	}
}

// scope is what a reason is about: the route, the notification's key, the device token, or nothing in particular. Where
// a notification has no key there is none that could be stopped, and it is about the token.
func scope(r *push.Reason, n *push.Notification) push.Class {
	switch {
	case r == nil:
		return push.ClassNone
	case r.Class == push.ClassKey && n.Key == "":
		return push.ClassToken
	}
	return r.Class
}

// recipientWaits reports whether the result is one of a recipient that has to wait on its own, and not with its key or
// route.
func recipientWaits(r push.Result, n *push.Notification) bool {
	s := scope(r.Reason, n)
	return r.RetryAfter > 0 && (s == push.ClassToken || s == push.ClassNone)
}

// asked gathers what a group's answers ask to wait for.
type asked struct {
	route   time.Duration // the longest wait that was asked for all of the route
	reason  *push.Reason  // with it
	service time.Duration // the longest one that blamed nothing in particular
	keys    bool          // something is asked of a key
	tokens  bool          // or of a recipient
	// answers counts deliveries that are not done and yet were answered.
	answers int
}

// add takes in a result that is not final, and bounds what it asks for. Where it is not the recipient that has to wait,
// no attempt is used up. blocked is how long what is blocked waits.
func (w *asked) add(d *push.Delivery, blocked time.Duration) {
	r, s := &d.Result, scope(d.Result.Reason, d.Notification)
	r.RetryAfter = min(max(r.RetryAfter, 0), maxWait)
	if r.Outcome == push.Blocked && s == push.ClassToken {
		r.RetryAfter = max(r.RetryAfter, blocked)
	}
	if r.RetryAfter == 0 {
		return
	}
	switch s {
	case push.ClassRoute:
		if r.RetryAfter > w.route {
			w.route, w.reason = r.RetryAfter, r.Reason
		}
	case push.ClassKey:
		w.keys = true
	case push.ClassNone:
		w.service = max(w.service, r.RetryAfter)
		w.tokens = true
	default:
		w.tokens = true
	}
	if r.Outcome == push.Retry && (s == push.ClassRoute || s == push.ClassKey) {
		r.Outcome = push.NotSent
	}
	if r.Outcome != push.Retry {
		w.answers++
	}
}

// skip passes over the batch's next recipients, before end, that have to wait, and says how many after them have not.
func (w *tokenWaits) skip(b *batch, end int, now time.Time) (n int) {
	for ; b.next < end; b.next++ {
		left := w.left(b.Recipients[b.next].Token, now)
		if left == 0 {
			break
		}
		b.results[b.next] = push.Result{Outcome: push.NotSent, RetryAfter: left}
	}
	for b.next+n < end && w.left(b.Recipients[b.next+n].Token, now) == 0 {
		n++
	}
	return n
}
