package sender

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/database/dbtest"
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/queue"
)

// loads is the queue, and counts the notifications that are loaded from it.
type loads struct {
	*queue.Queue
	mu sync.Mutex
	// of each app's, and the most that were loaded at once.
	of   map[string]int
	most int
}

func (q *loads) Notifications(ctx context.Context, app string, ids []uuid.UUID) (map[uuid.UUID]*push.Notification,
	error) {
	q.mu.Lock()
	q.of[app] += len(ids)
	q.most = max(q.most, len(ids))
	q.mu.Unlock()
	return q.Queue.Notifications(ctx, app, ids)
}

func (q *loads) loaded(app string) (all, most int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.of[app], q.most
}

// startDue runs a queue, in which n notifications to one device each of app a wait, and what add adds; and then a sender
// of these apps, who was told of none.
func startDue(tb testing.TB, db *database.DB, n int, apps map[string]RouteConfig, add func(q *queue.Queue)) (*Sender,
	*loads) {
	tb.Helper()
	q, err := queue.New(db, queue.Config{}, &pagedRegistry{}, countersOf(db), slog.New(slog.DiscardHandler),
		prometheus.NewRegistry())
	if err != nil {
		tb.Fatal(err)
	}
	queueCtx, stopQueue := context.WithCancel(context.Background())
	senderCtx, stopSender := context.WithCancel(context.Background())
	var queues, senders sync.WaitGroup
	queues.Go(func() { _ = q.Run(queueCtx) })
	tb.Cleanup(func() { stopSender(); senders.Wait(); stopQueue(); queues.Wait() })
	for from := 0; from < n; from += 1000 {
		acceptSingles(tb, q, "a", from, min(1000, n-from))
	}
	if add != nil {
		add(q)
	}
	counted := &loads{Queue: q, of: map[string]int{}}
	outlets := map[queue.Outlet]RouteConfig{}
	for app, c := range apps {
		outlets[queue.Outlet{App: app, Route: push.Production}] = c
	}
	s, err := New(Config{Drain: 10 * time.Millisecond}, counted, outlets,
		slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		tb.Fatal(err)
	}
	senders.Go(func() { _ = s.Run(senderCtx) })
	return s, counted
}

func acceptSingles(tb testing.TB, q *queue.Queue, app string, from, n int) {
	tb.Helper()
	request := &push.Request{App: app}
	for i := range n {
		request.Submissions = append(request.Submissions, push.Submission{Routes: []push.Route{push.Production},
			Notification: note(app), Tokens: []push.Token{token(from + i)}})
	}
	if _, err := q.Accept(tb.Context(), request); err != nil {
		tb.Fatal(err)
	}
}

// eventually waits until it is so.
func eventually(tb testing.TB, what string, is func() bool) {
	tb.Helper()
	deadline := time.Now().Add(time.Minute)
	for !is() {
		if time.Now().After(deadline) {
			tb.Fatalf("not so in a minute: %s", what)
		}
		timer := time.NewTimer(time.Millisecond)
		<-timer.C
	}
}

func (s *Sender) inMemory(app string) int {
	way := s.routes.Load().byOutlet[queue.Outlet{App: app, Route: push.Production}]
	way.mu.Lock()
	defer way.mu.Unlock()
	return way.backlog.inMemory[queue.Urgent] + way.backlog.inMemory[queue.Bulk]
}

// However much is due, no more of it is loaded than its route has room for, and a page at once; and what a route has no
// room for hides nothing of others.
func TestNoMoreIsLoadedThanThereIsRoomFor(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		const n, others, memory = 9_500, 600, 8000
		a, b := newFakeTransport(), newFakeTransport()
		a.stuck = make(chan struct{})
		s, q := startDue(t, db, n, map[string]RouteConfig{
			"a": {Transport: a, Kind: "http2", InFlight: 1000, Memory: memory}, "b": {Transport: b, Kind: "http2"},
		}, func(q *queue.Queue) { acceptSingles(t, q, "b", 0, others) })
		eventually(t, "the other app's are sent", func() bool { return len(b.sends()) == others && s.inMemory("b") == 0 })
		eventually(t, "the memory is full", func() bool { return s.inMemory("a") == memory })
		s.reader.rewindAll()
		time.Sleep(2 * defaultPoll) //nolint:forbidigo // nothing tells that nothing is loaded
		if loaded, _ := q.loaded("a"); loaded != memory {
			t.Errorf("%d were loaded for a memory of %d", loaded, memory)
		}
		close(a.stuck)
		eventually(t, "all are settled", func() bool { return len(a.sends()) >= n && s.inMemory("a") == 0 })
		sent := map[push.Token]int{}
		for _, d := range a.sends() {
			if sent[d.token]++; sent[d.token] > 1 {
				t.Fatal("one was sent twice")
			}
		}
		if loaded, most := q.loaded("a"); loaded != n || most > loadPage {
			t.Errorf("%d were loaded of %d, and up to %d at once", loaded, n, most)
		}
	})
}

// Loading what is due takes longer than the database is waited for: what is loaded meanwhile is sent, and other work
// has its turn.
func TestASlowReadKeepsWhatItHasDone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const n = 5000
		singles, many := make([]*push.Notification, n), note("b")
		r := start(t, func(r *rig, _ *Config, _ map[string]RouteConfig) {
			r.q.loadBy = 10 * time.Millisecond
			for i := range singles {
				singles[i] = note("a")
				r.q.acceptFrom(singles[i], i, 1)
			}
			r.q.accept(many, 2000)
		})
		pass(20 * time.Second)
		r.want(many, map[push.Outcome]int{push.Accepted: 2000})
		pass(time.Minute)
		if left := r.q.left(); left != 0 {
			t.Errorf("%d of %d were not sent", left, n)
		}
		if sends := len(r.tr["a"].sends()); sends != n {
			t.Errorf("%d were sent, %d times", n, sends)
		}
		if logs := r.logs.String(); logs != "" {
			t.Errorf("the log:\n%s", logs)
		}
	})
}

// What a read of a lane had no time for is what the next one begins with.
func TestAReadBeginsWhereTheLastHadNoTime(t *testing.T) {
	t.Parallel()
	r, now := newReader(nil), time.Now()
	var heads []queue.Head
	for shard := range uint8(queue.Shards) {
		heads = append(heads, queue.Head{Shard: shard, Due: [2]time.Time{now, now}})
		r.rewind(shard, queue.Urgent)
	}
	r.first[queue.Urgent] = 17
	after := r.after(queue.Urgent, heads, now)
	if n := len(after); n != queue.Shards || after[0].Shard != 17 || after[n-1].Shard != 16 {
		t.Errorf("%d are read, from shard %d to shard %d", n, after[0].Shard, after[n-1].Shard)
	}
}

// Rows that cannot be read hide nothing of what waits beside and behind them.
func TestUnreadableRowsHideNothing(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		tr := newFakeTransport()
		s, _ := startDue(t, db, 300, map[string]RouteConfig{"a": {Transport: tr, Kind: "http2"}}, func(q *queue.Queue) {
			several := []*push.Notification{note("a"), note("a"), note("a")}
			request := &push.Request{App: "a"}
			for i, n := range several {
				request.Submissions = append(request.Submissions, push.Submission{Routes: []push.Route{push.Production},
					Notification: n, Tokens: []push.Token{token(1000 + 2*i), token(1001 + 2*i)}})
			}
			if _, err := q.Accept(t.Context(), request); err != nil {
				t.Fatal(err)
			}
			if err := db.Tx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
				_, err := tx.ExecContext(ctx, "UPDATE batches SET body = ? WHERE notification_id = ?", []byte("x"), several[0].ID[:])
				if err == nil {
					_, err = tx.ExecContext(ctx, "UPDATE notifications SET contents = ? WHERE id = ?", []byte("x"), several[1].ID[:])
				}
				return err
			}); err != nil {
				t.Fatal(err)
			}
		})
		eventually(t, "all others are settled", func() bool { return len(tr.sends()) == 302 && s.inMemory("a") == 0 })
	})
}

// BenchmarkDueSingles is how fast notifications to one device each that were not handed over come into memory, and how
// fast they are sent and settled when they are found so.
func BenchmarkDueSingles(b *testing.B) {
	for name, open := range map[string]func(testing.TB) *database.DB{"sqlite": dbtest.SQLite, "mysql": dbtest.MySQL} {
		for what, memory := range map[string]int{"read": 1 << 20, "settle": 0} {
			b.Run(name+"/"+what, func(b *testing.B) { benchmarkDueSingles(b, open(b), memory) })
		}
	}
}

func benchmarkDueSingles(b *testing.B, db *database.DB, memory int) {
	b.Helper()
	b.StopTimer()
	tr, n := newFakeTransport(), max(b.N, 1000)
	if memory > 0 {
		tr.stuck = make(chan struct{})
	}
	s, _ := startDue(b, db, n, map[string]RouteConfig{"a": {Transport: tr, Kind: "http2", Memory: memory}},
		func(*queue.Queue) { b.StartTimer() })
	if memory > 0 {
		eventually(b, "all are in memory", func() bool { return s.inMemory("a") == n })
	} else {
		eventually(b, "all are settled", func() bool { return len(tr.sends()) >= n && s.inMemory("a") == 0 })
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "notifications/s")
}
