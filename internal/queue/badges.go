package queue

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/push"
)

// CountBadges counts the stored badges of Badges batches up, each exactly once, and returns the batches as Ready ones
// with the sums. Batches that are not there any more are left out. Repeating it after any error is harmless. Batches
// under a lease that was lost are left out and the lease is named in a FencedError; the others are counted.
func (q *Queue) CountBadges(ctx context.Context, held []Leased) ([]*Batch, error) {
	if len(held) == 0 {
		return nil, nil
	}
	start := time.Now()
	leases := leaseSet{}
	for _, h := range held {
		leases[h.Lease] = struct{}{}
	}
	var ready []*Batch
	lost, err := q.fencedTx(ctx, leases, func(ctx context.Context, tx *sqlx.Tx, holds map[Lease]bool) error {
		var batches []*Batch
		for _, h := range held {
			if holds[h.Lease] {
				batches = append(batches, h.Batch)
			}
		}
		var err error
		ready, err = q.countBadges(ctx, tx, batches)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("count badges up: %w", err)
	}
	q.metrics.groups.WithLabelValues("badges").Observe(float64(len(held)))
	q.metrics.seconds.WithLabelValues("badges").Observe(time.Since(start).Seconds())
	if len(lost) > 0 {
		return ready, &FencedError{lost}
	}
	return ready, nil
}

func (q *Queue) countBadges(ctx context.Context, tx *sqlx.Tx, batches []*Batch) ([]*Batch, error) {
	// What each row is now: still to be counted, or counted already by a commit whose answer was lost.
	now, err := q.lockSingles(ctx, tx, batches)
	if err != nil {
		return nil, fmt.Errorf("find the batches: %w", err)
	}
	ids := map[string][]uuid.UUID{}
	for chunk := range slices.Chunk(batches, maxKeys) {
		var wanted []uuid.UUID
		for _, b := range chunk {
			wanted = append(wanted, b.Notification)
			ids[b.App] = append(ids[b.App], b.Notification)
		}
		rows, err := q.lockBatches(ctx, tx, wanted)
		if err != nil {
			return nil, fmt.Errorf("find the batches: %w", err)
		}
		for _, b := range rows {
			now[b.Key] = b
		}
	}
	increments, err := badgeIncrements(ctx, tx, ids)
	if err != nil {
		return nil, fmt.Errorf("read the increments: %w", err)
	}
	var ready, counted []*Batch
	for _, b := range batches {
		row := now[b.Key]
		if row == nil || row.Kind == Unreadable {
			continue
		}
		row.place = b.place
		delete(now, b.Key)
		ready = append(ready, row)
		if row.Kind == Badges {
			row.Kind = Ready
			counted = append(counted, row)
		}
	}
	if err := q.addBadges(ctx, tx, counted, increments); err != nil {
		return nil, err
	}
	out := database.NewInsert("batches", batchColumns, q.db.Dialect.Upsert("shard, lane, due_at, notification_id, seq",
		"kind", "body"))
	var singles []*Batch
	for _, b := range counted {
		if b.single {
			singles = append(singles, b)
		} else if err := addBatch(ctx, tx, out, b, b.body()); err != nil {
			return nil, err
		}
	}
	if err := rewriteSingles(ctx, tx, singles); err != nil {
		return nil, err
	}
	return ready, wrap(out.Flush(ctx, tx), "rewrite the batches")
}

func badgeIncrements(ctx context.Context, tx *sqlx.Tx, ids map[string][]uuid.UUID) (map[uuid.UUID]uint32, error) {
	increments := map[uuid.UUID]uint32{}
	for app, chunk := range runs(ids, maxKeys) {
		if err := readIncrements(ctx, tx, app, chunk, increments); err != nil {
			return nil, err
		}
	}
	return increments, nil
}

func readIncrements(ctx context.Context, tx *sqlx.Tx, app string, ids []uuid.UUID, into map[uuid.UUID]uint32) error {
	var rows []struct {
		ID        uuid.UUID
		Increment uint32 `db:"badge_increment"`
	}
	err := tx.SelectContext(ctx, &rows,
		"SELECT id, badge_increment FROM notifications WHERE app = ? AND id IN "+list(len(ids)),
		append([]any{app}, idArgs(ids)...)...)
	for _, r := range rows {
		into[r.ID] = r.Increment
	}
	return err
}

// addBadges counts up for many batches with few calls of the registry: one for each app and increment, but for tokens
// that come in several batches, each of which must see its own sum.
func (q *Queue) addBadges(ctx context.Context, tx *sqlx.Tx, batches []*Batch, increments map[uuid.UUID]uint32) error {
	type group struct {
		app       string
		increment uint32
		round     int // how many earlier batches of the same app have the token
	}
	type name struct {
		app   string
		token push.Token
	}
	seen := map[name]int{}
	groups := map[group][]*push.Recipient{}
	var order []group
	for _, b := range batches {
		for i := range b.Recipients {
			r := &b.Recipients[i]
			k := name{b.App, r.Token}
			g := group{b.App, increments[b.Notification], seen[k]}
			seen[k]++
			if groups[g] == nil {
				order = append(order, g)
			}
			groups[g] = append(groups[g], r)
		}
	}
	// The rounds in turn, and always in the same order: transactions that count the same tokens meet without a
	// deadlock.
	slices.SortFunc(order, func(a, b group) int {
		return cmp.Or(cmp.Compare(a.app, b.app), cmp.Compare(a.round, b.round), cmp.Compare(a.increment, b.increment))
	})
	for _, g := range order {
		targets := groups[g]
		slices.SortFunc(targets, func(a, b *push.Recipient) int { return cmp.Compare(a.Token, b.Token) })
		recipients := make([]push.Recipient, len(targets))
		for i, r := range targets {
			recipients[i] = *r
		}
		if err := q.registry.AddBadges(ctx, tx, g.app, recipients, g.increment); err != nil {
			return fmt.Errorf("add badges: %w", err)
		}
		for i, r := range targets {
			r.Badge = recipients[i].Badge
		}
	}
	return nil
}
