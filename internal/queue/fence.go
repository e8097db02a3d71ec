package queue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jmoiron/sqlx"

	"github.com/lhspn/lhspn/internal/database"
)

// ErrFenced says that the shard belongs to another replica by now; what was to be settled is that replica's to send.
var ErrFenced = errors.New("shard lease lost")

// FencedError names the leases that were lost. All that was settled or expanded under other leases in the same call is
// done.
type FencedError struct {
	Leases []Lease
}

// fencedTx runs fn in a transaction that has written to the leases' rows, which thereby are locked and known to be
// ours. Leases that turn out to be lost are missing in held, and returned.
func (q *Queue) fencedTx(
	ctx context.Context, leases leaseSet, fn func(ctx context.Context, tx *sqlx.Tx, held map[Lease]bool) error,
) ([]Lease, error) {
	return q.lateFencedTx(ctx, leases, func(context.Context, *sqlx.Tx) error { return nil }, fn)
}

// errNoneHeld rolls back what was done before the fence.
var errNoneHeld = errors.New("no lease holds")

// lateFencedTx is fencedTx with work before the fence, so that the leases' other transactions do not wait for it. Where
// no lease holds it is rolled back.
func (q *Queue) lateFencedTx(
	ctx context.Context, leases leaseSet, before func(ctx context.Context, tx *sqlx.Tx) error,
	fn func(ctx context.Context, tx *sqlx.Tx, held map[Lease]bool) error,
) ([]Lease, error) {
	var lost []Lease
	err := q.tx(database.Together(ctx), func(ctx context.Context, tx *sqlx.Tx) error {
		lost = lost[:0]
		if err := before(ctx, tx); err != nil {
			return err
		}
		held, err := q.fence(ctx, tx, leases)
		if err != nil {
			return err
		}
		for l := range leases {
			if !held[l] {
				lost = append(lost, l)
			}
		}
		if len(held) == 0 {
			return errNoneHeld
		}
		return fn(ctx, tx, held)
	})
	if errors.Is(err, database.ErrCommitUnknown) {
		q.metrics.unknown.Inc()
	}
	if err != nil && !errors.Is(err, errNoneHeld) {
		return nil, err
	}
	if len(lost) > 0 {
		q.lost(lost)
		q.metrics.fenced.Inc()
	}
	return lost, nil
}

// leaseSet is the leases of a transaction.
type leaseSet map[Lease]struct{}

// fence says which leases hold. That it changes the rows, and does not just lock them, makes it a fence on engines
// whose nodes do not see each other's locks too.
func (q *Queue) fence(ctx context.Context, tx *sqlx.Tx, wanted leaseSet) (map[Lease]bool, error) {
	leases := slices.SortedFunc(maps.Keys(wanted), func(a, b Lease) int {
		return cmp.Or(cmp.Compare(a.Shard, b.Shard), cmp.Compare(a.Epoch, b.Epoch))
	})
	var shardArgs, epochArgs []any
	for _, l := range leases {
		shardArgs = append(shardArgs, l.Shard)
		epochArgs = append(epochArgs, l.Shard, l.Epoch)
	}
	const one = "(shard = ? AND epoch = ?)"
	where := " WHERE owner = ? AND shard IN " + list(len(leases)) +
		" AND (" + one + strings.Repeat(" OR "+one, len(leases)-1) + ")"
	args := slices.Concat([]any{q.id}, shardArgs, epochArgs)
	n, err := affected(ctx, tx, "UPDATE shards SET writes = writes + 1"+where, args...)
	if err != nil {
		return nil, fmt.Errorf("fence: %w", err)
	}
	held := make(map[Lease]bool, len(leases))
	if int(n) == len(leases) {
		for _, l := range leases {
			held[l] = true
		}
		return held, nil
	}
	var ours []Lease
	if err := tx.SelectContext(ctx, &ours, "SELECT shard, epoch FROM shards"+where, args...); err != nil {
		return nil, fmt.Errorf("fence: %w", err)
	}
	for _, l := range ours {
		held[l] = true
	}
	return held, nil
}

func (e *FencedError) Error() string {
	return fmt.Sprintf("%v: %d shards", ErrFenced, len(e.Leases))
}

// Unwrap makes it an ErrFenced.
func (e *FencedError) Unwrap() error { return ErrFenced }
