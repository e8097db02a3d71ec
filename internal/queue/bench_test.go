package queue

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/database/dbtest"
	"github.com/lhspn/lhspn/internal/events"
	"github.com/lhspn/lhspn/internal/push"
)

// BenchmarkAcceptAndSettle accepts one-recipient notifications from many callers at once and settles them in groups as
// they come: what the database has to bear, without HTTP and APNs.
func BenchmarkAcceptAndSettle(b *testing.B) {
	for name, open := range map[string]func(testing.TB) *database.DB{"sqlite": dbtest.SQLite, "mysql": dbtest.MySQL} {
		for _, kept := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/events=%v", name, kept), func(b *testing.B) { benchmarkSingles(b, open(b), kept) })
		}
	}
}

func benchmarkSingles(b *testing.B, db *database.DB, kept bool) {
	b.Helper()
	b.ReportAllocs()
	var store *events.Store
	if kept {
		store = newEvents(db)
	}
	handed := make(chan *Batch, 1<<20)
	r := start(b, db, Config{Events: store, Handoff: func(_ *push.Notification, batches []*Batch) { handed <- batches[0] }})
	var settling sync.WaitGroup
	left := atomic.Int64{}
	left.Store(int64(b.N))
	finish := make(chan struct{})
	settling.Go(func() {
		for left.Load() > 0 {
			group := []Settlement{}
			select {
			case batch := <-handed:
				group = append(group, r.settlement(batch, accepted))
			case <-finish:
				return
			}
			for len(group) < 1000 && len(handed) > 0 {
				group = append(group, r.settlement(<-handed, accepted))
			}
			r.settle(group...)
			left.Add(int64(-len(group)))
		}
	})
	b.SetParallelism(64)
	b.ResetTimer()
	begin := time.Now()
	b.RunParallel(func(pb *testing.PB) {
		ts := tokens(1, 2)
		for pb.Next() {
			r.accept(push.Submission{Routes: production, Notification: r.notification(), Tokens: ts})
		}
	})
	b.ReportMetric(float64(b.N)/time.Since(begin).Seconds(), "accepted/s")
	if b.Failed() {
		close(finish)
	}
	settling.Wait()
	b.ReportMetric(float64(b.N)/time.Since(begin).Seconds(), "settled/s")
}

// BenchmarkAcceptAlone accepts one notification to one device after the other: what a caller alone waits for.
func BenchmarkAcceptAlone(b *testing.B) {
	for name, open := range map[string]func(testing.TB) *database.DB{"sqlite": dbtest.SQLite, "mysql": dbtest.MySQL} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			r := start(b, open(b), Config{})
			ts := tokens(1, 2)
			for b.Loop() {
				r.accept(push.Submission{Routes: production, Notification: r.notification(), Tokens: ts})
			}
		})
	}
}

// BenchmarkReadFinished reads the events of notifications to one device that are done: those of which the feed has all
// that is told, and those that it only refers to.
func BenchmarkReadFinished(b *testing.B) {
	for name, open := range map[string]func(testing.TB) *database.DB{"sqlite": dbtest.SQLite, "mysql": dbtest.MySQL} {
		for _, referred := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/referred=%v", name, referred), func(b *testing.B) { benchmarkFinished(b, open(b), referred) })
		}
	}
}

func benchmarkFinished(b *testing.B, db *database.DB, referred bool) {
	b.Helper()
	store := newEvents(db)
	r := start(b, db, Config{Events: store})
	const n = 1000
	r.acceptSingles(n, func(int, *push.Notification) {})
	all := r.all(r.due(), accepted)
	if !referred {
		for i := range all {
			all[i].CreatedAt = time.UnixMicro(all[i].Batch.DueAt)
		}
	}
	r.settle(all...)
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(b.Context())
	go func() { done <- store.Run(ctx) }()
	for changed := store.Changed(app); ; changed = store.Changed(app) {
		if items, _, err := store.Read(b.Context(), app, "", nil, n); err != nil || len(items) == n {
			break
		}
		<-changed
	}
	cancel()
	if err := <-done; err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if items, _, err := store.Read(b.Context(), app, "", nil, n); err != nil || len(items) != n {
			b.Fatal(len(items), err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/event")
}
