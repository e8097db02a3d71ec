package sender

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/queue"
)

// endlessQueue expands one audience page by page, at no cost, and only counts what is settled.
type endlessQueue struct {
	*fakeQueue
	left    int
	pages   []push.Recipient
	settled chan int
}

func (q *endlessQueue) Heads(context.Context, []queue.Lease) ([]queue.Head, error) { return nil, nil }

func (q *endlessQueue) Expand(_ context.Context, _ queue.Lease, b *queue.Batch, limit int) (ready []*queue.Batch, next *queue.Batch, err error) {
	key := b.Key
	for limit > 0 && q.left > 0 {
		n := min(limit, queue.MaxBatch, q.left)
		ready = append(ready, &queue.Batch{Key: key, App: b.App, Recipients: q.pages[:n]})
		key.Seq++
		limit -= n
		q.left -= n
	}
	if q.left > 0 {
		next = &queue.Batch{Key: key, App: b.App, Kind: queue.Audience}
	}
	return ready, next, nil
}

func (q *endlessQueue) Settle(_ context.Context, settlements []queue.Settlement) ([]*queue.Batch, error) {
	for _, s := range settlements {
		q.settled <- len(s.Results)
	}
	return nil, nil
}

// instantTransport accepts everything at once.
type instantTransport struct{ groups chan *push.Group }

func (t *instantTransport) Run(ctx context.Context) error {
	for {
		select {
		case g := <-t.groups:
			for i := range g.Deliveries {
				g.Deliveries[i].Result = push.Result{Outcome: push.Accepted, Status: 200}
			}
			g.Done(g)
		case <-ctx.Done():
			return nil
		}
	}
}

func (t *instantTransport) Send(_ context.Context, g *push.Group) error {
	t.groups <- g
	return nil
}

func (t *instantTransport) Drain(context.Context) error { return nil }

// The sender's own cost of a recipient of a broadcast: everything but the database and the wire.
func BenchmarkBroadcast(b *testing.B) {
	for _, target := range []time.Duration{0, 50 * time.Millisecond} {
		b.Run("target="+target.String(), func(b *testing.B) {
			q := &endlessQueue{fakeQueue: newFakeQueue(), left: b.N, pages: recipients(0, queue.MaxBatch), settled: make(chan int, 1000)}
			s, err := New(Config{}, q, map[queue.Outlet]RouteConfig{{App: "a"}: {Transport: &instantTransport{make(chan *push.Group, 4)}, Kind: "http2", QueueTarget: target}},
				slog.New(slog.DiscardHandler), prometheus.NewRegistry())
			if err != nil {
				b.Fatal(err)
			}
			ctx, cancel := context.WithCancel(b.Context())
			done := make(chan error, 1)
			go func() { done <- s.Run(ctx) }()
			s.memory.own(q.Owned())
			n := note("a")
			b.ReportAllocs()
			b.ResetTimer()
			s.Handoff(n, []*queue.Batch{{Key: queue.Key{Lane: queue.Bulk, Notification: n.ID}, App: "a", Kind: queue.Audience}})
			for left := b.N; left > 0; {
				left -= <-q.settled
			}
			b.StopTimer()
			cancel()
			if err := <-done; err != nil {
				b.Fatal(err)
			}
		})
	}
}

// The same of one-token notifications, each a batch of its own.
func BenchmarkOneToken(b *testing.B) {
	q := &endlessQueue{fakeQueue: newFakeQueue(), settled: make(chan int, 1000)}
	s, err := New(Config{}, q, map[queue.Outlet]RouteConfig{{App: "a"}: {Transport: &instantTransport{make(chan *push.Group, 4)}, Kind: "http2", Memory: b.N + 100_000}},
		slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	s.memory.own(q.Owned())
	batches := make([]*queue.Batch, b.N)
	notes := make([]*push.Notification, b.N)
	for i := range batches {
		notes[i] = note("a")
		notes[i].ID = uuid.New()
		batches[i] = &queue.Batch{Key: queue.Key{Shard: uint8(i % queue.Shards), Notification: notes[i].ID}, App: "a", Recipients: recipients(i, 1)}
	}
	b.ReportAllocs()
	b.ResetTimer()
	go func() {
		for i := range batches {
			s.Handoff(notes[i], batches[i:i+1])
		}
	}()
	for left := b.N; left > 0; {
		left -= <-q.settled
	}
	b.StopTimer()
	cancel()
	if err := <-done; err != nil {
		b.Fatal(err)
	}
}
