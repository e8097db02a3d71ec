package queue

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/delay"
	"github.com/lhspn/lhspn/internal/events"
	"github.com/lhspn/lhspn/internal/push"
)

// A notification that asks for receipts has a row in receipt_counts from its acceptance until it is purged, and a row
// in receipts for each recipient whose device said something. Many receipts share a transaction, which holds the rows
// of the counts: so each counts once, whichever replicas it reaches.

const (
	// receiptGroup is how many receipts share a transaction, and receiptsEvery the time from one to the next: it bounds
	// how many events tell of them.
	receiptGroup  = 2000
	receiptsEvery = 100 * time.Millisecond
	// maxReceipts is how many may wait for their transaction: beyond it a device is to come again.
	maxReceipts = 8192
	// fewReceipts is up to how many of a notification are read together with those of others.
	fewReceipts = 64
)

// sign gives the notification, and its forms for other platforms, what makes their tickets.
func (q *Queue) sign(n *push.Notification) {
	n.Payload.Tickets = q.cfg.Tickets
	for _, other := range n.Others {
		other.Payload.Tickets = q.cfg.Tickets
	}
}

// wantsReceipts reports whether payloads of the notification have tickets: those of all platforms have, or none.
func (row *acceptedRow) wantsReceipts() bool { return row.Payload.TicketAt > 0 }

// newCountInsert inserts what is counted; tail says what is to be done with a row that is there.
func newCountInsert(tail string) *database.Insert {
	return database.NewInsert("receipt_counts", "notification_id, app, delivered, opened", tail)
}

// Receive counts what the ticket's device says, once for each recipient and kind, and is durable when it returns. A
// ticket that is none of ours, or is of a notification that is not kept any more, counts nothing and is no error.
// push.ErrBacklogFull: too many wait to be counted; push.ErrUnavailable.
func (q *Queue) Receive(ctx context.Context, ticket string, kind push.ReceiptKind) error {
	var r push.Receipt
	var ok bool
	if q.cfg.Tickets != nil {
		r.Notification, r.Recipient, ok = q.cfg.Tickets.Open(ticket)
	}
	if !ok {
		q.metrics.receipts.WithLabelValues("forged").Inc()
		return nil
	}
	r.Kind = kind
	if q.counted.has(r) {
		q.metrics.receipts.WithLabelValues("repeated").Inc()
		return nil
	}
	defer q.waitingReceipts.Add(-1)
	if q.waitingReceipts.Add(1) > maxReceipts {
		q.metrics.receipts.WithLabelValues("dropped").Inc()
		return push.ErrBacklogFull
	}
	err := q.receipts.Do(ctx, r)
	if err != nil {
		q.metrics.receipts.WithLabelValues("dropped").Inc()
		return wrap(err, "count a receipt")
	}
	q.counted.add(r)
	return nil
}

// commitReceipts counts a group.
func (q *Queue) commitReceipts(ctx context.Context, group []push.Receipt) []error {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	start := time.Now()
	kinds := map[push.Receipt]push.ReceiptKind{} // by recipient: the receipts without their kind
	for _, r := range group {
		of := r
		of.Kind = 0
		kinds[of] |= r.Kind
	}
	var done counted
	var err error
	for range acceptAttempts {
		err = q.tx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
			var err error
			done, err = q.countReceipts(ctx, tx, kinds)
			return err
		})
		// After a commit whose answer was lost a repetition finds that nothing is left to be counted.
		if !errors.Is(err, database.ErrCommitUnknown) {
			break
		}
		q.metrics.unknown.Inc()
	}
	q.metrics.groups.WithLabelValues("receipts").Observe(float64(len(group)))
	q.metrics.seconds.WithLabelValues("receipts").Observe(time.Since(start).Seconds())
	if err != nil {
		return []error{err}
	}
	q.metrics.receipts.WithLabelValues("counted").Add(float64(done.fresh))
	q.metrics.receipts.WithLabelValues("purged").Add(float64(done.gone))
	q.metrics.receipts.WithLabelValues("repeated").Add(float64(len(group) - done.fresh - done.gone))
	// Who comes meanwhile shares the next transaction, and the next event.
	_ = delay.For(ctx, q.receiptsEvery-time.Since(start))
	return []error{nil}
}

// counted is what a transaction did of the receipts: fresh ones, and those of notifications that are gone.
type counted struct{ fresh, gone int }

// receiptCounts are those of one notification, while receipts of it are counted.
type receiptCounts struct {
	ID                uuid.UUID `db:"notification_id"`
	App               string
	Delivered, Opened int64
	known             map[push.RecipientID]push.ReceiptKind
	given             []push.RecipientID
	fresh             []events.Receipt
}

func (q *Queue) countReceipts(ctx context.Context, tx *sqlx.Tx, kinds map[push.Receipt]push.ReceiptKind) (
	done counted, err error,
) {
	of := map[uuid.UUID][]push.RecipientID{}
	for r := range kinds {
		of[r.Notification] = append(of[r.Notification], r.Recipient)
	}
	ids := make([]uuid.UUID, 0, len(of))
	for id := range of {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b uuid.UUID) int { return slices.Compare(a[:], b[:]) })
	receipts := database.NewInsert("receipts", "notification_id, recipient, kinds",
		q.db.Dialect.Upsert("notification_id, recipient", "kinds"))
	counts := newCountInsert(q.db.Dialect.Upsert("notification_id", "delivered", "opened"))
	out := q.cfg.Events.Write(q.now())
	for chunk := range slices.Chunk(ids, maxKeys) {
		there, err := q.lockCounts(ctx, tx, chunk, of)
		if err != nil {
			return done, err
		}
		for _, id := range chunk {
			c := there[id]
			if c == nil {
				for _, recipient := range of[id] {
					done.gone += kinds[push.Receipt{Notification: id, Recipient: recipient}].Count()
				}
				continue
			}
			for _, recipient := range c.given {
				said := kinds[push.Receipt{Notification: id, Recipient: recipient}]
				before := c.known[recipient]
				if said&^before == 0 {
					continue
				}
				c.add(recipient, said&^before)
				if err := receipts.Add(ctx, tx, id[:], recipient[:], uint8(before|said)); err != nil {
					return done, err
				}
			}
			if len(c.fresh) == 0 {
				continue
			}
			done.fresh += len(c.fresh)
			if err := counts.Add(ctx, tx, id[:], c.App, c.Delivered, c.Opened); err != nil {
				return done, err
			}
			for items := range slices.Chunk(c.fresh, events.MaxReceipts) {
				if err := out.Add(c.App, push.EventReceipts, events.Receipts{
					Notification: id.String(), Delivered: c.Delivered, Opened: c.Opened, Items: items,
				}); err != nil {
					return done, err
				}
			}
		}
	}
	if err := receipts.Flush(ctx, tx); err != nil {
		return done, err
	}
	if err := counts.Flush(ctx, tx); err != nil {
		return done, err
	}
	return done, out.Flush(ctx, tx)
}

// add counts what a recipient's device said for the first time.
func (c *receiptCounts) add(recipient push.RecipientID, said push.ReceiptKind) {
	if said&push.Delivered != 0 {
		c.Delivered++
		c.fresh = append(c.fresh, events.ReceiptOf(recipient, push.Delivered))
	}
	if said&push.Opened != 0 {
		c.Opened++
		c.fresh = append(c.fresh, events.ReceiptOf(recipient, push.Opened))
	}
}

// lockCounts reads the counts of those of the notifications that are there, with what their recipients' devices have
// said before, and keeps others from counting until the transaction ends.
func (q *Queue) lockCounts(ctx context.Context, tx *sqlx.Tx, ids []uuid.UUID, of map[uuid.UUID][]push.RecipientID) (
	map[uuid.UUID]*receiptCounts, error,
) {
	var rows []*receiptCounts
	if err := tx.SelectContext(ctx, &rows, "SELECT notification_id, app, delivered, opened FROM receipt_counts "+
		"WHERE notification_id IN "+list(len(ids))+" ORDER BY notification_id"+q.forUpdate(),
		idArgs(ids)...); err != nil {
		return nil, err
	}
	there := make(map[uuid.UUID]*receiptCounts, len(rows))
	var few []uuid.UUID
	for _, c := range rows {
		there[c.ID] = c
		c.given, c.known = of[c.ID], map[push.RecipientID]push.ReceiptKind{}
		switch {
		case c.Delivered+c.Opened == 0:
		case c.Delivered+c.Opened <= fewReceipts:
			few = append(few, c.ID)
		default:
			for chunk := range slices.Chunk(c.given, maxKeys) {
				args := make([]any, 0, 1+len(chunk))
				args = append(args, c.ID[:])
				for i := range chunk {
					args = append(args, chunk[i][:])
				}
				if err := readKnown(ctx, tx, there, "notification_id = ? AND recipient IN "+list(len(chunk)),
					args); err != nil {
					return nil, err
				}
			}
		}
	}
	if len(few) == 0 {
		return there, nil
	}
	return there, readKnown(ctx, tx, there, "notification_id IN "+list(len(few)), idArgs(few))
}

// readKnown reads what devices have said before.
func readKnown(ctx context.Context, tx *sqlx.Tx, into map[uuid.UUID]*receiptCounts, where string, args []any) error {
	rows, err := tx.QueryContext(ctx, "SELECT notification_id, recipient, kinds FROM receipts WHERE "+where, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var id, recipient sql.RawBytes
		var kinds push.ReceiptKind
		if err := rows.Scan(&id, &recipient, &kinds); err != nil {
			return err
		}
		if len(id) != len(uuid.UUID{}) || len(recipient) != len(push.RecipientID{}) {
			return errBody
		}
		into[uuid.UUID(id)].known[push.RecipientID(recipient)] = kinds
	}
	return rows.Err()
}

// readReceipts gives those of the statuses whose notifications ask for receipts their counts.
func (q *Queue) readReceipts(ctx context.Context, ids []uuid.UUID, byID map[uuid.UUID]*push.Status) error {
	asked := slices.DeleteFunc(slices.Clone(ids), func(id uuid.UUID) bool {
		n := byID[id].Notification
		return n == nil || n.Payload.TicketAt == 0
	})
	if len(asked) == 0 {
		return nil
	}
	var rows []receiptCounts
	err := q.db.Reader().SelectContext(ctx, &rows, "SELECT notification_id, app, delivered, opened FROM receipt_counts "+
		"WHERE notification_id IN "+list(len(asked)), idArgs(asked)...)
	for _, r := range rows {
		byID[r.ID].Receipts = &push.ReceiptCounts{Delivered: r.Delivered, Opened: r.Opened}
	}
	return err
}

// receiptsOf adds what the recipient's device said.
func (q *Queue) receiptsOf(ctx context.Context, id uuid.UUID, t push.Token, s *push.RecipientStatus) error {
	recipient := push.RecipientIDOf(t)
	var kinds sql.NullInt16
	err := q.db.Reader().QueryRowContext(ctx, "SELECT r.kinds FROM receipt_counts c LEFT JOIN receipts r "+
		"ON r.notification_id = c.notification_id AND r.recipient = ? WHERE c.notification_id = ?",
		recipient[:], id[:]).Scan(&kinds)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	s.WantsReceipts, s.Receipts = err == nil, push.ReceiptKind(kinds.Int16)
	return err
}
