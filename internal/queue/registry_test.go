package queue

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/push"
)

// registry is a token store good enough for the queue's tests.
type registry struct {
	db *database.DB
	// elsewhere are the tokens that are registered for another route than the usual one.
	elsewhere map[push.Token]push.Route
	// refuses has the next look at them fail.
	refuses *atomic.Bool
}

func (registry) Accepted(context.Context, *sqlx.Tx, string, []push.Token) error { return nil }

// production is the one route of most tests.
var production = []push.Route{push.Production}

// routeOf is the route of a token: production, or that of its platform's name.
func routeOf(t push.Token) push.Route {
	if name := t.Platform(); name != "" {
		return push.Route(name)
	}
	return push.Production
}

// mixedTokens are of the three platforms in turn, in their order.
func mixedTokens(from, to int) (ts []push.Token) {
	for i := from; i < to; i++ {
		ts = append(ts, [...]push.Token{
			token(i), push.TextToken("fcm", fmt.Sprint("registration-", i)), push.TextToken("webpush", fmt.Sprint("endpoint-", i)),
		}[i%3])
	}
	slices.Sort(ts)
	return ts
}

func (g registry) put(tb testing.TB, at time.Time, ts ...push.Token) {
	tb.Helper()
	for chunk := range slices.Chunk(ts, 1000) {
		var args []any
		for _, token := range chunk {
			v, _ := database.Time{Time: at}.Value()
			args = append(args, app, []byte(token), "production", v, v)
		}
		err := g.db.Tx(tb.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
			_, err := tx.ExecContext(ctx, "INSERT INTO device_tokens (app, token, environment, last_updated, created_at) VALUES (?,?,?,?,?)"+
				strings.Repeat(",(?,?,?,?,?)", len(chunk)-1)+g.db.Dialect.Upsert("app, token", "last_updated"), args...)
			return err
		})
		if err != nil {
			tb.Fatal(err)
		}
	}
}

func (g registry) AudiencePage(
	ctx context.Context, tx *sqlx.Tx, app string, a push.Audience, after push.Token, limit int, increment uint32,
) ([]push.Recipient, []push.Route, push.Token, error) {
	if a.Tags != nil && after == "" { // a rare combination: the first page finds nothing, and is not the last
		return nil, nil, token(0), nil
	}
	rows, err := tx.QueryContext(ctx, "SELECT token, badge FROM device_tokens WHERE app = ? AND token > ? ORDER BY token LIMIT ?", app, []byte(after), limit)
	if err != nil {
		return nil, nil, "", err
	}
	defer rows.Close()
	var page []push.Recipient
	var routes []push.Route
	var next push.Token
	read := 0
	for rows.Next() {
		var token []byte
		var r push.Recipient
		if err := rows.Scan(&token, &r.Badge); err != nil {
			return nil, nil, "", err
		}
		r.Token = push.Token(token)
		if increment == 0 {
			r.Badge = 0
		}
		if read++; read == limit {
			next = r.Token
		}
		if name := r.Token.PlatformName(); a.Platforms == nil && name == push.DefaultPlatform || slices.Contains(a.Platforms, name) {
			page, routes = append(page, r), append(routes, routeOf(r.Token))
		}
	}
	if err := rows.Err(); err != nil || increment == 0 {
		return page, routes, next, err
	}
	_ = rows.Close() // the connection is needed
	return page, routes, next, g.AddBadges(ctx, tx, app, page, increment)
}

func (g registry) Elsewhere(context.Context, sqlx.QueryerContext, string, []push.Token, push.Route) (map[push.Token]push.Route, error) {
	if g.refuses != nil && g.refuses.Swap(false) {
		return nil, errors.New("refused")
	}
	return g.elsewhere, nil
}

func (g registry) LastUpdated(ctx context.Context, q sqlx.QueryerContext, app string, ts []push.Token) (map[push.Token]time.Time, error) {
	found := map[push.Token]time.Time{}
	for _, t := range ts {
		var at database.Time
		err := q.QueryRowxContext(ctx, "SELECT last_updated FROM device_tokens WHERE app = ? AND token = ?", app, []byte(t)).Scan(&at)
		if err == nil {
			found[t] = at.Time
		} else if !errors.Is(err, sql.ErrNoRows) {
			return nil, err
		}
	}
	return found, nil
}

func (g registry) AddBadges(ctx context.Context, tx *sqlx.Tx, app string, recipients []push.Recipient, n uint32) error {
	for i := range recipients {
		r := &recipients[i]
		if i > 0 && recipients[i-1].Token >= r.Token {
			return fmt.Errorf("recipients are not in order")
		}
		res, err := tx.ExecContext(ctx, "UPDATE device_tokens SET badge = badge + ? WHERE app = ? AND token = ?", n, app, []byte(r.Token))
		if err != nil {
			return err
		}
		r.Badge = n
		if found, _ := res.RowsAffected(); found == 1 {
			if err := tx.GetContext(ctx, &r.Badge, "SELECT badge FROM device_tokens WHERE app = ? AND token = ?", app, []byte(r.Token)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (g registry) RemoveUnchanged(ctx context.Context, tx *sqlx.Tx, invalidations []push.Invalidation) ([]bool, error) {
	removed := make([]bool, len(invalidations))
	for i, inv := range invalidations {
		res, err := tx.ExecContext(ctx, "DELETE FROM device_tokens WHERE app = ? AND token = ? AND last_updated <= ?", inv.App, []byte(inv.Token), database.Time{Time: inv.At})
		if err != nil {
			return nil, err
		}
		n, _ := res.RowsAffected()
		removed[i] = n > 0
	}
	return removed, nil
}

func (g registry) Member(ctx context.Context, q sqlx.QueryerContext, app string, a push.Audience, t push.Token) (*push.AudienceMember, error) {
	var since database.Time
	err := q.QueryRowxContext(ctx, "SELECT created_at FROM device_tokens WHERE app = ? AND token = ?", app, []byte(t)).Scan(&since)
	if errors.Is(err, sql.ErrNoRows) || a.Platforms != nil && !slices.Contains(a.Platforms, t.PlatformName()) {
		return nil, nil
	}
	return &push.AudienceMember{Route: routeOf(t), Since: since.Time}, err
}
