package sender

import (
	"cmp"
	"slices"
	"time"

	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/queue"
)

// RouteStatus is what a route does now, for people who look: a copy that nothing keeps up to date.
type RouteStatus struct {
	queue.Outlet
	Platform string
	// Kind names the transport.
	Kind string
	// Pause is zero while the route sends. Where it does, Keys has the keys that it does not send for.
	Pause Pause
	Keys  []Pause
	// Ready are the recipients in memory that wait for dispatch, by queue.Lane, and InFlight those with the transport.
	Ready    [2]int
	InFlight int
	// Sums are by queue.Lane, and count from when the route began.
	Sums [2]Sums
}

// Pause is why something is not sent to but for one notification now and then.
type Pause struct {
	// Key is what is paused of the route; empty: all of it.
	Key string
	// Cause is connection, configuration, unavailable or throttled; empty: there is no pause.
	Cause  string
	Reason *push.Reason
	// Since and Until are when it began, and when the next one is tried; zero where nothing was sent yet.
	Since, Until time.Time
}

// Waiting is a Transport that may have nothing to send with yet: then it has the reason, otherwise nil.
type Waiting interface{ Waiting() *push.Reason }

// Sums count results, as they came: what is sent again counts each time.
type Sums struct {
	Accepted uint64
	// Refused was refused for good; Later was answered with "try again", or did not arrive.
	Refused, Later uint64
}

func (s *Sums) add(sum *summary) {
	all := 0
	for _, n := range sum.outcomes {
		all += n
	}
	refused := sum.outcomes[push.Failed] + sum.outcomes[push.Unregistered]
	s.Accepted += uint64(sum.outcomes[push.Accepted])
	s.Refused += uint64(refused)
	s.Later += uint64(all - sum.outcomes[push.Accepted] - refused)
}

// Routes are all routes, by app and name.
func (s *Sender) Routes() []RouteStatus {
	routes := s.routes.Load().byOutlet
	all := make([]RouteStatus, 0, len(routes))
	for outlet, r := range routes {
		all = append(all, r.status(outlet))
	}
	slices.SortFunc(all, func(a, b RouteStatus) int {
		return cmp.Or(cmp.Compare(a.App, b.App), cmp.Compare(a.Route, b.Route))
	})
	return all
}

func (r *route) status(outlet queue.Outlet) RouteStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := RouteStatus{
		Outlet: outlet, Platform: r.cfg.Platform, Kind: r.cfg.Kind, Ready: r.backlog.ready, InFlight: r.inFlight,
		Sums: r.sums,
	}
	if waits, is := r.cfg.Transport.(Waiting); is {
		if reason := waits.Waiting(); reason != nil {
			s.Pause = Pause{Cause: causeNames[causeConfiguration], Reason: reason}
		}
	}
	if p := &r.breaker.route; p.shown() != notPaused {
		s.Pause = p.status("")
		s.Pause.Cause = causeNames[p.shown()]
	}
	for key, p := range r.breaker.keys {
		s.Keys = append(s.Keys, p.status(key))
	}
	slices.SortFunc(s.Keys, func(a, b Pause) int { return cmp.Compare(a.Key, b.Key) })
	return s
}

func (p *pause) status(key string) Pause {
	return Pause{Key: key, Cause: causeNames[p.cause], Reason: p.reason, Since: p.since, Until: p.until}
}
