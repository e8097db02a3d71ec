package sender

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/database/dbtest"
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/queue"
)

// What was not handed over of notifications to one device each, as after a crash, is found in the database, and each is
// sent once.
func TestReaderFindsSingles(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		tr := newFakeTransport()
		var mu sync.Mutex
		sent := map[push.Token]int{}
		tr.answer = func(d *push.Delivery) push.Result {
			mu.Lock()
			defer mu.Unlock()
			sent[d.Token]++
			return push.Result{Outcome: push.Accepted, Status: 200}
		}
		registry := &pagedRegistry{}
		q, err := queue.New(db, queue.Config{}, registry, countersOf(db), slog.New(slog.DiscardHandler), prometheus.NewRegistry())
		if err != nil {
			t.Fatal(err)
		}
		s, err := New(Config{Poll: 10 * time.Millisecond}, q, map[queue.Outlet]RouteConfig{{App: "a", Route: push.Production}: {Transport: tr, Kind: "http2"}},
			slog.New(slog.DiscardHandler), prometheus.NewRegistry())
		if err != nil {
			t.Fatal(err)
		}
		queueCtx, stopQueue := context.WithCancel(context.Background())
		senderCtx, stopSender := context.WithCancel(context.Background())
		var queues, senders sync.WaitGroup
		queues.Go(func() { _ = q.Run(queueCtx) })
		defer func() { stopSender(); senders.Wait(); stopQueue(); queues.Wait() }()
		const n = 600
		request := &push.Request{App: "a"}
		for i := range n {
			single := note("a")
			single.BadgeIncrement = uint32(i % 2)
			request.Submissions = append(request.Submissions,
				push.Submission{Routes: []push.Route{push.Production}, Notification: single, Tokens: []push.Token{token(i)}})
		}
		if _, err := q.Accept(t.Context(), request); err != nil {
			t.Fatal(err)
		}
		senders.Go(func() {
			if err := s.Run(senderCtx); err != nil {
				t.Error(err)
			}
		})
		deadline := time.Now().Add(30 * time.Second)
		for _, submission := range request.Submissions {
			for {
				st, err := q.Get(t.Context(), "a", submission.Notification.ID)
				if err != nil {
					t.Fatal(err)
				}
				if st.State == push.StateDone && st.Counts.Accepted == 1 {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("not done: %+v", st)
				}
				timer := time.NewTimer(5 * time.Millisecond)
				<-timer.C
			}
		}
		mu.Lock()
		defer mu.Unlock()
		if len(sent) != n {
			t.Errorf("%d of %d were sent to", len(sent), n)
		}
		for to, times := range sent {
			if times != 1 {
				t.Errorf("%s was sent to %d times", to.Short(), times)
			}
		}
		if registry.counted != n/2 {
			t.Errorf("badges were counted %d times", registry.counted)
		}
	})
}
