package queue

import (
	"context"

	"github.com/lhspn/lhspn/internal/push"
)

func (q *Queue) routeAndInsert(ctx context.Context, group []*acceptance) error {
	if err := q.route(ctx, group); err != nil {
		return err
	}
	return q.insertGroup(ctx, group)
}

// route has each registered token of the group go the way that it is registered for. Most are registered for the route that
// they were given, and so one short look at the registry for the whole group finds nothing to do.
func (q *Queue) route(ctx context.Context, group []*acceptance) error {
	type way struct {
		app   string
		route push.Route
	}
	asked := map[way][]push.Token{}
	for _, a := range group {
		for i := range a.Submissions {
			if s := &a.Submissions[i]; s.ByToken {
				w := way{a.App, s.Routes[0]}
				asked[w] = append(asked[w], s.Tokens...)
			}
		}
	}
	for w, tokens := range asked {
		elsewhere, err := q.registry.Elsewhere(ctx, q.db.Reader(), w.app, tokens, w.route)
		if err != nil {
			return wrap(err, "look up the tokens' routes")
		}
		if len(elsewhere) == 0 {
			continue
		}
		for _, a := range group {
			for i := range a.Submissions {
				if s := &a.Submissions[i]; s.ByToken && a.App == w.app && s.Routes[0] == w.route {
					a.rows[i].redirect(s.Tokens, w.route, elsewhere)
				}
			}
		}
	}
	return nil
}

// redirect makes the row's batches anew where one of its tokens goes another way.
func (row *acceptedRow) redirect(tokens []push.Token, usual push.Route, elsewhere map[push.Token]push.Route) {
	byRoute := map[push.Route][]push.Recipient{}
	order := []push.Route{usual}
	for _, t := range tokens {
		route, other := elsewhere[t]
		if !other {
			route = usual
		} else if byRoute[route] == nil {
			order = append(order, route)
		}
		byRoute[route] = append(byRoute[route], push.Recipient{Token: t})
	}
	if len(byRoute[usual]) == len(tokens) {
		return
	}
	lane, kind := row.batches[0].Lane, row.batches[0].Kind
	row.batches, row.bodies = nil, nil
	for _, route := range order {
		row.divide(lane, kind, route, byRoute[route])
	}
}
