package queue

import (
	"context"
	"errors"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/database/dbtest"
	"github.com/lhspn/lhspn/internal/push"
)

func TestSettleAfterLostCommit(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]fault{"failed": failed, "persisted": persisted} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			each(t, func(t *testing.T, r *rig) {
				a, b := r.notification(), r.notification()
				r.accept(push.Submission{Routes: production, Notification: a, Tokens: tokens(0, 3)}, push.Submission{Routes: production, Notification: b, Tokens: tokens(5, 6)})
				var settlements []Settlement
				for _, batch := range r.due() {
					s := r.settlement(batch, accepted)
					if len(s.Results) == 3 {
						s.Results[1] = push.Result{Outcome: push.Retry}
						s.Results[2] = push.Result{Outcome: push.Failed, Reason: reasonInvalidToken, Status: 8}
					}
					settlements = append(settlements, s)
				}
				r.failOnce(f)
				if _, err := r.Settle(t.Context(), settlements); !errors.Is(err, database.ErrCommitUnknown) {
					t.Fatalf("lost commit: %v", err)
				}
				for range 2 { // the second time it is certainly settled
					if followUps := r.settle(settlements...); len(followUps) != 1 || followUps[0].Recipients[0].Attempts != 1 {
						t.Fatalf("follow-ups: %+v", followUps)
					}
				}
				if s := r.get(a.ID); s.Counts != (push.Counts{Pending: 1, Accepted: 1, Failed: 1}) {
					t.Errorf("%+v", s)
				}
				if s := r.get(b.ID); s.State != push.StateDone {
					t.Errorf("%+v", s)
				}
				if n := r.scalar("SELECT SUM(answers) FROM bad_tokens"); n != 1 {
					t.Errorf("%d bad answers counted", n)
				}
				r.checkBacklog()
				if due := r.due(); len(due) != 1 {
					t.Errorf("%d batches due", len(due))
				}
			})
		})
	}
}

func TestSettleWhatIsPartlyGone(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		a, b, c := r.notification(), r.notification(), r.notification()
		for _, n := range []*push.Notification{a, b, c} {
			r.accept(push.Submission{Routes: production, Notification: n, Tokens: tokens(0, 3)})
		}
		var all []Settlement
		for _, batch := range r.due() {
			all = append(all, r.settlement(batch, accepted))
		}
		r.settle(all[0])
		r.settle(all...)
		r.settle(all[1], all[1])
		for _, n := range []*push.Notification{a, b, c} {
			if s := r.get(n.ID); s.State != push.StateDone || s.Counts.Accepted != 3 {
				t.Errorf("%+v", s)
			}
		}
		r.checkBacklog()
	})
}

// What ends the audience of one route does not end that of another.
func TestSettleAudienceOfOneRoute(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		n := r.notification()
		r.accept(push.Submission{Routes: []push.Route{push.Production, push.Sandbox}, Notification: n, Audience: &push.Audience{All: true}})
		for i, b := range r.due() {
			r.settle(Settlement{Batch: b, Lease: r.lease(b)})
			if s := r.get(n.ID); s.Expanded != (i == 1) || (s.State == push.StateDone) != (i == 1) {
				t.Errorf("after %d of 2: %+v", i+1, s)
			}
		}
	})
}

func TestStalledOwnerIsFenced(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		r := start(t, db, Config{}) // for whose lease the other, who is not there, keeps the shard
		n, other, badges, audience := r.notification(), r.notification(), r.notification(), r.notification()
		badges.BadgeIncrement, audience.BadgeIncrement = 1, 1
		registry{db: r.db}.put(t, r.now(), token(1))
		for _, s := range []push.Submission{
			{Notification: n, Tokens: tokens(0, 2)}, {Notification: other, Tokens: tokens(0, 2)},
			{Notification: badges, Tokens: tokens(1, 2)}, {Notification: audience, Audience: &push.Audience{All: true}},
		} {
			s.Routes = production
			r.accept(s)
		}
		held := map[[16]byte]Leased{}
		for _, b := range r.due() {
			l, ok := r.Acquire(b.Shard)
			if !ok {
				t.Fatal("not ours")
			}
			held[b.Notification] = Leased{b, l}
		}
		lost := held[n.ID]
		// While this replica stalls another takes the one shard over.
		err := r.db.Tx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
			_, err := tx.ExecContext(ctx, "UPDATE shards SET owner = 'another', epoch = epoch + 1 WHERE shard = ?", lost.Lease.Shard)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		var settlements []Settlement
		for _, h := range []Leased{lost, held[other.ID]} {
			settlements = append(settlements, Settlement{Batch: h.Batch, Lease: h.Lease, SentAt: r.now(), Results: []push.Result{accepted, accepted}})
		}
		same := held[other.ID].Lease == lost.Lease
		_, err = r.Settle(t.Context(), settlements)
		fenced, ok := errors.AsType[*FencedError](err)
		if !ok || !errors.Is(err, ErrFenced) || !slices.Equal(fenced.Leases, []Lease{lost.Lease}) {
			t.Fatalf("settle under a lost lease: %v", err)
		}
		if s := r.get(n.ID); s.Counts.Accepted != 0 {
			t.Errorf("what another has taken over was settled: %+v", s)
		}
		if s := r.get(other.ID); (s.State == push.StateDone) == same {
			t.Errorf("what is still ours was not settled: %+v", s)
		}
		if _, ok := r.Acquire(lost.Lease.Shard); ok {
			t.Error("the lost shard can still be held")
		}
		for _, h := range []Leased{held[badges.ID], held[audience.ID]} {
			stale := h.Lease
			stale.Epoch--
			if h.Batch.Kind == Audience {
				_, _, err = r.Expand(t.Context(), stale, h.Batch, 10)
			} else {
				_, err = r.CountBadges(t.Context(), []Leased{{h.Batch, stale}})
			}
			if !errors.Is(err, ErrFenced) {
				t.Errorf("kind %d under an old epoch: %v", h.Batch.Kind, err)
			}
		}
		if b := r.badge(token(1)); b != 0 {
			t.Errorf("the badge was counted to %d", b)
		}
		r.checkBacklog()
	})
}

// A seq comes again after 256 follow-ups. The batch that has it then is not taken for the first one, whose settlement is
// repeated.
func TestASeqThatComesAgain(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		for _, n := range []int{2, 1} { // a batch, and one that waits in its notification's row
			r.accept(push.Submission{Routes: production, Notification: r.notification(), Tokens: tokens(0, n)},
				push.Submission{Routes: production, Notification: r.notification(), Tokens: tokens(0, n)})
			due := r.due()
			first, other := r.settlement(due[0], push.Result{Outcome: push.NotSent}), r.settlement(due[1], accepted)
			last := due[0]
			for range math.MaxUint32/generation + 1 {
				r.clock.Add(int64(time.Millisecond))
				last = r.settle(r.settlement(last, push.Result{Outcome: push.NotSent}))[0]
			}
			if last.Seq != due[0].Seq || last.Key == due[0].Key {
				t.Fatalf("the seq of %+v has not come again: %+v", due[0].Key, last.Key)
			}
			if followUps := r.settle(first, other); len(followUps) != 0 {
				t.Errorf("followed by %+v", followUps)
			}
			if left := r.due(); len(left) != 1 || left[0].Key != last.Key || len(left[0].Recipients) != n {
				t.Fatalf("left: %+v, not %+v", left, last)
			}
			r.settle(r.settlement(last, accepted))
			for _, b := range due[:2] {
				if s := r.get(b.Notification); s.Counts.Accepted != int64(n) {
					t.Errorf("settled: %+v", s)
				}
			}
		}
		r.checkBacklog()
	})
}
