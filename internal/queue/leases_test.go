package queue

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// elapse lets time go by on the bubble's clock.
func elapse(d time.Duration) { time.Sleep(d) } //nolint:forbidigo // in a synctest bubble

// memoryTable is what leaseTable does, in memory, shared by several replicas.
type memoryTable struct {
	mu     sync.Mutex // guards all below
	beats  map[string]uint64
	shards [Shards]shardRow
}

func newMemoryTable() *memoryTable {
	m := &memoryTable{beats: map[string]uint64{}}
	for i := range m.shards {
		m.shards[i].shard = uint8(i)
	}
	return m
}

// view is one replica's connection to the table.
type view struct {
	*memoryTable
	mu   sync.Mutex
	down bool // guarded by mu: the connection hangs until the caller gives up
	// late is how long an answer takes.
	late func() time.Duration
}

func (v *view) set(down bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.down = down
}

func (v *view) do(ctx context.Context, fn func()) error {
	if v.late != nil {
		elapse(v.late())
	}
	v.mu.Lock()
	down := v.down
	v.mu.Unlock()
	if down {
		<-ctx.Done()
		return ctx.Err()
	}
	v.memoryTable.mu.Lock()
	fn()
	v.memoryTable.mu.Unlock()
	if v.late != nil {
		elapse(v.late())
	}
	return ctx.Err()
}

func (v *view) beat(ctx context.Context, id string, first uint64) (known bool, err error) {
	err = v.do(ctx, func() {
		if _, known = v.beats[id]; known {
			first = v.beats[id] + 1
		}
		v.beats[id] = first
	})
	return known, err
}

func (v *view) look(ctx context.Context) (beats map[string]uint64, shards []shardRow, err error) {
	err = v.do(ctx, func() { beats, shards = maps.Clone(v.beats), append(shards, v.shards[:]...) })
	return beats, shards, err
}

func (v *view) bury(ctx context.Context, id string, beat uint64) error {
	return v.do(ctx, func() {
		if v.beats[id] == beat {
			delete(v.beats, id)
			for i := range v.shards {
				v.hand(uint8(i), id, "")
			}
		}
	})
}

func (v *view) buryAll(context.Context) error { return nil }

func (v *view) hand(shard uint8, from, to string) {
	if s := &v.shards[shard]; s.owner == from {
		s.owner = to
		s.epoch++
	}
}

func (v *view) take(ctx context.Context, id string, shards []uint8) error {
	return v.do(ctx, func() {
		for _, s := range shards {
			v.hand(s, "", id)
		}
	})
}

func (v *view) release(ctx context.Context, id string, shards []uint8) error {
	return v.do(ctx, func() {
		for _, s := range shards {
			v.hand(s, id, "")
		}
	})
}

func (v *view) leave(ctx context.Context, id string) error {
	return v.do(ctx, func() { delete(v.beats, id) })
}

// replica runs leases over a view of the table.
type replica struct {
	*leases
	view *view
	stop func()
}

const testLease = 10 * time.Second

func join(t *testing.T, table *memoryTable, id string, late func() time.Duration) *replica {
	t.Helper()
	v := &view{memoryTable: table, late: late}
	r := &replica{leases: newLeases(v, testLease, false, id, slog.New(slog.DiscardHandler), newMetrics(prometheus.NewRegistry())), view: v}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = r.keep(ctx) // a replica whose connection is down cannot give its shards back, and says so
	}()
	r.stop = func() { cancel(); <-done }
	t.Cleanup(r.stop)
	return r
}

func wantOwned(t *testing.T, want map[*replica]int) {
	t.Helper()
	for r, n := range want {
		if got := len(r.Owned()); got != n {
			t.Errorf("%s owns %d shards, not %d", r.id, got, n)
		}
	}
}

func TestLeasesSpread(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		table := newMemoryTable()
		a := join(t, table, "a", nil)
		synctest.Wait()
		wantOwned(t, map[*replica]int{a: 64})
		if !a.OwnsJob("feedback") {
			t.Error("the only replica does not own the job")
		}
		b := join(t, table, "b", nil)
		elapse(3 * time.Second)
		wantOwned(t, map[*replica]int{a: 32, b: 32})
		if a.OwnsJob("feedback") == b.OwnsJob("feedback") {
			t.Error("the job has not exactly one owner")
		}
		c := join(t, table, "c", nil)
		elapse(3 * time.Second)
		wantOwned(t, map[*replica]int{a: 22, b: 22, c: 20})

		c.stop() // it gives its shards back: nobody waits for its lease to end
		elapse(3 * time.Second)
		wantOwned(t, map[*replica]int{a: 32, b: 32, c: 0})

		b.view.set(true) // it loses the database, as if it had died
		elapse(testLease - 2*time.Second)
		wantOwned(t, map[*replica]int{a: 32, b: 0})
		elapse(5 * time.Second)
		wantOwned(t, map[*replica]int{a: 64, b: 0})

		b.view.set(false) // and comes back, buried
		elapse(10 * time.Second)
		wantOwned(t, map[*replica]int{a: 32, b: 32})
	})
}

func TestShardIsGivenUpWhenNothingIsInFlight(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		table := newMemoryTable()
		a := join(t, table, "a", nil)
		synctest.Wait()
		var held []Lease
		for s := range uint8(Shards) {
			l, ok := a.Acquire(s)
			if !ok {
				t.Fatalf("shard %d cannot be held", s)
			}
			held = append(held, l)
		}
		b := join(t, table, "b", nil)
		elapse(5 * time.Second)
		wantOwned(t, map[*replica]int{a: 32, b: 0}) // what is to be given up is used no more, and not yet another's
		again := 0
		for s := range uint8(Shards) {
			if l, ok := a.Acquire(s); ok {
				again++
				a.Release(l)
			}
		}
		if again != 32 {
			t.Errorf("%d shards can be held again, not 32", again)
		}
		for _, l := range held {
			a.Release(l)
		}
		elapse(time.Second)
		wantOwned(t, map[*replica]int{a: 32, b: 32})

		// Stopping waits for what is in flight too.
		l, ok := a.Acquire(a.Owned()[0].Shard)
		if !ok {
			t.Fatal("cannot hold")
		}
		stopped := make(chan struct{})
		go func() {
			a.stop()
			close(stopped)
		}()
		elapse(time.Second)
		select {
		case <-stopped:
			t.Error("stopped while a batch was in flight")
		default:
		}
		a.Release(l)
		<-stopped
		elapse(3 * time.Second)
		wantOwned(t, map[*replica]int{b: 64})
	})
}

func TestLeasesSurviveAnOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		table := newMemoryTable()
		a := join(t, table, "a", nil)
		synctest.Wait()
		before, ok := a.Acquire(7)
		if !ok {
			t.Fatal("cannot hold")
		}
		a.view.set(true)
		elapse(testLease - testLease/5)
		if err := a.Unrenewed(); err != nil {
			t.Errorf("not ready before a lease is over: %v", err)
		}
		elapse(time.Minute)
		wantOwned(t, map[*replica]int{a: 0})
		if err := a.Unrenewed(); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("unrenewed for a minute: %v", err)
		}
		a.view.set(false)
		elapse(10 * time.Second)
		wantOwned(t, map[*replica]int{a: 64})
		if err := a.Unrenewed(); err != nil {
			t.Errorf("not ready after the outage: %v", err)
		}
		if after, ok := a.Acquire(7); !ok || after != before {
			t.Errorf("lease %v became %v: what was in flight cannot be settled", before, after)
		}
	})
}

// TestLeasesSurviveAnOutageOfAll takes the database away from every replica: the first to find it back must not take
// the others, who are a moment later, for dead. One that died meanwhile is still noticed.
func TestLeasesSurviveAnOutageOfAll(t *testing.T) {
	t.Parallel()
	for _, outage := range []time.Duration{4 * time.Second, 9 * time.Second, 15 * time.Second, time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			table := newMemoryTable()
			replicas := []*replica{join(t, table, "a", nil), join(t, table, "b", nil), join(t, table, "c", nil), join(t, table, "d", nil)}
			elapse(20 * time.Second)
			dead, living := replicas[3], replicas[:3]
			before := map[*replica][]Lease{}
			for _, r := range living {
				before[r] = r.Owned()
			}
			for i, r := range replicas {
				r.view.set(true)
				elapse(time.Duration(i) * 100 * time.Millisecond)
			}
			elapse(outage)
			for _, r := range living {
				r.view.set(false)
			}
			elapse(testLease * 9 / 10)
			for r, leases := range before {
				for _, lease := range leases {
					if now, ok := r.Acquire(lease.Shard); !ok || now != lease {
						t.Fatalf("after %v without a database %s lost its leases", outage, r.id)
					}
					r.Release(lease)
				}
			}
			elapse(testLease)
			if n := len(living[0].Owned()) + len(living[1].Owned()) + len(living[2].Owned()); n != Shards || len(dead.Owned()) != 0 {
				t.Errorf("after %v the living own %d shards, the dead one %d", outage, n, len(dead.Owned()))
			}
		})
	}
}

// TestOneOwnerAtATime has replicas come, go, stall and lose the database at random, and looks all the time whether two
// of them would use a shard.
func TestOneOwnerAtATime(t *testing.T) {
	t.Parallel()
	for seed := range uint64(25) {
		synctest.Test(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 0))
			var mu sync.Mutex
			late := func() time.Duration {
				mu.Lock()
				defer mu.Unlock()
				if rnd.IntN(20) == 0 {
					return time.Duration(rnd.Int64N(int64(testLease)))
				}
				return time.Duration(rnd.Int64N(int64(50 * time.Millisecond)))
			}
			table := newMemoryTable()
			var replicas []*replica
			for i := range 4 {
				replicas = append(replicas, join(t, table, string(rune('a'+i)), late))
			}
			for range 3000 {
				elapse(50 * time.Millisecond)
				var owner [Shards]string
				for _, r := range replicas {
					for _, l := range r.Owned() {
						if owner[l.Shard] != "" {
							t.Fatalf("seed %d: shard %d is used by %s and %s", seed, l.Shard, owner[l.Shard], r.id)
						}
						owner[l.Shard] = r.id
					}
				}
				mu.Lock()
				event, who := rnd.IntN(60), rnd.IntN(len(replicas))
				mu.Unlock()
				switch event {
				case 0:
					replicas[who].view.set(true)
				case 1, 2:
					replicas[who].view.set(false)
				}
			}
			for _, r := range replicas {
				r.view.set(false)
			}
		})
	}
}
