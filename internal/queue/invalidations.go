package queue

import (
	"context"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/push"
)

// BadToken is a token that answers of "wrong token or wrong environment" have been counted against.
type BadToken struct {
	Token push.Token
	// Route and Kind are those of the notifications that were answered so.
	Route   push.Route
	Kind    push.Kind
	Answers int
	// FirstAt and LastAt are the times of the first and the last of them.
	FirstAt, LastAt time.Time
}

func (q *Queue) newInvalidations() *database.Insert {
	return database.NewInsert("invalidations", "app, token, invalidated_at, source, environment, kind",
		q.db.Dialect.Upsert("app, token, invalidated_at, source"))
}

// RecordInvalidations puts news of dead tokens into the inbox, durably. Repeating is harmless: what is there already
// stays as it is, but for what reopen finds.
func (q *Queue) RecordInvalidations(ctx context.Context, invalidations []push.Invalidation) error {
	if len(invalidations) == 0 {
		return nil
	}
	return wrap(q.tx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		in := q.newInvalidations()
		for i := range invalidations {
			inv := &invalidations[i]
			err := in.Add(ctx, tx, inv.App, []byte(inv.Token), stamp(inv.At), string(inv.Source), string(inv.Route),
				string(inv.Kind))
			if err != nil {
				return err
			}
		}
		if err := in.Flush(ctx, tx); err != nil {
			return err
		}
		return q.reopen(ctx, tx, invalidations)
	}), "record invalidations")
}

// CheckInvalidations decides on one page of the app's inbox: the tokens that were not registered again since are
// removed, and either outcome is kept, in one transaction. An empty page means that the inbox has nothing of these
// platforms.
func (q *Queue) CheckInvalidations(
	ctx context.Context, app string, of push.PlatformSet, limit int,
) ([]push.CheckedInvalidation, error) {
	condition, args := ofPlatforms(of)
	return q.decide(ctx, app, condition, args, limit, q.registry.RemoveUnchanged)
}

// KeepUnregistered decides on one page of what single answers called unregistered that the tokens stay: so many were
// called so at once that it cannot be true. Those that are dead are called so again.
func (q *Queue) KeepUnregistered(
	ctx context.Context, app string, of push.PlatformSet, limit int,
) ([]push.CheckedInvalidation, error) {
	condition, args := ofPlatforms(of)
	keep := func(_ context.Context, _ *sqlx.Tx, invalidations []push.Invalidation) ([]bool, error) {
		return make([]bool, len(invalidations)), nil
	}
	return q.decide(ctx, app, " AND source = ?"+condition, append([]any{string(push.SourceUnregistered)}, args...),
		limit, keep)
}

// PendingUnregistered counts what is undecided of what single answers called unregistered, up to limit.
func (q *Queue) PendingUnregistered(
	ctx context.Context, app string, of push.PlatformSet, limit int,
) (n int, err error) {
	condition, args := ofPlatforms(of)
	err = q.db.Reader().QueryRowContext(ctx, `SELECT COUNT(*) FROM (SELECT 1 FROM invalidations
		WHERE app = ? AND checked_at IS NULL AND source = ?`+condition+" LIMIT ?) AS pending",
		append(append([]any{app, string(push.SourceUnregistered)}, args...), limit)...).Scan(&n)
	return n, wrap(err, "count the inbox")
}

// decide has remove decide on one page of the inbox, and keeps what it decided.
func (q *Queue) decide(
	ctx context.Context, app, condition string, args []any, limit int,
	remove func(ctx context.Context, tx *sqlx.Tx, invalidations []push.Invalidation) ([]bool, error),
) ([]push.CheckedInvalidation, error) {
	var page []push.CheckedInvalidation
	err := q.tx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		var err error
		page, err = q.decideIn(ctx, tx, app, condition, args, limit, remove)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("check invalidations: %w", err)
	}
	for i := range page {
		result := "kept"
		if page[i].Removed {
			result = "removed"
		}
		q.metrics.invalidations.WithLabelValues(result).Inc()
	}
	return page, nil
}

func (q *Queue) decideIn(
	ctx context.Context, tx *sqlx.Tx, app, condition string, args []any, limit int,
	remove func(ctx context.Context, tx *sqlx.Tx, invalidations []push.Invalidation) ([]bool, error),
) ([]push.CheckedInvalidation, error) {
	page, err := selectInvalidations(ctx, tx, app, "checked_at IS NULL"+condition+
		" ORDER BY token, invalidated_at, source LIMIT ?"+q.forUpdate(), append(args[:len(args):len(args)], limit)...)
	if err != nil || len(page) == 0 {
		return nil, wrap(err, "read the inbox")
	}
	invalidations := make([]push.Invalidation, len(page))
	for i := range page {
		invalidations[i] = page[i].Invalidation
	}
	removed, err := remove(ctx, tx, invalidations)
	if err != nil {
		return nil, fmt.Errorf("remove tokens: %w", err)
	}
	now := q.now().UTC().Truncate(time.Microsecond)
	out := database.NewInsert("invalidations",
		"app, token, environment, kind, invalidated_at, source, removed, checked_at",
		q.db.Dialect.Upsert("app, token, invalidated_at, source", "removed", "checked_at"))
	var bad []any
	for i := range page {
		c := &page[i]
		c.Removed, c.CheckedAt = removed[i], now
		err := out.Add(ctx, tx, app, []byte(c.Token), string(c.Route), string(c.Kind), stamp(c.At), string(c.Source),
			c.Removed, stamp(now))
		if err != nil {
			return nil, fmt.Errorf("keep the outcome: %w", err)
		}
		if c.Source == push.SourceBadToken {
			bad = append(bad, []byte(c.Token))
		}
	}
	if err := out.Flush(ctx, tx); err != nil {
		return nil, fmt.Errorf("keep the outcome: %w", err)
	}
	if len(bad) > 0 {
		// Removed, or registered again since the first of the counted answers: either way the counting starts anew.
		_, err = tx.ExecContext(ctx, "DELETE FROM bad_tokens WHERE app = ? AND token IN "+list(len(bad)),
			append([]any{app}, bad...)...)
	}
	return page, wrap(err, "forget counted answers")
}

// selectInvalidations reads those of the app's invalidations that where, which may go on with their order, selects.
func selectInvalidations(
	ctx context.Context, from sqlx.QueryerContext, app, where string, args ...any,
) ([]push.CheckedInvalidation, error) {
	var rows []struct {
		Token         push.Token
		Environment   push.Route
		Kind          push.Kind
		InvalidatedAt database.Time `db:"invalidated_at"`
		Source        push.Source
		Removed       bool
		CheckedAt     database.Time `db:"checked_at"`
	}
	err := sqlx.SelectContext(ctx, from, &rows, `SELECT token, environment, kind, invalidated_at, source, removed, checked_at
		FROM invalidations WHERE app = ? AND `+where, append([]any{app}, args...)...)
	if err != nil {
		return nil, err
	}
	page := make([]push.CheckedInvalidation, len(rows))
	for i, r := range rows {
		page[i] = push.CheckedInvalidation{
			Invalidation: push.Invalidation{App: app, Token: r.Token, At: r.InvalidatedAt.Time, Source: r.Source,
				Route: r.Environment, Kind: r.Kind},
			Removed: r.Removed, CheckedAt: r.CheckedAt.Time,
		}
	}
	return page, nil
}

// Invalidations pages through what was checked at or after since, oldest first. cursor is what the page before ended
// with, empty at first; the one returned is empty at the end. It fails with push.ErrNotFound on a cursor that is none
// of ours.
func (q *Queue) Invalidations(
	ctx context.Context, app string, since time.Time, cursor string, limit int,
) ([]push.CheckedInvalidation, string, error) {
	where := "checked_at >= ?"
	args := []any{stamp(since)}
	if since.IsZero() {
		args[0] = stamp(time.Unix(0, 0))
	}
	if cursor != "" {
		c, err := parseCursor(cursor)
		if err != nil {
			return nil, "", fmt.Errorf("list invalidations: %w", err)
		}
		checked, token, at := stamp(c.CheckedAt), []byte(c.Token), stamp(c.At)
		where += ` AND checked_at >= ? AND (checked_at > ? OR token > ?
			OR (token = ? AND (invalidated_at > ? OR (invalidated_at = ? AND source > ?))))`
		args = append(args, checked, checked, token, token, at, at, string(c.Source))
	}
	page, err := selectInvalidations(ctx, q.db.Reader(), app,
		where+" ORDER BY checked_at, token, invalidated_at, source LIMIT ?", append(args, limit+1)...)
	if err != nil || len(page) <= limit {
		return page, "", wrap(err, "list invalidations")
	}
	page = page[:limit]
	return page, formatCursor(&page[limit-1]), nil
}

func formatCursor(c *push.CheckedInvalidation) string {
	token := base64.RawURLEncoding.EncodeToString([]byte(c.Token))
	text := fmt.Appendf(nil, "%d %s %d %s", c.CheckedAt.UnixMicro(), token, c.At.UnixMicro(), c.Source)
	return base64.RawURLEncoding.EncodeToString(text)
}

func parseCursor(s string) (c push.CheckedInvalidation, err error) {
	raw, err := base64.RawURLEncoding.DecodeString(s)
	fields := strings.Fields(string(raw))
	if err == nil && len(fields) == 4 {
		var checked, at int64
		checked, err = strconv.ParseInt(fields[0], 10, 64)
		if err == nil {
			at, err = strconv.ParseInt(fields[2], 10, 64)
		}
		if err == nil {
			var token []byte // whatever was stored: a service may have told of a token that none could register
			token, err = base64.RawURLEncoding.DecodeString(fields[1])
			c.Token = push.Token(token)
		}
		c.CheckedAt, c.At, c.Source = time.UnixMicro(checked), time.UnixMicro(at), push.Source(fields[3])
	}
	storable := func(t time.Time) bool { return t.Unix() >= 0 && t.UTC().Year() <= 9999 }
	if err != nil || len(fields) != 4 || formatCursor(&c) != s || !storable(c.CheckedAt) || !storable(c.At) {
		return c, fmt.Errorf("%w: there is no such cursor", push.ErrNotFound)
	}
	return c, nil
}

// BadTokens lists tokens, up to limit, with at least so many answers of "wrong token or wrong environment" that are
// spread over at least so long a time.
//
// They are to be recorded as invalidations of source bad_token at FirstAt. A token that was registered after the first
// of its answers stays then, and its counting starts anew: answers from before a registration never remove what was
// registered.
func (q *Queue) BadTokens(
	ctx context.Context, app string, of push.PlatformSet, answers int, over time.Duration, limit int,
) ([]BadToken, error) {
	var bad []BadToken
	for after := (BadToken{}); ; {
		page, err := q.badTokenPage(ctx, app, of, answers, q.now().Add(-over), after)
		if err != nil {
			return nil, wrap(err, "list bad tokens")
		}
		for _, b := range page {
			if b.LastAt.Sub(b.FirstAt) < over {
				continue
			}
			if bad = append(bad, b); len(bad) == limit {
				return bad, nil
			}
		}
		if len(page) < maxKeys {
			return bad, nil
		}
		after = page[len(page)-1]
	}
}

func (q *Queue) badTokenPage(
	ctx context.Context, app string, of push.PlatformSet, answers int, first time.Time, after BadToken,
) ([]BadToken, error) {
	condition, args := ofPlatforms(of)
	args = append([]any{app, []byte(after.Token), []byte(after.Token), string(after.Route), string(after.Route),
		string(after.Kind), answers, stamp(first)}, args...)
	return q.selectBadTokens(ctx, `app = ? AND token >= ? AND (token > ? OR environment > ? OR environment = ? AND kind > ?)
		AND answers >= ? AND first_at <= ?`+condition+" ORDER BY token, environment, kind LIMIT ?", append(args, maxKeys)...)
}

func (q *Queue) selectBadTokens(ctx context.Context, where string, args ...any) ([]BadToken, error) {
	var rows []struct {
		Token       push.Token
		Environment push.Route
		Kind        push.Kind
		Answers     int
		FirstAt     database.Time `db:"first_at"`
		LastAt      database.Time `db:"last_at"`
	}
	err := q.db.Reader().SelectContext(ctx, &rows,
		"SELECT token, environment, kind, answers, first_at, last_at FROM bad_tokens WHERE "+where, args...)
	all := make([]BadToken, len(rows))
	for i, r := range rows {
		all[i] = BadToken{Token: r.Token, Route: r.Environment, Kind: r.Kind, Answers: r.Answers, FirstAt: r.FirstAt.Time,
			LastAt: r.LastAt.Time}
	}
	return all, err
}

// ForgetBadTokens starts the platforms' counting anew. A wave of such answers speaks against the configuration, not
// against the tokens: were it kept, the tokens would be removed once the wave is over.
func (q *Queue) ForgetBadTokens(ctx context.Context, app string, of push.PlatformSet) error {
	condition, args := ofPlatforms(of)
	args = append([]any{app}, args...)
	return wrap(q.inSteps(ctx, func(ctx context.Context, tx *sqlx.Tx) (int64, error) {
		return deletePage(ctx, tx, "bad_tokens", "app = ?"+condition, args, "token", maxKeys)
	}), "forget bad tokens")
}
