package queue

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/push"
)

const statusColumns = `id, state, expanded, recipients, accepted, failed, unregistered, expired, cancelled,
	created_at, send_at, first_sent_at, finished_at, platform, contents IS NOT NULL AS several, name, service_id`

// statusRow scans statusColumns, row after row.
type statusRow struct {
	id, platform, name, serviceID    sql.RawBytes
	state                            int
	created, sendAt, first, finished database.Time
	status                           push.Status
	// several says that the notification is for several platforms, whose counts are to be read.
	several bool
	targets []any
	// What most of a list's rows have in common is there once: the counts of a single platform, and that there is no name.
	alike   map[string]push.Counts
	unnamed *push.Notification
}

func newStatusRow() *statusRow {
	r := &statusRow{unnamed: new(push.Notification)}
	c := &r.status.Counts
	r.targets = []any{&r.id, &r.state, &r.status.Expanded, &r.status.Recipients, &c.Accepted, &c.Failed, &c.Unregistered,
		&c.Expired, &c.Cancelled, &r.created, &r.sendAt, &r.first, &r.finished, &r.platform, &r.several, &r.name,
		&r.serviceID}
	return r
}

// scan reads the row into r.status.
func (r *statusRow) scan(rows *sql.Rows, now time.Time) error {
	if err := rows.Scan(r.targets...); err != nil {
		return err
	}
	s := &r.status
	copy(s.ID[:], r.id)
	c := &s.Counts
	c.Pending = s.Recipients - c.Accepted - c.Failed - c.Unregistered - c.Expired - c.Cancelled
	s.CreatedAt, s.SendAt = r.created.Time, r.sendAt.Time
	s.FirstSentAt, s.FinishedAt = timeOrZero(r.first), timeOrZero(r.finished)
	switch {
	case r.state == stateCancelled:
		s.State = push.StateCancelled
	case r.state == stateDone:
		s.State = push.StateDone
	case r.state == stateSending:
		s.State = push.StateSending
	case s.SendAt.After(now):
		s.State = push.StateScheduled
	default:
		s.State = push.StateQueued
	}
	s.ByPlatform = nil
	if !r.several {
		s.ByPlatform = r.onePlatform()
	}
	return nil
}

// onePlatform is the row's counts by its one platform. Nobody changes them.
func (r *statusRow) onePlatform() map[string]push.Counts {
	name := r.platform
	if len(name) == 0 {
		name = sql.RawBytes(push.DefaultPlatform)
	}
	if counts, is := r.alike[string(name)]; !is || counts != r.status.Counts {
		r.alike = map[string]push.Counts{string(name): r.status.Counts}
	}
	return r.alike
}

// named is the notification as far as the row tells of it. Nobody changes it.
func (r *statusRow) named() *push.Notification {
	if len(r.name) == 0 && len(r.serviceID) == 0 {
		return r.unnamed
	}
	n := &push.Notification{Name: string(r.name)}
	setServiceID(n, r.serviceID)
	return n
}

// Get tells how far a notification is; push.ErrNotFound where the app has none of that id.
func (q *Queue) Get(ctx context.Context, app string, id uuid.UUID) (push.Status, error) {
	found := map[uuid.UUID]*push.Status{}
	err := statusesIn(ctx, q.db.Reader(), app, []uuid.UUID{id}, q.now(), found)
	s := found[id]
	switch {
	case err != nil:
	case s == nil:
		err = push.ErrNotFound
	default:
		err = q.readContents(ctx, app, []*push.Status{s})
	}
	if err != nil {
		return push.Status{}, wrap(err, "get notification %s", id)
	}
	return *s, nil
}

// statusesIn reads notifications, without what is sent and to whom but for their names.
func statusesIn(
	ctx context.Context, from sqlx.QueryerContext, app string, ids []uuid.UUID, now time.Time,
	into map[uuid.UUID]*push.Status,
) error {
	rows, err := from.QueryContext(ctx,
		"SELECT "+statusColumns+" FROM notifications WHERE app = ? AND id IN "+list(len(ids)),
		append([]any{app}, idArgs(ids)...)...)
	if err != nil {
		return err
	}
	defer rows.Close()
	var several []*push.Status
	row := newStatusRow()
	for rows.Next() {
		if err := row.scan(rows, now); err != nil {
			return err
		}
		s := row.status
		s.Notification = row.named()
		into[s.ID] = &s
		if row.several {
			several = append(several, &s)
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	return readPlatforms(ctx, from, app, several)
}

// scanned bounds how many notifications one page of a list by state looks at.
const scanned = 10_000

// List returns the newest notifications before the given one (the zero UUID: from the newest on), only those of the
// state unless that is empty, and what to give as before for the next page: the zero UUID at the end. A page by state
// may be short, as it looks at a bounded number of notifications.
func (q *Queue) List(
	ctx context.Context, app string, state push.State, before uuid.UUID, limit int,
) ([]push.Status, uuid.UUID, error) {
	if before == uuid.Nil {
		before = uuid.Max
	}
	now := q.now()
	condition, args := "", []any{}
	look := limit + 1
	if state != "" {
		look = scanned
		switch state {
		case push.StateScheduled:
			condition, args = " WHERE state = ? AND send_at > ?", []any{stateQueued, stamp(now)}
		case push.StateQueued:
			condition, args = " WHERE state = ? AND send_at <= ?", []any{stateQueued, stamp(now)}
		case push.StateSending:
			condition, args = " WHERE state = ?", []any{stateSending}
		case push.StateDone:
			condition, args = " WHERE state = ?", []any{stateDone}
		case push.StateCancelled:
			condition, args = " WHERE state = ?", []any{stateCancelled}
		default:
			return nil, uuid.Nil, fmt.Errorf("list notifications: unknown state %q", state)
		}
	}
	rows, err := q.db.Reader().QueryContext(ctx, "SELECT * FROM (SELECT "+statusColumns+` FROM notifications
		WHERE app = ? AND id < ? ORDER BY id DESC LIMIT ?) AS newest`+condition+" ORDER BY id DESC LIMIT ?",
		append(append([]any{app, before[:], look}, args...), limit+1)...)
	if err != nil {
		return nil, uuid.Nil, wrap(err, "list notifications")
	}
	defer rows.Close()
	page := make([]push.Status, 0, limit+1)
	var several []*push.Status
	row := newStatusRow()
	for rows.Next() {
		if err := row.scan(rows, now); err != nil {
			return nil, uuid.Nil, wrap(err, "list notifications")
		}
		if page = append(page, row.status); row.several { // page has room for all, and is not moved
			several = append(several, &page[len(page)-1])
		}
	}
	if err := rows.Err(); err != nil {
		return nil, uuid.Nil, wrap(err, "list notifications")
	}
	if err := readPlatforms(ctx, q.db.Reader(), app, several); err != nil {
		return nil, uuid.Nil, wrap(err, "list notifications")
	}
	if err := q.readContents(ctx, app, pointers(page)); err != nil {
		return nil, uuid.Nil, wrap(err, "list notifications")
	}
	if len(page) > limit {
		page = page[:limit]
		return page, page[limit-1].ID, nil
	}
	if state == "" {
		return page, uuid.Nil, nil
	}
	// Fewer matched than were asked for: the next page begins after the last one looked at, if there are more.
	var last []byte
	err = q.db.Reader().QueryRowContext(ctx,
		"SELECT id FROM notifications WHERE app = ? AND id < ? ORDER BY id DESC LIMIT 1 OFFSET ?",
		app, before[:], look-1).Scan(&last)
	if errors.Is(err, sql.ErrNoRows) {
		return page, uuid.Nil, nil
	}
	var next uuid.UUID
	copy(next[:], last)
	return page, next, wrap(err, "list notifications")
}

// Failures lists, in the tokens' order, the recipients after the given one that were not accepted.
func (q *Queue) Failures(
	ctx context.Context, app string, id uuid.UUID, after push.Token, limit int,
) ([]push.Failure, error) {
	of, err := q.Get(ctx, app, id)
	if err != nil {
		return nil, err
	}
	var rows []struct {
		push.Failure
		FailedAt database.Time `db:"failed_at"`
	}
	err = q.db.Reader().SelectContext(ctx, &rows, `SELECT token, reason, status, attempts, failed_at FROM failures
		WHERE notification_id = ? AND token > ? ORDER BY token LIMIT ?`, id[:], []byte(after), limit)
	if err != nil || len(rows) == 0 {
		return nil, wrap(err, "list failures")
	}
	named, err := q.uniqueIDs(ctx, id, rows[0].Token, rows[len(rows)-1].Token)
	failures := make([]push.Failure, len(rows))
	for i, r := range rows {
		failures[i] = r.Failure
		failures[i].At = r.FailedAt.Time
		failures[i].ServiceID = q.serviceID(app, id, of.Notification.ServiceID, r.Token, r.Status)
		failures[i].UniqueID = named[r.Token]
	}
	return failures, wrap(err, "list failures")
}

// uniqueIDs are what the service calls the notification's deliveries to the tokens from first to last.
func (q *Queue) uniqueIDs(ctx context.Context, id uuid.UUID, first, last push.Token) (map[push.Token]string, error) {
	var rows []struct {
		Token    push.Token
		UniqueID string `db:"unique_id"`
	}
	err := q.db.Reader().SelectContext(ctx, &rows,
		"SELECT token, unique_id FROM unique_ids WHERE notification_id = ? AND token BETWEEN ? AND ?",
		id[:], []byte(first), []byte(last))
	named := make(map[push.Token]string, len(rows))
	for _, r := range rows {
		named[r.Token] = r.UniqueID
	}
	return named, err
}
