package main

import (
	"cmp"
	"context"
	"time"

	"github.com/lhspn/lhspn/internal/events"
	"github.com/lhspn/lhspn/internal/queue"
	"github.com/lhspn/lhspn/internal/sender"
)

// holdAfter is how long a route must have sent nothing, for another reason than its credentials or settings, before its
// app is told: what passes by itself in a moment is no news.
const holdAfter = time.Minute

// remedies are what can be done where the service gave no reason that says so, by the cause of the pause.
var remedies = map[string]string{
	"configuration": "check the app's credentials and settings",
	"connection":    "see the log for why the service cannot be reached; what waits is sent when it can",
	"unavailable":   "nothing can be done here: the service fails, and what waits is sent when it takes it again",
	"throttled":     "send less: what waits is sent when the service takes it again",
}

// heldRoutes says of each route whether it is held.
func heldRoutes(statuses []sender.RouteStatus, now time.Time) []events.Route {
	all := make([]events.Route, len(statuses))
	for i := range statuses {
		s := &statuses[i]
		r := &all[i]
		r.App, r.Name = s.App, s.Route
		for _, sums := range s.Sums {
			r.Taken += sums.Accepted + sums.Refused
		}
		for _, p := range append([]sender.Pause{s.Pause}, s.Keys...) {
			if p.Cause == "" || p.Cause != "configuration" && (p.Key != "" || now.Sub(p.Since) < holdAfter) {
				continue
			}
			r.Held, r.Reason, r.Remedy = true, p.Reason.String(), remedies[p.Cause]
			if p.Reason != nil {
				r.Remedy = cmp.Or(p.Reason.Remedy, r.Remedy)
			}
			break
		}
	}
	return all
}

// newHolds tells apps of their routes that are held.
func newHolds(store *events.Store, s *sender.Sender, q *queue.Queue) *events.Holds {
	routes := func() []events.Route { return heldRoutes(s.Routes(), time.Now()) }
	return store.Holds(routes, func(ctx context.Context) (self string, live []string, err error) {
		replicas, _, err := q.Replicas(ctx)
		for _, r := range replicas {
			if live = append(live, r.ID); r.Self {
				self = r.ID
			}
		}
		return self, live, err
	})
}
