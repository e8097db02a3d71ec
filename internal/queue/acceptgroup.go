package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/quota"
)

// acceptAttempts bounds how often a group is begun again after a duplicate key or an unknown commit.
const acceptAttempts = 8

// commitGroup commits a group of requests. What is wrong with one of them must not fail the others.
func (q *Queue) commitGroup(ctx context.Context, group []*acceptance) []error {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	start := time.Now()
	err := q.routeAndInsert(ctx, group)
	q.metrics.groups.WithLabelValues("accept").Observe(float64(len(group)))
	q.metrics.seconds.WithLabelValues("accept").Observe(time.Since(start).Seconds())
	errs := make([]error, len(group))
	switch {
	case err == nil:
		for i, a := range group {
			errs[i] = a.settle()
		}
	case len(group) == 1 || errors.Is(err, push.ErrUnavailable) || ctx.Err() != nil:
		for i := range errs {
			errs[i] = err
		}
	default: // one of them is to blame: each goes alone
		for i, a := range group {
			if errs[i] = q.routeAndInsert(ctx, []*acceptance{a}); errs[i] == nil {
				errs[i] = a.settle()
			}
		}
	}
	return errs
}

// settle turns the verdict into the answer, after the commit.
func (a *acceptance) settle() error {
	switch a.verdict {
	case refused:
		return fmt.Errorf("%w: the idempotency key was used for another request", push.ErrConflict)
	case repeated:
		a.replay = bytesOf(a.first.Answer)
	case inserted, replayed:
	}
	return nil
}

// HandoffWithin is how long ago a transaction may have been begun whose batches are taken up by its answer. A reader
// may have found what was committed longer ago, and all of it may be sent, settled and forgotten.
const HandoffWithin = time.Second

// insertGroup commits the group, and knows in the end whether it did.
func (q *Queue) insertGroup(ctx context.Context, group []*acceptance) error {
	begin := time.Now()
	shard, ours := q.pick()
	var counts quota.Changes
	unknown := false // an earlier attempt's commit may have happened, or may be happening still
	var err error
	for range acceptAttempts {
		if unknown {
			done, lookErr := q.committed(ctx, group)
			if lookErr != nil {
				return errors.Join(lookErr, err)
			}
			if done {
				err = nil
				break
			}
		}
		err = q.tx(database.Together(ctx), func(ctx context.Context, tx *sqlx.Tx) error {
			counts = quota.Changes{}
			return q.insertAll(ctx, tx, group, shard, &counts)
		})
		if errors.Is(err, database.ErrCommitUnknown) {
			q.metrics.unknown.Inc()
			unknown = true
		} else if !database.IsDuplicate(err) {
			break
		}
		// A duplicate is a key that another committer or replica has just inserted, which the next attempt sees; or our
		// own rows, where the lost commit came through late. Of those the keys are then found as replays of our own
		// answers.
	}
	if err != nil {
		return err
	}
	q.counters.Committed(&counts)
	handsOff := ours && q.cfg.Handoff != nil && !unknown && time.Since(begin) < HandoffWithin
	for _, a := range group {
		if a.verdict != inserted {
			continue
		}
		q.metrics.notifications.Add(float64(len(a.rows)))
		q.metrics.recipients.Add(float64(a.recipients))
		if handsOff {
			now := q.now().UnixMicro()
			for i := range a.rows {
				if row := &a.rows[i]; len(row.batches) > 0 && row.batches[0].DueAt <= now {
					q.entries.learn(row.batches[0])
					q.cfg.Handoff(row.Notification, row.batches)
				}
			}
		}
	}
	return nil
}

// committed reports whether the last attempt's transaction came through: whether any one of its rows is there.
func (q *Queue) committed(ctx context.Context, group []*acceptance) (bool, error) {
	for _, a := range group {
		if a.verdict != inserted || len(a.rows) == 0 {
			continue
		}
		var n int
		err := q.db.Reader().QueryRowContext(ctx, "SELECT COUNT(*) FROM notifications WHERE app = ? AND id = ?",
			a.App, a.rows[0].ID[:]).Scan(&n)
		return n > 0, wrap(err, "look for what was committed")
	}
	return true, nil // nothing was inserted; what was found cannot have changed by a commit of ours
}

func (q *Queue) routeAndInsert(ctx context.Context, group []*acceptance) error {
	if err := q.route(ctx, group); err != nil {
		return err
	}
	return q.insertGroup(ctx, group)
}
