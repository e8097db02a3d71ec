package queue

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/database/dbtest"
	"github.com/lhspn/lhspn/internal/events"
	"github.com/lhspn/lhspn/internal/push"
)

// teller is a rig whose queue writes events.
type teller struct {
	*rig
	events *events.Store
	cursor string
}

func newEvents(db *database.DB) *events.Store {
	return events.New(db, events.Config{
		Retention: time.Hour, OwnsJob: func(string) bool { return true }, Finished: FinishedFrom(db),
	}, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
}

func eachTeller(t *testing.T, fn func(r *teller)) {
	t.Helper()
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		s := newEvents(db)
		ctx, cancel := context.WithCancel(context.Background())
		var g errgroup.Group
		g.Go(func() error { return s.Run(ctx) })
		t.Cleanup(func() {
			cancel()
			if err := g.Wait(); err != nil {
				t.Error(err)
			}
		})
		cfg := Config{Events: s, ServiceID: func(_ string, id uuid.UUID, token push.Token) string {
			return id.String() + token.Short()
		}}
		fn(&teller{rig: start(t, db, cfg), events: s})
	})
}

// next waits for the next n events.
func (r *teller) next(n int) (got []push.Event) {
	r.t.Helper()
	for len(got) < n {
		changed := r.events.Changed(app)
		items, next, err := r.events.Read(r.t.Context(), app, r.cursor, nil, n)
		if err != nil {
			r.t.Fatal(err)
		}
		more := next != r.cursor
		r.cursor = next
		if got = append(got, items...); len(got) < n && !more {
			<-changed
		}
	}
	return got
}

func typesOf(list []push.Event) (types []push.EventType) {
	for _, e := range list {
		types = append(types, e.Type)
	}
	return types
}

func decodeData[T any](tb testing.TB, e push.Event) (v T) {
	tb.Helper()
	if err := json.Unmarshal(e.Data, &v); err != nil {
		tb.Fatal(err)
	}
	return v
}

func (r *teller) settleDue(outcome func(i int) push.Result) {
	r.t.Helper()
	for _, b := range r.due() {
		l, _ := r.Acquire(b.Shard)
		of, err := r.Notifications(r.t.Context(), app, []uuid.UUID{b.Notification})
		if err != nil {
			r.t.Fatal(err)
		}
		s := Settlement{Batch: b, Lease: l, SentAt: r.now(), ServiceID: of[b.Notification].ServiceID, Name: of[b.Notification].Name,
			CreatedAt: of[b.Notification].CreatedAt}
		for i := range b.Recipients {
			s.Results = append(s.Results, outcome(i))
		}
		if _, err := r.Settle(r.t.Context(), []Settlement{s}); err != nil {
			r.t.Fatal(err)
		}
		r.Release(l)
	}
}

func TestSettlingIsTold(t *testing.T) {
	eachTeller(t, func(r *teller) {
		// One recipient: it is done at once.
		one := r.notification()
		r.accept(push.Submission{Notification: one, Tokens: tokens(0, 1), Routes: production})
		r.settleDue(func(int) push.Result { return push.Result{Outcome: push.Accepted} })
		got := r.next(1)
		if data := decodeData[events.Notification](r.t, got[0]); got[0].Type != push.EventDone ||
			data.ID != one.ID.String() || data.State != "done" || data.Counts.Accepted != 1 || data.FinishedAt == nil {
			r.t.Errorf("%s %+v", got[0].Type, data)
		}
		// One with a name of its own, which is everywhere where it is told of it.
		named := r.notification()
		named.ServiceID = uuid.New()
		r.accept(push.Submission{Notification: named, Tokens: tokens(0, 1), Routes: production})
		r.settleDue(func(int) push.Result {
			return push.Result{Outcome: push.Failed, Status: 400, Reason: push.UnknownReason}
		})
		got = r.next(2)
		want := named.ServiceID.String()
		if told := decodeData[events.Failures](r.t, got[0]).Items[0]; *told.ServiceID != want {
			r.t.Errorf("a failure is told as %+v", told)
		}
		if told := decodeData[events.Notification](r.t, got[1]); told.ServiceID == nil || *told.ServiceID != want {
			r.t.Errorf("the end is told as %+v", told)
		}
		if one, err := r.Recipient(r.t.Context(), app, named.ID, token(0)); err != nil || one.ServiceID != want {
			r.t.Errorf("the recipient is %+v, %v", one, err)
		}
		if failed, err := r.Failures(r.t.Context(), app, named.ID, "", 1); err != nil || failed[0].ServiceID != want {
			r.t.Errorf("the list has %+v, %v", failed, err)
		}
		if got := r.get(named.ID).Notification.ServiceID; got != named.ServiceID {
			r.t.Errorf("it is shown with %s", got)
		}
		// Several, of whom some are sent to again and some fail.
		several := r.notification()
		r.accept(push.Submission{Notification: several, Tokens: tokens(0, 4), Routes: production})
		unique := "73bba671-a97e-8d5d-1e33-1fc4cb02d6bf"
		r.settleDue(func(i int) push.Result {
			failed := push.Result{Outcome: push.Failed, Status: 400, Reason: push.UnknownReason, UniqueID: &unique}
			return []push.Result{{Outcome: push.Accepted, UniqueID: &unique}, failed, {Outcome: push.Retry}, {Outcome: push.Retry}}[i]
		})
		got = r.next(2)
		if !slices.Equal(typesOf(got), []push.EventType{push.EventSending, push.EventFailures}) {
			r.t.Fatalf("%v", typesOf(got))
		}
		failures := decodeData[events.Failures](r.t, got[1])
		if failures.Notification != several.ID.String() || len(failures.Items) != 1 ||
			failures.Items[0].Status != 400 || failures.Items[0].Attempts != 1 {
			r.t.Errorf("%+v", failures)
		}
		listed, err := r.Failures(r.t.Context(), app, several.ID, "", 10)
		if err != nil || len(listed) != 1 || listed[0].UniqueID != unique ||
			listed[0].ServiceID != several.ID.String()+listed[0].Token.Short() {
			r.t.Fatalf("listed %+v, %v", listed, err)
		}
		if diff := gocmp.Diff(events.FailureOf(&listed[0]), failures.Items[0]); diff != "" {
			r.t.Errorf("the list and the event differ: %s", diff)
		}
		r.settleDue(func(int) push.Result { return accepted })
		got = r.next(1)
		status := r.get(several.ID)
		if data := decodeData[events.Notification](r.t, got[0]); got[0].Type != push.EventDone ||
			data.Counts != events.Counts(status.Counts) || !data.FinishedAt.Equal(status.FinishedAt) {
			r.t.Errorf("%s %+v", got[0].Type, data)
		}
		// Cancelled: told when nothing of it is left.
		gone := r.notification()
		r.accept(push.Submission{Notification: gone, Tokens: tokens(0, 2), Routes: production})
		if _, err := r.Cancel(r.t.Context(), app, gone.ID); err != nil {
			r.t.Fatal(err)
		}
		r.settleDue(func(int) push.Result { return push.Result{Outcome: push.Cancelled} })
		if got = r.next(2); !slices.Equal(typesOf(got), []push.EventType{push.EventFailures, push.EventCancelled}) {
			r.t.Errorf("%v", typesOf(got))
		}
		// Nobody: done when it is accepted; and an audience that turns out to be empty, when it is expanded.
		for _, empty := range []bool{true, false} {
			r.accept(push.Submission{Notification: r.notification(), Audience: &push.Audience{All: true}, Routes: production, Empty: empty})
			for _, b := range r.due() {
				l, _ := r.Acquire(b.Shard)
				if _, _, err := r.Expand(r.t.Context(), l, b, 10); err != nil {
					r.t.Fatal(err)
				}
				r.Release(l)
			}
			if got = r.next(1); got[0].Type != push.EventDone {
				r.t.Errorf("%v", typesOf(got))
			}
		}
	})
}

// A broadcast's failures are told a thousand at a time.
func TestFailuresAreToldTogether(t *testing.T) {
	eachTeller(t, func(r *teller) {
		r.accept(push.Submission{Notification: r.notification(), Tokens: tokens(0, 2500), Routes: production})
		var all []Settlement
		for _, b := range r.due() {
			l, _ := r.Acquire(b.Shard)
			defer r.Release(l)
			s := Settlement{Batch: b, Lease: l, SentAt: r.now()}
			for range b.Recipients {
				s.Results = append(s.Results, push.Result{Outcome: push.Failed, Reason: push.UnknownReason})
			}
			all = append(all, s)
		}
		if _, err := r.Settle(r.t.Context(), all); err != nil {
			r.t.Fatal(err)
		}
		seen := map[string]bool{}
		got := r.next(4)
		for _, e := range got[:3] {
			for _, f := range decodeData[events.Failures](r.t, e).Items {
				seen[f.Token] = true
			}
		}
		if got[3].Type != push.EventDone || len(seen) != 2500 {
			r.t.Errorf("%v with %d tokens", typesOf(got), len(seen))
		}
	})
}

// A commit whose answer is lost, or that fails, is repeated, and told once.
func TestToldOnce(t *testing.T) {
	eachTeller(t, func(r *teller) {
		var want []uuid.UUID
		for _, f := range []fault{persisted, failed, none} {
			n := r.notification()
			want = append(want, n.ID)
			r.accept(push.Submission{Notification: n, Tokens: tokens(0, 3), Routes: production})
			b := r.due()[0]
			l, _ := r.Acquire(b.Shard)
			s := []Settlement{{Batch: b, Lease: l, SentAt: r.now(), Results: []push.Result{accepted, accepted, accepted}}}
			once := f
			failNext := func() fault { do := once; once = none; return do }
			r.fault.Store(&failNext)
			_, err := r.Settle(r.t.Context(), s)
			r.fault.Store(nil)
			if (err == nil) != (f == none) {
				r.t.Fatalf("settle with fault %d: %v", f, err)
			}
			if _, err := r.Settle(r.t.Context(), s); err != nil && !errors.Is(err, errGone) {
				r.t.Fatal(err)
			}
			r.Release(l)
		}
		told := map[string]bool{} // in any order: they may be of different shards
		for _, e := range r.next(len(want)) {
			if e.Type != push.EventDone {
				r.t.Errorf("told %s", e.Type)
			}
			told[decodeData[events.Notification](r.t, e).ID] = true
		}
		for _, id := range want {
			if !told[id.String()] {
				r.t.Errorf("the end of %s was not told", id)
			}
		}
		if items, _, err := r.events.Read(r.t.Context(), app, r.cursor, nil, 1); err != nil || len(items) > 0 {
			r.t.Errorf("and more: %v %v", items, err)
		}
	})
}

// Of notifications to one device that are accepted at once the event says what GET says, whether they are named, were
// scheduled, or were cancelled when it was too late.
func TestSinglesAreToldAsTheyAre(t *testing.T) {
	eachTeller(t, func(r *teller) {
		plain, named, cancelled, later := r.notification(), r.notification(), r.notification(), r.notification()
		named.Name, named.ServiceID = "a campaign", uuid.New()
		later.SendAt = later.CreatedAt.Add(time.Millisecond)
		want := map[uuid.UUID]push.EventType{cancelled.ID: push.EventCancelled}
		for i, n := range []*push.Notification{plain, named, cancelled, later} {
			r.accept(push.Submission{Notification: n, Tokens: tokens(i, i+1), Routes: production})
			want[n.ID] = cmp.Or(want[n.ID], push.EventDone)
		}
		if _, err := r.Cancel(r.t.Context(), app, cancelled.ID); err != nil {
			r.t.Fatal(err)
		}
		r.clock.Store(int64(time.Second))
		var all []Settlement
		for _, b := range r.due() {
			of, err := r.Notifications(r.t.Context(), app, []uuid.UUID{b.Notification})
			if err != nil {
				r.t.Fatal(err)
			}
			s := r.settlement(b, accepted)
			n := of[b.Notification]
			s.ServiceID, s.Name, s.CreatedAt = n.ServiceID, n.Name, n.CreatedAt
			all = append(all, s)
		}
		if _, err := r.Settle(r.t.Context(), all); err != nil || len(all) != len(want) {
			r.t.Fatalf("%d settled: %v", len(all), err)
		}
		for _, e := range r.next(len(want)) {
			data := decodeData[events.Notification](r.t, e)
			id := uuid.MustParse(data.ID)
			status := r.get(id)
			if e.Type != want[id] {
				r.t.Errorf("%s of one that is %s", e.Type, status.State)
			}
			if diff := gocmp.Diff(events.NotificationOf(&status), data); diff != "" {
				r.t.Errorf("GET and the event differ: %s", diff)
			}
		}
	})
}
