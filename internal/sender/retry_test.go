package sender

import (
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/queue"
)

func TestRetriesWithBackoffUntilTheyAreUsedUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		// early counts the attempts of the one since whose last so few others were accepted, or none, that most of the
		// recent answers may be its own: those may be no attempts.
		var early, tries, others atomic.Int32
		r := start(t, func(r *rig, _ *Config, _ map[string]RouteConfig) {
			r.tr["a"].answer = func(d *push.Delivery) push.Result {
				switch d.Token {
				case token(0): // each of the others is to it
					others.Add(1)
				case token(1):
					if before := tries.Add(1) - 1; others.Swap(0) < before {
						early.Add(1)
					}
					return push.Result{Outcome: push.Retry, Reason: reasonServiceUnavailable, Status: 503}
				}
				return push.Result{Outcome: push.Accepted}
			}
		})
		n := r.give(note("a"), 3)
		for range 3000 { // others succeed meanwhile
			pass(20 * time.Millisecond)
			r.give(note("a"), 1)
		}
		r.want(n, map[push.Outcome]int{push.Accepted: 2, push.Failed: 1})
		got := r.q.final[n.ID][token(1)]
		if got.Reason != reasonServiceUnavailable || got.Status != 503 || r.q.attempts[n.ID][token(1)] != 3 {
			t.Errorf("failed as %+v after %d attempts before the last", got, r.q.attempts[n.ID][token(1)])
		}
		// Each once, and one three times more: and again where a pause was so short that hardly another was accepted in it.
		if sends, most := r.tr["a"].sendsOf(n), 3+3+int(early.Load()); sends < 3+3 || sends > most {
			t.Errorf("%d sends, want 6 to %d", sends, most)
		}
		for i, d := range r.q.retryAt {
			if most := time.Second << min(i, 2); d < 0 || d > most {
				t.Errorf("retry %d after %v, want up to %v", i, d, most)
			}
		}
	})
}

// TestGivingUpSpeaksAgainstNoToken has a service that always puts off what is for one device token: that token is not
// bad.
func TestGivingUpSpeaksAgainstNoToken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, func(r *rig, _ *Config, _ map[string]RouteConfig) {
			r.tr["a"].answer = func(d *push.Delivery) push.Result {
				if d.Token == token(1) {
					return push.Result{Outcome: push.Retry, Reason: reasonDeviceBusy, Status: 429}
				}
				return push.Result{Outcome: push.Accepted}
			}
		})
		n := r.give(note("a"), 3)
		for range 3000 { // others succeed meanwhile
			pass(20 * time.Millisecond)
			r.give(note("a"), 1)
		}
		r.want(n, map[push.Outcome]int{push.Accepted: 2, push.Failed: 1})
		if got := r.q.final[n.ID][token(1)]; got.Reason != reasonDeviceBusy || got.BadToken() {
			t.Errorf("failed as %+v, which counts against the token: %t", got, got.BadToken())
		}
	})
}

func TestBackoffIsJitteredAndCapped(t *testing.T) {
	t.Parallel()
	seen := map[time.Duration]bool{}
	for n := range 100 {
		d := backoff(time.Second, time.Minute, n)
		if d <= 0 || d > time.Minute+1 || n < 6 && d > time.Second<<n+1 {
			t.Errorf("after %d failures: %v", n, d)
		}
		seen[d] = true
	}
	if len(seen) < 90 {
		t.Errorf("%d different pauses of 100", len(seen))
	}
}

func TestWhatDidNotReachTheServiceIsNotAnAttemptAndNotWritten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var up atomic.Bool
		r := start(t, func(r *rig, _ *Config, _ map[string]RouteConfig) {
			r.tr["a"].answer = func(*push.Delivery) push.Result {
				if up.Load() {
					return push.Result{Outcome: push.Accepted}
				}
				return push.Result{Outcome: push.NotSent, Reason: push.ConnectionLost}
			}
		})
		n, one := r.give(note("a"), 3000), r.give(note("a"), 1)
		pass(10 * time.Minute)
		r.q.mu.Lock()
		if r.q.settles != 0 {
			t.Errorf("%d settlements although nothing is known", r.q.settles)
		}
		r.q.mu.Unlock()
		r.tr["a"].mu.Lock()
		first := len(r.tr["a"].sizes)
		probes := 0
		for _, size := range r.tr["a"].sizes {
			if size == 1 {
				probes++
			}
		}
		r.tr["a"].mu.Unlock()
		if probes < 20 || first-probes > 12 {
			t.Errorf("of %d groups %d were probes of one: want a probe every 30 s or less", first, probes)
		}
		if lines := strings.Count(r.logs.String(), "nothing reaches the gateway; the route's notifications wait\" app=a route=production reason=ConnectionLost"); lines != 1 {
			t.Errorf("said %d times that nothing reaches the gateway, and why", lines)
		}
		up.Store(true)
		pass(31 * time.Second)
		r.want(n, map[push.Outcome]int{push.Accepted: 3000})
		r.want(one, map[push.Outcome]int{push.Accepted: 1})
		for _, s := range r.tr["a"].sends() {
			if s.attempts != 0 {
				t.Fatalf("attempts grew to %d", s.attempts)
			}
		}
	})
}

func TestExpiresWhileTheGatewayIsAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, func(r *rig, _ *Config, _ map[string]RouteConfig) {
			r.tr["a"].answer = func(*push.Delivery) push.Result { return push.Result{Outcome: push.NotSent} }
		})
		many, one := note("a"), note("a")
		many.Expiration, one.Expiration = time.Now().Add(5*time.Second), time.Now().Add(5*time.Second)
		r.give(many, 2000)
		r.give(one, 1)
		pass(4900 * time.Millisecond)
		r.want(many, nil)
		pass(500 * time.Millisecond)
		r.want(many, map[push.Outcome]int{push.Expired: 2000})
		r.want(one, map[push.Outcome]int{push.Expired: 1})
	})
}

func TestNowOrNeverIsTriedAndGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, func(r *rig, _ *Config, _ map[string]RouteConfig) {
			r.tr["a"].answer = func(*push.Delivery) push.Result { return push.Result{Outcome: push.NotSent} }
		})
		n := note("a")
		n.Expiration = time.Time{}
		r.give(n, 1)
		pass(10 * time.Minute)
		r.want(n, map[push.Outcome]int{push.Expired: 1})
		if sends := r.tr["a"].sendsOf(n); sends != 4 {
			t.Errorf("tried %d times, want 4", sends)
		}
		late := note("b")
		late.Expiration, late.CreatedAt, late.SendAt = time.Time{}, time.Now().Add(-48*time.Hour), time.Now().Add(-48*time.Hour)
		r.give(late, 1)
		pass(time.Second)
		r.want(late, map[push.Outcome]int{push.Accepted: 1}) // it had not had its try
	})
}

// The probes of a route that is away are no tries of the others in their batch, however long they have no answer.
func TestNowOrNeverOfManyHasItsTryAfterAPause(t *testing.T) {
	t.Parallel()
	for _, takes := range []time.Duration{0, 500 * time.Millisecond, 5 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			var away atomic.Bool
			away.Store(true)
			r := start(t, func(r *rig, _ *Config, _ map[string]RouteConfig) {
				asks(r, &away, push.Result{Outcome: push.NotSent}, func(*push.Delivery) bool { return true })
				r.tr["a"].delay = takes
			})
			n := note("a")
			n.Expiration = time.Time{}
			r.give(n, queue.MaxBatch)
			pass(2 * time.Minute)
			away.Store(false)
			pass(time.Minute)
			r.want(n, map[push.Outcome]int{push.Accepted: queue.MaxBatch})
		})
	}
}

// What is now or never ends, however it is answered, and does not come days late.
func TestNowOrNeverEnds(t *testing.T) {
	t.Parallel()
	tooMany := &push.Reason{Text: "TooManyRequests", Class: push.ClassToken}
	for name, c := range map[string]struct {
		answer push.Result
		want   push.Outcome
		sends  int
	}{
		"the device gets too many": {push.Result{Outcome: push.Retry, Reason: tooMany, Status: 429}, push.Failed, defaultMaxRetries + 1},
		"its topic is refused":     {push.Result{Outcome: push.Blocked, Reason: reasonTopicDisallowed, Status: 403}, push.Expired, 3000},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := start(t, func(r *rig, cfg *Config, _ map[string]RouteConfig) {
					cfg.Poll = 5 * time.Second // nothing comes from others
					r.tr["a"].answer = func(*push.Delivery) push.Result { return c.answer }
				})
				pass(time.Second)
				n := note("a")
				n.Expiration = time.Time{}
				r.give(n, 1)
				pass(nowOrNeverLifetime + time.Minute)
				r.want(n, map[push.Outcome]int{c.want: 1})
				if sends := r.tr["a"].sendsOf(n); sends > c.sends {
					t.Errorf("sent %d times", sends)
				}
			})
		})
	}
}
