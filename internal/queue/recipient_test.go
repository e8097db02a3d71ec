package queue

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/database/dbtest"
	"github.com/lhspn/lhspn/internal/push"
)

// outcome is what is told of a recipient: its outcome's name, or that there is none.
func (r *rig) outcome(id uuid.UUID, t push.Token) string {
	r.t.Helper()
	s, err := r.Recipient(r.t.Context(), app, id, t)
	switch {
	case errors.Is(err, push.ErrNotFound):
		return "not found"
	case err != nil:
		r.t.Fatal(err)
	case s.Token != t:
		r.t.Fatalf("asked of %v, told of %v", t, s.Token)
	}
	return s.Outcome.String()
}

// outcomes checks what is told of the tokens from 0 on.
func (r *rig) outcomes(id uuid.UUID, want ...string) {
	r.t.Helper()
	for i, want := range want {
		if got := r.outcome(id, token(i)); got != want {
			r.t.Errorf("recipient %d: %s, want %s", i, got, want)
		}
	}
}

// settleAll settles what is due, each recipient as told.
func (r *rig) settleAll(result func(t push.Token) push.Result) {
	r.t.Helper()
	for _, b := range r.due() {
		s := r.settlement(b, accepted)
		for i := range b.Recipients {
			s.Results[i] = result(b.Recipients[i].Token)
		}
		r.settle(s)
	}
}

func eachRig(t *testing.T, fn func(r *rig)) {
	t.Helper()
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *database.DB) { fn(start(t, db, Config{})) })
}

func TestRecipientOfOne(t *testing.T) {
	eachRig(t, func(r *rig) {
		n := r.notification()
		r.accept(push.Submission{Routes: production, Notification: n, Tokens: tokens(0, 1)})
		r.outcomes(n.ID, "pending", "not found")
		r.settleAll(func(push.Token) push.Result { return push.Result{Outcome: push.Retry, Reason: reasonTooManyRequests} })
		r.outcomes(n.ID, "pending", "not found")
		if s, err := r.Recipient(r.t.Context(), app, n.ID, token(0)); err != nil || s.Attempts != 1 {
			r.t.Errorf("%+v, %v", s, err)
		}
		r.settleAll(func(push.Token) push.Result { return accepted })
		r.outcomes(n.ID, "accepted", "not found")
		if s, err := r.Recipient(r.t.Context(), app, n.ID, token(0)); err != nil || !s.At.Equal(r.get(n.ID).FinishedAt) {
			r.t.Errorf("%+v, %v", s, err)
		}
		for _, id := range []uuid.UUID{uuid.New(), {}} {
			r.outcomes(id, "not found")
		}
		if _, err := r.Recipient(r.t.Context(), "another", n.ID, token(0)); !errors.Is(err, push.ErrNotFound) {
			r.t.Errorf("another app's: %v", err)
		}
	})
}

func TestRecipientsOfSeveral(t *testing.T) {
	eachRig(t, func(r *rig) {
		const several = 2500
		n, all := r.notification(), tokens(0, several)
		r.accept(push.Submission{Routes: production, Notification: n, Tokens: all})
		r.outcomes(n.ID, slices.Repeat([]string{"pending"}, 3)...)
		results := map[push.Token]push.Result{
			token(1): {Outcome: push.Failed, Reason: reasonBadDeviceToken, Status: 400},
			token(2): {Outcome: push.Unregistered, Reason: reasonUnregistered, Status: 410},
			token(3): {Outcome: push.Expired, Reason: reasonTooManyRequests}, // it knows why it was not sent
			token(4): {Outcome: push.Cancelled},
			token(5): {Outcome: push.NotSent},
			token(6): {Outcome: push.Accepted, UniqueID: new("unique")},
		}
		r.settleAll(func(t push.Token) push.Result {
			if result, other := results[t]; other {
				return result
			}
			return accepted
		})
		r.outcomes(n.ID, "accepted", "failed", "unregistered", "expired", "cancelled", "pending", "accepted", "accepted")
		for _, other := range []int{several, several + 1, -1} {
			if got := r.outcome(n.ID, token(other)); got != "not found" {
				r.t.Errorf("another token: %s", got)
			}
		}
		s, err := r.Recipient(r.t.Context(), app, n.ID, token(2))
		if err != nil || s.Reason != "Unregistered" || s.Status != 410 || s.Attempts != 1 || s.At.IsZero() {
			r.t.Errorf("%+v, %v", s, err)
		}
		if s, err := r.Recipient(r.t.Context(), app, n.ID, token(6)); err != nil || s.UniqueID != "unique" {
			r.t.Errorf("%+v, %v", s, err)
		}
	})
}

// Of an audience one is a recipient whom the registry has had in it since before it was sent.
func TestRecipientsOfAnAudience(t *testing.T) {
	eachRig(t, func(r *rig) {
		known := registry{db: r.db}
		all := tokens(0, 30)
		known.put(r.t, r.now().Add(-time.Hour), all...)
		n := r.notification()
		r.accept(push.Submission{Routes: production, Notification: n, Audience: &push.Audience{All: true}})
		is := func(want string, some ...push.Token) {
			r.t.Helper()
			for _, t := range some {
				if got := r.outcome(n.ID, t); got != want {
					r.t.Errorf("%v: %s, want %s", t.Short(), got, want)
				}
			}
		}
		is("pending", all...)
		is("not found", token(100))
		b := r.due()[0]
		ready, next, err := r.Expand(r.t.Context(), r.lease(b), b, 10)
		if err != nil || next == nil {
			r.t.Fatal(err)
		}
		is("pending", all...)
		r.settle(r.settlement(ready[0], accepted))
		is("accepted", all[:10]...)
		is("pending", all[10:]...)
		r.clock.Add(int64(time.Minute))
		late := tokens(100, 140) // those that the expansion still comes to are recipients
		known.put(r.t, r.now(), late...)
		i, _ := slices.BinarySearch(late, next.Cursor.After)
		is("not found", append(late[:i:i], token(200))...)
		is("pending", late[i:]...)
		if _, err := r.Cancel(r.t.Context(), app, n.ID); err != nil {
			r.t.Fatal(err)
		}
		is("pending", all[10:]...)
		r.settle(Settlement{Batch: next, Lease: r.lease(next), SentAt: r.now()})
		is("not found", all...) // they may have been sent to before, or not
	})
}

func TestRecipientSet(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 2, 3, 1000} {
		all := tokens(0, n)
		set := recipientSet(all)
		if len(set) != n*hashSize {
			t.Errorf("%d recipients take %d bytes", n, len(set))
		}
		for _, token := range all {
			if !inSet(set, token) {
				t.Fatalf("of %d one is missing", n)
			}
		}
		for _, token := range tokens(n, n+100) {
			if inSet(set, token) {
				t.Errorf("one too many in %d", n)
			}
		}
	}
}
