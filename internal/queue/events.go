package queue

import (
	"context"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/events"
	"github.com/lhspn/lhspn/internal/push"
)

// news are the events of one transaction that changes notifications: what it did to each of them.
type news struct {
	q     *Queue
	out   *events.Writer
	now   time.Time
	told  map[uuid.UUID]*told
	order []*told // in the order in which they came
}

// told is what is told of one notification.
type told struct {
	app   string
	id    uuid.UUID
	under *Lease // nil: none
	// starts says that it may begin to be sent in this transaction, and not end in it; queued that it was not before.
	starts, queued bool
	failed         []events.Failure
	// finishes says that it finishes in this transaction for certain; otherwise that shows in its row.
	finishes bool
}

func (q *Queue) newNews(now time.Time) *news {
	return &news{q: q, out: q.cfg.Events.Write(now), now: now.UTC().Truncate(time.Microsecond)}
}

// of is what is told of the notification; nil where its app's events are not kept.
func (n *news) of(app string, id uuid.UUID, under *Lease) *told {
	if t := n.told[id]; t != nil {
		return t
	}
	if !n.out.Wanted(app) {
		return nil
	}
	t := &told{app: app, id: id, under: under}
	if n.told == nil {
		n.told = map[uuid.UUID]*told{}
	}
	n.told[id] = t
	n.order = append(n.order, t)
	return t
}

// settled notes a batch that is settled; counted is what was counted of one that waited in its notification's row. It
// returns nil where nothing more is to be told of it.
func (n *news) settled(s *Settlement, counted *tally) *told {
	b := s.Batch
	ends := len(s.Results) == 1 && s.Results[0].Outcome.Final()
	if b.single && ends && s.Results[0].Outcome == push.Accepted { // as most end
		under := (*events.Lease)(&s.Lease)
		if !counted.done { // whether it was cancelled meanwhile is in its row
			n.out.Finish(under, b.App, b.Notification)
			return nil
		}
		n.out.FinishSingle(under, b.App, &events.Single{
			ID: b.Notification, Name: s.Name, Platform: b.Recipients[0].Token.PlatformName(), ServiceID: s.ServiceID,
			CreatedAt: s.CreatedAt, SendAt: time.UnixMicro(b.DueAt), FirstSentAt: counted.sentAt,
		})
		return nil
	}
	t := n.of(b.App, b.Notification, &s.Lease)
	switch {
	case t == nil:
	case b.single && ends:
		t.finishes = true
	case b.single: // it waits so until it is settled for the first time
		t.queued = true
	case b.Lane != Urgent || !ends:
		t.starts = true
	}
	return t
}

// before looks, before the counts are changed, which of the notifications are not being sent yet.
func (n *news) before(ctx context.Context, tx *sqlx.Tx) error {
	return n.each(func(t *told) bool { return t.starts }, func(app string, ids []uuid.UUID) error {
		var queued []uuid.UUID
		err := tx.SelectContext(ctx, &queued,
			"SELECT id FROM notifications WHERE app = ? AND state = ? AND id IN "+list(len(ids)),
			append([]any{app, stateQueued}, idArgs(ids)...)...)
		for _, id := range queued {
			n.told[id].queued = true
		}
		return wrap(err, "look which notifications begin")
	})
}

// flush writes the events, after the counts were changed.
func (n *news) flush(ctx context.Context, tx *sqlx.Tx) error {
	now := map[uuid.UUID]*push.Status{}
	err := n.each(func(t *told) bool { return !t.finishes }, func(app string, ids []uuid.UUID) error {
		return statusesIn(ctx, tx, app, ids, n.now, now)
	})
	if err != nil {
		return wrap(err, "read what became of the notifications")
	}
	for _, t := range n.order {
		s := now[t.id]
		if s == nil && !t.finishes { // it cannot be: its row goes after its batches
			continue
		}
		if t.queued && s.State == push.StateSending {
			if err := n.add(t, push.EventSending, events.NotificationOf(s)); err != nil {
				return err
			}
		}
		for items := range slices.Chunk(t.failed, events.MaxFailures) {
			if err := n.add(t, push.EventFailures, events.Failures{Notification: t.id.String(), Items: items}); err != nil {
				return err
			}
		}
		if t.finishes || s.FinishedAt.Equal(n.now) { // it finishes once
			n.out.Finish((*events.Lease)(t.under), t.app, t.id)
		}
	}
	return n.out.Flush(ctx, tx)
}

func (n *news) add(t *told, kind push.EventType, data any) error {
	if t.under == nil {
		return n.out.Add(t.app, kind, data)
	}
	return n.out.AddUnder(events.Lease(*t.under), t.app, kind, data)
}

// each calls fn with the notifications of each app that are picked, in lists that fit into a statement.
func (n *news) each(pick func(*told) bool, fn func(app string, ids []uuid.UUID) error) error {
	if len(n.order) == 0 {
		return nil
	}
	byApp := map[string][]uuid.UUID{}
	for _, t := range n.order {
		if pick(t) {
			byApp[t.app] = append(byApp[t.app], t.id)
		}
	}
	for app, chunk := range runs(byApp, maxKeys) {
		if err := fn(app, chunk); err != nil {
			return err
		}
	}
	return nil
}

// FinishedFrom returns what reads notifications from the database for the events that say that they are finished.
func FinishedFrom(
	db *database.DB,
) func(ctx context.Context, app string, ids []uuid.UUID) (map[uuid.UUID]*push.Status, error) {
	return func(ctx context.Context, app string, ids []uuid.UUID) (map[uuid.UUID]*push.Status, error) {
		found := make(map[uuid.UUID]*push.Status, len(ids))
		err := statusesIn(ctx, db.Reader(), app, ids, time.Now(), found)
		return found, wrap(err, "read finished notifications")
	}
}
