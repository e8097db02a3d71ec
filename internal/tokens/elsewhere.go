package tokens

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/lhspn/lhspn/internal/push"
)

// Elsewhere says which of the tokens are registered for another route than the given one, and for which.
func (s *Store) Elsewhere(
	ctx context.Context, db sqlx.QueryerContext, app string, tokens []push.Token, route push.Route,
) (map[push.Token]push.Route, error) {
	defer s.metrics.time("elsewhere", time.Now())
	if route == push.Production {
		if any, err := s.sandbox.has(ctx, db, app); err != nil || !any {
			return nil, err
		}
	}
	var found map[push.Token]push.Route
	var r row
	for run := range slices.Chunk(tokens, maxRows) {
		err := newStatement("SELECT token, environment FROM device_tokens WHERE").add(" app = ? AND token IN", app).
			list(len(run), func(i int) any { return []byte(run[i]) }).add(" AND environment <> ?", string(route)).
			query(ctx, db, []any{&r.token, &r.environment}, func() error {
				if found == nil {
					found = map[push.Token]push.Route{}
				}
				found[push.Token(r.token)] = environment(r.environment)
				return nil
			})
		if err != nil {
			return nil, fmt.Errorf("look up routes: %w", err)
		}
	}
	return found, nil
}

// LastUpdated says when each of the tokens that are registered was last.
func (s *Store) LastUpdated(
	ctx context.Context, db sqlx.QueryerContext, app string, tokens []push.Token,
) (map[push.Token]time.Time, error) {
	found := map[push.Token]time.Time{}
	var r row
	for run := range slices.Chunk(tokens, maxRows) {
		err := newStatement("SELECT token, last_updated FROM device_tokens WHERE").add(" app = ? AND token IN", app).
			list(len(run), func(i int) any { return []byte(run[i]) }).
			query(ctx, db, []any{&r.token, &r.lastUpdated}, func() error {
				found[push.Token(r.token)] = r.lastUpdated.Time
				return nil
			})
		if err != nil {
			return nil, fmt.Errorf("look up registrations: %w", err)
		}
	}
	return found, nil
}

// sandboxApps remembers which apps have sandbox tokens at all. Many have none, and need no look-up for each
// notification.
type sandboxApps struct {
	mu     sync.Mutex // guards what follows
	apps   map[string]sandboxApp
	change int // counts what forget was called for: what was read before is not remembered after
}

type sandboxApp struct {
	any   bool
	until time.Time // when to look again
}

// How long it is remembered that an app has sandbox tokens, and that it has none: the latter is how much later another
// replica may notice the first one.
const (
	rememberSome = 10 * time.Second
	rememberNone = 250 * time.Millisecond
)

func (a *sandboxApps) has(ctx context.Context, db sqlx.QueryerContext, app string) (bool, error) {
	now := time.Now()
	a.mu.Lock()
	known, change := a.apps[app], a.change
	a.mu.Unlock()
	if now.Before(known.until) {
		return known.any, nil
	}
	var n int
	some := false
	err := newStatement("SELECT 1 FROM device_token_index WHERE").add(" app = ? AND kind = ? LIMIT 1", app,
		kindEnvironment).
		query(ctx, db, []any{&n}, func() error { some = true; return nil })
	if err != nil {
		return false, fmt.Errorf("look for sandbox tokens: %w", err)
	}
	known = sandboxApp{some, now.Add(rememberNone)}
	if some {
		known.until = now.Add(rememberSome)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.change != change {
		return some, nil
	}
	if a.apps == nil {
		a.apps = map[string]sandboxApp{}
	}
	a.apps[app] = known
	return some, nil
}

// forget has the next one look again: this replica has registered a sandbox token of the app.
func (a *sandboxApps) forget(app string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.change++
	delete(a.apps, app)
}
