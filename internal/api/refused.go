package api

import (
	"context"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/lhspn/lhspn/internal/push"
)

// Requests with keys that are not taken. A client that goes on with one (an old app, a script, somebody who guesses) is
// slowed down by its address; keys that are good are taken from there all the same, for many may share an address.
const (
	refusedRate  = 1    // a second and address, beyond which such a request is answered with 429
	refusedBurst = 200  // before that
	refusedKept  = 5000 // see limiters.most
	// The lines of the log about them, over all addresses.
	refusedLines, refusedLinesBurst = 1, 20
)

// refusals remembers who sent keys that are not taken.
type refusals struct {
	lines     *rate.Limiter
	addresses *limiters

	mu       sync.Mutex // guards what follows
	unlogged int
}

func newRefusals() *refusals {
	return &refusals{
		lines:     rate.NewLimiter(refusedLines, refusedLinesBurst),
		addresses: newLimiters(refusedRate, refusedBurst, refusedKept),
	}
}

// refuse takes in one from the address. slow says that there were too many; log that a line may be written, which
// stands for so many others too.
func (f *refusals) refuse(from netip.Addr) (slow, log bool, others int) {
	at := time.Now()
	slow = !f.addresses.of(at, from).AllowN(at, 1)
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.lines.Allow() {
		f.unlogged++
		return slow, false, 0
	}
	others, f.unlogged = f.unlogged, 0
	return slow, true, others
}

// refuseKey answers a request whose key is not taken: why is a word for the log and the metric.
func (x *exchange) refuseKey(r *http.Request, why string, err error) error {
	if why == refusedMissing {
		x.api.metrics.refusedKeys.WithLabelValues(why).Inc()
		return err
	}
	attrs := []any{"request_id", x.id, "route", x.route.pattern}
	if x.who != nil {
		attrs = append(attrs, "app", x.who.app.Name, "key", x.who.key.Name)
	}
	if x.api.refuseKey(x.address(r), why, attrs...) && why != refusedScope {
		return errRefusals
	}
	return err
}

var errRefusals = explain(errRate, "Too many requests with keys that are not taken come from this address.")

// refuseKey counts and logs that a key is not taken, and reports whether too many from the address were not.
func (a *API) refuseKey(from netip.Addr, why string, attrs ...any) (slow bool) {
	a.metrics.refusedKeys.WithLabelValues(why).Inc()
	slow, log, others := a.refusals.refuse(a.counted(from))
	if !log {
		return slow
	}
	attrs = append([]any{"from", from.String(), "why", why}, attrs...)
	if others > 0 {
		attrs = append(attrs, "others_not_logged", others)
	}
	a.log.Log(context.Background(), push.LevelRefused, "key refused", attrs...)
	return slow
}

// Why keys are refused. It is a closed enum.
const (
	refusedMissing = "missing"
	refusedUnknown = "unknown"
	refusedExpired = "expired"
	refusedScope   = "scope"
)

// audit writes the line of an act that somebody may have to answer for: who did what to which app, from where, and how
// it ended. It holds no secret.
func (x *exchange) audit(r *http.Request, act string, took time.Duration) {
	attrs := []any{"act", act, "key", x.who.key.Name, "scope", string(x.who.key.Scope), "from", x.address(r).String(),
		"request_id", x.id, "status", x.status}
	if x.target != "" {
		attrs = append(attrs, "app", x.target)
	} else if x.who.app.Name != "" {
		attrs = append(attrs, "app", x.who.app.Name)
	}
	if x.about != "" {
		attrs = append(attrs, "about", x.about)
	}
	x.api.log.Log(r.Context(), push.LevelAudit, "audit", append(attrs, "took", took)...)
}
