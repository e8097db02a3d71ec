package queue

import (
	"bytes"
	"context"
	"fmt"

	"github.com/jmoiron/sqlx"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/quota"
)

// Replayed is what Accept would answer to a repetition, and nil where the request is none; it accepts nothing. It is
// for requests that can no longer be accepted (the times that they name have passed), whose repetitions still must be
// answered as they were the first time. push.ErrConflict: the key was used for another request.
func (q *Queue) Replayed(ctx context.Context, r *push.Request) ([]byte, error) {
	stored, err := selectKeys(ctx, q.db.Reader(), r.App, []any{[]byte(r.IdempotencyKey)})
	if err != nil {
		return nil, wrap(err, "look up the idempotency key")
	}
	s, known := stored[r.IdempotencyKey]
	switch {
	case !known || s.created.Before(q.now().Add(-keyLifetime)):
		return nil, nil
	case !bytes.Equal(s.hash, r.Hash[:]):
		return nil, fmt.Errorf("%w: the idempotency key was used for another request", push.ErrConflict)
	}
	q.metrics.replays.Inc()
	return bytesOf(s.answer), nil
}

// recognise decides what each request of the group is, from the keys that are known.
func (q *Queue) recognise(ctx context.Context, tx *sqlx.Tx, group []*acceptance, counts *quota.Changes) error {
	type name struct{ app, key string }
	first := map[name]*acceptance{}
	byApp := map[string][]any{}
	for _, a := range group {
		a.verdict, a.replay, a.first = inserted, nil, nil
		if a.IdempotencyKey == "" {
			continue
		}
		k := name{a.App, a.IdempotencyKey}
		if earlier := first[k]; earlier != nil {
			a.first = earlier
			continue
		}
		first[k] = a
		byApp[a.App] = append(byApp[a.App], []byte(a.IdempotencyKey))
	}
	if len(first) == 0 {
		return nil
	}
	oldest := q.now().Add(-keyLifetime)
	for app, keys := range runs(byApp, maxKeys) {
		stored, err := selectKeys(ctx, tx, app, keys)
		if err != nil {
			return fmt.Errorf("look up idempotency keys: %w", err)
		}
		for key, s := range stored {
			a := first[name{app, key}]
			switch {
			case a == nil: // an engine that compares keys more loosely than we do
			case s.created.Before(oldest):
				// Only the old one: another committer may have replaced it since it was read.
				n, err := affected(ctx, tx, "DELETE FROM idempotency_keys WHERE app = ? AND idempotency_key = ? AND "+
					"created_at < ?",
					app, []byte(key), stamp(oldest))
				if err != nil {
					return fmt.Errorf("remove an old idempotency key: %w", err)
				}
				counts.Add(app, quota.Keys, -n)
			case bytes.Equal(s.hash, a.Hash[:]):
				a.verdict, a.replay = replayed, bytesOf(s.answer)
			default:
				a.verdict = refused
			}
		}
	}
	for _, a := range group {
		if a.first == nil {
			continue
		}
		same := a.Hash == a.first.Hash
		switch {
		case a.first.verdict == inserted && same:
			a.verdict = repeated
		case a.first.verdict == replayed && same:
			a.verdict, a.replay = replayed, a.first.replay
		case a.first.verdict == refused: // by its own hash this one may be the stored one
			a.verdict, a.first = inserted, nil
			if err := q.recognise(ctx, tx, []*acceptance{a}, counts); err != nil {
				return err
			}
		default:
			a.verdict = refused
		}
	}
	return nil
}

type storedKey struct {
	hash, answer []byte
	created      database.Time
}

func selectKeys(ctx context.Context, db sqlx.QueryerContext, app string, keys []any) (map[string]storedKey, error) {
	rows, err := db.QueryContext(ctx, `SELECT idempotency_key, request_hash, answer, created_at FROM idempotency_keys
		WHERE app = ? AND idempotency_key IN `+list(len(keys)), append([]any{app}, keys...)...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	stored := map[string]storedKey{}
	for rows.Next() {
		var key []byte
		var s storedKey
		if err := rows.Scan(&key, &s.hash, &s.answer, &s.created); err != nil {
			return nil, err
		}
		stored[string(key)] = s
	}
	return stored, rows.Err()
}
