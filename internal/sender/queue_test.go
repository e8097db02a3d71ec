package sender

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/database/dbtest"
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/queue"
	"github.com/lhspn/lhspn/internal/quota"
)

// The queue is what the sender needs; it is said here so that a change to either is noticed where it is made.
var _ Queue = (*queue.Queue)(nil)

// pagedRegistry is a registry of so many tokens, all in every audience.
type pagedRegistry struct {
	size int
	mu   sync.Mutex
	// counted is the number of times that a badge was counted up, also in transactions that were rolled back.
	counted int
}

func (r *pagedRegistry) AudiencePage(
	ctx context.Context, tx *sqlx.Tx, app string, _ push.Audience, after push.Token, limit int, increment uint32,
) ([]push.Recipient, []push.Route, push.Token, error) {
	var page []push.Recipient
	var routes []push.Route
	var next push.Token
	for i := range r.size {
		if t := token(i); t > after && len(page) < limit {
			page, routes = append(page, push.Recipient{Token: t}), append(routes, push.Production)
			next = t
		}
	}
	if len(page) < limit {
		next = ""
	}
	if increment == 0 {
		return page, routes, next, nil
	}
	return page, routes, next, r.AddBadges(ctx, tx, app, page, increment)
}

func (*pagedRegistry) Member(context.Context, sqlx.QueryerContext, string, push.Audience, push.Token) (*push.AudienceMember, error) {
	return nil, nil
}

func (r *pagedRegistry) Elsewhere(
	context.Context, sqlx.QueryerContext, string, []push.Token, push.Route,
) (map[push.Token]push.Route, error) {
	return nil, nil
}

func (r *pagedRegistry) LastUpdated(
	context.Context, sqlx.QueryerContext, string, []push.Token,
) (map[push.Token]time.Time, error) {
	return nil, nil
}

func (r *pagedRegistry) AddBadges(_ context.Context, _ *sqlx.Tx, _ string, recipients []push.Recipient, n uint32) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counted += len(recipients)
	for i := range recipients {
		recipients[i].Badge = n
	}
	return nil
}

func (r *pagedRegistry) RemoveUnchanged(_ context.Context, _ *sqlx.Tx, invalidations []push.Invalidation) ([]bool, error) {
	return make([]bool, len(invalidations)), nil
}

// Over the real queue: what is accepted is sent, retried, counted and done.
func TestOverTheQueue(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		tr := newFakeTransport()
		var mu sync.Mutex
		retried := map[push.Token]int{}
		tr.answer = func(d *push.Delivery) push.Result {
			mu.Lock()
			defer mu.Unlock()
			switch d.Token[7] {
			case 1:
				return push.Result{Outcome: push.Unregistered, Reason: reasonUnregistered, Status: 410, DeadAt: time.Now().UnixMicro()}
			case 2:
				return push.Result{Outcome: push.Failed, Reason: reasonBadDeviceToken, Status: 400}
			case 3:
				return push.Result{Outcome: push.Retry, Reason: reasonServiceUnavailable, Status: 503}
			case 4:
				if retried[d.Token]++; retried[d.Token]%2 == 1 {
					return push.Result{Outcome: push.NotSent, Reason: push.ConnectionLost}
				}
			}
			return push.Result{Outcome: push.Accepted, Status: 200}
		}
		var s *Sender
		registry := &pagedRegistry{size: 9000}
		q, err := queue.New(db, queue.Config{Handoff: func(n *push.Notification, b []*queue.Batch) { s.Handoff(n, b) }}, registry,
			countersOf(db), slog.New(slog.DiscardHandler), prometheus.NewRegistry())
		if err != nil {
			t.Fatal(err)
		}
		if s, err = New(Config{Retry: 5 * time.Millisecond, Pause: 5 * time.Millisecond}, q,
			map[queue.Outlet]RouteConfig{{App: "a", Route: push.Production}: {Transport: tr, Kind: "http2"}}, slog.New(slog.DiscardHandler), prometheus.NewRegistry()); err != nil {
			t.Fatal(err)
		}
		queueCtx, stopQueue := context.WithCancel(context.Background())
		senderCtx, stopSender := context.WithCancel(context.Background())
		var queues, senders sync.WaitGroup
		queues.Go(func() { _ = q.Run(queueCtx) })
		senders.Go(func() {
			if err := s.Run(senderCtx); err != nil {
				t.Error(err)
			}
		})
		defer func() { stopSender(); senders.Wait(); stopQueue(); queues.Wait() }()

		one, many, badges, all := note("a"), note("a"), note("a"), note("a")
		badges.BadgeIncrement, all.BadgeIncrement = 1, 1
		tokens := make([]push.Token, 2560)
		for i := range tokens {
			tokens[i] = token(i)
		}
		var good []push.Token // that are accepted at once
		for _, t := range tokens {
			if t[7] > 4 && len(good) < 200 {
				good = append(good, t)
			}
		}
		for _, r := range []push.Submission{
			{Routes: []push.Route{push.Production}, Notification: one, Tokens: tokens[:1]}, {Routes: []push.Route{push.Production}, Notification: many, Tokens: tokens},
			{Routes: []push.Route{push.Production}, Notification: badges, Tokens: tokens[100:1400]}, {Routes: []push.Route{push.Production}, Notification: all, Audience: &push.Audience{All: true}},
		} {
			if _, err := q.Accept(t.Context(), &push.Request{App: "a", Submissions: []push.Submission{r}}); err != nil {
				t.Fatal(err)
			}
		}
		for _, w := range []struct {
			n    *push.Notification
			want [3]int64 // recipients, failed, unregistered
		}{{one, [3]int64{1, 0, 0}}, {many, [3]int64{2560, 20, 10}}, {badges, [3]int64{1300, 10, 5}}, {all, [3]int64{9000, 72, 36}}} {
			deadline := time.Now().Add(30 * time.Second)
			for {
				st, err := q.Get(t.Context(), "a", w.n.ID)
				if err != nil {
					t.Fatal(err)
				}
				if st.State == push.StateDone {
					got := [3]int64{st.Recipients, st.Counts.Failed, st.Counts.Unregistered}
					if got != w.want || st.Counts.Accepted != w.want[0]-w.want[1]-w.want[2] {
						t.Errorf("recipients, failed, unregistered: %v, want %v (%+v)", got, w.want, st.Counts)
					}
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("not done: %+v", st)
				}
				// Others succeed meanwhile, so that what fails is the delivery's own fault.
				other := push.Submission{Routes: []push.Route{push.Production}, Notification: note("a"), Tokens: good}
				if _, err := q.Accept(t.Context(), &push.Request{App: "a", Submissions: []push.Submission{other}}); err != nil {
					t.Fatal(err)
				}
				timer := time.NewTimer(10 * time.Millisecond)
				<-timer.C
			}
		}
		failures, err := q.Failures(t.Context(), "a", many.ID, "", 100)
		if err != nil || len(failures) != 30 {
			t.Fatalf("%d failures, %v", len(failures), err)
		}
		for _, f := range failures {
			if want := map[string]uint8{"ServiceUnavailable": 4}[f.Reason]; want != 0 && f.Attempts != want {
				t.Errorf("%s after %d attempts, want %d", f.Reason, f.Attempts, want)
			}
		}
		if registry.counted != 1300+9000 {
			t.Errorf("badges were counted %d times", registry.counted)
		}
	})
}

func countersOf(db *database.DB) *quota.Counters {
	return quota.New(db, quota.Config{}, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
}

func (*pagedRegistry) Accepted(context.Context, *sqlx.Tx, string, []push.Token) error { return nil }
