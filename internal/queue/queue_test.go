package queue

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/database/dbtest"
	"github.com/lhspn/lhspn/internal/push"
)

var accepted = push.Result{Outcome: push.Accepted, Status: 200}

// each runs a test against either engine, with one replica.
func each(t *testing.T, fn func(t *testing.T, r *rig)) {
	t.Helper()
	dbtest.Each(t, func(t *testing.T, db *database.DB) { fn(t, start(t, db, Config{Lease: time.Second})) })
}

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

// Where the look at the registry fails for a group, each of it is looked up alone, and none goes the usual way for want of it.
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

func TestAcceptAndSettle(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		one, many := r.notification(), r.notification()
		many.Payload = push.Payload{JSON: []byte(`{"aps":{"badge":}}`), BadgeAt: 16}
		r.accept(push.Submission{Routes: production, Notification: one, Tokens: tokens(0, 1)}, push.Submission{Routes: production, Notification: many, Tokens: tokens(0, 2500)})
		r.checkBacklog()

		batches := r.due()
		var sizes []int
		for _, b := range batches {
			sizes = append(sizes, len(b.Recipients))
			if want := map[bool]Lane{true: Urgent, false: Bulk}[b.Notification == one.ID]; b.Lane != want {
				t.Errorf("a batch of %d recipients is in lane %d", len(b.Recipients), b.Lane)
			}
		}
		if diff := cmp.Diff([]int{1, 1000, 1000, 500}, sizes); diff != "" {
			t.Errorf("batches (-want +got):\n%s", diff)
		}
		loaded, err := r.Notifications(t.Context(), app, []uuid.UUID{one.ID, many.ID, uuid.New()})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(map[uuid.UUID]*push.Notification{one.ID: one, many.ID: many}, loaded); diff != "" {
			t.Errorf("loaded notifications (-want +got):\n%s", diff)
		}
		if s := r.get(many.ID); s.State != push.StateQueued || s.Counts.Pending != 2500 || !s.Expanded {
			t.Errorf("accepted: %+v", s)
		}

		r.settle(r.settlement(batches[0], accepted), r.settlement(batches[1], accepted))
		if s := r.get(one.ID); s.State != push.StateDone || s.Counts.Accepted != 1 || s.FinishedAt.IsZero() || s.FirstSentAt.Before(s.CreatedAt) {
			t.Errorf("all settled: %+v", s)
		}
		if s := r.get(many.ID); s.State != push.StateSending || s.Counts.Accepted != 1000 || !s.FinishedAt.IsZero() || s.FirstSentAt.IsZero() {
			t.Errorf("one batch settled: %+v", s)
		}
		r.checkBacklog()

		// Of the second batch some are to be sent again; the rest is final in every way there is.
		s := r.settlement(batches[2], accepted)
		gone := r.now().Add(-time.Hour).UTC().Truncate(time.Millisecond)
		s.Results[0] = push.Result{Outcome: push.Failed, Reason: reasonBadDeviceToken, Status: 400}
		s.Results[1] = push.Result{Outcome: push.Unregistered, Reason: reasonUnregistered, Status: 410, Timestamp: gone}
		s.Results[2] = push.Result{Outcome: push.Expired}
		s.Results[3] = push.Result{Outcome: push.Retry, Reason: reasonTooManyRequests, Status: 429}
		s.Results[4] = push.Result{Outcome: push.NotSent}
		s.RetryAt = r.now().Add(time.Minute)
		followUps := r.settle(s)
		if len(followUps) != 1 || len(followUps[0].Recipients) != 2 || followUps[0].Recipients[0].Attempts != 1 || followUps[0].Recipients[1].Attempts != 0 {
			t.Fatalf("follow-ups: %+v", followUps)
		}
		r.checkBacklog()
		if left := r.due(); len(left) != 1 || left[0].Key != batches[3].Key {
			t.Errorf("due now: %+v", left)
		}
		r.clock.Add(int64(2 * time.Minute))
		if left := r.due(); len(left) != 2 || !cmp.Equal(left[1], followUps[0]) {
			t.Errorf("due later: %+v, want also %+v", left, followUps[0])
		}
		r.settle(r.settlement(batches[3], accepted), r.settlement(followUps[0], push.Result{Outcome: push.Failed, Reason: reasonPayloadTooLarge, Status: 413}))
		st := r.get(many.ID)
		if diff := cmp.Diff(push.Counts{Accepted: 2495, Failed: 3, Unregistered: 1, Expired: 1}, st.Counts); diff != "" || st.State != push.StateDone {
			t.Errorf("%s, counts (-want +got):\n%s", st.State, diff)
		}
		r.checkBacklog()

		failures, err := r.Failures(t.Context(), app, many.ID, "", 100)
		if err != nil {
			t.Fatal(err)
		}
		reasons := map[push.Token]string{}
		for _, f := range failures {
			reasons[f.Token] = fmt.Sprint(f.Reason, " ", f.Status, " ", f.Attempts)
		}
		want := map[push.Token]string{
			s.Batch.Recipients[0].Token: "BadDeviceToken 400 1", s.Batch.Recipients[1].Token: "Unregistered 410 1",
			s.Batch.Recipients[2].Token: "Expired 0 0", s.Batch.Recipients[3].Token: "PayloadTooLarge 413 2", s.Batch.Recipients[4].Token: "PayloadTooLarge 413 1",
		}
		if diff := cmp.Diff(want, reasons); diff != "" {
			t.Errorf("failures (-want +got):\n%s", diff)
		}
		if _, err := r.Failures(t.Context(), "another", many.ID, "", 100); !errors.Is(err, push.ErrNotFound) {
			t.Errorf("failures of another app's notification: %v", err)
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
		if due := r.due(); len(due) != 1 || !cmp.Equal(due[0], got[0]) {
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

func TestIdempotency(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		replicas := []*rig{start(t, db, Config{})}
		if db.Dialect == database.MySQL { // the other owns nothing, and accepts all the same
			other := newRig(t, db, Config{})
			other.run()
			replicas = append(replicas, other)
		}
		first := replicas[0]
		const callers = 50
		answers := make([]string, callers)
		var wg sync.WaitGroup
		for i := range callers {
			wg.Go(func() {
				r := replicas[i%len(replicas)]
				n := r.notification()
				replay, err := r.Accept(t.Context(), &push.Request{
					App: app, Submissions: []push.Submission{{Routes: production, Notification: n, Tokens: tokens(0, 1)}},
					IdempotencyKey: "key", Hash: sha256.Sum256([]byte("body")), Answer: []byte(n.ID.String()),
				})
				switch {
				case err != nil:
					t.Errorf("request %d: %v", i, err)
				case replay == nil:
					answers[i] = n.ID.String()
				default:
					answers[i] = string(replay.Answer)
				}
			})
		}
		wg.Wait()
		for i := range answers {
			if answers[i] != answers[0] {
				t.Fatalf("request %d was answered %s, request 0 %s", i, answers[i], answers[0])
			}
		}
		if n := first.scalar("SELECT COUNT(*) FROM notifications"); n != 1 {
			t.Fatalf("%d notifications", n)
		}
		first.checkBacklog()
		request := func() *push.Request {
			return &push.Request{App: app, Submissions: []push.Submission{{Routes: production, Notification: first.notification(), Tokens: tokens(0, 1)}}, IdempotencyKey: "key"}
		}
		if _, err := first.Accept(t.Context(), request()); !errors.Is(err, push.ErrConflict) {
			t.Errorf("another request with the key: %v", err)
		}
		other := request()
		other.App, other.Submissions[0].Notification.App = "another", "another"
		if replay, err := first.Accept(t.Context(), other); err != nil || replay != nil {
			t.Errorf("another app with the key: %v, %v", replay, err)
		}
		same := &push.Request{App: app, IdempotencyKey: "key", Hash: sha256.Sum256([]byte("body"))}
		if replay, err := first.Replayed(t.Context(), same); err != nil || replay == nil || string(replay.Answer) != answers[0] {
			t.Errorf("what was answered: %v, %v", replay, err)
		}
		if replay, err := first.Replayed(t.Context(), request()); !errors.Is(err, push.ErrConflict) || replay != nil {
			t.Errorf("what was answered to another request: %v, %v", replay, err)
		}
		if replay, err := first.Replayed(t.Context(), &push.Request{App: app, IdempotencyKey: "unknown"}); err != nil || replay != nil {
			t.Errorf("what was answered to nobody: %v, %v", replay, err)
		}
		first.clock.Add(int64(25 * time.Hour))
		if replay, err := first.Replayed(t.Context(), same); err != nil || replay != nil {
			t.Errorf("what was answered a day before: %v, %v", replay, err)
		}
		if replay, err := first.Accept(t.Context(), request()); err != nil || replay != nil {
			t.Errorf("the key a day later: %v, %v", replay, err)
		}
		first.checkBacklog()
	})
}

// A key that is a day old is free again, but only once: of the requests that come with it at the same time one is accepted.
func TestOldIdempotencyKeyAtOnce(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		replicas := []*rig{start(t, db, Config{})}
		if db.Dialect == database.MySQL {
			other := newRig(t, db, Config{})
			other.run()
			replicas = append(replicas, other)
		}
		first := replicas[0]
		request := func(key string) *push.Request {
			return &push.Request{
				App: app, Submissions: []push.Submission{{Routes: production, Notification: first.notification(), Tokens: tokens(0, 1)}},
				IdempotencyKey: key, Answer: []byte("answer"),
			}
		}
		const keys, callers = 30, 8
		for i := range keys {
			if _, err := first.Accept(t.Context(), request(fmt.Sprint(i))); err != nil {
				t.Fatal(err)
			}
		}
		for _, r := range replicas {
			r.clock.Add(int64(25 * time.Hour))
		}
		for i := range keys {
			var accepted atomic.Int64
			var wg sync.WaitGroup
			for c := range callers {
				wg.Go(func() {
					replay, err := replicas[c%len(replicas)].Accept(t.Context(), request(fmt.Sprint(i)))
					if err != nil {
						t.Error(err)
					} else if replay == nil {
						accepted.Add(1)
					}
				})
			}
			wg.Wait()
			if n := accepted.Load(); n != 1 {
				t.Errorf("%d of the requests with key %d were accepted", n, i)
			}
		}
		if n := first.scalar("SELECT COUNT(*) FROM notifications"); n != 2*keys {
			t.Errorf("%d notifications", n)
		}
		first.checkBacklog()
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

func TestDueGoesOnAfterAKey(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		var want []uuid.UUID
		requests := map[string]*push.Request{app: {App: app}, "another": {App: "another"}} // a request goes into one shard
		start := r.now().UTC().Truncate(time.Microsecond)
		for i := range 12 {
			n := r.notification()
			n.SendAt = start.Add(time.Duration(i/3) * time.Microsecond) // several due at the same time
			if i%4 == 3 {
				n.App = "another"
			} else {
				want = append(want, n.ID)
			}
			requests[n.App].Submissions = append(requests[n.App].Submissions, push.Submission{Routes: production, Notification: n, Tokens: tokens(0, 1)})
		}
		for _, request := range requests {
			if _, err := r.Accept(t.Context(), request); err != nil {
				t.Fatal(err)
			}
		}
		var got []uuid.UUID
		for _, l := range r.Owned() {
			after := Key{Shard: l.Shard}
			for {
				page, err := r.Due(t.Context(), DueQuery{Lane: Urgent, After: []Key{after}, Until: r.now(), Limit: 1, Without: []Outlet{{App: "another", Route: push.Production}}})
				if err != nil {
					t.Fatal(err)
				}
				if len(page) == 0 {
					break
				}
				got, after = append(got, page[0].Notification), page[0].Key
			}
		}
		sort := func(ids []uuid.UUID) []uuid.UUID {
			slices.SortFunc(ids, func(a, b uuid.UUID) int { return slices.Compare(a[:], b[:]) })
			return ids
		}
		if diff := cmp.Diff(sort(want), sort(got)); diff != "" {
			t.Errorf("read one by one (-want +got):\n%s", diff)
		}
		if none, err := r.Due(t.Context(), DueQuery{Lane: Urgent, After: []Key{{}}, Until: start.Add(-time.Hour), Limit: 1}); err != nil || len(none) > 0 {
			t.Errorf("due an hour ago: %v, %v", none, err)
		}
	})
}

// A poll for what is due costs an index probe for each shard and lane, however much is scheduled for later, on MySQL too.
func TestHeadsReadsNoMoreThanHeads(t *testing.T) {
	t.Parallel()
	db := dbtest.MySQL(t)
	r := start(t, db, Config{})
	later := r.now().Add(time.Hour)
	for i := range 20 {
		var s []push.Submission
		for range 100 {
			n := r.notification()
			n.SendAt = later.Add(time.Duration(i) * time.Second)
			s = append(s, push.Submission{Routes: production, Notification: n, Tokens: tokens(0, 1)})
		}
		r.accept(s...)
	}
	leases := r.Owned()
	conn, err := db.Reader().Connx(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	read := func() (n int) {
		rows, err := conn.QueryContext(t.Context(), "SHOW SESSION STATUS LIKE 'Handler_read_%'")
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		for rows.Next() {
			var name string
			var value int
			if err := rows.Scan(&name, &value); err != nil {
				t.Fatal(err)
			}
			n += value
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		return n
	}
	query, args := headsQuery(leases)
	before := read()
	var heads []struct {
		Shard  uint8  `db:"shard"`
		Urgent *int64 `db:"urgent"`
		Bulk   *int64 `db:"bulk"`
	}
	if err := conn.SelectContext(t.Context(), &heads, query, args...); err != nil {
		t.Fatal(err)
	}
	// The status itself is read from a table of some hundred rows.
	empty := -read()
	empty += read()
	if cost := read() - before - 3*empty; cost > 8*len(leases) {
		t.Errorf("%d rows were read for the heads of %d shards with 2,000 scheduled notifications", cost, len(leases))
	}
}
