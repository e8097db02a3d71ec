package console

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/lhspn/lhspn/internal/push"
)

// overview is the numbers at the top.
type overview struct {
	point
	Waiting, Scheduled int64 // over all apps and replicas
	InFlight           int
	Paused             int
	NotReady           string
	Idle               bool // nothing was sent since the replica began
}

// Sent and the others are the rates of the last sample.
func (o *overview) Sent() float32    { return o.accepted }
func (o *overview) Refused() float32 { return o.refused }
func (o *overview) Later() float32   { return o.later }

func (k *Console) loadOverview(ctx context.Context, v *view) {
	o := &overview{point: k.rates.now(v.App), Idle: true}
	o.Waiting, o.Scheduled = k.Notifications.Waiting()
	for _, r := range k.Sending.Routes(true) {
		if v.App != "" && r.App != v.App {
			continue
		}
		o.InFlight += r.InFlight
		if s := stateOf(&r); s.Trouble {
			o.Paused++
		}
		o.Idle = o.Idle && r.Sums == [2]Sums{}
	}
	ctx, cancel := context.WithTimeout(ctx, loadTimeout/2)
	defer cancel()
	if err := k.Ready(ctx); err != nil {
		o.NotReady = err.Error()
	}
	v.Overview = o
}

// routesView is the list of routes, those in trouble first.
type routesView struct {
	List     []routeView
	From, Of int
	Next     string
	Previous bool
}

type routeView struct {
	Route
	state
	Sum Sums
}

// state is what a route does, in words.
type state struct {
	Word    string
	Class   string // good, warn, bad or empty
	Trouble bool
	Reasons []stateReason
}

// stateReason is why, and what helps.
type stateReason struct {
	Key, Reason, Remedy string
	Since, Until        time.Time
}

// What the causes of a pause are called, and what helps where the reason names nothing.
var causes = map[string]struct{ word, class, remedy string }{
	"connection": {"gateway not reached", "bad", "Look at the network: DNS, firewall and proxy between here and the " +
		"gateway. server doctor --config FILE tries each step."},
	"configuration": {"refused", "bad", "Check the app's credentials and settings: under Apps, or with " +
		"server doctor --config FILE."},
	"unavailable": {"service answers “later”", "warn", "The push service is failing; nothing is lost, and one is tried " +
		"now and then. Its status page may say more."},
	"throttled": {"asked to wait", "warn", "The push service asked for a pause. Send fewer at once, with max_rate of " +
		"the app or rate of the notification."},
}

func stateOf(r *Route) state {
	add := func(s *state, p *Pause) {
		c := causes[p.Cause]
		reason := stateReason{Key: p.Key, Reason: p.Reason.String(), Remedy: c.remedy, Since: p.Since, Until: p.Until}
		if p.Reason != nil && p.Reason.Remedy != "" {
			reason.Remedy = p.Reason.Remedy
		}
		s.Reasons = append(s.Reasons, reason)
	}
	var s state
	switch {
	case r.Unusable:
		s = state{Word: "credentials cannot be used", Class: "bad", Trouble: true, Reasons: []stateReason{{
			Reason: push.CredentialsUnusable.Text, Remedy: push.CredentialsUnusable.Remedy}}}
	case r.Pause.Cause != "":
		c := causes[r.Pause.Cause]
		s = state{Word: c.word, Class: c.class, Trouble: true}
		add(&s, &r.Pause)
	case r.Unreachable != "":
		c := causes["connection"]
		s = state{Word: c.word, Class: c.class, Trouble: true,
			Reasons: []stateReason{{Reason: r.Unreachable, Remedy: c.remedy}}}
	case len(r.Keys) > 0:
		s = state{Word: "refused in part", Class: "warn", Trouble: true}
	case r.InFlight > 0 || r.Ready != [2]int{}:
		s = state{Word: "sending", Class: "good"}
	default:
		s = state{Word: "idle"}
	}
	for i := range r.Keys {
		add(&s, &r.Keys[i])
	}
	return s
}

func (k *Console) loadRoutes(_ context.Context, v *view) {
	var all []routeView
	for _, r := range k.Sending.Routes(true) {
		if v.App != "" && r.App != v.App {
			continue
		}
		shown := routeView{Route: r, state: stateOf(&r)}
		for _, sum := range r.Sums {
			shown.Sum.Accepted += sum.Accepted
			shown.Sum.Refused += sum.Refused
			shown.Sum.Later += sum.Later
		}
		all = append(all, shown)
	}
	// Those that need somebody first, then those with work; within that by name.
	rank := func(r *routeView) int {
		switch {
		case r.Class == "bad":
			return 0
		case r.Trouble:
			return 1
		case r.Class != "":
			return 2
		}
		return 3
	}
	slices.SortStableFunc(all, func(a, b routeView) int { return cmp.Compare(rank(&a), rank(&b)) })
	page, from, next := pageOf(all, v.Trunk, pageRoutes)
	v.Routes = &routesView{List: page, From: from, Of: len(all), Next: next, Previous: from > 1}
}

// pageOf is the page of the list with that number (empty: the first), the number of its first item, and the number of
// the next page, empty after the last one.
func pageOf[T any](all []T, number string, size int) (page []T, from int, next string) {
	n, _ := strconv.Atoi(number) // what is no number is the first
	start := min(max(n-1, 0), max(len(all)-1, 0)/size) * size
	end := min(start+size, len(all))
	if end < len(all) {
		next = strconv.Itoa(start/size + 2)
	}
	return all[start:end], start + 1, next
}
