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

// One that alone is always answered "later" holds up nobody, and has failed once others showed that it is its own fault.
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
		for range 600 {
			began, n := time.Now(), r.give(note("a"), 1)
			for len(r.q.outcomes(n)) == 0 {
				pass(10 * time.Millisecond)
			}
			if took := time.Since(began); took > 15*time.Second {
				t.Fatalf("another waited %v", took)
			}
			pass(100 * time.Millisecond)
		}
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
		for range 3000 {
			began, n := time.Now(), r.give(note("a"), 1)
			for len(r.q.outcomes(n)) == 0 {
				pass(10 * time.Millisecond)
			}
			if took := time.Since(began); took > 15*time.Second {
				t.Fatalf("another waited %v", took)
			}
			pass(100 * time.Millisecond)
		}
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
		if err := r.s.routes[queue.Outlet{App: app}].metrics.paused[i].Write(&m); err != nil {
			t.Error(err)
		}
		if m.GetGauge().GetValue() == 1 {
			causes = append(causes, name)
		}
	}
	return causes
}
