package sender

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/lhspn/lhspn/internal/push"
)

func TestADatabaseOutageLosesAndRepeatsNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, func(r *rig, _ *Config, _ map[string]RouteConfig) { r.tr["a"].delay = 200 * time.Millisecond })
		n := r.give(note("a"), 8000)
		pass(100 * time.Millisecond)
		r.q.setDown(fmt.Errorf("reach the database: %w", push.ErrUnavailable))
		pass(time.Minute)
		r.want(n, nil)
		r.q.setDown(nil)
		pass(10 * time.Second)
		r.want(n, map[push.Outcome]int{push.Accepted: 8000})
		if sends := r.tr["a"].sendsOf(n); sends != 8000 {
			t.Errorf("%d sends, want 8000", sends)
		}
	})
}

func TestUnsettledResultsAreReportedAtTheEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, nil)
		pass(time.Second)
		r.q.setDown(push.ErrUnavailable)
		r.give(note("a"), 5)
		pass(time.Second)
		if err := r.stop(); !errors.Is(err, errUnsettled) {
			t.Errorf("got %v", err)
		}
	})
}

// A transaction costs as much as tens of notifications in it: those that come one after the other must share them, and
// the first after a pause must not wait for more.
func TestSingleNotificationsShareSettlements(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, nil)
		pass(time.Second)
		one := r.give(note("a"), 1)
		pass(time.Millisecond)
		r.want(one, map[push.Outcome]int{push.Accepted: 1})
		pass(time.Second)
		before, last := r.q.settles, (*push.Notification)(nil)
		const n = 200
		for range n {
			last = r.give(note("a"), 1)
			pass(time.Millisecond)
		}
		pass(settleEvery)
		r.want(last, map[push.Outcome]int{push.Accepted: 1})
		if got := r.q.settles - before; got > n/10 {
			t.Errorf("%d settlements of %d notifications", got, n)
		}
	})
}

// A full transaction waits for nothing: a broadcast must not be slowed.
func TestAFullSettlementDoesNotWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, nil)
		pass(time.Second)
		for range 3 * settleBatches {
			r.give(note("a"), 1)
		}
		pass(time.Millisecond)
		if r.q.batches < 2*settleBatches {
			t.Errorf("%d settled, in %d transactions", r.q.batches, r.q.settles)
		}
	})
}

// What the database refuses to settle, each by itself, keeps nothing else from being settled.
func TestRefusedSettlementsHoldNothingUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, nil)
		pass(time.Second)
		refused := map[uuid.UUID]bool{}
		var all []*push.Notification
		for range 2 * defaultSettlers {
			n := note("a")
			refused[n.ID] = true
			r.q.mu.Lock()
			r.q.refuses = maps.Clone(refused)
			r.q.mu.Unlock()
			all = append(all, r.give(n, 1))
			pass(time.Second)
		}
		pass(time.Hour)
		good := r.give(note("a"), 1)
		pass(time.Second)
		r.want(good, map[push.Outcome]int{push.Accepted: 1})
		if lines := strings.Count(r.logs.String(), "settling failed"); lines > 3*len(all) {
			t.Errorf("it was said %d times", lines)
		}
		r.q.mu.Lock()
		r.q.refuses = nil
		r.q.mu.Unlock()
		pass(refusedMax + time.Second)
		for _, n := range all {
			r.want(n, map[push.Outcome]int{push.Accepted: 1})
		}
	})
}
