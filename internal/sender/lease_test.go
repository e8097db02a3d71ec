package sender

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lhspn/lhspn/internal/push"
)

func TestAnotherReplicasShardsAreLeftAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, func(r *rig, _ *Config, apps map[string]RouteConfig) {
			r.tr["a"].delay = 3 * time.Second
			a := apps["a"]
			a.MaxRate = 1000
			apps["a"] = a
		})
		n := r.give(note("a"), 10_000)
		pass(2 * time.Second)
		sent := r.tr["a"].sendsOf(n)
		r.q.lose()
		pass(10 * time.Second)
		if now := r.tr["a"].sendsOf(n); now != sent {
			t.Errorf("%d more were sent after the shards were lost", now-sent)
		}
		r.want(n, nil)
		if lines := strings.Count(r.logs.String(), "shards were lost"); lines == 0 || lines > 5 {
			t.Errorf("%d lines about it", lines)
		}
		r.q.give()
		pass(20 * time.Second)
		r.want(n, map[push.Outcome]int{push.Accepted: 10_000})
	})
}

// A lease runs out while the database hangs, and with it the reader: what was sent in part stops all the same.
func TestABatchSentInPartStopsWithItsLease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, func(_ *rig, cfg *Config, _ map[string]RouteConfig) { cfg.Poll = time.Minute })
		pass(time.Second)
		n := note("a")
		n.Rate = 100
		r.give(n, 1000)
		pass(2 * time.Second)
		sent := r.tr["a"].sendsOf(n)
		hang := func(down error) {
			r.q.mu.Lock()
			defer r.q.mu.Unlock()
			r.q.down = down
			for i := range r.q.owned {
				r.q.owned[i] = down == nil
			}
		}
		hang(errors.New("no answer"))
		pass(2 * time.Second)
		if more := r.tr["a"].sendsOf(n) - sent; more != 0 || sent == 0 {
			t.Errorf("%d were sent, and %d more when the lease had run out", sent, more)
		}
		hang(nil) // the same lease: what was sent is settled
		pass(3 * time.Minute)
		r.want(n, map[push.Outcome]int{push.Accepted: 1000})
		if total := r.tr["a"].sendsOf(n); total != 1000 {
			t.Errorf("sent %d times", total)
		}
	})
}

// A shard that was lost and won again: another replica may have sent in between what is in memory here.
func TestNothingIsSentUnderANewerLease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, func(_ *rig, cfg *Config, apps map[string]RouteConfig) {
			cfg.Poll = 2 * time.Second
			a := apps["a"]
			a.MaxRate = 20
			apps["a"] = a
		})
		pass(time.Millisecond)
		n := note("a")
		r.give(n, 1)
		others := make([]*push.Notification, 60)
		for i := range others {
			others[i] = r.give(note("a"), 1)
		}
		pass(time.Second)
		r.q.mu.Lock()
		for i := range r.q.epochs {
			r.q.epochs[i]++
			r.q.acquired[i] = 0
		}
		r.q.mu.Unlock()
		sent := len(r.tr["a"].sends())
		pass(900 * time.Millisecond)
		if now := len(r.tr["a"].sends()); now != sent {
			t.Errorf("%d were sent under leases that are not those they were read under", now-sent)
		}
		pass(20 * time.Second)
		for _, n := range others {
			r.want(n, map[push.Outcome]int{push.Accepted: 1})
		}
	})
}
