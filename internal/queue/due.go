package queue

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/push"
)

// DueQuery asks for the batches of one lane that are due.
type DueQuery struct {
	Lane Lane
	// After has one key for each shard to be read: the last one already read there, or Key{Shard: s} for the shard's
	// head.
	After []Key
	Until time.Time
	// Limit is the number of batches of each shard at the most.
	Limit int
	// Without names outlets whose batches are passed over: those that have enough in memory already.
	Without []Outlet
}

// Outlet is one way out of one app.
type Outlet struct {
	App   string
	Route push.Route
}

// Head is when a shard's earliest batch is due; a zero time means an empty lane.
type Head struct {
	Shard uint8
	Due   [2]time.Time // by Lane
}

// Heads says for each of the shards when the earliest batch of each lane is due, whoever works on it. It is one
// statement of one index probe for each shard and lane: what a poll costs when there is nothing to do.
func (q *Queue) Heads(ctx context.Context, leases []Lease) ([]Head, error) {
	if len(leases) == 0 {
		return nil, nil
	}
	q.entries.own(leases)
	query, args := headsQuery(leases)
	rows, err := q.db.Reader().QueryContext(ctx, query, args...)
	if err != nil {
		return nil, wrap(err, "look at the shards' heads")
	}
	defer rows.Close()
	heads := make([]Head, 0, len(leases))
	for rows.Next() {
		var h Head
		var due [2]sql.NullInt64
		if err := rows.Scan(&h.Shard, &due[Urgent], &due[Bulk]); err != nil {
			return nil, wrap(err, "look at the shards' heads")
		}
		for lane := range due {
			if due[lane].Valid {
				h.Due[lane] = time.UnixMicro(due[lane].Int64).UTC()
			}
		}
		heads = append(heads, h)
	}
	return heads, wrap(rows.Err(), "look at the shards' heads")
}

func headsQuery(leases []Lease) (query string, args []any) {
	args = make([]any, len(leases))
	for i := range leases {
		args[i] = leases[i].Shard
	}
	// Ordered by all of the key: for less MySQL would sort the lane.
	const head = "(SELECT b.due_at FROM batches b WHERE b.shard = s.shard AND b.lane = %d ORDER BY b.shard, b.lane, " +
		"b.due_at, b.notification_id, b.seq LIMIT 1)"
	return "SELECT s.shard, " + fmt.Sprintf(head, Urgent) + " AS urgent, " + fmt.Sprintf(head, Bulk) + " AS bulk" +
		" FROM shards s WHERE s.shard IN " + list(len(args)), args
}

// Due returns the batches that the query asks for, each shard's in their order, Unreadable ones too; what Singles
// batches name is had by Singles. It takes no locks and marks nothing: a batch is found again and again until it is
// settled, and what is in flight is at the head of its shard.
//
// So poll like this: ask Heads which shards have something due (most often none), and read those forward, each from the
// last batch read of it. From a shard that gave less than Limit everything due was read: go on there from Key{Shard: s,
// DueAt: a second before Until}, or else what Without passed over at its end is read through in every poll. What comes
// to be behind such a position (a commit that took long, what was passed over or dropped) is found by beginning at
// the head every few seconds, skipping what is in memory. A row that was read may have been settled while it was read:
// remember what is settled during a poll until the poll is over.
func (q *Queue) Due(ctx context.Context, query DueQuery) ([]*Batch, error) {
	if len(query.After) == 0 || query.Limit <= 0 {
		return nil, nil
	}
	// One range of the clustered key for each shard, each with its own limit, so that no shard waits for another.
	part := "SELECT " + batchColumns + ` FROM batches WHERE shard = ? AND lane = ? AND due_at >= ? AND due_at <= ?
		AND (due_at > ? OR notification_id > ? OR (notification_id = ? AND seq > ?))`
	if len(query.Without) > 0 {
		part += strings.Repeat(" AND NOT (app = ? AND environment = ?)", len(query.Without))
	}
	part += " ORDER BY due_at, notification_id, seq LIMIT ?"
	until := query.Until.UnixMicro()
	var parts [][]any
	for i := range query.After {
		k := &query.After[i]
		if k.DueAt > until {
			continue
		}
		after := k.DueAt
		if k.DueAt == 0 && k.Notification == uuid.Nil && k.Seq == 0 {
			after = -1
		}
		args := []any{k.Shard, query.Lane, k.DueAt, until, after, k.Notification[:], k.Notification[:], k.Seq}
		for _, o := range query.Without {
			args = append(args, o.App, string(o.Route))
		}
		parts = append(parts, append(args, query.Limit))
	}
	if q.db.Dialect == database.SQLite { // no round trips to save, and it plans a union of 64 for 20 ms
		var all []*Batch
		for _, args := range parts {
			batches, err := q.selectBatches(ctx, q.db.Reader(), part, args...)
			if err != nil {
				return nil, wrap(err, "find due batches")
			}
			all = append(all, batches...)
		}
		return all, nil
	}
	if len(parts) == 0 {
		return nil, nil
	}
	// In parentheses, not as derived tables, which the server would keep on disk for their BLOBs.
	batches, err := q.selectBatches(ctx, q.db.Reader(), "("+part+")"+strings.Repeat(" UNION ALL ("+part+")", len(parts)-1),
		slices.Concat(parts...)...)
	return batches, wrap(err, "find due batches")
}

// queryer is a reader or a transaction.
type queryer interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// selectBatches reads batchColumns. A row that cannot be read is an Unreadable batch.
func (q *Queue) selectBatches(ctx context.Context, from queryer, query string, args ...any) ([]*Batch, error) {
	rows, err := from.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var batches []*Batch
	var id, app, route, body sql.RawBytes
	var last Outlet
	for rows.Next() {
		b := &Batch{}
		var n int
		if err := rows.Scan(&b.Shard, &b.Lane, &b.DueAt, &id, &b.Seq, &app, &route, &b.Kind, &n, &body); err != nil {
			return nil, err
		}
		copy(b.Notification[:], id)
		// Most batches in a row are of one, and share its name.
		if string(app) != last.App || string(route) != string(last.Route) {
			last = Outlet{string(app), push.Route(route)}
		}
		b.App, b.Route = last.App, last.Route
		b.ByPlatform, b.Scheduled = b.Kind&byPlatform != 0, b.Kind&scheduled != 0
		b.Kind &^= byPlatform | scheduled
		if err := b.setBody(body, n); err != nil {
			q.cannotRead("batches", b.App, b.Notification, b.Seq, err)
			b.Kind, b.Recipients = Unreadable, nil
		}
		batches = append(batches, b)
	}
	return batches, rows.Err()
}

// lockBatches reads all batches of the notifications, and locks them until the transaction ends.
func (q *Queue) lockBatches(ctx context.Context, tx *sqlx.Tx, notifications []uuid.UUID) ([]*Batch, error) {
	return q.selectBatches(ctx, tx, "SELECT "+batchColumns+q.fromBatchesOf()+
		" WHERE notification_id IN "+list(len(notifications))+q.forUpdate(),
		idArgs(notifications)...)
}

// fromBatchesOf begins the conditions of a look for the batches of many notifications, for which MySQL and MariaDB
// would rather read, or even lock, the whole table.
func (q *Queue) fromBatchesOf() string {
	if q.db.Dialect == database.SQLite {
		return " FROM batches"
	}
	return " FROM batches FORCE INDEX (batches_notification)"
}

// Notifications loads those of the app's notifications that exist and can be read. Batches of one that does not are
// orphans, to be skipped; those of one that cannot be read are skipped too, until a version runs that can.
func (q *Queue) Notifications(
	ctx context.Context, app string, ids []uuid.UUID,
) (map[uuid.UUID]*push.Notification, error) {
	found := make(map[uuid.UUID]*push.Notification, len(ids))
	for chunk := range slices.Chunk(ids, maxKeys) {
		if err := q.loadNotifications(ctx, app, slices.Clone(chunk), found); err != nil {
			return nil, wrap(err, "load notifications")
		}
	}
	return found, nil
}

func (q *Queue) loadNotifications(
	ctx context.Context, app string, ids []uuid.UUID, into map[uuid.UUID]*push.Notification,
) error {
	rows, err := q.db.Reader().QueryContext(ctx, `SELECT id, name, platform, environment, push_type, kind, topic, priority, expires_at, collapse_id,
		service_id, badge_increment, rate, payload, badge_at, ticket_at, contents, trace, created_at, send_at
		FROM notifications WHERE app = ? AND id IN `+list(len(ids)), append([]any{app}, idArgs(ids)...)...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		n := &push.Notification{App: app}
		var id, name, environment, pushType, kind, topic, collapse []byte
		var contents, trace, serviceID sql.RawBytes
		var expires, created, sendAt database.Time
		if err := rows.Scan(&id, &name, &n.Platform, &environment, &pushType, &kind, &topic, &n.Priority, &expires, &collapse,
			&serviceID, &n.BadgeIncrement, &n.Rate, &n.Payload.JSON, &n.Payload.BadgeAt, &n.Payload.TicketAt, &contents,
			&trace, &created, &sendAt); err != nil {
			return err
		}
		copy(n.ID[:], id)
		n.Name = string(name)
		n.Environment, n.Type, n.Kind = push.Route(environment), push.Type(pushType), push.Kind(kind)
		n.Key, n.CollapseID, n.Trace = string(topic), string(collapse), push.TraceOf(trace)
		n.Expiration, n.CreatedAt, n.SendAt = expires.Time, created.Time, sendAt.Time
		if err := decodeContents(n, contents); err != nil {
			q.cannotRead("notifications", app, n.ID, 0, err)
			continue
		}
		setServiceID(n, serviceID)
		q.sign(n)
		into[n.ID] = n
	}
	return rows.Err()
}

// OldestDue says for how long the first batch in this replica's shards has been due, 0 where nothing is. What is in
// flight, paused or slowed down by its own rate counts, too: a large value alone is no fault, and with no results
// beside it it is.
func (q *Queue) OldestDue(ctx context.Context) (time.Duration, error) {
	heads, err := q.Heads(ctx, q.Owned())
	if err != nil {
		return 0, err
	}
	now, oldest := q.now(), time.Duration(0)
	for _, h := range heads {
		for _, due := range h.Due {
			if !due.IsZero() {
				oldest = max(oldest, now.Sub(due))
			}
		}
	}
	return oldest, nil
}
