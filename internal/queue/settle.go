package queue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/quota"
)

// generation is what a batch's seq grows by with each follow-up, so that it is not mistaken for what follows it. The
// lower bits are its place within the notification. Of the batches that are there at one time no two of a notification
// have the same seq, for each place has one. After 256 follow-ups, as an outage of hours brings, the seq is the first
// one's again. No harm comes of it: that batch is due later than all that was settled together with the first one, and
// so its key is another.
const generation = 1 << 24

// part is a batch's name among those that are there.
type part struct {
	notification uuid.UUID
	seq          uint32
}

// errGone says that some of the batches are not there any more.
var errGone = errors.New("batches settled already")

// Settle records what became of the batches, in one transaction: it consumes their rows, adds to the counts, keeps
// failures, records the tokens that were found dead or bad, and writes a follow-up batch for what is to be sent again.
// It returns the follow-ups.
//
// A batch is consumed exactly once: what was settled already (by a commit whose answer was lost) is passed over, so
// repeating Settle after any error is harmless. Batches under a lease that was lost are not settled, and the lease is
// named in a FencedError; the others are. An Audience batch is settled without Results; it is not expanded further.
func (q *Queue) Settle(ctx context.Context, settlements []Settlement) ([]*Batch, error) {
	if len(settlements) == 0 {
		return nil, nil
	}
	start := time.Now()
	leases := leaseSet{}
	for i := range settlements {
		s := &settlements[i]
		if len(s.Results) != len(s.Batch.Recipients) {
			return nil, fmt.Errorf("settle: %d results for %d recipients", len(s.Results), len(s.Batch.Recipients))
		}
		leases[s.Lease] = struct{}{}
	}
	var done settled
	lost, err := q.fencedTx(ctx, leases, func(ctx context.Context, tx *sqlx.Tx, held map[Lease]bool) error {
		var err error
		done, err = q.settle(ctx, tx, under(held, settlements))
		return err
	})
	if errors.Is(err, errGone) {
		lost, err = q.fencedTx(ctx, leases, func(ctx context.Context, tx *sqlx.Tx, held map[Lease]bool) error {
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
	q.entries.settled(done.places, done.entries)
	q.countSettled(&done)
	if len(lost) > 0 {
		return done.followUps, &FencedError{lost}
	}
	return done.followUps, nil
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

// settled is what a settling transaction did.
type settled struct {
	followUps []*Batch
	outcomes  [push.Cancelled + 1]int64
	counts    quota.Changes
	gone      int
	places    []place // what was settled of what entries name
	entries   []Key   // removed
}

func (q *Queue) countSettled(done *settled) {
	for o, n := range done.outcomes {
		if outcome := push.Outcome(o); outcome.Final() {
			q.metrics.settled.WithLabelValues(outcome.String()).Add(float64(n))
		}
	}
	q.counters.Committed(&done.counts)
	q.metrics.followUps.Add(float64(len(done.followUps)))
	q.metrics.gone.Add(float64(done.gone))
}

// settle consumes all of the batches, or fails with errGone.
func (q *Queue) settle(ctx context.Context, tx *sqlx.Tx, settlements []*Settlement) (settled, error) {
	var done settled
	now := q.now()
	singles, err := q.consumeAll(ctx, tx, settlements, now, &done)
	if err != nil {
		return done, err
	}
	st := settling{q: q, now: now, done: &done, out: q.newOutputs(now), news: q.newNews(now),
		tallies: map[uuid.UUID]*tally{}}
	for i, s := range settlements {
		if err := st.add(ctx, tx, s, &singles[i]); err != nil {
			return done, err
		}
	}
	if err := st.out.flush(ctx, tx); err != nil {
		return done, err
	}
	for _, s := range settlements {
		if err := q.clearDoubts(ctx, tx, s, st.out.now); err != nil {
			return done, err
		}
	}
	if err := st.news.before(ctx, tx); err != nil {
		return done, err
	}
	if err := updateCounts(ctx, tx, st.tallies, now); err != nil {
		return done, err
	}
	if err := q.addToPlatforms(ctx, tx, st.platforms); err != nil {
		return done, err
	}
	if err := st.news.flush(ctx, tx); err != nil {
		return done, err
	}
	if err := q.noteAccepted(ctx, tx, settlements); err != nil {
		return done, err
	}
	return done, q.counters.Write(ctx, tx, &done.counts)
}

// settling gathers what a settling transaction writes once its batches are consumed.
type settling struct {
	q         *Queue
	now       time.Time
	done      *settled
	out       *outputs
	news      *news
	tallies   map[uuid.UUID]*tally // by notification
	platforms map[platformKey]*platformCounts
	consumed  tally // of a batch whose counts were written when it was consumed
}

// add takes up one settlement: its results, and what is to be sent again. single is what was counted of a batch that
// waited in its notification's row.
func (st *settling) add(ctx context.Context, tx *sqlx.Tx, s *Settlement, single *tally) error {
	t := st.tallyOf(s)
	if s.Batch.Kind == Audience {
		var err error
		if t.expanded, err = allExpanded(ctx, tx, s.Batch); err != nil {
			return err
		}
	}
	var followUp *Batch
	before := t.counts
	st.done.counts.Add(s.Batch.App, s.Batch.counted(), -s.finals())
	told := st.news.settled(s, single)
	for i := range s.Results {
		r, recipient := &s.Results[i], &s.Batch.Recipients[i]
		st.done.outcomes[r.Outcome]++
		t.add(r.Outcome, s.SentAt)
		if err := st.out.add(ctx, tx, s, recipient, r, told); err != nil {
			return err
		}
		if r.Outcome == push.Unregistered || r.BadToken() {
			st.q.doubts.add(s.Batch.App, recipient.Token)
		}
		if r.Outcome.Final() {
			continue
		}
		if followUp == nil {
			followUp = s.followUp(st.now)
		}
		again := *recipient
		if r.Outcome == push.Retry && again.Attempts < math.MaxUint8 {
			again.Attempts++
		}
		followUp.Recipients = append(followUp.Recipients, again)
	}
	if s.Batch.ByPlatform && t.counts != before {
		if st.platforms == nil {
			st.platforms = map[platformKey]*platformCounts{}
		}
		add(st.platforms, s.Batch).counts.add(t.counts, before)
	}
	if followUp == nil {
		return nil
	}
	st.done.followUps = append(st.done.followUps, followUp)
	return addBatch(ctx, tx, st.out.batches, followUp, followUp.body())
}

// tallyOf is what the settlement is counted in.
func (st *settling) tallyOf(s *Settlement) *tally {
	if s.Batch.single {
		st.consumed = tally{}
		return &st.consumed
	}
	t := st.tallies[s.Batch.Notification]
	if t == nil {
		t = &tally{app: s.Batch.App}
		st.tallies[s.Batch.Notification] = t
	}
	return t
}

// noteAccepted tells the registry which tokens were accepted.
func (q *Queue) noteAccepted(ctx context.Context, tx *sqlx.Tx, settlements []*Settlement) error {
	if !q.cfg.NoteAccepted {
		return nil
	}
	accepted := map[string][]push.Token{}
	for _, s := range settlements {
		for i := range s.Results {
			if s.Results[i].Outcome == push.Accepted {
				accepted[s.Batch.App] = append(accepted[s.Batch.App], s.Batch.Recipients[i].Token)
			}
		}
	}
	for _, app := range slices.Sorted(maps.Keys(accepted)) {
		if err := q.registry.Accepted(ctx, tx, app, accepted[app]); err != nil {
			return err
		}
	}
	return nil
}

// consumeAll consumes the batches: those that are rows of their own by removing them, those that wait in their
// notification's row together with its counts, which it returns. It fails with errGone where one of them is not there.
func (q *Queue) consumeAll(ctx context.Context, tx *sqlx.Tx, settlements []*Settlement, now time.Time,
	done *settled) ([]tally, error) {
	var keys []Key
	singles := make(map[uuid.UUID]*tally, len(settlements))
	all := make([]tally, len(settlements))
	for i, s := range settlements {
		switch id := s.Batch.Notification; {
		case !s.Batch.single:
			keys = append(keys, s.Batch.Key)
		case singles[id] != nil:
			return nil, errGone // for the second of the two
		default:
			t := &all[i]
			t.app, t.single = s.Batch.App, true
			t.add(s.Results[0].Outcome, s.SentAt)
			singles[id] = t
			done.places = append(done.places, s.Batch.place)
		}
	}
	rows := len(keys)
	n, err := consume(ctx, tx, keys)
	if err != nil {
		return nil, fmt.Errorf("consume batches: %w", err)
	}
	if int(n) != rows {
		return nil, errGone
	}
	if err := updateCounts(ctx, tx, singles, now); err != nil {
		return nil, err
	}
	done.entries = q.entries.emptied(done.places)
	_, err = consume(ctx, tx, slices.Clone(done.entries))
	return all, wrap(err, "remove entries of which nothing waits")
}

// settleRemaining settles those of the batches that are still there. For the others it finds the follow-ups that the
// earlier settlement wrote.
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
	all := make([]*Batch, len(settlements))
	for i, s := range settlements {
		all[i] = s.Batch
	}
	singles, err := q.lockSingles(ctx, tx, all)
	if err != nil {
		return settled{}, fmt.Errorf("find what waits of notifications to one device: %w", err)
	}
	var remaining []*Settlement
	var followUps []*Batch
	var gone []place
	for _, s := range settlements {
		k := part{s.Batch.Notification, s.Batch.Seq} // what has come to have the seq again has another key
		if b := present[k]; b != nil && b.Key == s.Batch.Key {
			remaining = append(remaining, s)
			delete(present, k) // were it given twice, the second is gone
			continue
		}
		if s.Batch.single {
			if singles[s.Batch.Key] != nil {
				remaining = append(remaining, s)
				delete(singles, s.Batch.Key)
				continue
			}
			gone = append(gone, s.Batch.place)
		}
		k.seq += generation
		if b := present[k]; b != nil && b.Kind != Unreadable {
			followUps = append(followUps, b)
		}
	}
	done := settled{}
	if len(remaining) > 0 {
		var err error
		if done, err = q.settle(ctx, tx, remaining); err != nil {
			return done, err
		}
	}
	done.followUps = append(done.followUps, followUps...)
	done.places = append(done.places, gone...)
	done.gone = len(settlements) - len(remaining)
	return done, nil
}

// consumeGap is the distance in due time beyond which batches are not consumed as one range: a range is read through.
const consumeGap = 250 * time.Millisecond

// consume removes the batches' rows and says how many were there. A list of 500 whole keys takes MariaDB 60 ms to plan;
// a range of the clustered key with the notifications listed takes 3 ms to run. It is exact: no two that are there have
// notification and seq in common, and what has come to have them again is due behind the range (see generation).
func consume(ctx context.Context, tx *sqlx.Tx, keys []Key) (n int64, err error) {
	slices.SortFunc(keys, func(a, b Key) int {
		return cmp.Or(cmp.Compare(a.Shard, b.Shard), cmp.Compare(a.Lane, b.Lane), cmp.Compare(a.Seq, b.Seq),
			cmp.Compare(a.DueAt, b.DueAt))
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
