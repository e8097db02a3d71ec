package queue

import (
	"errors"
	"fmt"
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
	dbtest.Each(t, func(t *testing.T, db *database.DB) { fn(t, start(t, db, Config{})) })
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
		s.Results[1] = push.Result{Outcome: push.Unregistered, Reason: reasonUnregistered, Status: 410, DeadAt: gone.UnixMicro()}
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
		if left := r.due(); len(left) != 2 || !cmp.Equal(left[1], followUps[0], sameBatch) {
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
