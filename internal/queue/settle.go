package queue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/push"
)

// generation is what a batch's seq grows by with each follow-up, so that a notification's seq never comes twice: a
// batch that was consumed long ago can never be mistaken for what followed it. The lower bits are its place within the
// notification.
const generation = 1 << 24

func (e *FencedError) Error() string {
	return fmt.Sprintf("%v: %d shards", ErrFenced, len(e.Leases))
}

// Unwrap makes it an ErrFenced.
func (e *FencedError) Unwrap() error { return ErrFenced }

// part is a batch's name, which never comes twice.
type part struct {
	notification uuid.UUID
	seq          uint32
}

// errGone says that some of the batches are not there any more.
var errGone = errors.New("batches settled already")

// Settle records what became of the batches, in one transaction: it consumes their rows, adds to the counts, keeps failures,
// records the tokens that were found dead or bad, and writes a follow-up batch for what is to be sent again. It returns the
// follow-ups.
//
// A batch is consumed exactly once: what was settled already (by a commit whose answer was lost) is passed over, so
// repeating Settle after any error is harmless. Batches under a lease that was lost are not settled, and the lease is
// named in a FencedError; the others are. An Audience batch is settled without Results; it is not expanded further.
func (q *Queue) Settle(ctx context.Context, settlements []Settlement) ([]*Batch, error) {
	if len(settlements) == 0 {
		return nil, nil
	}
	start := time.Now()
	deltas := map[Lease]int64{}
	none := map[Lease]int64{}
	for i := range settlements {
		s := &settlements[i]
		if len(s.Results) != len(s.Batch.Recipients) {
			return nil, fmt.Errorf("settle: %d results for %d recipients", len(s.Results), len(s.Batch.Recipients))
		}
		deltas[s.Lease] -= s.finals()
		none[s.Lease] = 0
	}
	var done settled
	lost, err := q.fencedTx(ctx, deltas, func(ctx context.Context, tx *sqlx.Tx, held map[Lease]bool) error {
		var err error
		done, err = q.settle(ctx, tx, under(held, settlements))
		return err
	})
	if errors.Is(err, errGone) {
		lost, err = q.fencedTx(ctx, none, func(ctx context.Context, tx *sqlx.Tx, held map[Lease]bool) error {
			var err error
			done, err = q.settleRemaining(ctx, tx, under(held, settlements))
			return err
		})
	}
	if err != nil {
		return nil, fmt.Errorf("settle: %w", err)
	}
	q.metrics.groups.WithLabelValues("settle").Observe(float64(len(settlements)))
	q.metrics.seconds.WithLabelValues("settle").Observe(time.Since(start).Seconds())
	q.countSettled(&done)
	if len(lost) > 0 {
		return done.followUps, &FencedError{lost}
	}
	return done.followUps, nil
}

func (s *Settlement) finals() (n int64) {
	for i := range s.Results {
		if s.Results[i].Outcome.Final() {
			n++
		}
	}
	return n
}

// under picks the settlements whose leases hold.
func under(held map[Lease]bool, settlements []Settlement) []*Settlement {
	picked := make([]*Settlement, 0, len(settlements))
	for i := range settlements {
		if held[settlements[i].Lease] {
			picked = append(picked, &settlements[i])
		}
	}
	return picked
}

// fencedTx runs fn in a transaction that has added the deltas to the shards' backlogs, under leases which thereby are
// locked and known to be ours. Leases that turn out to be lost are missing in held, and returned.
func (q *Queue) fencedTx(
	ctx context.Context, deltas map[Lease]int64, fn func(ctx context.Context, tx *sqlx.Tx, held map[Lease]bool) error,
) ([]Lease, error) {
	var lost []Lease
	err := q.tx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		held, err := q.fence(ctx, tx, deltas)
		if err != nil {
			return err
		}
		lost = lost[:0]
		for l := range deltas {
			if !held[l] {
				lost = append(lost, l)
			}
		}
		if len(held) == 0 {
			return nil
		}
		return fn(ctx, tx, held)
	})
	if errors.Is(err, database.ErrCommitUnknown) {
		q.metrics.unknown.Inc()
	}
	if err != nil {
		return nil, err
	}
	if len(lost) > 0 {
		q.lost(lost)
		q.metrics.fenced.Inc()
	}
	return lost, nil
}

// fence adds to the shards' backlogs and says which leases hold. That it changes the rows, and does not just lock them,
// makes it a fence on engines whose nodes do not see each other's locks too.
func (q *Queue) fence(ctx context.Context, tx *sqlx.Tx, deltas map[Lease]int64) (map[Lease]bool, error) {
	leases := slices.SortedFunc(maps.Keys(deltas), func(a, b Lease) int {
		return cmp.Or(cmp.Compare(a.Shard, b.Shard), cmp.Compare(a.Epoch, b.Epoch))
	})
	var cases strings.Builder
	var deltaArgs, shardArgs, epochArgs []any
	for _, l := range leases {
		if deltas[l] != 0 {
			cases.WriteString(" WHEN shard = ? AND epoch = ? THEN ?")
			deltaArgs = append(deltaArgs, l.Shard, l.Epoch, deltas[l])
		}
		shardArgs = append(shardArgs, l.Shard)
		epochArgs = append(epochArgs, l.Shard, l.Epoch)
	}
	delta := "0"
	if cases.Len() > 0 {
		delta = "CASE" + cases.String() + " ELSE 0 END"
	}
	const one = "(shard = ? AND epoch = ?)"
	where := " WHERE owner = ? AND shard IN " + list(len(leases)) + " AND (" + one + strings.Repeat(" OR "+one, len(leases)-1) + ")"
	args := slices.Concat([]any{q.id}, shardArgs, epochArgs)
	n, err := affected(ctx, tx, "UPDATE shards SET backlog = backlog + "+delta+where, slices.Concat(deltaArgs, args)...)
	if err != nil {
		return nil, fmt.Errorf("fence: %w", err)
	}
	held := make(map[Lease]bool, len(leases))
	if int(n) == len(leases) {
		for _, l := range leases {
			held[l] = true
		}
		return held, nil
	}
	rows, err := tx.QueryContext(ctx, "SELECT shard, epoch FROM shards"+where, args...)
	if err != nil {
		return nil, fmt.Errorf("fence: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var l Lease
		if err := rows.Scan(&l.Shard, &l.Epoch); err != nil {
			return nil, fmt.Errorf("fence: %w", err)
		}
		held[l] = true
	}
	return held, wrap(rows.Err(), "fence")
}

// settled is what a settling transaction did.
type settled struct {
	followUps []*Batch
	outcomes  [push.Cancelled + 1]int64
	gone      int
}

func (q *Queue) countSettled(done *settled) {
	var finals int64
	for o, n := range done.outcomes {
		if outcome := push.Outcome(o); outcome.Final() {
			q.metrics.settled.WithLabelValues(outcome.String()).Add(float64(n))
			finals += n
		}
	}
	q.backlog.Add(-finals)
	q.metrics.followUps.Add(float64(len(done.followUps)))
	q.metrics.gone.Add(float64(done.gone))
}

// settle consumes all of the batches, or fails with errGone.
func (q *Queue) settle(ctx context.Context, tx *sqlx.Tx, settlements []*Settlement) (settled, error) {
	var done settled
	keys := make([]Key, len(settlements))
	for i, s := range settlements {
		keys[i] = s.Batch.Key
	}
	n, err := consume(ctx, tx, keys)
	if err != nil {
		return done, fmt.Errorf("consume batches: %w", err)
	}
	if int(n) != len(settlements) {
		return done, errGone
	}
	now := q.now()
	tallies := map[uuid.UUID]*tally{}
	out := q.newOutputs(now)
	for _, s := range settlements {
		t := tallies[s.Batch.Notification]
		if t == nil {
			t = &tally{app: s.Batch.App}
			tallies[s.Batch.Notification] = t
		}
		if s.Batch.Kind == Audience {
			if t.expanded, err = allExpanded(ctx, tx, s.Batch); err != nil {
				return done, err
			}
		}
		followUp := s.followUp(now)
		for i := range s.Results {
			r, recipient := &s.Results[i], &s.Batch.Recipients[i]
			done.outcomes[r.Outcome]++
			t.add(r.Outcome, s.SentAt)
			if err := out.add(ctx, tx, s, recipient, r); err != nil {
				return done, err
			}
			if !r.Outcome.Final() {
				again := *recipient
				if r.Outcome == push.Retry && again.Attempts < math.MaxUint8 {
					again.Attempts++
				}
				followUp.Recipients = append(followUp.Recipients, again)
			}
		}
		if len(followUp.Recipients) > 0 {
			done.followUps = append(done.followUps, followUp)
			if err := addBatch(ctx, tx, out.batches, followUp, followUp.body()); err != nil {
				return done, err
			}
		}
	}
	if err := out.flush(ctx, tx); err != nil {
		return done, err
	}
	return done, updateCounts(ctx, tx, tallies, now)
}

// followUp is the batch, still empty, that takes the place of the settled one.
func (s *Settlement) followUp(now time.Time) *Batch {
	b := &Batch{Key: s.Batch.Key, App: s.Batch.App, Route: s.Batch.Route, Kind: s.Batch.Kind}
	b.Seq += generation
	b.DueAt = s.RetryAt.UnixMicro()
	if s.RetryAt.IsZero() {
		b.DueAt = now.UnixMicro()
	}
	return b
}

// settleRemaining settles those of the batches that are still there. For the others it finds the follow-ups that the earlier
// settlement wrote.
func (q *Queue) settleRemaining(ctx context.Context, tx *sqlx.Tx, settlements []*Settlement) (settled, error) {
	present := map[part]*Batch{}
	for chunk := range slices.Chunk(settlements, maxKeys) {
		ids := make([]uuid.UUID, len(chunk))
		for i, s := range chunk {
			ids[i] = s.Batch.Notification
		}
		batches, err := q.lockBatches(ctx, tx, ids)
		if err != nil {
			return settled{}, fmt.Errorf("find which batches are there: %w", err)
		}
		for _, b := range batches {
			present[part{b.Notification, b.Seq}] = b
		}
	}
	var remaining []*Settlement
	var followUps []*Batch
	deltas := map[Lease]int64{}
	for _, s := range settlements {
		k := part{s.Batch.Notification, s.Batch.Seq}
		if b := present[k]; b != nil && b.Key == s.Batch.Key {
			remaining = append(remaining, s)
			deltas[s.Lease] -= s.finals()
			delete(present, k) // were it given twice, the second is gone
			continue
		}
		k.seq += generation
		if b := present[k]; b != nil {
			followUps = append(followUps, b)
		}
	}
	done := settled{}
	if len(remaining) > 0 {
		var err error
		if done, err = q.settle(ctx, tx, remaining); err != nil {
			return done, err
		}
		if _, err := q.fence(ctx, tx, deltas); err != nil {
			return done, err
		}
	}
	done.followUps = append(done.followUps, followUps...)
	done.gone = len(settlements) - len(remaining)
	return done, nil
}

// consumeGap is the distance in due time beyond which batches are not consumed as one range: a range is read through.
const consumeGap = 250 * time.Millisecond

// consume removes the batches' rows and says how many were there. A list of 500 whole keys takes MariaDB 60 ms to plan;
// a range of the clustered key with the notifications listed takes 3 ms to run. It is exact, as notification and seq
// never come twice.
func consume(ctx context.Context, tx *sqlx.Tx, keys []Key) (n int64, err error) {
	slices.SortFunc(keys, func(a, b Key) int {
		return cmp.Or(cmp.Compare(a.Shard, b.Shard), cmp.Compare(a.Lane, b.Lane), cmp.Compare(a.Seq, b.Seq), cmp.Compare(a.DueAt, b.DueAt))
	})
	for len(keys) > 0 {
		first, end := keys[0], 1
		for end < len(keys) && end < maxKeys &&
			keys[end].Shard == first.Shard && keys[end].Lane == first.Lane && keys[end].Seq == first.Seq &&
			keys[end].DueAt-keys[end-1].DueAt <= consumeGap.Microseconds() {
			end++
		}
		ids := make([]uuid.UUID, end)
		for i := range ids {
			ids[i] = keys[i].Notification
		}
		removed, err := affected(ctx, tx, `DELETE FROM batches
			WHERE shard = ? AND lane = ? AND due_at BETWEEN ? AND ? AND seq = ? AND notification_id IN `+list(end),
			append([]any{first.Shard, first.Lane, first.DueAt, keys[end-1].DueAt, first.Seq}, idArgs(ids)...)...)
		if err != nil {
			return n, err
		}
		n += removed
		keys = keys[end:]
	}
	return n, nil
}

// outputs are the rows that settling adds.
type outputs struct {
	failures, invalidations, badTokens, batches *insert
	now                                         any
}

func (q *Queue) newOutputs(now time.Time) *outputs {
	oneMore := " ON DUPLICATE KEY UPDATE answers = answers + 1, last_at = VALUES(last_at)"
	if q.db.Dialect == database.SQLite {
		oneMore = " ON CONFLICT (app, token, environment, kind) DO UPDATE SET answers = answers + 1, last_at = excluded.last_at"
	}
	return &outputs{
		failures: newInsert("failures", "notification_id, token, reason, status, attempts, failed_at",
			q.db.Dialect.Upsert("notification_id, token", "reason", "status", "attempts", "failed_at")),
		invalidations: q.newInvalidations(),
		badTokens:     newInsert("bad_tokens", "app, token, environment, kind, answers, first_at, last_at", oneMore),
		batches:       newInsert("batches", batchColumns, ""),
		now:           stamp(now),
	}
}

func (o *outputs) flush(ctx context.Context, tx *sqlx.Tx) error {
	for _, in := range []*insert{o.failures, o.invalidations, o.badTokens, o.batches} {
		if err := in.flush(ctx, tx); err != nil {
			return fmt.Errorf("insert what became of the recipients: %w", err)
		}
	}
	return nil
}

// add notes what one result leaves behind.
func (o *outputs) add(ctx context.Context, tx *sqlx.Tx, s *Settlement, recipient *push.Recipient, r *push.Result) error {
	if !r.Outcome.Final() || r.Outcome == push.Accepted {
		return nil
	}
	reason, attempts := r.Reason, recipient.Attempts
	switch r.Outcome { //nolint:exhaustive // the others bring their reason
	case push.Expired:
		reason = cmp.Or(reason, push.ExpiredReason)
	case push.Cancelled:
		reason = cmp.Or(reason, push.CancelledReason)
	case push.Unregistered:
		reason = cmp.Or(reason, push.UnknownReason)
	}
	if (r.Outcome == push.Failed || r.Outcome == push.Unregistered) && attempts < math.MaxUint8 {
		attempts++ // the one that was answered now
	}
	token := []byte(recipient.Token)
	err := o.failures.add(ctx, tx, 200, s.Batch.Notification[:], token, reason.String(), r.Status, attempts, o.now)
	if err == nil && r.Outcome == push.Unregistered {
		at := r.Timestamp
		if at.IsZero() { // no later than this, then
			at = s.SentAt
		}
		err = o.invalidations.add(ctx, tx, 200, s.Batch.App, token, stamp(at), string(push.SourceUnregistered), "", "")
	}
	if err == nil && r.BadToken() && s.Kind != push.KindNone {
		at := stamp(s.SentAt)
		err = o.badTokens.add(ctx, tx, 200, s.Batch.App, token, string(s.Batch.Route), string(s.Kind), 1, at, at)
	}
	return wrap(err, "insert what became of the recipients")
}

// tally is what is added to one notification's row.
type tally struct {
	app      string
	counts   counts
	sentAt   time.Time // zero where nothing was sent
	expanded bool
}

// counts stand in the order of countColumns.
type counts [5]int64

var countColumns = [len(counts{})]string{"accepted", "failed", "unregistered", "expired", "cancelled"}

func (t *tally) add(o push.Outcome, sentAt time.Time) {
	sent := false
	switch o {
	case push.Accepted:
		t.counts[0]++
		sent = true
	case push.Failed:
		t.counts[1]++
		sent = true
	case push.Unregistered:
		t.counts[2]++
		sent = true
	case push.Expired:
		t.counts[3]++
	case push.Cancelled:
		t.counts[4]++
	case push.Retry:
		sent = true
	case push.Pending, push.NotSent, push.Held:
	}
	if sent && (t.sentAt.IsZero() || sentAt.Before(t.sentAt)) {
		t.sentAt = sentAt
	}
}

// sentPrecision is how exact first_sent_at is: notifications sent within it share a statement.
const sentPrecision = 10 * time.Millisecond

// updateCounts adds the tallies up in the notifications' rows. Notifications with the same tally, as most to one
// recipient have it, share a statement.
func updateCounts(ctx context.Context, tx *sqlx.Tx, tallies map[uuid.UUID]*tally, now time.Time) error {
	type alike struct {
		app      string
		counts   counts
		sent     int64
		expanded bool
	}
	type group struct {
		alike
		sentAt time.Time
		ids    []uuid.UUID
	}
	groups := map[alike]*group{}
	var order []*group
	for id, t := range tallies {
		k := alike{t.app, t.counts, 0, t.expanded}
		if !t.sentAt.IsZero() {
			k.sent = t.sentAt.UnixMicro() / sentPrecision.Microseconds()
		}
		if k == (alike{app: t.app}) {
			continue
		}
		g := groups[k]
		if g == nil {
			g = &group{alike: k}
			groups[k] = g
			order = append(order, g)
		}
		if t.sentAt.After(g.sentAt) { // the latest: none of them was sent before it was created
			g.sentAt = t.sentAt
		}
		g.ids = append(g.ids, id)
	}
	for _, g := range order {
		for ids := range slices.Chunk(g.ids, maxKeys) {
			c := change{counts: g.counts, sentAt: g.sentAt, expanded: g.expanded}
			if err := c.apply(ctx, tx, g.app, ids, now); err != nil {
				return err
			}
		}
	}
	return nil
}

// change is what is added to several notifications alike.
type change struct {
	counts     counts
	sentAt     time.Time // zero where nothing was sent
	expanded   bool      // all recipients are known now
	recipients int       // that many more are known
}

// apply makes the change, and finishes those of the notifications of which nothing is left. MySQL evaluates a SET from left
// to right with the new values, others with the old ones: so the counts come last.
func (c *change) apply(ctx context.Context, tx *sqlx.Tx, app string, ids []uuid.UUID, now time.Time) error {
	var sum int64
	var set strings.Builder
	var args []any
	for i, n := range c.counts {
		if n != 0 {
			sum += n
			set.WriteString(", " + countColumns[i] + " = " + countColumns[i] + " + ?")
			args = append(args, n)
		}
	}
	if c.recipients != 0 {
		set.WriteString(", recipients = recipients + ?")
		args = append(args, c.recipients)
	}
	complete := "accepted + failed + unregistered + expired + cancelled + ? = recipients + ?"
	if c.expanded {
		set.WriteString(", expanded = 1")
	} else {
		complete = "expanded = 1 AND " + complete
	}
	state := " ELSE state"
	sent := ""
	lead := []any{sum, c.recipients, sum, c.recipients, stamp(now)}
	if !c.sentAt.IsZero() {
		state = " ELSE 1"
		sent = ", first_sent_at = CASE WHEN first_sent_at = ? THEN ? ELSE first_sent_at END"
		lead = append(lead, never, stamp(c.sentAt))
	}
	args = slices.Concat(lead, args, []any{app}, idArgs(ids))
	_, err := tx.ExecContext(ctx, "UPDATE notifications SET state = CASE WHEN state = 3 THEN 3 WHEN "+complete+" THEN 2"+state+" END,"+
		" finished_at = CASE WHEN "+complete+" THEN ? ELSE finished_at END"+sent+set.String()+
		" WHERE app = ? AND id IN "+list(len(ids)), args...)
	return wrap(err, "update counts")
}
