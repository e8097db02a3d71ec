package queue

import (
	"context"

	"github.com/jmoiron/sqlx"
)

// leaseTable is the leaseStore in the database. Every statement may be repeated without harm.
type leaseTable struct{ q *Queue }

func (t *leaseTable) beat(ctx context.Context, id string, first uint64) (known bool, err error) {
	err = t.q.tx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		n, err := affected(ctx, tx, "UPDATE replicas SET beat = beat + 1 WHERE id = ?", id)
		known = n == 1
		if err != nil || known {
			return err
		}
		_, err = tx.ExecContext(ctx, "INSERT INTO replicas (id, beat) VALUES (?, ?)"+t.q.db.Dialect.Upsert("id"), id, first)
		return err
	})
	return known, wrap(err, "beat")
}

func (t *leaseTable) look(ctx context.Context) (beats map[string]uint64, shards []shardRow, err error) {
	defer func() { err = wrap(err, "look at the shards") }()
	beats = map[string]uint64{}
	// Replicas first: a replica that is new among the shards but missed here would look dead, though for a lease only.
	var replicas []struct {
		ID   string
		Beat uint64
	}
	if err := t.q.db.Reader().SelectContext(ctx, &replicas, "SELECT id, beat FROM replicas"); err != nil {
		return nil, nil, err
	}
	for _, r := range replicas {
		beats[r.ID] = r.Beat
	}
	rows, err := t.q.db.Reader().QueryContext(ctx, "SELECT shard, owner, epoch FROM shards ORDER BY shard")
	if err != nil {
		return nil, nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var row shardRow
		if err := rows.Scan(&row.shard, &row.owner, &row.epoch); err != nil {
			return nil, nil, err
		}
		shards = append(shards, row)
	}
	return beats, shards, rows.Err()
}

func (t *leaseTable) bury(ctx context.Context, id string, beat uint64) error {
	return wrap(t.q.tx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		// The row's lock decides between this and the replica's own next beat. A beat of 0 means a missing row.
		n, err := affected(ctx, tx, "DELETE FROM replicas WHERE id = ? AND beat = ?", id, beat)
		if err != nil || (n == 0 && beat > 0) {
			return err
		}
		_, err = tx.ExecContext(ctx, "UPDATE shards SET owner = '', epoch = epoch + 1 WHERE owner = ?", id)
		return err
	}), "bury a replica")
}

func (t *leaseTable) buryAll(ctx context.Context) error {
	return wrap(t.q.tx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		if _, err := tx.ExecContext(ctx, "DELETE FROM replicas"); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, "UPDATE shards SET owner = '', epoch = epoch + 1 WHERE owner <> ''")
		return err
	}), "free the shards")
}

func (t *leaseTable) take(ctx context.Context, id string, shards []uint8) error {
	return t.hand(ctx, id, "", shards, "take shards")
}

func (t *leaseTable) release(ctx context.Context, id string, shards []uint8) error {
	return t.hand(ctx, "", id, shards, "release shards")
}

// hand moves those of the shards that are still from's to another owner.
func (t *leaseTable) hand(ctx context.Context, to, from string, shards []uint8, what string) error {
	args := []any{to, from}
	for _, s := range shards {
		args = append(args, s)
	}
	return wrap(t.q.tx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		_, err := tx.ExecContext(ctx, "UPDATE shards SET owner = ?, epoch = epoch + 1 "+
			"WHERE owner = ? AND shard IN "+list(len(shards)),
			args...)
		return err
	}), "%s", what)
}

func (t *leaseTable) leave(ctx context.Context, id string) error {
	return wrap(t.q.tx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		_, err := tx.ExecContext(ctx, "DELETE FROM replicas WHERE id = ?", id)
		return err
	}), "leave")
}
