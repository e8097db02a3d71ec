package sender

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	dto "github.com/prometheus/client_model/go"

	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/queue"
)

// A service that is overloaded takes a few and answers the others "later": that is an outage too, and fails nothing.
func TestAServiceThatTakesFewFailsNothing(t *testing.T) {
	t.Parallel()
	for _, perSecond := range []int{1, 5, 20} {
		for _, size := range []int{30, 1000, 10_000} {
			t.Run(fmt.Sprint(perSecond, size), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					var mu sync.Mutex
					taken := map[int64]int{} // by second
					begin := time.Now()
					r := start(t, func(r *rig, _ *Config, _ map[string]RouteConfig) {
						r.tr["a"].answer = func(*push.Delivery) push.Result {
							mu.Lock()
							defer mu.Unlock()
							now := time.Now()
							if now.Sub(begin) > time.Minute || taken[now.Unix()] < perSecond {
								taken[now.Unix()]++
								return push.Result{Outcome: push.Accepted}
							}
							return push.Result{Outcome: push.Retry, Reason: reasonServiceUnavailable, Status: 503}
						}
					})
					n := r.give(note("a"), size)
					pass(time.Minute + 20*time.Second)
					r.want(n, map[push.Outcome]int{push.Accepted: size})
					if logs := strings.Count(r.logs.String(), "answers everything with"); size > 60*perSecond && logs != 1 {
						t.Errorf("said %d times", logs)
					}
					if sends := r.tr["a"].sendsOf(n); sends > 2*size+6000 {
						t.Errorf("%d sends to a service that is overloaded", sends)
					}
				})
			})
		}
	}
}

// An outage that comes and goes.
func TestAServiceThatFlapsFailsNothing(t *testing.T) {
	t.Parallel()
	for _, up := range []time.Duration{50 * time.Millisecond, 500 * time.Millisecond} {
		for _, size := range []int{1, 100, 10_000} {
			t.Run(fmt.Sprint(up, size), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					begin := time.Now()
					r := start(t, func(r *rig, _ *Config, _ map[string]RouteConfig) {
						r.tr["a"].answer = func(*push.Delivery) push.Result {
							if at := time.Since(begin); at < 2*time.Minute && at%(5*time.Second) >= up {
								return push.Result{Outcome: push.Retry, Reason: reasonServiceUnavailable, Status: 503}
							}
							return push.Result{Outcome: push.Accepted}
						}
					})
					pass(time.Second)
					all := []*push.Notification{r.give(note("a"), size)}
					for range 240 { // and others come meanwhile
						pass(500 * time.Millisecond)
						all = append(all, r.give(note("a"), 1))
					}
					pass(15 * time.Second)
					failed := 0
					for _, n := range all {
						failed += r.q.outcomes(n)[push.Failed]
					}
					if failed > 0 {
						t.Errorf("%d failed", failed)
					}
				})
			})
		}
	}
}

// othersGoThrough gives so many notifications to one device, ten a second, of which none may wait for longer. It is a
// device that gets nothing else: one that was told to wait would wait with all that is for it.
func (r *rig) othersGoThrough(notifications int, longest time.Duration) {
	r.t.Helper()
	for range notifications {
		began, n := time.Now(), note("a")
		r.s.Handoff(n, r.q.acceptFrom(n, 1_000_000, 1))
		for len(r.q.outcomes(n)) == 0 {
			pass(10 * time.Millisecond)
		}
		if took := time.Since(began); took > longest {
			r.t.Fatalf("another waited %v", took)
		}
		pass(100 * time.Millisecond)
	}
}

// One that alone is always answered "later" holds up nobody, and has failed once others showed that it is its own
// fault.
func TestALonePoisonedNotificationWaitsForOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		poisoned := note("a")
		r := start(t, func(r *rig, _ *Config, _ map[string]RouteConfig) {
			r.tr["a"].answer = func(d *push.Delivery) push.Result {
				if d.Notification.ID == poisoned.ID {
					return push.Result{Outcome: push.Retry, Reason: reasonServiceUnavailable, Status: 500}
				}
				return push.Result{Outcome: push.Accepted}
			}
		})
		r.give(poisoned, 1)
		pass(10 * time.Minute)
		r.want(poisoned, nil)
		r.othersGoThrough(600, 15*time.Second)
		r.want(poisoned, map[push.Outcome]int{push.Failed: 1})
	})
}

// A broadcast of which all is answered "later" is not an outage while others succeed: it delays them little, and fails.
func TestAPoisonedBroadcastFailsAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		poisoned := note("a")
		r := start(t, func(r *rig, _ *Config, _ map[string]RouteConfig) {
			r.tr["a"].answer = func(d *push.Delivery) push.Result {
				if d.Notification.ID == poisoned.ID {
					return push.Result{Outcome: push.Retry, Reason: reasonServiceUnavailable, Status: 500}
				}
				return push.Result{Outcome: push.Accepted}
			}
		})
		r.give(poisoned, 5000)
		r.othersGoThrough(3000, 15*time.Second)
		r.want(poisoned, map[push.Outcome]int{push.Failed: 5000})
	})
}

// Each cause of a pause has its own value in the metric, and a line that says what to do.
func TestEachCauseOfAPauseIsShown(t *testing.T) {
	t.Parallel()
	throttled := &push.Reason{Text: "TooManyProviderTokenUpdates", Class: push.ClassRoute, Remedy: "wait 20 minutes"}
	for _, c := range []struct {
		cause  cause
		result push.Result
		log    string
	}{
		{causeConnection, push.Result{Outcome: push.NotSent, Reason: push.ConnectionLost}, "nothing reaches the gateway"},
		{causeConfiguration, push.Result{Outcome: push.Blocked, Reason: reasonInvalidProviderToken}, "level=ERROR msg=\"the service refuses"},
		{causeUnavailable, push.Result{Outcome: push.Retry, Reason: reasonServiceUnavailable}, "level=WARN msg=\"the service answers"},
		{causeThrottled, push.Result{Outcome: push.NotSent, Reason: throttled}, "level=WARN msg=\"the service takes nothing"},
	} {
		t.Run(causeNames[c.cause], func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var mended atomic.Bool
				r := start(t, func(r *rig, _ *Config, _ map[string]RouteConfig) {
					r.tr["a"].answer = func(*push.Delivery) push.Result {
						if mended.Load() {
							return push.Result{Outcome: push.Accepted}
						}
						return c.result
					}
				})
				n := r.give(note("a"), 100)
				pass(time.Minute)
				if got := shown(t, r, "a"); !slices.Equal(got, []string{causeNames[c.cause]}) || len(shown(t, r, "b")) != 0 {
					t.Errorf("shown: %v, and of the other app %v", got, shown(t, r, "b"))
				}
				if logs := r.logs.String(); strings.Count(logs, c.log) != 1 ||
					c.result.Reason.Remedy != "" && !strings.Contains(logs, c.result.Reason.Remedy) {
					t.Errorf("the log:\n%s", logs)
				}
				mended.Store(true)
				pass(31 * time.Second)
				r.want(n, map[push.Outcome]int{push.Accepted: 100})
				if got := shown(t, r, "a"); len(got) != 0 {
					t.Errorf("still shown: %v", got)
				}
			})
		})
	}
}

// shown names the causes that the app's metric shows.
func shown(t *testing.T, r *rig, app string) (causes []string) {
	t.Helper()
	for i, name := range causeNames {
		if name == "" {
			continue
		}
		var m dto.Metric
		if err := r.s.routes.Load().byOutlet[queue.Outlet{App: app, Route: push.Production}].metrics.paused[i].Write(&m); err != nil {
			t.Error(err)
		}
		if m.GetGauge().GetValue() == 1 {
			causes = append(causes, name)
		}
	}
	return causes
}

// Devices that get too much, while nothing else is sent: nothing says that it is their fault, and they are tried with
// growing pauses.
func TestAFewDevicesThatGetTooMuchFailOnlyWhileOthersSucceed(t *testing.T) {
	t.Parallel()
	for size := 1; size <= 5; size++ {
		for _, together := range []bool{true, false} {
			for _, others := range []bool{false, true} {
				t.Run(fmt.Sprint(size, together, others), func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) {
						var busy atomic.Bool
						busy.Store(true)
						r := start(t, func(r *rig, _ *Config, _ map[string]RouteConfig) {
							asks(r, &busy, push.Result{Outcome: push.Retry, Reason: reasonDeviceBusy, Status: 429},
								func(d *push.Delivery) bool { return index(d.Token) < 5 })
						})
						before := r.q.acceptFrom(note("a"), 10, 100)
						r.s.Handoff(r.q.notes[before[0].Notification], before)
						pass(time.Second)
						var all []*push.Notification
						if together {
							all = append(all, r.give(note("a"), size))
						} else {
							for i := range size {
								n := note("a")
								r.s.Handoff(n, r.q.acceptFrom(n, i, 1))
								all = append(all, n)
							}
						}
						for range 30 * 60 {
							pass(time.Second)
							if others {
								n := note("a")
								r.s.Handoff(n, r.q.acceptFrom(n, 10, 1))
							}
						}
						want := push.Accepted
						if others {
							want = push.Failed
						}
						busy.Store(false)
						pass(10 * time.Minute)
						sends, failed := 0, 0
						for _, n := range all {
							sends += r.tr["a"].sendsOf(n)
							failed += r.q.outcomes(n)[push.Failed]
							if got := r.q.outcomes(n)[want]; got != size && together || got != 1 && !together {
								t.Errorf("%v", r.q.outcomes(n))
							}
						}
						if sends > 60*size {
							t.Errorf("%d sends in half an hour", sends)
						}
						if !others && failed > 0 {
							t.Errorf("%d failed although nothing else succeeded", failed)
						}
					})
				})
			}
		}
	}
}

// Devices that get too much when an outage ends say nothing of it: it is another that shows that the service is back.
func TestDevicesThatGetTooMuchDoNotProlongAnOutage(t *testing.T) {
	t.Parallel()
	const busy = 15
	synctest.Test(t, func(t *testing.T) {
		var away atomic.Bool
		away.Store(true)
		r := start(t, func(r *rig, _ *Config, _ map[string]RouteConfig) {
			r.tr["a"].answer = func(d *push.Delivery) push.Result {
				switch {
				case away.Load():
					return push.Result{Outcome: push.Retry, Reason: reasonServiceUnavailable, Status: 503}
				case index(d.Token) < busy:
					return push.Result{Outcome: push.Retry, Reason: reasonDeviceBusy, RetryAfter: time.Minute, Status: 429}
				}
				return push.Result{Outcome: push.Accepted}
			}
		})
		for i := range busy {
			n := note("a")
			r.s.Handoff(n, r.q.acceptFrom(n, i, 1))
		}
		n := note("a")
		r.s.Handoff(n, r.q.acceptFrom(n, busy, 1))
		pass(10 * time.Minute)
		away.Store(false)
		pass(20 * time.Second)
		r.want(n, map[push.Outcome]int{push.Accepted: 1})
	})
}

// An outage fails nothing either where nothing is to be sent again; what fails while others succeed does.
func TestAnOutageFailsNothingWithoutRetries(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1, 100, 10_000} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var away atomic.Bool
				r := start(t, func(r *rig, _ *Config, apps map[string]RouteConfig) {
					r.tr["a"].answer = func(d *push.Delivery) push.Result {
						if away.Load() || d.Token == token(20_000) {
							return push.Result{Outcome: push.Retry, Reason: reasonServiceUnavailable, Status: 503}
						}
						return push.Result{Outcome: push.Accepted}
					}
					a := apps["a"]
					a.MaxRetries = -1
					apps["a"] = a
				})
				r.give(note("a"), 1000)
				pass(time.Second)
				away.Store(true)
				n := r.give(note("a"), size)
				pass(20 * time.Second)
				away.Store(false)
				pass(30 * time.Second)
				r.want(n, map[push.Outcome]int{push.Accepted: size})
				own := note("a")
				r.s.Handoff(own, r.q.acceptFrom(own, 19_999, 2))
				pass(10 * time.Second)
				r.want(own, map[push.Outcome]int{push.Accepted: 1, push.Failed: 1})
				if sends := r.tr["a"].sendsOf(own); sends != 2 {
					t.Errorf("%d sends without retries", sends)
				}
			})
		})
	}
}

// A pause whose notifications have all expired is not shown for ever: the next one tells whether it is over.
func TestAPauseOfAnIdleRouteEnds(t *testing.T) {
	t.Parallel()
	for _, result := range []push.Result{
		{Outcome: push.Blocked, Reason: reasonInvalidProviderToken},
		{Outcome: push.Blocked, Reason: reasonTopicDisallowed},
		{Outcome: push.NotSent, Reason: push.ConnectionLost},
		{Outcome: push.Retry, Reason: reasonServiceUnavailable},
	} {
		t.Run(result.Reason.Text, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var broken atomic.Bool
				broken.Store(true)
				r := start(t, func(r *rig, _ *Config, _ map[string]RouteConfig) {
					asks(r, &broken, result, func(*push.Delivery) bool { return true })
				})
				n := note("a")
				n.Expiration = time.Now().Add(2 * time.Minute)
				r.give(n, 10)
				pass(time.Minute)
				if len(shown(t, r, "a")) != 1 {
					t.Error("nothing is shown while it waits")
				}
				pass(4 * time.Minute)
				r.want(n, map[push.Outcome]int{push.Expired: 10})
				if got := shown(t, r, "a"); len(got) != 0 {
					t.Errorf("still shown: %v", got)
				}
				next := r.give(note("a"), 10)
				pass(time.Second)
				if len(shown(t, r, "a")) != 1 {
					t.Error("the next notification, which is refused too, shows nothing")
				}
				broken.Store(false)
				pass(31 * time.Second)
				r.want(next, map[push.Outcome]int{push.Accepted: 10})
			})
		})
	}
}

// A service that answers everything with "later" for a while fails nothing: it pauses the route, and is noticed when it
// is back.
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

// Where there are many services behind a route, one that tells all of its devices to wait is none of the others' outage.
func TestOneBusyServiceOfMany(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		busy := note("a")
		r := start(t, func(r *rig, _ *Config, apps map[string]RouteConfig) {
			a := apps["a"]
			a.ManyServices = true
			apps["a"] = a
			r.tr["a"].answer = func(d *push.Delivery) push.Result {
				if d.Notification.ID == busy.ID {
					return push.Result{Outcome: push.Retry, Reason: reasonDeviceBusy, Status: 429}
				}
				return push.Result{Outcome: push.Accepted}
			}
		})
		r.give(busy, 30)
		r.othersGoThrough(100, time.Second)
		if strings.Contains(r.logs.String(), "notifications wait") {
			t.Errorf("it was paused:\n%s", r.logs.String())
		}
	})
}
