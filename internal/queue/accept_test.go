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
	"github.com/lhspn/lhspn/internal/quota"
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
		// Of a commit that nobody knows of for a while the reader may have found what it stored, long ago.
		unknown := r.notification()
		r.failOnce(persisted)
		r.accept(push.Submission{Routes: production, Notification: unknown, Tokens: tokens(0, 1)})
		select {
		case b := <-handed:
			t.Errorf("handed over after an unknown commit: %+v", b)
		default:
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
				if replay, err := r.Accept(t.Context(), request); err != nil || (replay != nil && string(replay) != "answer") {
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
		r := newRig(t, db, Config{})
		r.limit(quota.Config{MaxWaiting: 10}, map[string]quota.Limits{app: {}})
		r.run()
		r.await(Shards)
		first := &push.Request{
			App: app, Submissions: []push.Submission{{Routes: production, Notification: r.notification(), Tokens: tokens(0, 10)}},
			IdempotencyKey: "key", Answer: []byte("first"),
		}
		if _, err := r.Accept(t.Context(), first); err != nil {
			t.Fatal(err)
		}
		if replay, err := r.Accept(t.Context(), first); err != nil || replay == nil || string(replay) != "first" {
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

// What one app has scheduled, or has waiting, keeps no other app from its share.
func TestBacklogOfOthers(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		r := newRig(t, db, Config{})
		r.limit(quota.Config{MaxWaiting: 1000, MaxScheduled: 1000}, map[string]quota.Limits{app: {}, "other": {}})
		r.run()
		r.await(Shards)
		accept := func(of string, n int, in time.Duration) error {
			s := push.Submission{Routes: production, Notification: r.notification(), Tokens: tokens(0, n)}
			s.Notification.App, s.Notification.SendAt = of, s.Notification.SendAt.Add(in)
			_, err := r.Accept(t.Context(), &push.Request{App: of, Submissions: []push.Submission{s}})
			return err
		}
		const weeks = 21 * 24 * time.Hour
		for _, step := range []struct {
			of   string
			n    int
			in   time.Duration
			full bool
		}{
			{app, 1000, weeks, false}, {app, 1, weeks, true}, {"other", 1000, 0, false}, {"other", 1, 0, true},
			{app, 500, 0, false}, {app, 1, 0, true}, {"other", 500, weeks, false}, {"other", 1, weeks, true},
		} {
			if err := accept(step.of, step.n, step.in); errors.Is(err, push.ErrBacklogFull) != step.full || err != nil && !step.full {
				t.Errorf("%+v: %v", step, err)
			}
		}
		for _, in := range []time.Duration{0, weeks} {
			if err := accept("other", 1001, in); !errors.Is(err, push.ErrTooLarge) || errors.Is(err, push.ErrBacklogFull) {
				t.Errorf("more at once than will ever fit: %v", err)
			}
		}
		r.checkBacklog()
	})
}

// An app's own quotas hold, and those who repeat a request or look for an audience of nobody are not met by them.
func TestQuotas(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		r := newRig(t, db, Config{})
		r.limit(quota.Config{}, map[string]quota.Limits{app: {quota.Waiting: 3, quota.Scheduled: 2, quota.Keys: 1}})
		r.run()
		r.await(Shards)
		request := func(key string, n int, in time.Duration) *push.Request {
			s := push.Submission{Routes: production, Notification: r.notification(), Tokens: tokens(0, n)}
			s.Notification.SendAt = s.Notification.SendAt.Add(in)
			return &push.Request{App: app, Submissions: []push.Submission{s}, IdempotencyKey: key, Answer: []byte(key)}
		}
		over := func(r *rig, request *push.Request, of string) {
			t.Helper()
			_, err := r.Accept(t.Context(), request)
			if over, is := errors.AsType[*push.QuotaError](err); !is || over.Quota != of {
				t.Errorf("beyond %s: %v", of, err)
			}
		}
		first := request("key", 3, 0)
		if _, err := r.Accept(t.Context(), first); err != nil {
			t.Fatal(err)
		}
		over(r, request("", 1, 0), "max_waiting")
		over(r, request("", 3, time.Hour), "max_scheduled")
		over(r, request("another", 1, time.Hour), "max_idempotency_keys")
		if replay, err := r.Accept(t.Context(), first); err != nil || replay == nil {
			t.Errorf("a repetition: %v, %v", replay, err)
		}
		for range 2 {
			if _, err := r.Accept(t.Context(), request("", 1, time.Hour)); err != nil {
				t.Fatal(err)
			}
		}
		over(r, request("", 1, time.Hour), "max_scheduled")
		r.settle(r.settlement(r.due()[0], accepted))
		if _, err := r.Accept(t.Context(), request("", 3, 0)); err != nil {
			t.Errorf("after there was room again: %v", err)
		}
		r.settle(r.settlement(r.due()[0], accepted))
		r.clock.Store(int64(2 * time.Hour))
		for _, b := range r.due() { // what was scheduled counts as such to its end
			r.settle(r.settlement(b, accepted))
		}
		if _, err := r.Accept(t.Context(), request("", 2, time.Hour)); err != nil {
			t.Errorf("after what was scheduled is sent: %v", err)
		}
		r.clock.Store(int64(keyLifetime + 3*time.Hour))
		if _, err := r.Purge(t.Context(), r.now().Add(-time.Hour), 1000); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Accept(t.Context(), request("another", 1, 0)); err != nil {
			t.Errorf("after the key's day: %v", err)
		}
		r.checkBacklog()
	})
}
