package queue

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/lhspn/lhspn/internal/push"
)

// toTokens makes the batches of the submission's tokens: each goes the way that it is registered for, as far as
// registered knows it, or else its platform's usual way.
func (row *acceptedRow) toTokens(s *push.Submission, registered map[push.Token]push.Route) error {
	type way struct {
		route      push.Route
		recipients []push.Recipient
	}
	ways := make([]way, 0, 4)
	var usual push.Route
	platform := ""
	for _, t := range s.Tokens {
		if name := t.PlatformName(); name != platform {
			route, has := s.UsualRoute(name)
			if !has {
				return fmt.Errorf("a device token of %s, to which the notification has no route", name)
			}
			platform, usual = name, route
		}
		route, elsewhere := registered[t]
		if !elsewhere {
			route = usual
		}
		i := slices.IndexFunc(ways, func(w way) bool { return w.route == route })
		if i < 0 {
			i = len(ways)
			ways = append(ways, way{route, make([]push.Recipient, 0, len(s.Tokens))})
		}
		ways[i].recipients = append(ways[i].recipients, push.Recipient{Token: t})
	}
	lane, kind := Bulk, row.firstKind()
	if len(s.Tokens) == 1 {
		lane = Urgent
	}
	row.batches, row.bodies = nil, nil
	for _, w := range ways {
		for part := range slices.Chunk(w.recipients, MaxBatch) {
			row.batch(uint32(len(row.batches)), lane, kind, w.route, part)
		}
	}
	return nil
}

// route has each registered token of the group go the way that it is registered for. Most are registered for the route
// that they were given, and so one short look at the registry for the whole group finds nothing to do.
func (q *Queue) route(ctx context.Context, group []*acceptance) error {
	type way struct {
		app   string
		route push.Route
	}
	asked := map[way][]push.Token{}
	for _, a := range group {
		for i := range a.Submissions {
			if s := &a.Submissions[i]; s.ByToken {
				lookUps(s, func(usual push.Route, tokens []push.Token) {
					w := way{a.App, usual}
					asked[w] = append(asked[w], tokens...)
				})
			}
		}
	}
	registered := map[string]map[push.Token]push.Route{} // by app: those that go another way than the usual one
	for w, tokens := range asked {
		elsewhere, err := q.registry.Elsewhere(ctx, q.db.Reader(), w.app, tokens, w.route)
		if err != nil {
			return wrap(err, "look up the tokens' routes")
		}
		if registered[w.app] == nil {
			registered[w.app] = elsewhere
			continue
		}
		maps.Copy(registered[w.app], elsewhere)
	}
	for _, a := range group {
		elsewhere := registered[a.App]
		if len(elsewhere) == 0 {
			continue
		}
		for i := range a.Submissions {
			s := &a.Submissions[i]
			if !s.ByToken || !slices.ContainsFunc(s.Tokens, func(t push.Token) bool { _, other := elsewhere[t]; return other }) {
				continue
			}
			if err := a.rows[i].toTokens(s, elsewhere); err != nil {
				return err
			}
		}
	}
	return nil
}

// lookUps calls ask with the submission's tokens whose route may be another than the usual one, which it is called
// with.
func lookUps(s *push.Submission, ask func(usual push.Route, tokens []push.Token)) {
	if len(s.RoutePlatforms) == 0 {
		ask(s.Routes[0], s.Tokens)
		return
	}
	of := map[string]int{} // how many routes each platform has
	for _, route := range s.Routes {
		of[s.PlatformOf(route)]++
	}
	tokens := map[string][]push.Token{}
	for _, t := range s.Tokens {
		// Tokens of a platform that has one route know no other; but the default one's routes may be configured or not.
		if name := t.PlatformName(); of[name] > 1 || name == push.DefaultPlatform {
			tokens[name] = append(tokens[name], t)
		}
	}
	for name, of := range tokens {
		if usual, has := s.UsualRoute(name); has {
			ask(usual, of)
		}
	}
}
