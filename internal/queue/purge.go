package queue

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/quota"
)

// Purge removes what finished before: notifications with what there is of their recipients, and invalidations that were
// checked; and idempotency keys after their day. It takes small steps, up to about limit rows in all, and says how many
// it removed: 0 when nothing is left.
func (q *Queue) Purge(ctx context.Context, before time.Time, limit int) (int, error) {
	total := 0
	apps, err := q.distinctApps(ctx)
	if err != nil {
		return 0, wrap(err, "purge: list the apps")
	}
	for _, app := range apps {
		if total >= limit {
			break
		}
		n, err := q.purgeNotifications(ctx, app, before, limit-total)
		total += n
		if err != nil {
			return total, wrap(err, "purge notifications")
		}
	}
	for total < limit {
		n, err := q.purgeKeys(ctx, "created_at < ?", "created_at", stamp(q.now().Add(-keyLifetime)),
			min(maxKeys, limit-total))
		if err != nil {
			return total, wrap(err, "purge idempotency keys")
		}
		if n == 0 {
			break
		}
		total += n
	}
	for _, step := range [][3]string{{"invalidations", "checked_at", "checked_at"}, {"bad_tokens", "last_at", "token"}} {
		table, column, key := step[0], step[1], step[2]
		for _, app := range apps {
			for total < limit {
				var n int64
				err := q.tx(ctx, func(ctx context.Context, tx *sqlx.Tx) (err error) {
					n, err = deletePage(ctx, tx, table, "app = ? AND "+column+" < ?", []any{app, stamp(before)}, key,
						min(maxKeys, limit-total))
					return err
				})
				if err != nil {
					return total, wrap(err, "purge %s", table)
				}
				if n == 0 {
					break
				}
				total += int(n)
			}
		}
	}
	q.metrics.purged.Add(float64(total))
	return total, nil
}

// purgeKeys removes up to limit idempotency keys, the first in the given order, of those that where selects.
func (q *Queue) purgeKeys(
	ctx context.Context, where, order string, arg any, limit int,
) (removed int, err error) {
	var counts quota.Changes
	err = q.tx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		removed, counts = 0, quota.Changes{}
		var rows []struct {
			App string
			Key []byte `db:"idempotency_key"`
		}
		if err := tx.SelectContext(ctx, &rows, "SELECT app, idempotency_key FROM idempotency_keys WHERE "+where+
			" ORDER BY "+order+" LIMIT ?", arg, limit); err != nil {
			return err
		}
		byApp := map[string][]any{}
		for _, r := range rows {
			byApp[r.App] = append(byApp[r.App], r.Key)
		}
		for app, keys := range byApp {
			// The condition again: another may have taken the key's place since it was read.
			n, err := affected(ctx, tx, "DELETE FROM idempotency_keys WHERE app = ? AND "+where+" AND idempotency_key IN "+
				list(len(keys)), append([]any{app, arg}, keys...)...)
			if err != nil {
				return err
			}
			removed += int(n)
			counts.Add(app, quota.Keys, -n)
		}
		return q.counters.Write(ctx, tx, &counts)
	})
	if err == nil {
		q.counters.Committed(&counts)
	}
	return removed, err
}

// deletePage removes the first rows, in the order of key, of what where selects. Neither engine's own DELETE ... LIMIT
// is known to the other.
func deletePage(
	ctx context.Context, tx *sqlx.Tx, table, where string, args []any, key string, limit int,
) (int64, error) {
	var last any
	err := tx.QueryRowContext(ctx, "SELECT "+key+" FROM "+table+" WHERE "+where+" ORDER BY "+key+" LIMIT 1 OFFSET ?",
		append(args[:len(args):len(args)], limit-1)...).Scan(&last)
	switch {
	case errors.Is(err, sql.ErrNoRows): // fewer than that
		return affected(ctx, tx, "DELETE FROM "+table+" WHERE "+where, args...)
	case err != nil:
		return 0, err
	}
	return affected(ctx, tx, "DELETE FROM "+table+" WHERE "+where+" AND "+key+" <= ?",
		append(args[:len(args):len(args)], last)...)
}

// inSteps runs transactions until one finds nothing more to do.
func (q *Queue) inSteps(ctx context.Context, step func(ctx context.Context, tx *sqlx.Tx) (int64, error)) error {
	for {
		var n int64
		err := q.tx(ctx, func(ctx context.Context, tx *sqlx.Tx) (err error) {
			n, err = step(ctx, tx)
			return err
		})
		if err != nil || n == 0 {
			return err
		}
	}
}

// distinctApps jumps from app to app in the clustered key.
func (q *Queue) distinctApps(ctx context.Context) ([]string, error) {
	seen := map[string]bool{}
	var apps []string
	for _, table := range []string{"notifications", "invalidations", "bad_tokens"} {
		for last := ""; ; {
			var next sql.NullString
			if err := q.db.Reader().QueryRowContext(ctx, "SELECT MIN(app) FROM "+table+" WHERE app > ?",
				last).Scan(&next); err != nil {
				return nil, err
			}
			if !next.Valid {
				break
			}
			if last = next.String; !seen[last] {
				seen[last] = true
				apps = append(apps, last)
			}
		}
	}
	return apps, nil
}

// purgeNotifications removes finished notifications, up to about limit rows with their failures. Their ids are in the
// order of their creation, and what finished before was created before: so it reads them from the oldest on, and stops
// at the first created after.
func (q *Queue) purgeNotifications(
	ctx context.Context, app string, before time.Time, limit int,
) (total int, err error) {
	var end uuid.UUID
	putMillis(&end, before)
	var after uuid.UUID
	for total < limit {
		ids, last, err := q.finished(ctx, app, before, after, end)
		if err != nil || last == uuid.Nil {
			return total, err
		}
		after = last
		n, all, err := q.purgeAll(ctx, app, ids, limit-total)
		total += n
		if err != nil || !all {
			return total, err
		}
	}
	return total, nil
}

// purgeAll removes these finished notifications, up to about limit rows with their failures. all says that none of them
// is left.
func (q *Queue) purgeAll(
	ctx context.Context, app string, ids []uuid.UUID, limit int,
) (total int, all bool, err error) {
	total, withFailures, err := q.purgePlain(ctx, app, ids)
	if err != nil {
		return total, false, err
	}
	for _, id := range withFailures {
		if total >= limit {
			return total, false, nil
		}
		n, err := q.purgeOne(ctx, app, id, limit-total)
		total += n
		if err != nil {
			return total, false, err
		}
	}
	// The last one may have used up the limit before it was gone.
	return total, total < limit || len(withFailures) == 0, nil
}

// purgePage is how many notifications one statement of the purge looks at.
const purgePage = 500

// finished looks at a page of notifications, and returns those that finished before, and the last one looked at.
func (q *Queue) finished(
	ctx context.Context, app string, before time.Time, after, end uuid.UUID,
) (ids []uuid.UUID, last uuid.UUID, err error) {
	rows, err := q.db.Reader().QueryContext(ctx, `SELECT id, finished_at > ? AND finished_at < ? FROM notifications
		WHERE app = ? AND id > ? AND id < ? ORDER BY id LIMIT ?`,
		database.Never, stamp(before), app, after[:], end[:], purgePage)
	if err != nil {
		return nil, uuid.Nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var raw sql.RawBytes
		var done bool
		if err := rows.Scan(&raw, &done); err != nil {
			return nil, uuid.Nil, err
		}
		copy(last[:], raw)
		if done {
			ids = append(ids, last)
		}
	}
	return ids, last, rows.Err()
}

// purgePlain removes those of the notifications that have no rows of their recipients, which are most, and returns the
// others.
func (q *Queue) purgePlain(
	ctx context.Context, app string, ids []uuid.UUID,
) (removed int, others []uuid.UUID, err error) {
	if len(ids) == 0 {
		return 0, nil, nil
	}
	err = q.tx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		var err error
		if others, err = withRecipients(ctx, tx, app, ids); err != nil {
			return err
		}
		plain := []any{app}
		for i := range ids {
			if !slices.Contains(others, ids[i]) {
				plain = append(plain, ids[i][:])
			}
		}
		if removed = len(plain) - 1; removed == 0 {
			return nil
		}
		return deleteNotifications(ctx, tx, plain)
	})
	return removed, others, err
}

// withRecipients are those of the notifications that have rows of their recipients. Each is looked for by itself: a
// list of what is there would be read from all the rows, of which one notification may have millions.
func withRecipients(ctx context.Context, tx *sqlx.Tx, app string, ids []uuid.UUID) (found []uuid.UUID, err error) {
	var some []string
	for _, table := range ofRecipients {
		some = append(some, "EXISTS (SELECT 1 FROM "+table.name+" r WHERE r.notification_id = n.id)")
	}
	err = tx.SelectContext(ctx, &found, "SELECT n.id FROM notifications n WHERE n.app = ? AND n.id IN "+list(len(ids))+
		" AND ("+strings.Join(some, " OR ")+")", append([]any{app}, idArgs(ids)...)...)
	return found, err
}

// ofRecipients are the tables that have rows for recipients of a notification, with what names the recipient.
var ofRecipients = []struct{ name, key string }{
	{"failures", "token"}, {"unique_ids", "token"}, {"receipts", "recipient"},
}

// purgeOne removes what there is of a notification's recipients, in pages, and then the notification itself.
func (q *Queue) purgeOne(ctx context.Context, app string, id uuid.UUID, limit int) (total int, err error) {
	for total < limit {
		var n int64
		err := q.tx(ctx, func(ctx context.Context, tx *sqlx.Tx) (err error) {
			for _, table := range ofRecipients {
				n, err = deletePage(ctx, tx, table.name, "notification_id = ?", []any{id[:]}, table.key,
					min(maxKeys, limit-total))
				if err != nil || n > 0 {
					return err
				}
			}
			return deleteNotifications(ctx, tx, []any{app, id[:]})
		})
		if err != nil {
			return total, err
		}
		if n == 0 {
			return total + 1, nil
		}
		total += int(n)
	}
	return total, nil
}

// deleteNotifications removes notifications of an app, which is the first of the arguments, and what there is one row
// of for each.
func deleteNotifications(ctx context.Context, tx *sqlx.Tx, args []any) error {
	ids := list(len(args) - 1)
	for _, table := range []string{"notification_platforms", "recipient_sets", "receipt_counts"} {
		_, err := tx.ExecContext(ctx, "DELETE FROM "+table+" WHERE app = ? AND notification_id IN "+ids, args...)
		if err != nil {
			return err
		}
	}
	// Who counts receipts holds receipt_counts: what came after this transaction looked at receipts is there by now.
	if _, err := tx.ExecContext(ctx, "DELETE FROM receipts WHERE notification_id IN "+ids, args[1:]...); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, "DELETE FROM notifications WHERE app = ? AND id IN "+ids, args...)
	return err
}

// putMillis makes id the first UUIDv7 of the time.
func putMillis(id *uuid.UUID, t time.Time) {
	ms := max(0, t.UnixMilli())
	for i := range 6 {
		id[i] = byte(ms >> (40 - 8*i))
	}
	id[6], id[8] = 0x70, 0x80
}
