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
		a.replay = &Replay{a.first.Answer}
	case inserted, replayed:
	}
	return nil
}

// insertGroup commits the group, and knows in the end whether it did.
func (q *Queue) insertGroup(ctx context.Context, group []*acceptance) error {
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
	for _, a := range group {
		if a.verdict != inserted {
			continue
		}
		q.metrics.notifications.Add(float64(len(a.rows)))
		q.metrics.recipients.Add(float64(a.recipients))
		if ours && q.cfg.Handoff != nil {
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

func (q *Queue) insertAll(ctx context.Context, tx *sqlx.Tx, group []*acceptance, shard uint8,
	counts *quota.Changes) error {
	if err := q.recognise(ctx, tx, group, counts); err != nil {
		return err
	}
	keys := database.NewInsert("idempotency_keys", "app, idempotency_key, request_hash, answer, created_at", "")
	notifications := database.NewInsert("notifications", notificationColumns, "")
	platforms, sets, receipts := newPlatformInsert(), newSetInsert(), newCountInsert("")
	batches := database.NewInsert("batches", batchColumns, "")
	entries := q.newEntries()
	now := stamp(q.now())
	news := q.cfg.Events.Write(q.now())
	for _, a := range group {
		if a.verdict != inserted {
			continue
		}
		for kind, n := range a.counts {
			counts.Add(a.App, quota.Kind(kind), n)
		}
		if a.IdempotencyKey != "" {
			if err := keys.Add(ctx, tx, a.App, []byte(a.IdempotencyKey), a.Hash[:], bytesOf(a.Answer), now); err != nil {
				return fmt.Errorf("insert idempotency keys: %w", err)
			}
		}
		for i := range a.rows {
			row := &a.rows[i]
			created := stamp(row.CreatedAt)
			sendAt := created
			if !row.SendAt.Equal(row.CreatedAt) {
				sendAt = stamp(row.SendAt)
			}
			state, finished := stateQueued, any(database.Never)
			if len(row.batches) == 0 { // an audience without members
				state, finished = stateDone, created
				news.Finish(nil, row.App, row.ID)
			}
			waiting, recipient := notHere, []byte{}
			if row.single() {
				waiting, recipient = waitingAs(row.batches[0].Kind), row.bodies[0]
			}
			if err := notifications.Add(ctx, tx, row.App, row.ID[:], []byte(row.Name), state, row.Platform,
				string(row.Environment), string(row.Type), string(row.Kind), []byte(row.Key), row.Priority,
				stamp(row.Expiration), []byte(row.CollapseID), orNull(row.serviceID()), row.BadgeIncrement, row.Rate,
				bytesOf(row.Payload.JSON), row.Payload.BadgeAt, row.Payload.TicketAt, orNull(row.contents),
				orNull(row.audience), orNull(row.Trace.Bytes()), shard, waiting, recipient, row.expanded, row.n, created,
				sendAt, finished); err != nil {
				return fmt.Errorf("insert notifications: %w", err)
			}
			if err := row.addPlatforms(ctx, tx, platforms); err != nil {
				return err
			}
			if err := row.addSet(ctx, tx, sets); err != nil {
				return err
			}
			if row.wantsReceipts() {
				if err := receipts.Add(ctx, tx, row.ID[:], row.App, 0, 0); err != nil {
					return fmt.Errorf("insert counts of receipts: %w", err)
				}
			}
			for j, b := range row.batches {
				b.Shard = shard
				if row.single() {
					entries.add(b)
					continue
				}
				if err := addBatch(ctx, tx, batches, b, row.bodies[j]); err != nil {
					return err
				}
			}
		}
	}
	if err := keys.Flush(ctx, tx); err != nil {
		return fmt.Errorf("insert idempotency keys: %w", err)
	}
	if err := notifications.Flush(ctx, tx); err != nil {
		return fmt.Errorf("insert notifications: %w", err)
	}
	if err := platforms.Flush(ctx, tx); err != nil {
		return fmt.Errorf("insert platforms: %w", err)
	}
	if err := sets.Flush(ctx, tx); err != nil {
		return fmt.Errorf("insert recipient sets: %w", err)
	}
	if err := receipts.Flush(ctx, tx); err != nil {
		return fmt.Errorf("insert counts of receipts: %w", err)
	}
	if err := entries.insert(ctx, tx, batches); err != nil {
		return err
	}
	if err := batches.Flush(ctx, tx); err != nil {
		return fmt.Errorf("insert batches: %w", err)
	}
	if err := news.Flush(ctx, tx); err != nil {
		return err
	}
	return q.counters.Write(ctx, tx, counts)
}

// notificationColumns are those that an accepted notification is inserted with. A plain one to a device has something
// of its own in a few of them.
const notificationColumns = `app, id, name?, state?, platform?, environment?production, push_type?alert, kind?, topic,
	priority?10, expires_at?, collapse_id?, service_id?, badge_increment?, rate?, payload, badge_at?, ticket_at?,
	contents?, audience?, trace?, shard?, waiting?, recipient?, expanded?1, recipients?1, created_at, send_at,
	finished_at?`

// orNull is the column's value: nothing is NULL.
func orNull(b []byte) any {
	if b == nil {
		return nil
	}
	return b
}

// bytesOf makes sure that an empty column is not NULL.
func bytesOf(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// batchColumns are all of a batch's columns, in addBatch's order.
const batchColumns = "shard, lane, due_at, notification_id, seq, app, environment, kind, recipients, body"

func addBatch(ctx context.Context, tx *sqlx.Tx, in *database.Insert, b *Batch, body []byte) error {
	kind := b.Kind
	if b.ByPlatform {
		kind |= byPlatform
	}
	if b.Scheduled {
		kind |= scheduled
	}
	return wrap(in.Add(ctx, tx, b.Shard, b.Lane, b.DueAt, b.Notification[:], b.Seq, b.App, string(b.Route), kind,
		len(b.Recipients), body),
		"insert batches")
}
