package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/lhspn/lhspn/internal/database"
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
	replay  *Replay
}

type verdict uint8

const (
	inserted verdict = iota
	replayed         // the key is known, with the same request
	repeated         // the same request stands earlier in the same group
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
// none. Concurrent calls share a transaction. A non-nil Replay is the answer to a repetition.
//
// It fails with push.ErrConflict where the key was used for another request, push.ErrQuota, push.ErrBacklogFull, or
// push.ErrUnavailable; with the last one the request may have been committed all the same, and only a key makes its
// repetition safe.
func (q *Queue) Accept(ctx context.Context, r *push.Request) (*Replay, error) {
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
		if errors.Is(err, push.ErrBacklogFull) {
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

// LookUp says of a submission to an audience that is sent to now whether it has no member (Empty), as far as that is
// quickly seen, and where the audience is one user with a single device, which (Only). What a device registers a moment
// later does not count: it would not be sent to either had the notification come a moment earlier.
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
	if len(s.Audience.Users) == 1 { // a person has a few devices: as urgent as one device
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
		err = q.tx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
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
	notifications := database.NewInsert("notifications", `app, id, name, state, platform,
		environment, push_type, kind, topic, priority, expires_at,
		collapse_id, badge_increment, rate, payload, badge_at, ticket_at, contents, audience, trace, shard, waiting,
		recipient,
		expanded, recipients, created_at, send_at,
		finished_at`, "")
	platforms, sets, receipts := newPlatformInsert(), newSetInsert(), newReceiptInsert()
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
			state, finished := stateQueued, never
			if len(row.batches) == 0 { // an audience without members
				state, finished = stateDone, created
				news.Finish(nil, row.App, row.ID)
			}
			waiting, recipient := notHere, []byte{}
			if row.single() {
				waiting, recipient = waitingAs(row.batches[0].Kind), row.bodies[0]
			}
			if err := notifications.Add(ctx, tx, row.App, row.ID[:], []byte(row.Name), state, row.Platform,
				string(row.Environment),
				string(row.Type), string(row.Kind), []byte(row.Key), row.Priority,
				stamp(row.Expiration), []byte(row.CollapseID), row.BadgeIncrement, row.Rate, bytesOf(row.Payload.JSON),
				row.Payload.BadgeAt, row.Payload.TicketAt, orNull(row.contents), orNull(row.audience),
				orNull(row.Trace.Bytes()), shard, waiting, recipient, row.expanded, row.n, created, sendAt,
				finished); err != nil {
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

// The states as the table has them.
const (
	stateQueued = iota
	stateSending
	stateDone
	stateCancelled
)
