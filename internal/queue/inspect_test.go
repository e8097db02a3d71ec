package queue

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lhspn/lhspn/internal/push"
)

func TestReplicas(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		r.accept(push.Submission{Routes: production, Notification: r.notification(), Tokens: tokens(0, 7)})
		all, free, err := r.Replicas(t.Context())
		waiting, scheduled := r.Waiting()
		if err != nil || len(all) != 1 || !all[0].Self || len(all[0].Shards) != Shards || len(free) > 0 || waiting+scheduled != 7 {
			t.Errorf("%+v, %v free, %d wait, %v", all, free, waiting+scheduled, err)
		}
	})
}

func TestCountFailures(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		n := r.notification()
		r.accept(push.Submission{Routes: production, Notification: n, Tokens: tokens(0, 10)})
		for _, b := range r.due() {
			s := r.settlement(b, push.Result{Outcome: push.Failed, Reason: &push.Reason{Text: "BadTopic"}, Status: 400})
			for i := range 3 {
				s.Results[i] = push.Result{Outcome: push.Failed, Reason: push.NoAnswer}
			}
			r.settle(s)
		}
		counts, complete, err := r.CountFailures(t.Context(), n.ID, 1000)
		want := []ReasonCount{{"BadTopic", 400, 7}, {"NoAnswer", 0, 3}}
		if diff := cmp.Diff(want, counts); diff != "" || !complete || err != nil {
			t.Errorf("%v, %v (-want +got):\n%s", complete, err, diff)
		}
		if counts, complete, err = r.CountFailures(t.Context(), n.ID, 5); err != nil || complete || len(counts) == 0 {
			t.Errorf("of some: %v, %v, %v", counts, complete, err)
		}
	})
}

func TestTokenHistory(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		n := r.notification()
		r.accept(push.Submission{Routes: production, Notification: n, Tokens: []push.Token{token(1), token(2)}})
		dead := r.now().Add(-time.Minute)
		for _, b := range r.due() {
			s := r.settlement(b, push.Result{Outcome: push.Failed, Reason: &push.Reason{Text: "BadDeviceToken", Class: push.ClassToken}, Status: 400})
			i := slices.IndexFunc(b.Recipients, func(to push.Recipient) bool { return to.Token == token(1) })
			s.Results[i] = push.Result{Outcome: push.Unregistered, Reason: &push.Reason{Text: "Unregistered"}, Status: 410, DeadAt: dead.UnixMicro()}
			r.settle(s)
		}
		h, err := r.TokenHistory(t.Context(), app, token(1))
		if err != nil || len(h.Invalidations) != 1 || h.Invalidations[0].Source != push.SourceUnregistered ||
			!h.Invalidations[0].CheckedAt.IsZero() || len(h.Failures) != 1 || h.Failures[0].Notification != n.ID ||
			h.Failures[0].Reason != "Unregistered" || h.Failures[0].At.IsZero() {
			t.Errorf("of one that is dead: %+v, %v", h, err)
		}
		if _, pending, err := r.LastInvalidations(t.Context(), app, 10); pending != 1 || err != nil {
			t.Errorf("%d pending, %v", pending, err)
		}
		if _, err := r.CheckInvalidations(t.Context(), app, push.PlatformSet{}, 10); err != nil {
			t.Fatal(err)
		}
		page, pending, err := r.LastInvalidations(t.Context(), app, 10)
		if pending != 0 || err != nil || len(page) != 1 || page[0].Token != token(1) || page[0].CheckedAt.IsZero() {
			t.Errorf("after the pass: %+v, %d pending, %v", page, pending, err)
		}
		if h, err = r.TokenHistory(t.Context(), app, token(2)); err != nil || len(h.Bad) != 1 || h.Bad[0].Answers != 1 || len(h.Failures) != 1 {
			t.Errorf("of one that was called bad: %+v, %v", h, err)
		}
		if h, err = r.TokenHistory(t.Context(), "another", token(1)); err != nil || len(h.Invalidations)+len(h.Bad)+len(h.Failures) > 0 {
			t.Errorf("of another app: %+v, %v", h, err)
		}
	})
}
