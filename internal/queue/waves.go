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
	// Before it is known: what was committed may be there although its answer was lost.
	q.waves.shared[app] = true
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
	if len(now) == 0 {
		delete(q.waves.shared, app)
	}
	return nil
}

// OthersWaves are those of the other replicas, and alone says that none of them lives. What a replica that is no more
// has left is a wave that is over: ForgetWaves removes it, once that is seen to.
func (q *Queue) OthersWaves(ctx context.Context, app string) (others []push.OtherWave, alone bool, err error) {
	var rows []push.OtherWave
	if err := q.db.Reader().SelectContext(ctx, &rows,
		"SELECT route, bad, replica FROM waves WHERE app = ? AND replica <> ? ORDER BY route, bad", app, q.id); err != nil {
		return nil, false, wrap(err, "read others' waves")
	}
	replicas, _, err := q.Replicas(ctx) // afterwards: one that has come meanwhile lives
	if err != nil {
		return nil, false, wrap(err, "look for replicas")
	}
	live := map[string]bool{}
	for _, r := range replicas {
		if !r.Self {
			live[r.ID] = true
		}
	}
	for i := range rows {
		rows[i].Gone = !live[rows[i].Replica]
	}
	return rows, len(live) == 0, nil
}

// ForgetWaves removes the waves that replicas have left which are no more.
func (q *Queue) ForgetWaves(ctx context.Context, app string, gone []push.OtherWave) error {
	if len(gone) == 0 {
		return nil
	}
	return wrap(q.tx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		for _, w := range gone {
			if _, err := tx.ExecContext(ctx, "DELETE FROM waves WHERE app = ? AND route = ? AND bad = ? AND replica = ?", app,
				string(w.Route), w.Bad, w.Replica); err != nil {
				return err
			}
		}
		return nil
	}), "remove the waves of replicas that are no more")
}
