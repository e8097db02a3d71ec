package queue

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lhspn/lhspn/internal/database/dbtest"
	"github.com/lhspn/lhspn/internal/push"
)

// TestLeasesInTheDatabase is the same over the tables: two replicas, of which one dies.
func TestLeasesInTheDatabase(t *testing.T) {
	t.Parallel()
	address := dbtest.MySQLAddress(t)
	cfg := Config{Lease: 5 * time.Second} // which a busy machine keeps, and the dead one's is waited for
	a := start(t, dbtest.Open(t, address), cfg)
	b := newRig(t, dbtest.Open(t, address), cfg)
	b.run()
	b.await(32)
	a.await(32)
	n := a.notification()
	a.accept(push.Submission{Routes: production, Notification: n, Tokens: tokens(0, 1)})
	if due := b.due(); len(due) != 0 {
		t.Error("a replica put a batch into a shard of another")
	}
	stale := Leased{Batch: a.due()[0]}
	stale.Lease = a.lease(stale.Batch)
	a.kill()
	b.await(64)
	if _, err := a.Settle(t.Context(), []Settlement{a.settlementOf(stale)}); err == nil {
		t.Error("a dead replica has settled a batch")
	}
	due := b.due()
	if len(due) != 1 || due[0].Key != stale.Batch.Key {
		t.Fatalf("what the dead replica left: %v", due)
	}
	b.settle(b.settlement(due[0], accepted))
	b.checkBacklog()
	b.stop()
	if owned := b.scalar("SELECT COUNT(*) FROM shards WHERE owner <> ''"); owned != 0 {
		t.Errorf("%d shards are owned by one that has stopped", owned)
	}
}

func (r *rig) settlementOf(h Leased) Settlement {
	s := Settlement{Batch: h.Batch, Lease: h.Lease, SentAt: r.now()}
	for range h.Batch.Recipients {
		s.Results = append(s.Results, accepted)
	}
	return s
}

func TestSQLiteTakesOverAtOnce(t *testing.T) {
	t.Parallel()
	db := dbtest.SQLite(t)
	a := start(t, db, Config{Lease: time.Hour})
	before := a.lease(&Batch{})
	a.kill()
	b := start(t, db, Config{Lease: time.Hour}) // which waits until it owns all
	if before == b.lease(&Batch{}) {
		t.Error("the epoch did not grow")
	}
}

func TestNewBatchesStayInAShardForAMoment(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLeases(nil, testLease, true, "a", slog.New(slog.DiscardHandler), newMetrics(prometheus.NewRegistry()))
		for i := range l.shards {
			l.shards[i].owned = true
		}
		first, ours := l.pick()
		if again, _ := l.pick(); !ours || again != first {
			t.Errorf("%d, then %d", first, again)
		}
		l.shards[first].leaving = true
		if again, ours := l.pick(); !ours || again == first {
			t.Errorf("%d is to be given up, and was picked", again)
		}
		seen := map[uint8]bool{}
		for range 100 {
			elapse(pickFor)
			shard, _ := l.pick()
			seen[shard] = true
		}
		if len(seen) < 10 {
			t.Errorf("only %d shards in 100 turns", len(seen))
		}
	})
}
