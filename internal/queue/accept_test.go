package queue

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/database/dbtest"
	"github.com/lhspn/lhspn/internal/push"
)

// Of explicit tokens each goes the way that it is registered for, unless the request names one.
func TestAcceptByToken(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		r.registry = registry{db: r.db, elsewhere: map[push.Token]push.Route{token(3): push.Sandbox, token(5): push.Sandbox}}
		for _, byToken := range []bool{true, false} {
			n := r.notification()
			r.accept(push.Submission{Notification: n, Tokens: tokens(0, 1200), Routes: production, ByToken: byToken})
			got := map[push.Route]int{}
			for _, b := range r.due() {
				if b.Notification == n.ID {
					got[b.Route] += len(b.Recipients)
				}
			}
			want := map[push.Route]int{push.Production: 1200}
			if byToken {
				want = map[push.Route]int{push.Production: 1198, push.Sandbox: 2}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("by token %v: %s", byToken, diff)
			}
		}
	})
}

// Where the look at the registry fails for a group, each of it is looked up alone, and none goes the usual way for want
// of it.
func TestAcceptByTokenAlone(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		fails := &atomic.Bool{}
		fails.Store(true)
		r.registry = registry{db: r.db, elsewhere: map[push.Token]push.Route{token(3): push.Sandbox}, refuses: fails}
		var group []*acceptance
		for i := range 2 {
			a, err := prepare(&push.Request{App: app, Submissions: []push.Submission{
				{Notification: r.notification(), Tokens: tokens(3, 4+i), Routes: production, ByToken: true},
			}})
			if err != nil {
				t.Fatal(err)
			}
			group = append(group, a)
		}
		if err := errors.Join(r.commitGroup(t.Context(), group)...); err != nil {
			t.Fatal(err)
		}
		got := map[push.Route]int{}
		for _, b := range r.due() {
			got[b.Route] += len(b.Recipients)
		}
		if diff := cmp.Diff(map[push.Route]int{push.Production: 1, push.Sandbox: 2}, got); diff != "" {
			t.Error(diff)
		}
	})
}

func TestHandoff(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		handed := make(chan []*Batch, 1)
		r := start(t, db, Config{Handoff: func(_ *push.Notification, b []*Batch) { handed <- b }})
		n, later := r.notification(), r.notification()
		later.SendAt = later.SendAt.Add(time.Hour)
		r.accept(push.Submission{Routes: production, Notification: later, Tokens: tokens(0, 1)})
		r.accept(push.Submission{Routes: production, Notification: n, Tokens: tokens(0, 1)})
		got := <-handed
		if due := r.due(); len(due) != 1 || !cmp.Equal(due[0], got[0], sameBatch) {
			t.Errorf("handed over %+v, due are %+v", got, due)
		}
		if s := r.get(later.ID); s.State != push.StateScheduled {
			t.Errorf("to be sent later: %+v", s)
		}
		heads, err := r.Heads(t.Context(), r.Owned())
		if err != nil {
			t.Fatal(err)
		}
		var dues []time.Time
		for _, h := range heads {
			if !h.Due[Urgent].IsZero() {
				dues = append(dues, h.Due[Urgent])
			}
		}
		if len(heads) != Shards || len(dues) == 0 {
			t.Errorf("%d heads, due %v", len(heads), dues)
		}
	})
}

func TestAcceptAfterLostCommit(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]fault{"failed": failed, "persisted": persisted} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			each(t, func(t *testing.T, r *rig) {
				n := r.notification()
				request := &push.Request{App: app, Submissions: []push.Submission{{Routes: production, Notification: n, Tokens: tokens(0, 3)}}, IdempotencyKey: "key", Answer: []byte("answer")}
				r.failOnce(f)
				if replay, err := r.Accept(t.Context(), request); err != nil || (replay != nil && string(replay.Answer) != "answer") {
					t.Fatalf("%v, %v", replay, err)
				}
				if s := r.get(n.ID); s.Recipients != 3 {
					t.Errorf("%+v", s)
				}
				if due := r.due(); len(due) != 1 {
					t.Errorf("%d batches", len(due))
				}
				r.checkBacklog()
			})
		})
	}
}

func TestOneBadRequestFailsNoOther(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		n := r.notification()
		r.accept(push.Submission{Routes: production, Notification: n, Tokens: tokens(0, 1)})
		bad := &acceptance{}
		good := &acceptance{}
		for _, a := range []struct {
			to *acceptance
			n  *push.Notification
		}{{bad, n}, {good, r.notification()}} {
			p, err := prepare(&push.Request{App: app, Submissions: []push.Submission{{Routes: production, Notification: a.n, Tokens: tokens(0, 1)}}})
			if err != nil {
				t.Fatal(err)
			}
			*a.to = *p
		}
		errs := r.commitGroup(t.Context(), []*acceptance{good, bad})
		if errs[0] != nil || !database.IsDuplicate(errs[1]) {
			t.Errorf("%v", errs)
		}
		r.checkBacklog()
	})
}

func TestBacklogFull(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		r := start(t, db, Config{MaxBacklog: 10})
		first := &push.Request{
			App: app, Submissions: []push.Submission{{Routes: production, Notification: r.notification(), Tokens: tokens(0, 10)}},
			IdempotencyKey: "key", Answer: []byte("first"),
		}
		if _, err := r.Accept(t.Context(), first); err != nil {
			t.Fatal(err)
		}
		if replay, err := r.Accept(t.Context(), first); err != nil || replay == nil || string(replay.Answer) != "first" {
			t.Errorf("a repetition, which adds nothing: %v, %v", replay, err)
		}
		refused := &push.Request{App: app, Submissions: []push.Submission{{Routes: production, Notification: r.notification(), Tokens: tokens(0, 1)}}}
		if _, err := r.Accept(t.Context(), refused); !errors.Is(err, push.ErrBacklogFull) {
			t.Fatalf("beyond the bound: %v", err)
		}
		audience := &push.Request{App: app, Submissions: []push.Submission{{Routes: production, Notification: r.notification(), Audience: &push.Audience{All: true}}}}
		if _, err := r.Accept(t.Context(), audience); !errors.Is(err, push.ErrBacklogFull) {
			t.Errorf("an audience when the bound is reached: %v", err)
		}
		audience.Submissions[0].Empty = true
		if _, err := r.Accept(t.Context(), audience); err != nil {
			t.Errorf("an audience without members, of which nothing waits: %v", err)
		}
		r.settle(r.settlement(r.due()[0], accepted))
		if _, err := r.Accept(t.Context(), refused); err != nil {
			t.Errorf("after there was room again: %v", err)
		}
	})
}

// An audience that is known to have no member leaves nothing to do.
func TestAcceptForNobody(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		if !r.empty(push.Audience{All: true}) || !r.empty(push.Audience{Users: []string{"anyone"}}) {
			t.Error("without devices it has members")
		}
		registry{db: r.db}.put(t, r.now(), tokens(0, 1)...)
		if r.empty(push.Audience{All: true}) || r.empty(push.Audience{Users: []string{"anyone"}}) {
			t.Error("with a device it has none")
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
