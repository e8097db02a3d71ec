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
)

// A notification to one device has no row in batches: what waits of it is in its own row, which is written once
// when it is accepted and once when it is settled. The readers of the shards find it by an entry: a Singles batch
// that names the notifications of one route that were accepted in one transaction, up to entrySize of them. An entry
// is removed with the last of them, or later: one of which nothing waits does no harm. What is to be sent again has
// a batch.

// What the column waiting has.
const (
	notHere uint8 = iota
	waitingReady
	waitingBadges
)

func waitingAs(k Kind) uint8 {
	if k == Badges {
		return waitingBadges
	}
	return waitingReady
}

// single reports whether the notification is to one device, in one form.
func (row *acceptedRow) single() bool { return row.n == 1 && len(row.Others) == 0 }

// singleKey is the key of the batch that waits in a notification's own row.
func singleKey(shard uint8, dueAt int64, id uuid.UUID) Key {
	return Key{Shard: shard, Lane: Urgent, DueAt: dueAt, Notification: id}
}

// notYetThere is for how long after its time a notification that an entry names may not be found. They are committed
// together, but the rows may be read from a node that has not seen the commit yet. After that it was settled and
// purged.
const notYetThere = time.Hour

// Singles returns what waits of the notifications that the Singles batches name, without what is known to the caller.
// Entries of which nothing waits any more it removes.
func (q *Queue) Singles(ctx context.Context, of []*Batch, known func(Key) bool) ([]*Batch, error) {
	wanted := map[string][]uuid.UUID{}
	type named struct {
		place
		due int64
	}
	places := map[uuid.UUID]named{}
	for _, b := range of {
		e := q.entries.of(b)
		for i, k := range b.singles {
			if !known(k) {
				wanted[b.App] = append(wanted[b.App], k.Notification)
				places[k.Notification] = named{place{e, uint8(i)}, k.DueAt} // of at most entrySize
			}
		}
	}
	var waiting []*Batch
	var gone []place // for good: what was settled never waits here again
	for app, chunk := range runs(wanted, maxKeys) {
		found, settled, err := q.selectSingles(ctx, q.db.Reader(), app, chunk, "")
		if err != nil {
			return nil, wrap(err, "find what waits of notifications to one device")
		}
		for _, b := range found {
			b.place = places[b.Notification].place
			delete(places, b.Notification)
			if b.Kind != Unreadable {
				waiting = append(waiting, b)
			}
		}
		for _, id := range settled {
			gone = append(gone, places[id].place)
			delete(places, id)
		}
	}
	purged := q.now().Add(-notYetThere).UnixMicro()
	for _, p := range places {
		if p.due < purged {
			gone = append(gone, p.place)
		}
	}
	q.entries.settled(gone, nil)
	return waiting, q.removeEntries(ctx)
}

// removeEntries removes the rows of entries of which nothing waits.
func (q *Queue) removeEntries(ctx context.Context) error {
	empty := q.entries.emptied(nil)
	if len(empty) == 0 {
		return nil
	}
	err := q.tx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		_, err := consume(ctx, tx, slices.Clone(empty))
		return err
	})
	if err == nil {
		q.entries.settled(nil, empty)
	}
	return wrap(err, "remove entries of which nothing waits")
}

// selectSingles reads what waits in the notifications' own rows, and says in which of them nothing waits any more. What
// cannot be read is an Unreadable batch.
func (q *Queue) selectSingles(
	ctx context.Context, from queryer, app string, ids []uuid.UUID, tail string, args ...any,
) (batches []*Batch, settled []uuid.UUID, err error) {
	rows, err := from.QueryContext(ctx, `SELECT id, shard, created_at, send_at, waiting, recipient FROM notifications
		WHERE app = ? AND id IN `+list(len(ids))+tail,
		slices.Concat([]any{app}, idArgs(slices.Clone(ids)), args)...)
	if err != nil {
		return nil, nil, err
	}
	defer rows.Close()
	var id, recipient sql.RawBytes
	for rows.Next() {
		var shard, waiting uint8
		var created, sendAt database.Time
		if err := rows.Scan(&id, &shard, &created, &sendAt, &waiting, &recipient); err != nil {
			return nil, nil, err
		}
		if waiting == notHere {
			settled = append(settled, uuid.UUID(id))
			continue
		}
		b := &Batch{Key: singleKey(shard, sendAt.UnixMicro(), uuid.UUID(id)), App: app, single: true,
			Scheduled: sendAt.After(created.Time)}
		if waiting == waitingBadges {
			b.Kind = Badges
		}
		err := b.setRecipient(recipient)
		if err == nil && waiting > waitingBadges {
			err = fmt.Errorf("%w: unknown kind", errBody)
		}
		if err != nil {
			q.cannotRead("notifications", app, b.Notification, 0, fmt.Errorf("the recipient: %w", err))
			b.Kind, b.Recipients = Unreadable, nil
		}
		batches = append(batches, b)
	}
	return batches, settled, rows.Err()
}

// lockSingles reads what waits in the rows of those of the batches that are there, by app, and locks it until the
// transaction ends.
func (q *Queue) lockSingles(ctx context.Context, tx *sqlx.Tx, batches []*Batch) (map[Key]*Batch, error) {
	ids := map[string][]uuid.UUID{}
	for _, b := range batches {
		if b.single {
			ids[b.App] = append(ids[b.App], b.Notification)
		}
	}
	there := map[Key]*Batch{}
	for app, chunk := range runs(ids, maxKeys) {
		found, _, err := q.selectSingles(ctx, tx, app, chunk, " AND waiting > 0"+q.forUpdate())
		if err != nil {
			return nil, err
		}
		for _, b := range found {
			there[b.Key] = b
		}
	}
	return there, nil
}

// rewriteSingles has the rows hold the batches as they are now.
func rewriteSingles(ctx context.Context, tx *sqlx.Tx, batches []*Batch) error {
	byApp := map[string][]*Batch{}
	for _, b := range batches {
		byApp[b.App] = append(byApp[b.App], b)
	}
	for app, chunk := range runs(byApp, entrySize) {
		args := []any{waitingReady}
		ids := make([]uuid.UUID, len(chunk))
		for i, b := range chunk {
			args = append(args, b.Notification[:], b.recipient())
			ids[i] = b.Notification
		}
		args = append(append(args, app), idArgs(ids)...)
		_, err := tx.ExecContext(ctx, "UPDATE notifications SET waiting = ?, recipient = CASE id"+
			strings.Repeat(" WHEN ? THEN ?", len(chunk))+" ELSE recipient END WHERE app = ? AND id IN "+list(len(chunk)),
			args...)
		if err != nil {
			return wrap(err, "rewrite what waits of notifications to one device")
		}
	}
	return nil
}

// apply settles what waits in the rows of notifications to one device: all of them alike. done says that all of them
// are in the state done now, and none is cancelled.
func (c *single) apply(ctx context.Context, tx *sqlx.Tx, app string, ids []uuid.UUID, now any) (done bool, err error) {
	var set strings.Builder
	var args []any
	final := false
	for i, n := range c.counts {
		if n != 0 {
			final = true
			set.WriteString(", " + countColumns[i] + " = 1")
		}
	}
	state := stateSending
	if final {
		state = stateDone
		set.WriteString(", finished_at = ?")
		args = append(args, now)
	}
	if !c.sentAt.IsZero() {
		set.WriteString(", first_sent_at = ?")
		args = append(args, stamp(c.sentAt))
	}
	listed := idArgs(ids)
	if tx.DriverName() == string(database.SQLite) {
		listed = pad(listed)
	}
	where := " WHERE app = ? AND waiting > 0 AND id IN " + list(len(listed))
	update := func(set, where string, args ...any) (int, error) {
		n, err := affected(ctx, tx, "UPDATE notifications SET waiting = 0"+set+where,
			slices.Concat(args, []any{app}, listed)...)
		return int(n), wrap(err, "settle notifications to one device")
	}
	n := 0
	if final || !c.sentAt.IsZero() {
		n, err = update(set.String()+", state = ?", where+" AND state <> 3", append(slices.Clone(args), state)...)
		if err != nil {
			return false, err
		}
	}
	if n == len(ids) {
		return final, nil
	}
	cancelled, err := update(set.String(), where, args...) // which stays as it is
	if err == nil && n+cancelled != len(ids) {
		err = errGone
	}
	return false, err
}

// single is what becomes of several notifications to one device alike.
type single change

// pad repeats the last argument up to the next power of two: of lists of so few lengths SQLite keeps the statements.
func pad(args []any) []any {
	last := args[len(args)-1]
	for len(args)&(len(args)-1) != 0 {
		args = append(args, last)
	}
	return args
}
