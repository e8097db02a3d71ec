package queue

import (
	"context"
	"fmt"

	"github.com/jmoiron/sqlx"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/events"
	"github.com/lhspn/lhspn/internal/quota"
)

// insertAll writes the group's rows, its events and its counts in the transaction. What recognise finds to be a
// repetition, or refuses, writes nothing.
func (q *Queue) insertAll(ctx context.Context, tx *sqlx.Tx, group []*acceptance, shard uint8,
	counts *quota.Changes) error {
	if err := q.recognise(ctx, tx, group, counts); err != nil {
		return err
	}
	in := q.newInserts(shard)
	for _, a := range group {
		if a.verdict != inserted {
			continue
		}
		for kind, n := range a.counts {
			counts.Add(a.App, quota.Kind(kind), n)
		}
		if err := in.addRequest(ctx, tx, a); err != nil {
			return err
		}
	}
	if err := in.flush(ctx, tx); err != nil {
		return err
	}
	return q.counters.Write(ctx, tx, counts)
}

// inserts gathers the rows of a group, table by table. They are sent when a statement is full, and the rest by flush.
type inserts struct {
	shard uint8 // of every batch
	now   any   // as the engines take it

	keys, notifications, platforms, sets, receipts, batches *database.Insert

	entries *newEntries
	news    *events.Writer
}

func (q *Queue) newInserts(shard uint8) *inserts {
	return &inserts{
		shard:         shard,
		now:           stamp(q.now()),
		keys:          database.NewInsert("idempotency_keys", "app, idempotency_key, request_hash, answer, created_at", ""),
		notifications: database.NewInsert("notifications", notificationColumns, ""),
		platforms:     newPlatformInsert(),
		sets:          newSetInsert(),
		receipts:      newCountInsert(""),
		batches:       database.NewInsert("batches", batchColumns, ""),
		entries:       q.newEntries(),
		news:          q.cfg.Events.Write(q.now()),
	}
}

// addRequest adds a request's idempotency key and its notifications.
func (in *inserts) addRequest(ctx context.Context, tx *sqlx.Tx, a *acceptance) error {
	if a.IdempotencyKey != "" {
		err := in.keys.Add(ctx, tx, a.App, []byte(a.IdempotencyKey), a.Hash[:], bytesOf(a.Answer), in.now)
		if err != nil {
			return fmt.Errorf("insert idempotency keys: %w", err)
		}
	}
	for i := range a.rows {
		if err := in.addRow(ctx, tx, &a.rows[i]); err != nil {
			return err
		}
	}
	return nil
}

// addRow adds a notification with all that belongs to it.
func (in *inserts) addRow(ctx context.Context, tx *sqlx.Tx, row *acceptedRow) error {
	if err := in.addNotification(ctx, tx, row); err != nil {
		return err
	}
	if err := row.addPlatforms(ctx, tx, in.platforms); err != nil {
		return err
	}
	if err := row.addSet(ctx, tx, in.sets); err != nil {
		return err
	}
	if row.wantsReceipts() {
		if err := in.receipts.Add(ctx, tx, row.ID[:], row.App, 0, 0); err != nil {
			return fmt.Errorf("insert counts of receipts: %w", err)
		}
	}
	for i, b := range row.batches {
		b.Shard = in.shard
		if row.single() {
			in.entries.add(b)
			continue
		}
		if err := addBatch(ctx, tx, in.batches, b, row.bodies[i]); err != nil {
			return err
		}
	}
	return nil
}

func (in *inserts) addNotification(ctx context.Context, tx *sqlx.Tx, row *acceptedRow) error {
	created := stamp(row.CreatedAt)
	sendAt := created
	if !row.SendAt.Equal(row.CreatedAt) {
		sendAt = stamp(row.SendAt)
	}
	state, finished := stateQueued, any(database.Never)
	if len(row.batches) == 0 { // an audience without members
		state, finished = stateDone, created
		in.news.Finish(nil, row.App, row.ID)
	}
	waiting, recipient := notHere, []byte{}
	if row.single() {
		waiting, recipient = waitingAs(row.batches[0].Kind), row.bodies[0]
	}
	return wrap(in.notifications.Add(ctx, tx, row.App, row.ID[:], []byte(row.Name), state, row.Platform,
		string(row.Environment), string(row.Type), string(row.Kind), []byte(row.Key), row.Priority,
		stamp(row.Expiration), []byte(row.CollapseID), orNull(row.serviceID()), row.BadgeIncrement, row.Rate,
		bytesOf(row.Payload.JSON), row.Payload.BadgeAt, row.Payload.TicketAt, orNull(row.contents),
		orNull(row.audience), orNull(row.Trace.Bytes()), in.shard, waiting, recipient, row.expanded, row.n, created,
		sendAt, finished), "insert notifications")
}

// flush sends what is left, in the one order in which every committer takes these tables' locks.
func (in *inserts) flush(ctx context.Context, tx *sqlx.Tx) error {
	for _, rows := range []struct {
		of     string
		insert *database.Insert
	}{
		{"idempotency keys", in.keys}, {"notifications", in.notifications}, {"platforms", in.platforms},
		{"recipient sets", in.sets}, {"counts of receipts", in.receipts},
	} {
		if err := rows.insert.Flush(ctx, tx); err != nil {
			return fmt.Errorf("insert %s: %w", rows.of, err)
		}
	}
	if err := in.entries.insert(ctx, tx, in.batches); err != nil {
		return err
	}
	if err := in.batches.Flush(ctx, tx); err != nil {
		return fmt.Errorf("insert batches: %w", err)
	}
	return in.news.Flush(ctx, tx)
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
