package queue

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/push"
)

// A page that finds nothing moves the cursor, and an audience of which not even a member is found quickly is no empty
// one.
func TestExpandSparseAudience(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		all := tokens(0, 5)
		registry{db: r.db}.put(t, r.now(), all...)
		behind := len(all) - 1 - slices.Index(all, token(0))
		sparse := push.Audience{Tags: &push.Tags{All: []string{"many", "others"}}}
		if r.empty(sparse) {
			t.Fatal("it is taken for empty")
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

// Urgent ones are sent as fast as they can be: a notification with a rate of its own, to however many devices of one
// user, is not urgent.
func TestAUsersNotificationWithARate(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		n := r.notification()
		n.Rate = 10
		r.accept(push.Submission{Routes: production, Notification: n, Audience: &push.Audience{Users: []string{"someone"}}})
		if b := r.due()[0]; b.Lane != Bulk {
			t.Errorf("in lane %d", b.Lane)
		}
	})
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
