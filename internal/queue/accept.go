package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/quota"
)

// acceptance is one request on its way through a group's transaction.
type acceptance struct {
	*push.Request
	rows       []acceptedRow
	recipients int64
	counts     quota.Counts // what the app has more of by it
	// What the transaction decides. It is decided anew in each attempt, and holds once the commit is known.
	verdict verdict
	first   *acceptance // the earlier one in the group with the same key
	replay  []byte      // what the first one was answered; nil for none
}

type verdict uint8

const (
	inserted verdict = iota
	replayed         // the key is known, with the same request
	repeated         // the same request is earlier in the same group
	refused          // the key is known, with another request
)

type acceptedRow struct {
	*push.Notification
	audience []byte
	contents []byte
	expanded bool
	n        int
	batches  []*Batch
	bodies   [][]byte
	set      []byte // of several explicit tokens
}

// Accept is durable when it returns: the request's notifications with their batches, and its key, are committed, all or
// none. Concurrent calls share a transaction. A non-nil replay is what a repeated request was answered the first time:
// nothing new was accepted.
//
// It fails with push.ErrConflict where the key was used for another request, a push.QuotaError, or
// push.ErrUnavailable; with the last one the request may have been committed all the same, and only a key makes its
// repetition safe.
func (q *Queue) Accept(ctx context.Context, r *push.Request) (replay []byte, err error) {
	for i := range r.Submissions {
		q.sign(r.Submissions[i].Notification)
	}
	a, err := prepare(r)
	if err != nil {
		q.metrics.refusals.WithLabelValues("error").Inc()
		return nil, err
	}
	// Reserved before the commit, so that no burst goes far beyond the bounds.
	if err := q.counters.Reserve(a.App, a.counts); err != nil {
		if r.IdempotencyKey != "" { // a repetition adds nothing
			if replay, err := q.Replayed(ctx, r); replay != nil || err != nil {
				return replay, err
			}
		}
		reason := "quota"
		if over, is := errors.AsType[*push.QuotaError](err); is && over.Shared {
			reason = "backlog_full"
		}
		q.metrics.refusals.WithLabelValues(reason).Inc()
		q.counters.Refused(a.App, err)
		return nil, fmt.Errorf("accept: %w", err)
	}
	defer q.counters.Release(a.App, a.counts)
	start := time.Now()
	err = q.accepts.Do(ctx, a)
	q.traceCommit(a, start, err)
	if err != nil {
		reason := "error"
		if errors.Is(err, push.ErrConflict) {
			reason = "conflict"
		}
		q.metrics.refusals.WithLabelValues(reason).Inc()
		return nil, fmt.Errorf("accept: %w", err)
	}
	if a.replay != nil {
		q.metrics.replays.Inc()
	}
	return a.replay, nil
}

// traceCommit tells of the wait for a group and of its commit, where the request is traced.
func (q *Queue) traceCommit(a *acceptance, start time.Time, err error) {
	if q.cfg.Tracer == nil || len(a.rows) == 0 || a.rows[0].Trace.IsZero() {
		return
	}
	q.cfg.Tracer.Record(a.rows[0].Trace, "commit", start, time.Now(), slog.String("app", a.App),
		slog.Int("notifications", len(a.rows)), slog.Bool("replayed", a.replay != nil), slog.Bool("error", err != nil))
}

// LookUp looks at the audience of a submission that is sent now. It sets Empty if a quick look finds no member, and
// Only if the audience is one user with a single device. What a device registers a moment later does not count: it
// would not be sent to either had the notification come a moment earlier.
func (q *Queue) LookUp(ctx context.Context, s *push.Submission) error {
	if len(s.Audience.Users) == 1 && len(s.Notification.Others) == 0 {
		return q.lookUpUser(ctx, s)
	}
	page, _, next, err := q.firstOf(ctx, s.Notification.App, *s.Audience, 1)
	s.Empty = err == nil && len(page) == 0 && next == ""
	return err
}

func (q *Queue) lookUpUser(ctx context.Context, s *push.Submission) error {
	audience, routes, err := audienceOf(s)
	if err != nil {
		return fmt.Errorf("accept: %w", err)
	}
	var one push.Route // as the batch of its expansion has it
	if len(routes) == 1 {
		one = routes[0]
	}
	page, of, next, err := q.firstOf(ctx, s.Notification.App, audience.of(one), 2)
	switch {
	case err != nil || next != "":
	case len(page) == 0:
		s.Empty = true
	case len(page) == 1:
		s.Only = &push.Destination{Token: page[0].Token, Route: of[0]}
	}
	return err
}

// firstOf reads the first members of the audience.
func (q *Queue) firstOf(ctx context.Context, app string, a push.Audience, limit int) (
	page []push.Recipient, routes []push.Route, next push.Token, err error,
) {
	err = q.db.ReadTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		page, routes, next, err = q.registry.AudiencePage(ctx, tx, app, a, "", limit, 0)
		return err
	})
	return page, routes, next, wrap(err, "look for members of the audience")
}

// count adds what of the row waits.
func (row *acceptedRow) count(counts *quota.Counts) {
	for _, b := range row.batches {
		counts[b.counted()] += b.waiting()
	}
}

// counted is what the batch's recipients count as.
func (b *Batch) counted() quota.Kind {
	if b.Scheduled {
		return quota.Scheduled
	}
	return quota.Waiting
}

// waiting is the number of recipients that wait in the batch. An audience that is not expanded waits as one.
func (b *Batch) waiting() int64 {
	if b.Kind == Audience {
		return 1
	}
	return int64(len(b.Recipients))
}

// prepare does what can be done outside of the committers.
func prepare(r *push.Request) (*acceptance, error) {
	a := &acceptance{Request: r, rows: make([]acceptedRow, len(r.Submissions))}
	for i, s := range r.Submissions {
		row := &a.rows[i]
		row.Notification = s.Notification
		if s.Notification.App != r.App {
			return nil, fmt.Errorf("accept: notification of app %q in a request of app %q", s.Notification.App, r.App)
		}
		if len(s.Routes) == 0 {
			return nil, errors.New("accept: a notification without a route")
		}
		if (s.Audience != nil) == (len(s.Tokens) > 0) {
			return nil, fmt.Errorf("accept: a notification goes to tokens or to an audience, one of them")
		}
		var err error
		if row.contents, err = encodeContents(s.Notification); err != nil {
			return nil, fmt.Errorf("accept: %w", err)
		}
		if s.Audience != nil {
			err = row.toAudience(&s)
			a.recipients += int64(row.n)
		} else {
			row.expanded, row.n = true, len(s.Tokens)
			a.recipients += int64(row.n)
			if err = row.toTokens(&s, nil); !row.single() {
				row.set = recipientSet(s.Tokens)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("accept: %w", err)
		}
		row.count(&a.counts)
	}
	if a.IdempotencyKey != "" {
		a.counts[quota.Keys] = 1
	}
	return a, nil
}

// serviceID is what its one delivery is called, on whichever platform; nil where that was not given.
func (row *acceptedRow) serviceID() []byte {
	id := row.ServiceID
	for _, other := range row.Others {
		if id == uuid.Nil {
			id = other.ServiceID
		}
	}
	if id == uuid.Nil {
		return nil
	}
	return id[:]
}

// setServiceID gives what was loaded the name of its one delivery.
func setServiceID(n *push.Notification, id []byte) {
	if len(id) == 0 {
		return
	}
	copy(n.ServiceID[:], id)
	for _, other := range n.Others {
		other.ServiceID = n.ServiceID
	}
}

// toAudience makes the batches that the audience is expanded from.
func (row *acceptedRow) toAudience(s *push.Submission) error {
	audience, routes, err := audienceOf(s)
	if err != nil {
		return err
	}
	encoded, err := json.Marshal(&audience)
	if err != nil {
		return err
	}
	row.audience = encoded
	if s.Empty {
		row.expanded = true
		return nil
	}
	if s.Only != nil {
		row.expanded, row.n = true, 1
		row.batch(0, Urgent, row.firstKind(), s.Only.Route, []push.Recipient{{Token: s.Only.Token}})
		return nil
	}
	lane := Bulk
	if len(s.Audience.Users) == 1 && row.Rate == 0 { // a person has a few devices: as urgent as one device
		lane = Urgent
	}
	if lane == Urgent && len(routes) > 1 {
		row.batch(0, lane, Audience, "", nil) // a few devices: one expansion for all routes
		return nil
	}
	for i, route := range routes { // each is expanded as fast as it is sent
		row.batch(uint32(i)*audienceSpan, lane, Audience, route, nil)
	}
	return nil
}

// firstKind is that of the batches of recipients that are known.
func (row *acceptedRow) firstKind() Kind {
	if row.BadgeIncrement > 0 {
		return Badges
	}
	return Ready
}

func (row *acceptedRow) batch(seq uint32, lane Lane, kind Kind, route push.Route, recipients []push.Recipient) {
	b := &Batch{
		Key: Key{Lane: lane, DueAt: row.SendAt.UnixMicro(), Notification: row.ID, Seq: seq},
		App: row.App, Route: route, Kind: kind, Recipients: recipients, ByPlatform: len(row.Others) > 0,
		Scheduled: row.Scheduled(),
	}
	row.batches = append(row.batches, b)
	if row.single() {
		row.bodies = append(row.bodies, b.recipient())
		return
	}
	row.bodies = append(row.bodies, b.body())
}

// The states as the table has them.
const (
	stateQueued = iota
	stateSending
	stateDone
	stateCancelled
)
