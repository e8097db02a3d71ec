package queue

import (
	"context"
	"slices"
	"sync"

	"github.com/jmoiron/sqlx"

	"github.com/lhspn/lhspn/internal/push"
)

// waves is what is in the table of that name of this replica's: one replica removes an app's tokens, and another one
// may be told that all of them are dead.
type waves struct {
	mu     sync.Mutex
	shared map[string]bool // guarded by mu: apps that have some in the table
}

// SetWaves says over which of the app's routes so many tokens are called dead or bad, by the answers to this replica's
// sends, that it cannot be true. What is accepted in a wave of unregistered ones then stays, and other replicas learn
// of it. With an error they do not yet: call it again.
func (q *Queue) SetWaves(ctx context.Context, app string, now []push.Wave) error {
	q.doubts.setWave(app, slices.ContainsFunc(now, func(w push.Wave) bool { return !w.Bad }))
	q.waves.mu.Lock()
	defer q.waves.mu.Unlock()
	if len(now) == 0 && !q.waves.shared[app] {
		return nil
	}
	// Also where nothing is new: others take the waves away of a replica that they have lost sight of.
	err := q.tx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		if _, err := tx.ExecContext(ctx, "DELETE FROM waves WHERE app = ? AND replica = ?", app, q.id); err != nil {
			return err
		}
		for _, w := range now {
			if _, err := tx.ExecContext(ctx, "INSERT INTO waves (app, route, bad, replica) VALUES (?, ?, ?, ?)", app,
				string(w.Route), w.Bad, q.id); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return wrap(err, "share waves")
	}
	if q.waves.shared[app] = true; len(now) == 0 {
		delete(q.waves.shared, app)
	}
	return nil
}

// OthersWaves are those of the other replicas that live, and alone says that there is none. What a replica that is no
// more has left is removed.
func (q *Queue) OthersWaves(ctx context.Context, app string) (others []push.Wave, alone bool, err error) {
	replicas, _, err := q.Replicas(ctx)
	if err != nil {
		return nil, false, wrap(err, "look for replicas")
	}
	live := map[string]bool{}
	for _, r := range replicas {
		if !r.Self {
			live[r.ID] = true
		}
	}
	var rows []struct {
		push.Wave
		Replica string
	}
	if err := q.db.Reader().SelectContext(ctx, &rows,
		"SELECT route, bad, replica FROM waves WHERE app = ? AND replica <> ? ORDER BY route, bad", app, q.id); err != nil {
		return nil, false, wrap(err, "read others' waves")
	}
	for _, r := range rows {
		if live[r.Replica] {
			others = append(others, r.Wave)
			continue
		}
		if err := q.tx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
			_, err := tx.ExecContext(ctx, "DELETE FROM waves WHERE app = ? AND replica = ?", app, r.Replica)
			return err
		}); err != nil {
			return nil, false, wrap(err, "remove the waves of a replica that is no more")
		}
	}
	return others, len(live) == 0, nil
}
