package sender

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/queue"
)

func TestSendsWhatIsHandedOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, nil)
		pass(time.Second)
		one, many := r.give(note("a"), 1), r.give(note("b"), 2500)
		pass(2 * settleEvery) // what did not come into the first transaction is in the next
		r.want(one, map[push.Outcome]int{push.Accepted: 1})
		r.want(many, map[push.Outcome]int{push.Accepted: 2500})
		if n := r.q.left(); n != 0 {
			t.Errorf("%d rows are left", n)
		}
	})
}

func TestFindsWhatWasNotHandedOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, nil)
		pass(time.Second)
		n := note("a")
		r.q.accept(n, 3000)
		later := note("a")
		later.SendAt = time.Now().Add(1300 * time.Millisecond)
		r.q.accept(later, 1)
		pass(300 * time.Millisecond)
		r.want(n, map[push.Outcome]int{push.Accepted: 3000})
		r.want(later, nil)
		pass(990 * time.Millisecond)
		r.want(later, nil)
		pass(30 * time.Millisecond)
		r.want(later, map[push.Outcome]int{push.Accepted: 1})
		if got := r.tr["a"].sendsOf(n); got != 3000 {
			t.Errorf("sent %d times, want 3000", got)
		}
	})
}

func TestAnIdleSenderAsksLittle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, nil)
		pass(10 * time.Second)
		r.q.mu.Lock()
		defer r.q.mu.Unlock()
		if polls := 10 * 4; r.q.statements > polls+25+3 { // the polls', and the looks for what was cancelled
			t.Errorf("%d statements in 10 idle seconds", r.q.statements)
		}
	})
}

func TestRetriesWithBackoffUntilTheyAreUsedUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, func(r *rig, _ *Config, _ map[string]RouteConfig) {
			r.tr["a"].answer = func(d *push.Delivery) push.Result {
				if d.Token == token(1) {
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
		// Each once, and one three times more: and again where a pause was so short that no other was accepted in it.
		if sends := r.tr["a"].sendsOf(n); sends < 3+3 || sends > 3+3+2 {
			t.Errorf("%d sends, want 6", sends)
		}
		for i, d := range r.q.retryAt {
			if most := time.Second << min(i, 2); d < 0 || d > most {
				t.Errorf("retry %d after %v, want up to %v", i, d, most)
			}
		}
	})
}

// A service that answers everything with "later" for a while fails nothing: it pauses the route, and is noticed when it is back.
func TestAServiceThatIsUnavailableFailsNothing(t *testing.T) {
	t.Parallel()
	for _, reason := range []*push.Reason{reasonServiceUnavailable, {Text: "TooManyRequests", Class: push.ClassToken}} {
		for _, size := range []int{1, 2, 10_000} {
			for _, outage := range []time.Duration{15 * time.Second, time.Minute, 30 * time.Minute} {
				if size < 10_000 && reason.Class == push.ClassToken {
					continue // a device or two that get too much
				}
				t.Run(fmt.Sprint(reason, size, outage), func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) {
						var away atomic.Bool
						r := start(t, func(r *rig, _ *Config, _ map[string]RouteConfig) {
							r.tr["a"].answer = func(*push.Delivery) push.Result {
								if away.Load() {
									return push.Result{Outcome: push.Retry, Reason: reason, Status: 503}
								}
								return push.Result{Outcome: push.Accepted}
							}
						})
						before := r.give(note("a"), 100)
						pass(time.Second)
						r.want(before, map[push.Outcome]int{push.Accepted: 100})
						away.Store(true)
						n := r.give(note("a"), size)
						pass(outage)
						if logs := strings.Count(r.logs.String(), "answers everything with"); logs != 1 {
							t.Errorf("said %d times", logs)
						}
						away.Store(false)
						pass(10 * time.Second)
						r.want(n, map[push.Outcome]int{push.Accepted: size})
						if most := 2*size + 2*int(outage/time.Second) + 20; r.tr["a"].sendsOf(n) > most {
							t.Errorf("%d sends, more than %d", r.tr["a"].sendsOf(n), most)
						}
					})
				})
			}
		}
	}
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

func TestWhatDidNotReachAPNsIsNotAnAttemptAndNotWritten(t *testing.T) {
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
		if lines := strings.Count(r.logs.String(), "nothing reaches the gateway; the route's notifications wait\" app=a route=\"\" reason=ConnectionLost"); lines != 1 {
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

func TestAWrongConfigurationHoldsTheAppAndNoOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mended atomic.Bool
		r := start(t, func(r *rig, _ *Config, _ map[string]RouteConfig) {
			r.tr["a"].answer = func(*push.Delivery) push.Result {
				if mended.Load() {
					return push.Result{Outcome: push.Accepted}
				}
				return push.Result{Outcome: push.Blocked, Reason: reasonInvalidProviderToken, Status: 403}
			}
		})
		held := r.give(note("a"), 2500)
		pass(time.Second)
		other := r.give(note("b"), 2500)
		pass(10 * time.Minute)
		r.want(held, nil)
		r.want(other, map[push.Outcome]int{push.Accepted: 2500})
		if sends := r.tr["a"].sendsOf(held); sends > 2500+20 {
			t.Errorf("%d sends while held, want one every 30 s", sends)
		}
		if logs := r.logs.String(); strings.Count(logs, "refuses the route's credentials") != 1 || !strings.Contains(logs, "check key_id") {
			t.Errorf("the log does not say once what to mend:\n%s", logs)
		}
		mended.Store(true)
		pass(31 * time.Second)
		r.want(held, map[push.Outcome]int{push.Accepted: 2500})
	})
}

// Some notifications or tokens may be refused, or ignored, for ever in a way that looks like the app's configuration or a gateway that
// is away. While the app waits, the probes find those that go through.
func TestOnePoisonedNotificationDoesNotHoldTheOthers(t *testing.T) {
	t.Parallel()
	for _, result := range []push.Result{
		{Outcome: push.Blocked, Reason: push.UnknownReason, Status: 403},
		{Outcome: push.NotSent, Reason: push.NoAnswer},
	} {
		for _, size := range []int{1, 3, 1500} { // of the poisoned one: urgent, urgent and more than a probe, bulk
			for _, others := range []int{1, 3, 1500} {
				t.Run(fmt.Sprint(result.Outcome, size, others), func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) {
						poisoned := note("a")
						var works atomic.Bool
						r := start(t, func(r *rig, _ *Config, _ map[string]RouteConfig) {
							r.tr["a"].answer = func(d *push.Delivery) push.Result {
								switch {
								case d.Notification.ID != poisoned.ID:
									works.Store(true)
									return push.Result{Outcome: push.Accepted}
								case works.Load(): // the transport knows then whose fault it is
									return push.Result{Outcome: push.Retry, Reason: result.Reason}
								}
								return result
							}
						})
						r.give(poisoned, size)
						pass(time.Minute)
						other := r.give(note("a"), others)
						pass(3 * time.Minute)
						r.want(other, map[push.Outcome]int{push.Accepted: others})
					})
				})
			}
		}
	}
}

// A topic can come from one request: it must not hold what goes to the app's other topics.
func TestARefusedTopicHoldsOnlyItself(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mended atomic.Bool
		r := start(t, func(r *rig, _ *Config, _ map[string]RouteConfig) {
			r.tr["a"].answer = func(d *push.Delivery) push.Result {
				if d.Notification.Key == "t.voip" && !mended.Load() {
					return push.Result{Outcome: push.Blocked, Reason: reasonTopicDisallowed, Status: 400}
				}
				return push.Result{Outcome: push.Accepted}
			}
		})
		wrong, wrongOne, gone, broadcast := note("a"), note("a"), note("a"), note("a")
		wrong.Key, wrongOne.Key, gone.Key, broadcast.Key = "t.voip", "t.voip", "t.voip", "t.voip"
		gone.Expiration = time.Now().Add(time.Minute)
		r.give(wrong, 2500)
		r.give(wrongOne, 1)
		r.give(gone, 1500)
		for range 6 {
			n := note("a")
			n.Key = "t.voip"
			r.give(n, 10_000)
		}
		r.q.broadcast(broadcast, 100_000)
		pass(time.Second)
		for range 10 {
			many, one, all := r.give(note("a"), 2500), r.give(note("a"), 1), note("a")
			r.q.broadcast(all, 20_000)
			pass(time.Minute)
			r.want(many, map[push.Outcome]int{push.Accepted: 2500})
			r.want(all, map[push.Outcome]int{push.Accepted: 20_000})
			r.want(one, map[push.Outcome]int{push.Accepted: 1})
		}
		r.want(wrong, nil)
		r.want(gone, map[push.Outcome]int{push.Expired: 1500})
		if sends := r.tr["a"].sendsOf(wrong) + r.tr["a"].sendsOf(wrongOne) + r.tr["a"].sendsOf(gone); sends > 4001+25 {
			t.Errorf("%d sends while held, want one every 30 s", sends)
		}
		if logs := r.logs.String(); strings.Count(logs, "refuses the key") != 1 || strings.Contains(logs, "refuses the route") {
			t.Errorf("the log:\n%s", logs)
		}
		mended.Store(true)
		pass(31 * time.Second)
		r.want(wrong, map[push.Outcome]int{push.Accepted: 2500})
		r.want(wrongOne, map[push.Outcome]int{push.Accepted: 1})
	})
}

// A slow gateway, 2 recipients a millisecond, in the middle of a broadcast: one token's push must not wait for what is
// queued in the transport.
func TestAnUrgentNotificationOvertakesABroadcast(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, func(r *rig, _ *Config, apps map[string]RouteConfig) {
			a := apps["a"]
			a.QueueTarget = 50 * time.Millisecond
			a.Transport = newSerialTransport(2000)
			apps["a"] = a
		})
		broadcast := r.give(note("a"), 40_000)
		pass(5 * time.Second)
		waits := make([]time.Duration, 0, 30)
		for range 30 {
			start := time.Now()
			one := r.give(note("a"), 1)
			for len(r.q.outcomes(one)) == 0 {
				pass(time.Millisecond)
			}
			waits = append(waits, time.Since(start))
			pass(37 * time.Millisecond)
		}
		for i, w := range waits {
			if w > 120*time.Millisecond {
				t.Errorf("urgent notification %d took %v (all: %v)", i, w, waits)
				break
			}
		}
		pass(17 * time.Second)
		r.want(broadcast, map[push.Outcome]int{push.Accepted: 40_000})
	})
}

func TestAStalledGatewayTakesNothingFromOtherApps(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, func(r *rig, _ *Config, _ map[string]RouteConfig) {
			r.tr["a"].stuck = make(chan struct{})
			r.tr["a"].window = make(chan struct{}, 2)
		})
		stalled := r.give(note("a"), 10_000)
		for range 20 { // fills its memory, and so what is read and not only handed over
			r.q.accept(note("a"), 10_000)
		}
		pass(time.Second)
		n := r.give(note("b"), 20_000)
		found := note("b")
		r.q.accept(found, 1000)
		pass(time.Second)
		r.want(stalled, nil)
		r.want(n, map[push.Outcome]int{push.Accepted: 20_000})
		r.want(found, map[push.Outcome]int{push.Accepted: 1000})
		close(r.tr["a"].stuck)
		pass(5 * time.Second)
		if left := r.q.left(); left != 0 {
			t.Errorf("%d rows are left", left)
		}
	})
}

func TestTwoBroadcastsShare(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, func(_ *rig, _ *Config, apps map[string]RouteConfig) {
			a := apps["a"]
			a.MaxRate = 1000
			apps["a"] = a
		})
		first, second := note("a"), note("a")
		r.q.broadcast(first, 20_000)
		pass(5 * time.Second)
		r.q.broadcast(second, 20_000)
		pass(10 * time.Second)
		if n := len(r.q.outcomes(second)); n > 0 && r.tr["a"].sendsOf(second) < 4000 {
			t.Errorf("the second was sent to %d in 10 s", r.tr["a"].sendsOf(second))
		}
		if f, s := r.tr["a"].sendsOf(first), r.tr["a"].sendsOf(second); s < 4000 || f < 9000 {
			t.Errorf("sent %d and %d, want about 10,000 and 5,000", f, s)
		}
	})
}

func TestRates(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, func(_ *rig, _ *Config, apps map[string]RouteConfig) {
			a := apps["a"]
			a.MaxRate = 500
			apps["a"] = a
		})
		n := r.give(note("a"), 5000)
		slow := note("b")
		slow.Rate = 100
		r.q.broadcast(slow, 3000)
		quick := r.give(note("b"), 2000)
		for second := 1; second <= 10; second++ {
			pass(time.Second)
			if got := r.tr["a"].sendsOf(n); got > second*500+50 || got < second*500-100 {
				t.Errorf("after %d s the app has sent %d, want about %d", second, got, second*500)
			}
			if got := r.tr["b"].sendsOf(slow); got > second*100+10 || got < second*100-60 {
				t.Errorf("after %d s the notification was sent to %d, want about %d", second, got, second*100)
			}
		}
		r.want(quick, map[push.Outcome]int{push.Accepted: 2000})
		pass(25 * time.Second)
		r.want(slow, map[push.Outcome]int{push.Accepted: 3000})
	})
}

// What a notification's own low rate keeps waiting must not fill the memory that the app's other notifications need; and
// it must not fall below its rate either, though its results come seconds later.
func TestASlowNotificationTakesNothingFromOthers(t *testing.T) {
	t.Parallel()
	for _, explicit := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			r := start(t, func(r *rig, _ *Config, _ map[string]RouteConfig) {
				r.tr["a"].delay = 3 * time.Second
				r.tr["a"].window = make(chan struct{}, 10_000)
			})
			rates := []uint32{1, 10, 10, 10, 10, 100, 400, 1500}
			slow := make([]*push.Notification, len(rates))
			for i, rate := range rates {
				slow[i] = note("a")
				slow[i].Rate = rate
				if explicit {
					r.give(slow[i], 10_000)
				} else {
					r.q.broadcast(slow[i], 100_000)
				}
			}
			pass(10 * time.Second)
			quick, many := note("a"), note("a")
			r.q.broadcast(quick, 60_000)
			r.give(many, 10_000)
			pass(20 * time.Second)
			r.want(many, map[push.Outcome]int{push.Accepted: 10_000})
			pass(20 * time.Second)
			r.want(quick, map[push.Outcome]int{push.Accepted: 60_000})
			for i, rate := range rates {
				want, least := 50*int(rate), 45*int(rate)
				if explicit { // the next ones are read when the quick ones leave room
					want, least = min(want, 10_000), min(35*int(rate), 10_000)
				}
				if got := r.tr["a"].sendsOf(slow[i]); got < least || got > want+int(rate) {
					t.Errorf("at %d a second (explicit: %v) %d were sent in 50 s", rate, explicit, got)
				}
			}
		})
	}
}

func TestCancelStopsWithinASecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, func(_ *rig, _ *Config, apps map[string]RouteConfig) {
			a := apps["a"]
			a.MaxRate = 100
			apps["a"] = a
		})
		ready, stored, audience := r.give(note("a"), 5000), note("a"), note("a")
		stored.SendAt = time.Now().Add(time.Hour)
		r.q.accept(stored, 2000)
		r.q.broadcast(audience, 9000)
		pass(2 * time.Second)
		sent := r.tr["a"].sendsOf(ready)
		r.q.mu.Lock()
		r.q.gone[ready.ID], r.q.gone[stored.ID], r.q.gone[audience.ID] = true, true, true
		r.q.mu.Unlock()
		pass(time.Second)
		more := r.tr["a"].sendsOf(ready) - sent
		if more > 100 {
			t.Errorf("%d were sent after it was cancelled", more)
		}
		r.want(ready, map[push.Outcome]int{push.Accepted: sent + more, push.Cancelled: 5000 - sent - more})
		r.want(stored, map[push.Outcome]int{push.Cancelled: 2000})
		if left := r.q.left(); left != 0 {
			t.Errorf("%d rows are left", left)
		}
	})
}

// Of a cancelled notification a part is in flight and a part was never in memory. The one is settled while the other comes back
// unsent.
func TestCancelWhatIsInFlightAndWhatIsNotInMemory(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, func(r *rig, _ *Config, apps map[string]RouteConfig) {
			r.tr["a"].stuck = make(chan struct{})
			r.tr["a"].answer = func(*push.Delivery) push.Result {
				return push.Result{Outcome: push.NotSent, Reason: push.ConnectionLost}
			}
			a := apps["a"]
			a.InFlight, a.Memory = 2000, 8000
			apps["a"] = a
		})
		n := r.give(note("a"), 20_000)
		pass(time.Second)
		r.q.mu.Lock()
		r.q.gone[n.ID] = true
		r.q.mu.Unlock()
		pass(2 * time.Second)
		close(r.tr["a"].stuck)
		pass(2 * time.Second)
		r.want(n, map[push.Outcome]int{push.Cancelled: 20_000})
		if a := r.s.routes[queue.Outlet{App: "a"}]; a.backlog.inMemory != [2]int{} || a.backlog.ready != [2]int{} || len(a.backlog.notifications) != 0 {
			t.Errorf("something is counted still: %v %v %d", a.backlog.inMemory, a.backlog.ready, len(a.backlog.notifications))
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

func TestShutdownLosesAndRepeatsNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, func(r *rig, _ *Config, apps map[string]RouteConfig) {
			r.tr["a"].delay = 2 * time.Second
			a := apps["a"]
			a.MaxRate = 5000 // so that batches are in flight in part
			apps["a"] = a
		})
		n := r.give(note("a"), 20_000)
		pass(1700 * time.Millisecond)
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		sent := r.tr["a"].sendsOf(n)
		r.want(n, map[push.Outcome]int{push.Accepted: sent})
		rows := 0
		for _, b := range r.q.rows {
			rows += len(b.Recipients)
		}
		if sent == 0 || sent+rows != 20_000 {
			t.Errorf("%d sent, %d still in rows, want 20,000 together", sent, rows)
		}
	})
}

func TestShutdownDoesNotWaitForEver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, func(r *rig, _ *Config, _ map[string]RouteConfig) { r.tr["a"].stuck = make(chan struct{}) })
		n := r.give(note("a"), 1500)
		pass(time.Second)
		began := time.Now()
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > 11*time.Second {
			t.Errorf("took %v", took)
		}
		r.want(n, nil)
		if left := r.q.left(); left != 2 {
			t.Errorf("%d rows are left, want both", left)
		}
	})
}

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

func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, func(r *rig, _ *Config, apps map[string]RouteConfig) {
			r.tr["a"].delay = 100 * time.Millisecond
			a := apps["a"]
			a.InFlight, a.Memory = 4000, 16_000
			apps["a"] = a
		})
		all := make([]*push.Notification, 0, 10)
		for range 10 {
			n := note("a")
			all = append(all, r.give(n, 10_000))
		}
		peak := 0
		for range 200 {
			pass(50 * time.Millisecond)
			a := r.s.routes[queue.Outlet{App: "a"}]
			a.mu.Lock()
			peak = max(peak, a.backlog.inMemory[queue.Urgent]+a.backlog.inMemory[queue.Bulk])
			a.mu.Unlock()
		}
		if peak > 16_000 || r.tr["a"].peak > 4000 {
			t.Errorf("%d recipients in memory, %d in flight", peak, r.tr["a"].peak)
		}
		for _, n := range all {
			r.want(n, map[push.Outcome]int{push.Accepted: 10_000})
		}
		if a := r.s.routes[queue.Outlet{App: "a"}]; a.backlog.inMemory != [2]int{} || a.backlog.ready != [2]int{} || a.inFlight != 0 || len(a.backlog.notifications) != 0 {
			t.Errorf("something is counted still: %v %v %d %d", a.backlog.inMemory, a.backlog.ready, a.inFlight, len(a.backlog.notifications))
		}
	})
}

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

// What of an audience is not expanded when it expires stays so: no badges are counted, and no failures kept, for what is not sent.
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

// Whatever the gateway answers, each recipient ends in exactly one final outcome, with the attempts that were answered.
func TestEveryRecipientEndsInOneOutcome(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.Uint64().Draw(rt, "seed")
		sizes := rapid.SliceOfN(rapid.IntRange(1, 1300), 1, 5).Draw(rt, "sizes")
		odds := rapid.SliceOfN(rapid.IntRange(0, 10), 6, 6).Draw(rt, "odds")
		odds[0]++ // something must go through
		rate := rapid.SampledFrom([]int{0, 0, 700}).Draw(rt, "rate")
		delay := rapid.SampledFrom([]time.Duration{0, time.Millisecond, 300 * time.Millisecond}).Draw(rt, "delay")
		synctest.Test(t, func(t *testing.T) {
			model := newModel(seed, odds)
			r := start(t, func(r *rig, cfg *Config, apps map[string]RouteConfig) {
				cfg.Retry, cfg.Pause, cfg.PauseMax, cfg.Blocked = 10*time.Millisecond, 10*time.Millisecond, 50*time.Millisecond, 50*time.Millisecond
				r.tr["a"].answer, r.tr["a"].delay = model.answer, delay
				a := apps["a"]
				a.MaxRate, a.Memory, a.InFlight = rate, 8000, 2500
				apps["a"] = a
			})
			all := make([]*push.Notification, 0, len(sizes))
			for _, size := range sizes {
				n := note("a")
				n.Expiration = time.Now().Add(365 * 24 * time.Hour)
				all = append(all, r.give(n, size))
			}
			for range 2000 {
				if pass(time.Second); r.q.left() == 0 {
					break
				}
			}
			for i, n := range all {
				if got := len(r.q.final[n.ID]); got != sizes[i] {
					t.Fatalf("%d of %d recipients have an outcome; %d rows are left", got, sizes[i], r.q.left())
				}
				for token, result := range r.q.final[n.ID] {
					k := answered{n.ID, token}
					answer, want := model.last[k].Outcome, model.retries[k]
					got := int(r.q.attempts[n.ID][token])
					if answer == push.Retry && want > 3 && got == 3 {
						answer = push.Failed
					}
					if result.Outcome != answer {
						t.Fatalf("settled as %v, answered %v after %d retries", result.Outcome, answer, want)
					}
					if got > min(want, 3) { // fewer, where the others of the route failed with it
						t.Fatalf("%d attempts of %d answers", got, want)
					}
				}
			}
			if r.q.twice > 0 {
				t.Fatalf("%d recipients were counted twice", r.q.twice)
			}
		})
	})
}

// A transaction costs as much as tens of notifications in it: those that come one after the other must share them, and the
// first after a pause must not wait for more.
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
