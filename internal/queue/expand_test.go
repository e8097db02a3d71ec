package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jmoiron/sqlx"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/push"
)

func (r *rig) badge(t push.Token) int64 {
	r.t.Helper()
	return r.scalar("SELECT badge FROM device_tokens WHERE app = ? AND token = ?", app, []byte(t))
}

// A page that finds nothing moves the cursor, and an audience of which not even a member is found quickly is no empty one.
func TestExpandSparseAudience(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		all := tokens(0, 5)
		registry{db: r.db}.put(t, r.now(), all...)
		behind := len(all) - 1 - slices.Index(all, token(0))
		sparse := push.Audience{Tags: &push.Tags{All: []string{"many", "others"}}}
		if empty, err := r.Empty(t.Context(), app, sparse); err != nil || empty {
			t.Fatalf("empty: %v, %v", empty, err)
		}
		n := r.notification()
		r.accept(push.Submission{Routes: production, Notification: n, Audience: &sparse})
		batch := r.due()[0]
		ready, next, err := r.Expand(t.Context(), r.lease(batch), batch, 100)
		if err != nil || len(ready) > 0 || next == nil {
			t.Fatalf("the first page: %d batches, next %v, %v", len(ready), next, err)
		}
		if again := r.due(); len(again) != 1 || again[0].Cursor != next.Cursor || again[0].Key != next.Key {
			t.Fatalf("stored: %+v, want %+v", again, next)
		}
		if s := r.get(n.ID); s.Expanded {
			t.Error("expanded before the end")
		}
		if ready, next, err = r.Expand(t.Context(), r.lease(next), next, 100); err != nil || len(ready) != 1 || next != nil {
			t.Fatalf("the second page: %d batches, next %v, %v", len(ready), next, err)
		}
		r.settle(r.settlement(ready[0], accepted))
		if s := r.get(n.ID); s.State != push.StateDone || s.Recipients != int64(behind) {
			t.Errorf("at the end: %+v", s)
		}
		r.checkBacklog()
	})
}

func TestExpand(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]fault{"smoothly": none, "failed": failed, "persisted": persisted} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			each(t, func(t *testing.T, r *rig) {
				all := tokens(0, 2300)
				registry{db: r.db}.put(t, r.now(), all...)
				n := r.notification()
				n.BadgeIncrement = 2
				r.accept(push.Submission{Routes: production, Notification: n, Audience: &push.Audience{All: true}})
				if s := r.get(n.ID); s.Expanded || s.Recipients != 0 || s.State != push.StateQueued {
					t.Errorf("before it is expanded: %+v", s)
				}
				batch := r.due()[0]
				var found []push.Token
				var sizes []int
				for batch != nil {
					r.failOnce(f)
					ready, next, err := r.Expand(t.Context(), r.lease(batch), batch, 1500)
					for tries := 0; err != nil; tries++ {
						if !errors.Is(err, database.ErrCommitUnknown) || tries > 0 {
							t.Fatal(err)
						}
						ready, next, err = r.Expand(t.Context(), r.lease(batch), batch, 1500)
					}
					for _, b := range ready {
						sizes = append(sizes, len(b.Recipients))
						for _, rec := range b.Recipients {
							found = append(found, rec.Token)
							if rec.Badge != 2 {
								t.Fatalf("badge %d is sent", rec.Badge)
							}
						}
						r.settle(r.settlement(b, accepted))
					}
					r.checkBacklog()
					batch = next
				}
				if !slices.Equal(found, all) {
					t.Errorf("%d of %d tokens were found", len(found), len(all))
				}
				if diff := cmp.Diff([]int{1000, 500, 800}, sizes); diff != "" {
					t.Errorf("batches (-want +got):\n%s", diff)
				}
				if wrong := r.scalar("SELECT COUNT(*) FROM device_tokens WHERE badge <> 2"); wrong != 0 {
					t.Errorf("%d stored badges are wrong", wrong)
				}
				if s := r.get(n.ID); s.State != push.StateDone || s.Recipients != 2300 || s.Counts.Accepted != 2300 || s.FinishedAt.IsZero() {
					t.Errorf("%+v", s)
				}
			})
		})
	}
}

// The largest audience that the API lets through is kept whole.
func TestExpandManyUsers(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		audience := push.Audience{Users: make([]string, 10_000)}
		for i := range audience.Users {
			audience.Users[i] = fmt.Sprintf("%0*d", push.MaxUserID, i)
		}
		n := r.notification()
		r.accept(push.Submission{Routes: production, Notification: n, Audience: &audience})
		batch := r.due()[0]
		ready, next, err := r.Expand(t.Context(), r.lease(batch), batch, 1000)
		if err != nil || len(ready) > 0 || next != nil {
			t.Fatalf("%d batches, %v, %v", len(ready), next, err)
		}
		if s := r.get(n.ID); s.State != push.StateDone {
			t.Errorf("%+v", s)
		}
	})
}

// An audience of two routes is expanded for each on its own, and known when both are at their end.
func TestExpandRoutes(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		registry{db: r.db}.put(t, r.now(), tokens(0, 1500)...)
		n := r.notification()
		r.accept(push.Submission{Routes: []push.Route{push.Production, push.Sandbox}, Notification: n, Audience: &push.Audience{All: true}})
		cursors := r.due()
		if len(cursors) != 2 || cursors[0].Route != push.Production || cursors[1].Route != push.Sandbox {
			t.Fatalf("the audience's batches: %+v", cursors)
		}
		seqs := map[uint32]bool{}
		for i := 0; len(cursors) > 0; i++ { // in turns
			b := cursors[0]
			cursors = cursors[1:]
			ready, next, err := r.Expand(t.Context(), r.lease(b), b, 1000)
			if err != nil {
				t.Fatal(err)
			}
			again, nextAgain, err := r.Expand(t.Context(), r.lease(b), b, 1000)
			if err != nil || len(again) != len(ready) || (nextAgain == nil) != (next == nil) {
				t.Errorf("repeated: %d batches, want %d: %v", len(again), len(ready), err)
			}
			for _, one := range ready {
				if one.Route != push.Production || seqs[one.Seq] { // the fake registry has no other
					t.Errorf("batch %+v", one.Key)
				}
				seqs[one.Seq] = true
			}
			if next != nil {
				cursors = append(cursors, next)
			}
			if s := r.get(n.ID); s.Expanded != (len(cursors) == 0) {
				t.Errorf("expanded %v with %d cursors left", s.Expanded, len(cursors))
			}
		}
		if s := r.get(n.ID); s.Recipients != 3000 {
			t.Errorf("%+v", s)
		}
	})
}

func TestBatchesByRoute(t *testing.T) {
	t.Parallel()
	page := make([]push.Recipient, 2500)
	routes := make([]push.Route, len(page))
	for i := range page {
		page[i].Token, routes[i] = token(i), push.Production
		if i%10 == 0 {
			routes[i] = push.Sandbox
		}
	}
	got := map[push.Route][]int{}
	for route, part := range batchesByRoute(page, routes) {
		got[route] = append(got[route], len(part))
	}
	if fmt.Sprint(got) != fmt.Sprint(map[push.Route][]int{push.Production: {1000, 1000, 250}, push.Sandbox: {250}}) {
		t.Errorf("%v", got)
	}
}

func TestExpandNobody(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		n := r.notification()
		r.accept(push.Submission{Routes: production, Notification: n, Audience: &push.Audience{Users: []string{"nobody"}}})
		b := r.due()[0]
		if b.Lane != Urgent {
			t.Errorf("one user's notification is in lane %d", b.Lane)
		}
		ready, next, err := r.Expand(t.Context(), r.lease(b), b, 1000)
		if err != nil || len(ready) > 0 || next != nil {
			t.Errorf("%v, %v, %v", ready, next, err)
		}
		if s := r.get(n.ID); s.State != push.StateDone || !s.Expanded || s.FinishedAt.IsZero() {
			t.Errorf("%+v", s)
		}
	})
}

// An audience that is known to have no member leaves nothing to do.
func TestAcceptForNobody(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		if empty, err := r.Empty(t.Context(), app, push.Audience{All: true}); err != nil || !empty {
			t.Errorf("without devices: empty %v, %v", empty, err)
		}
		registry{db: r.db}.put(t, r.now(), tokens(0, 1)...)
		if empty, err := r.Empty(t.Context(), app, push.Audience{All: true}); err != nil || empty {
			t.Errorf("with a device: empty %v, %v", empty, err)
		}
		n := r.notification()
		r.accept(push.Submission{Routes: production, Notification: n, Audience: &push.Audience{Users: []string{"nobody"}}, Empty: true})
		if b := r.due(); len(b) != 0 {
			t.Errorf("batches %+v", b)
		}
		if s := r.get(n.ID); s.State != push.StateDone || !s.Expanded || s.Recipients != 0 || !s.FinishedAt.Equal(s.CreatedAt) {
			t.Errorf("%+v", s)
		}
	})
}

func TestCountBadges(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]fault{"smoothly": none, "failed": failed, "persisted": persisted} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			each(t, func(t *testing.T, r *rig) {
				registry{db: r.db}.put(t, r.now(), token(1), token(2))
				// The same tokens several times over, by different increments, and one that is not registered.
				var submissions []push.Submission
				for i, ts := range [][]push.Token{{token(1)}, {token(1)}, {token(2)}, {token(3)}, {token(1), token(2)}} {
					n := r.notification()
					n.BadgeIncrement = uint32(1 + i%2)
					slices.Sort(ts)
					submissions = append(submissions, push.Submission{Routes: production, Notification: n, Tokens: ts})
				}
				r.accept(submissions...)
				var held []Leased
				for _, b := range r.due() {
					if b.Kind != Badges {
						t.Fatalf("kind %d", b.Kind)
					}
					held = append(held, Leased{b, r.lease(b)})
				}
				r.failOnce(f)
				ready, err := r.CountBadges(t.Context(), held)
				if (err != nil) != (f != none) {
					t.Fatal(err)
				}
				if err != nil {
					if ready, err = r.CountBadges(t.Context(), held); err != nil {
						t.Fatal(err)
					}
				}
				if one, two := r.badge(token(1)), r.badge(token(2)); one != 1+2+1 || two != 1+1 {
					t.Errorf("the badges are %d and %d", one, two)
				}
				sums := map[push.Token][]uint32{}
				for _, b := range ready {
					if b.Kind != Ready {
						t.Errorf("kind %d", b.Kind)
					}
					for _, rec := range b.Recipients {
						sums[rec.Token] = append(sums[rec.Token], rec.Badge)
					}
				}
				for _, s := range sums {
					slices.Sort(s)
				}
				if !slices.IsSorted(sums[token(1)]) || len(slices.Compact(sums[token(1)])) != 3 || !slices.Equal(sums[token(3)], []uint32{2}) || slices.Max(sums[token(1)]) != 4 {
					t.Errorf("badges to be sent: %v", sums)
				}
				if due := r.due(); len(due) != len(ready) || !cmp.Equal(sortedKeys(due), sortedKeys(ready)) {
					t.Errorf("the rows differ from what was returned")
				}
				r.checkBacklog()
			})
		})
	}
}

func sortedKeys(batches []*Batch) []Batch {
	var all []Batch
	for _, b := range batches {
		all = append(all, *b)
	}
	slices.SortFunc(all, func(a, b Batch) int { return slices.Compare(a.Notification[:], b.Notification[:]) })
	return all
}

func TestCancel(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		registry{db: r.db}.put(t, r.now(), tokens(0, 1500)...)
		scheduled, audience, done := r.notification(), r.notification(), r.notification()
		scheduled.SendAt = scheduled.SendAt.Add(time.Hour)
		r.accept(push.Submission{Routes: production, Notification: scheduled, Tokens: tokens(0, 1200)}, push.Submission{Routes: production, Notification: audience, Audience: &push.Audience{All: true}},
			push.Submission{Routes: production, Notification: done, Tokens: tokens(0, 1)})
		for _, b := range r.due() {
			if b.Notification == done.ID {
				r.settle(r.settlement(b, accepted))
			} else if _, _, err := r.Expand(t.Context(), r.lease(b), b, 1000); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := r.Cancel(t.Context(), app, done.ID); !errors.Is(err, push.ErrConflict) {
			t.Errorf("cancel what is done: %v", err)
		}
		if _, err := r.Cancel(t.Context(), "another", scheduled.ID); !errors.Is(err, push.ErrNotFound) {
			t.Errorf("cancel another app's: %v", err)
		}
		if batches, err := r.CancelledBatches(t.Context(), r.Owned(), nil, 10); err != nil || len(batches) > 0 {
			t.Errorf("before anything is cancelled: %v, %v", batches, err)
		}
		r.failOnce(persisted)
		for _, n := range []*push.Notification{scheduled, audience, audience} {
			if s, err := r.Cancel(t.Context(), app, n.ID); err != nil || s.State != push.StateCancelled {
				t.Errorf("cancel: %+v, %v", s, err)
			}
		}
		// One after the other, as a sender with little memory would.
		var found []*Batch
		for {
			var after *Batch
			if len(found) > 0 {
				after = found[len(found)-1]
			}
			page, err := r.CancelledBatches(t.Context(), r.Owned(), after, 1)
			if err != nil {
				t.Fatal(err)
			}
			if len(page) == 0 {
				break
			}
			found = append(found, page...)
		}
		var kinds []Kind
		for _, b := range found {
			kinds = append(kinds, b.Kind)
			if b.Kind == Audience { // it is as well expanded as settled: nothing comes of it
				if ready, next, err := r.Expand(t.Context(), r.lease(b), b, 1000); err != nil || len(ready) > 0 || next != nil {
					t.Errorf("expand what is cancelled: %v, %v, %v", ready, next, err)
				}
				continue
			}
			r.settle(r.settlement(b, push.Result{Outcome: push.Cancelled}))
		}
		slices.Sort(kinds)
		if diff := cmp.Diff([]Kind{Ready, Ready, Ready, Audience}, kinds); diff != "" {
			t.Errorf("kinds of cancelled batches (-want +got):\n%s", diff)
		}
		for _, n := range []*push.Notification{scheduled, audience} {
			if s := r.get(n.ID); s.State != push.StateCancelled || s.Counts.Cancelled != s.Recipients || s.Recipients < 1000 || !s.Expanded || s.FinishedAt.IsZero() {
				t.Errorf("cancelled: %+v", s)
			}
		}
		r.checkBacklog()
		if page, err := r.CancelledBatches(t.Context(), r.Owned(), nil, 10); err != nil || len(page) > 0 {
			t.Errorf("after all is settled: %v, %v", page, err)
		}
		if n := r.scalar("SELECT COUNT(*) FROM cancellations"); n != 0 {
			t.Errorf("%d cancellations are kept", n)
		}
	})
}

func TestSettleCancelledAudience(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		n := r.notification()
		r.accept(push.Submission{Routes: production, Notification: n, Audience: &push.Audience{All: true}})
		if _, err := r.Cancel(t.Context(), app, n.ID); err != nil {
			t.Fatal(err)
		}
		b := r.due()[0]
		r.settle(Settlement{Batch: b, Lease: r.lease(b)})
		if s := r.get(n.ID); s.State != push.StateCancelled || !s.Expanded || s.FinishedAt.IsZero() {
			t.Errorf("%+v", s)
		}
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
	each(t, func(t *testing.T, r *rig) {
		n, other, badges, audience := r.notification(), r.notification(), r.notification(), r.notification()
		badges.BadgeIncrement = 1
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
			l, ok := r.Hold(b.Shard)
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
		if _, ok := r.Hold(lost.Lease.Shard); ok {
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
