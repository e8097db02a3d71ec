package queue

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"pgregory.net/rapid"

	"github.com/lhspn/lhspn/internal/push"
)

// acceptSingles accepts so many notifications to one device each, in one transaction.
func (r *rig) acceptSingles(n int, change func(i int, n *push.Notification)) []*push.Notification {
	r.t.Helper()
	var s []push.Submission
	var all []*push.Notification
	for i := range n {
		n := r.notification()
		if change != nil {
			change(i, n)
		}
		all = append(all, n)
		s = append(s, push.Submission{Routes: production, Notification: n, Tokens: tokens(i, i+1)})
	}
	r.accept(s...)
	return all
}

func (r *rig) entryRows() int64 {
	return r.scalar("SELECT COUNT(*) FROM batches WHERE kind = ?", Singles)
}

func (r *rig) batchRows() int64 { return r.scalar("SELECT COUNT(*) FROM batches") }

func (r *rig) all(batches []*Batch, result push.Result) (s []Settlement) {
	for _, b := range batches {
		s = append(s, r.settlement(b, result))
	}
	return s
}

// A notification to one device is one row, from its acceptance to its end. What was accepted with it shares an entry
// with it, which goes with the last of them.
func TestOneDeviceIsOneRow(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		all := r.acceptSingles(entrySize+10, nil)
		if rows := r.batchRows(); rows != 2 || r.entryRows() != 2 {
			t.Errorf("%d rows name them", rows)
		}
		r.checkBacklog()
		due := r.due()
		if len(due) != len(all) {
			t.Fatalf("%d of %d are due", len(due), len(all))
		}
		for i, b := range due {
			if b.Notification != all[i].ID || b.Kind != Ready || b.Lane != Urgent || b.Route != push.Production || b.Recipients[0].Token != token(i) {
				t.Fatalf("notification %d waits as %+v", i, b)
			}
		}
		r.settle(r.all(due[:5], accepted)...)
		if rows := r.batchRows(); rows != 2 {
			t.Errorf("%d entries while some wait", rows)
		}
		if left := r.due(); len(left) != len(all)-5 {
			t.Errorf("%d are due after 5 were settled", len(left))
		}
		r.settle(r.all(due[5:], accepted)...)
		if rows := r.batchRows(); rows != 0 {
			t.Errorf("%d rows are left when all is settled", rows)
		}
		for _, n := range all {
			if s := r.get(n.ID); s.State != push.StateDone || s.Counts.Accepted != 1 || s.FinishedAt.IsZero() || s.FirstSentAt.IsZero() {
				t.Fatalf("settled: %+v", s)
			}
		}
		r.checkBacklog()
	})
}

// Each outcome of a notification to one device is told as that of any other, and what is to be sent again is a batch.
func TestOutcomesOfOneDevice(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		outcomes := []push.Result{
			accepted, {Outcome: push.Failed, Reason: reasonBadDeviceToken, Status: 400}, {Outcome: push.Unregistered, Reason: reasonUnregistered, Status: 410},
			{Outcome: push.Expired}, {Outcome: push.Retry, Reason: reasonTooManyRequests}, {Outcome: push.NotSent},
		}
		all := r.acceptSingles(len(outcomes), nil)
		var settlements []Settlement
		for i, b := range r.due() {
			settlements = append(settlements, r.settlement(b, outcomes[i]))
		}
		followUps := r.settle(settlements...)
		if len(followUps) != 2 || followUps[0].Recipients[0].Attempts != 1 || followUps[1].Recipients[0].Attempts != 0 || r.entryRows() != 0 {
			t.Fatalf("follow-ups %+v, %d entries", followUps, r.entryRows())
		}
		r.checkBacklog()
		want := []push.Counts{{Accepted: 1}, {Failed: 1}, {Unregistered: 1}, {Expired: 1}, {Pending: 1}, {Pending: 1}}
		for i, n := range all {
			s := r.get(n.ID)
			if s.Counts != want[i] || s.FinishedAt.IsZero() != (i >= 4) || s.FirstSentAt.IsZero() != (i == 3 || i == 5) {
				t.Errorf("notification %d: %+v", i, s)
			}
		}
		// Repeated, as after a lost answer, it finds what it wrote.
		if again := r.settle(settlements...); len(again) != 2 {
			t.Errorf("follow-ups of a repetition: %+v", again)
		}
		r.settle(r.all(followUps, accepted)...)
		for _, n := range all[4:] {
			if s := r.get(n.ID); s.State != push.StateDone || s.Counts.Accepted != 1 {
				t.Errorf("sent again: %+v", s)
			}
		}
		if rows := r.batchRows(); rows != 0 {
			t.Errorf("%d rows are left", rows)
		}
		r.checkBacklog()
	})
}

// A replica that takes over finds what waits by entries, and removes those of which nothing waits.
func TestSinglesAfterACrash(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		all := r.acceptSingles(8, func(_ int, n *push.Notification) { n.BadgeIncrement = 1 })
		due := r.due()
		r.settle(r.all(due[:3], push.Result{Outcome: push.Expired})...)
		r.entries.own(nil) // what this replica knew of the shards' entries is forgotten
		r.entries.own(r.Owned())
		left := r.due()
		if len(left) != 5 || left[0].Kind != Badges {
			t.Fatalf("due: %+v", left)
		}
		var held []Leased
		for _, b := range left {
			held = append(held, Leased{b, r.lease(b)})
		}
		ready, err := r.CountBadges(t.Context(), held)
		if err != nil || len(ready) != 5 || ready[0].Recipients[0].Badge != 1 {
			t.Fatalf("counted: %+v, %v", ready, err)
		}
		for _, b := range ready { // as where the settlement of another was under way
			b.place = place{}
		}
		r.settle(r.all(ready, accepted)...)
		if r.entryRows() != 1 {
			t.Fatal("the entry that is not known was removed: the rest of this test shows nothing")
		}
		if left := r.due(); len(left) > 0 || r.batchRows() != 0 {
			t.Errorf("%d are due and %d rows left when all is settled", len(left), r.batchRows())
		}
		for _, n := range all[3:] {
			if s := r.get(n.ID); s.State != push.StateDone {
				t.Errorf("%+v", s)
			}
		}
		r.checkBacklog()
	})
}

// Where the row that an entry names is not seen yet, as on a node that lags behind, the entry stays; after an hour it was
// purged.
func TestEntryAheadOfItsRows(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		r.acceptSingles(2, nil)
		err := r.db.Tx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
			_, err := tx.ExecContext(ctx, "DELETE FROM notifications")
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if due := r.due(); len(due) != 0 || r.entryRows() != 1 {
			t.Errorf("%d are due, %d entries", len(due), r.entryRows())
		}
		r.clock.Add(int64(2 * notYetThere))
		if due := r.due(); len(due) != 0 || r.entryRows() != 0 {
			t.Errorf("%d are due, %d entries after the purge", len(due), r.entryRows())
		}
	})
}

// What is for later waits until its time, and what is known is not read again.
func TestScheduledSingles(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		r.acceptSingles(4, func(i int, n *push.Notification) {
			n.SendAt = n.SendAt.Add(time.Duration(i/2) * time.Hour).Truncate(time.Hour)
		})
		first := r.due()
		if len(first) != 2 {
			t.Fatalf("%d are due at once", len(first))
		}
		r.clock.Add(int64(2 * time.Hour))
		var rows []*Batch
		for _, l := range r.Owned() {
			page, err := r.Due(t.Context(), DueQuery{Lane: Urgent, After: []Key{{Shard: l.Shard}}, Until: r.now(), Limit: 100})
			if err != nil {
				t.Fatal(err)
			}
			rows = append(rows, page...)
		}
		found, err := r.Singles(t.Context(), rows, func(k Key) bool {
			return slices.ContainsFunc(first, func(b *Batch) bool { return b.Key == k })
		})
		if err != nil || len(found) != 2 {
			t.Fatalf("found %+v, %v", found, err)
		}
		r.settle(r.all(append(first, found...), accepted)...)
		if rows := r.batchRows(); rows != 0 {
			t.Errorf("%d rows are left", rows)
		}
	})
}

func TestCancelSingles(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		all := r.acceptSingles(3, func(_ int, n *push.Notification) { n.SendAt = n.SendAt.Add(time.Hour) })
		for _, n := range all[:2] {
			if s, err := r.Cancel(t.Context(), app, n.ID); err != nil || s.State != push.StateCancelled {
				t.Fatalf("cancel: %+v, %v", s, err)
			}
		}
		for range 2 { // what was found is found until it is settled
			found := r.cancelledSingles()
			if len(found) != 2 || found[0].Notification != all[0].ID || found[1].Notification != all[1].ID {
				t.Fatalf("cancelled: %+v", found)
			}
		}
		r.settle(r.all(r.cancelledSingles(), push.Result{Outcome: push.Cancelled})...)
		for i, n := range all {
			if s := r.get(n.ID); (s.State == push.StateCancelled && s.Counts.Cancelled == 1 && !s.FinishedAt.IsZero()) != (i < 2) {
				t.Errorf("notification %d: %+v", i, s)
			}
		}
		if found := r.cancelledSingles(); len(found) > 0 || r.scalar("SELECT COUNT(*) FROM cancellations") > 0 {
			t.Errorf("when they are settled: %+v", found)
		}
		r.checkBacklog()
	})
}

func TestNamedRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var want []Key
		for range rapid.IntRange(0, entrySize).Draw(t, "n") {
			want = append(want, singleKey(7, rapid.Int64Min(0).Draw(t, "due"), uuid.UUID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))))
		}
		body := appendNamed(nil, want)
		got, err := decodeNamed(body, 7)
		if err != nil || !slices.Equal(got, want) {
			t.Fatalf("%v, %v", got, err)
		}
		if len(body) > 1 {
			if _, err := decodeNamed(body[:len(body)-1], 7); err == nil {
				t.Fatal("what is cut off is taken")
			}
		}
	})
}

// A user who has one device is as good as that device; one who has none, or more, is not.
func TestUserWithOneDevice(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		look := func(increment uint32) push.Submission {
			n := r.notification()
			n.BadgeIncrement = increment
			s := push.Submission{Routes: production, Notification: n, Audience: &push.Audience{Users: []string{"anyone"}}}
			if err := r.LookUp(t.Context(), &s); err != nil {
				t.Fatal(err)
			}
			return s
		}
		registry{db: r.db}.put(t, r.now(), token(1))
		plain, badge := look(0), look(2)
		if plain.Only == nil || plain.Only.Token != token(1) || plain.Only.Route != push.Production {
			t.Fatalf("the only device: %+v", plain.Only)
		}
		r.accept(plain, badge)
		r.checkBacklog()
		if rows := r.batchRows(); rows != 1 || r.entryRows() != 1 {
			t.Errorf("%d rows beside theirs", rows)
		}
		for _, b := range r.due() {
			if b.Kind == Badges {
				ready, err := r.CountBadges(t.Context(), []Leased{{b, r.lease(b)}})
				if err != nil || ready[0].Recipients[0].Badge != 2 {
					t.Fatalf("counted: %+v, %v", ready, err)
				}
				b = ready[0]
			}
			if s := r.get(b.Notification); !s.Expanded || s.Recipients != 1 {
				t.Errorf("accepted: %+v", s)
			}
			r.settle(r.settlement(b, accepted))
			if s := r.get(b.Notification); s.State != push.StateDone || s.Counts.Accepted != 1 {
				t.Errorf("settled: %+v", s)
			}
		}
		if rows := r.batchRows(); rows != 0 || r.badge(token(1)) != 2 {
			t.Errorf("%d rows are left, the badge is %d", rows, r.badge(token(1)))
		}
		r.checkBacklog()
		registry{db: r.db}.put(t, r.now(), token(2))
		if s := look(0); s.Only != nil || s.Empty {
			t.Errorf("with two devices: %+v", s)
		}
	})
}
