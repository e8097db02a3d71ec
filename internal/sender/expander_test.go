package sender

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/lhspn/lhspn/internal/push"
)

func TestAnAudienceIsExpandedOnlyAsFastAsItIsSent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, func(_ *rig, _ *Config, apps map[string]RouteConfig) {
			a := apps["a"]
			a.MaxRate = 10_000
			apps["a"] = a
		})
		n := note("a")
		r.q.broadcast(n, 200_000)
		pass(2 * time.Second)
		r.q.mu.Lock()
		left := len(r.q.audience[n.ID])
		r.q.mu.Unlock()
		if expanded := 200_000 - left; expanded > 20_000+32_000 || expanded < 20_000 {
			t.Errorf("%d expanded while 20,000 were sent", expanded)
		}
		pass(20 * time.Second)
		r.want(n, map[push.Outcome]int{push.Accepted: 200_000})
		if r.q.twice > 0 {
			t.Errorf("%d were counted twice", r.q.twice)
		}
	})
}

// What of an audience is not expanded when it expires stays so: no badges are counted, and no failures kept, for what
// is not sent.
func TestAnExpiredAudienceIsExpandedNoFurther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, nil)
		n := note("a")
		n.Expiration = time.Now().Add(-time.Second)
		r.q.broadcast(n, 200_000)
		pass(2 * time.Second)
		r.q.mu.Lock()
		left := len(r.q.audience[n.ID])
		r.q.mu.Unlock()
		if left != 200_000 {
			t.Errorf("%d expanded", 200_000-left)
		}
		if rows := r.q.left(); rows != 0 {
			t.Errorf("%d rows are left", rows)
		}
	})
}

func TestBadgesAreCountedBeforeSending(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, nil)
		pass(time.Second)
		one, many := note("a"), note("a")
		one.BadgeIncrement, many.BadgeIncrement = 1, 1
		r.give(one, 1)
		r.give(many, 3500)
		pass(300 * time.Millisecond)
		r.want(one, map[push.Outcome]int{push.Accepted: 1})
		r.want(many, map[push.Outcome]int{push.Accepted: 3500})
		for _, s := range r.tr["a"].sends() {
			if s.badge != 1 {
				t.Fatalf("sent with badge %d", s.badge)
			}
		}
	})
}
