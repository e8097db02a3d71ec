package sender

import (
	"encoding/binary"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/queue"
)

var (
	reasonDeviceBusy = &push.Reason{Text: "DeviceBusy", Class: push.ClassToken}
	reasonKeyBusy    = &push.Reason{Text: "KeyBusy", Class: push.ClassKey}
	reasonQuota      = &push.Reason{Text: "QuotaExceeded", Class: push.ClassRoute, Remedy: "ask for more"}
)

// asks has the transport of app a answer so once, or as long as on is set, where who matches, and accept everything
// else.
func asks(r *rig, on *atomic.Bool, result push.Result, who func(d *push.Delivery) bool) {
	r.tr["a"].answer = func(d *push.Delivery) push.Result {
		if on.Load() && who(d) {
			return result
		}
		return push.Result{Outcome: push.Accepted}
	}
}

// sentTo is when the notification was sent to the token.
func (t *fakeTransport) sentTo(n *push.Notification, to push.Token) (at []time.Time) {
	for _, s := range t.sends() {
		if s.n.ID == n.ID && s.token == to {
			at = append(at, s.at)
		}
	}
	return at
}

// A device token that gets too much waits so long as the service says, with other notifications too; the batch's others
// do not.
func TestARecipientIsSentToNoSoonerThanTheServiceAsks(t *testing.T) {
	t.Parallel()
	for _, reason := range []*push.Reason{reasonDeviceBusy, {Text: "Busy"}, reasonKeyBusy} { // a key's where there is no key
		for _, outcome := range []push.Outcome{push.Retry, push.NotSent, push.Blocked} {
			if outcome == push.Blocked && reason.Class == push.ClassNone {
				continue // that is the route's configuration
			}
			t.Run(reason.Text+" "+outcome.String(), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					var on atomic.Bool
					on.Store(true)
					r := start(t, func(r *rig, _ *Config, _ map[string]RouteConfig) {
						asks(r, &on, push.Result{Outcome: outcome, Reason: reason, RetryAfter: 10 * time.Minute},
							func(d *push.Delivery) bool { return d.Token == token(3) })
					})
					pass(time.Second)
					many := note("a")
					many.Key = ""
					r.give(many, 1500)
					asked := time.Now()
					pass(time.Second)
					r.want(many, map[push.Outcome]int{push.Accepted: 1499})
					on.Store(false)
					other := note("a")
					other.Key = ""
					r.give(other, 10)
					pass(time.Second)
					r.want(other, map[push.Outcome]int{push.Accepted: 9})
					pass(time.Until(asked.Add(9*time.Minute + 59*time.Second)))
					r.want(many, map[push.Outcome]int{push.Accepted: 1499})
					pass(10 * time.Second)
					r.want(many, map[push.Outcome]int{push.Accepted: 1500})
					r.want(other, map[push.Outcome]int{push.Accepted: 10})
					if at := r.tr["a"].sentTo(many, token(3)); len(at) != 2 || at[1].Sub(at[0]) < 10*time.Minute {
						t.Errorf("sent to it at %v", at)
					}
					if at := r.tr["a"].sentTo(other, token(3)); len(at) != 1 || at[0].Sub(asked) < 10*time.Minute {
						t.Errorf("another notification was sent to it at %v", at)
					}
					r.q.mu.Lock()
					settles := r.q.settles
					r.q.mu.Unlock()
					if settles > 12 {
						t.Errorf("%d settlements", settles)
					}
					if logs := r.logs.String(); logs != "" {
						t.Errorf("the log:\n%s", logs)
					}
				})
			})
		}
	}
}

// More device tokens wait than are remembered: what is sent again of their batches waits with them, and none is sent to
// too soon.
func TestMoreRecipientsWaitThanAreRemembered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const size = 24 * tokensWaiting / 10
		waits := func(t push.Token) bool { return index(t)%2 == 1 }
		var on atomic.Bool
		on.Store(true)
		r := start(t, func(r *rig, _ *Config, _ map[string]RouteConfig) {
			r.tr["a"].delay = time.Second // all are sent before the first is answered
			r.tr["a"].answer = func(d *push.Delivery) push.Result {
				switch {
				case !on.Load():
					return push.Result{Outcome: push.Accepted}
				case waits(d.Token):
					return push.Result{Outcome: push.NotSent, Reason: reasonDeviceBusy, RetryAfter: time.Minute}
				}
				return push.Result{Outcome: push.NotSent, Reason: push.NoAnswer}
			}
		})
		pass(time.Second)
		n := r.give(note("a"), size)
		pass(time.Second / 2)
		if got := r.tr["a"].sendsOf(n); got != size {
			t.Fatalf("%d were sent", got)
		}
		pass(time.Second)
		on.Store(false)
		pass(58 * time.Second)
		if got := r.q.outcomes(n)[push.Accepted]; got < 4*tokensWaiting/10 || got > size/2 {
			t.Errorf("%d of those that need not wait were sent again", got)
		}
		sent := map[push.Token]bool{}
		for _, s := range r.tr["a"].sends() {
			if waits(s.token) && sent[s.token] {
				t.Fatal("one was sent to too soon")
			}
			sent[s.token] = true
		}
		pass(30 * time.Second)
		r.want(n, map[push.Outcome]int{push.Accepted: size})
		a := r.s.routes.Load().byOutlet[queue.Outlet{App: "a", Route: push.Production}]
		a.mu.Lock()
		defer a.mu.Unlock()
		if len(a.breaker.tokens.until) != 0 {
			t.Errorf("%d are still remembered", len(a.breaker.tokens.until))
		}
	})
}

// index is the n of token(n).
func index(t push.Token) int { return int(binary.BigEndian.Uint64([]byte(t))) }

func TestAKeyWaitsAsLongAsTheServiceAsksAndOthersGoOn(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		outcome push.Outcome
		of      int // of the 3000, so many are answered so
	}{{push.Retry, 3000}, {push.NotSent, 3000}, {push.NotSent, 10}} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var on atomic.Bool
				on.Store(true)
				r := start(t, func(r *rig, _ *Config, _ map[string]RouteConfig) {
					r.tr["a"].delay = 100 * time.Millisecond
					asks(r, &on, push.Result{Outcome: c.outcome, Reason: reasonKeyBusy, RetryAfter: 5 * time.Minute},
						func(d *push.Delivery) bool { return d.Notification.Key == "busy" && index(d.Token) < c.of })
				})
				n := note("a")
				n.Key = "busy"
				r.give(n, 3000)
				pass(time.Second)
				if got := shown(t, r, "a"); len(got) != 1 || got[0] != "throttled" {
					t.Errorf("shown: %v", got)
				}
				on.Store(false)
				first := r.tr["a"].sendsOf(n)
				for range 4 {
					pass(time.Minute)
					other := r.give(note("a"), 1500)
					pass(time.Second)
					r.want(other, map[push.Outcome]int{push.Accepted: 1500})
				}
				if more := r.tr["a"].sendsOf(n) - first; more != 0 {
					t.Errorf("%d were sent too soon", more)
				}
				pass(2 * time.Minute)
				r.want(n, map[push.Outcome]int{push.Accepted: 3000})
				for _, s := range r.tr["a"].sends() {
					if s.attempts != 0 {
						t.Fatal("an attempt was used up")
					}
				}
				if lines := strings.Count(r.logs.String(), "level=WARN msg=\"the service asks to wait with the key"); lines != 1 {
					t.Errorf("the log:\n%s", r.logs)
				}
				if got := shown(t, r, "a"); len(got) != 0 {
					t.Errorf("still shown: %v", got)
				}
			})
		})
	}
}

// The route waits, whatever was accepted in the same group or before, and comes back with little.
func TestARouteWaitsAsLongAsTheServiceAsksAndComesBackGently(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		outcome push.Outcome
		of      int // of the 20,000, every second of so many is answered so
	}{{push.Retry, 20_000}, {push.NotSent, 20_000}, {push.NotSent, 1000}} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var on atomic.Bool
				on.Store(true)
				r := start(t, func(r *rig, _ *Config, _ map[string]RouteConfig) {
					r.tr["a"].delay = 100 * time.Millisecond
					asks(r, &on, push.Result{Outcome: c.outcome, Reason: reasonQuota, RetryAfter: time.Minute},
						func(d *push.Delivery) bool { return index(d.Token)%2 == 1 && index(d.Token) < c.of })
				})
				n, other := r.give(note("a"), 20_000), r.give(note("b"), 1000)
				pass(time.Second)
				on.Store(false)
				r.want(other, map[push.Outcome]int{push.Accepted: 1000})
				r.want(n, map[push.Outcome]int{push.Accepted: 20_000 - c.of/2})
				if got := shown(t, r, "a"); len(got) != 1 || got[0] != "throttled" {
					t.Errorf("shown: %v", got)
				}
				first := r.tr["a"].sendsOf(n)
				pass(58 * time.Second)
				if more := r.tr["a"].sendsOf(n) - first; more != 0 {
					t.Errorf("%d were sent too soon", more)
				}
				groups := len(r.tr["a"].groupSizes())
				pass(10 * time.Second)
				r.want(n, map[push.Outcome]int{push.Accepted: 20_000})
				if sizes := r.tr["a"].groupSizes()[groups:]; sizes[0] != 1 || sizes[1] > rampStart || sizes[2] > 2*rampStart {
					t.Errorf("it came back with groups of %v", sizes)
				}
				for _, s := range r.tr["a"].sends() {
					if s.attempts != 0 {
						t.Fatal("an attempt was used up")
					}
				}
				logs := r.logs.String()
				if strings.Count(logs, "level=WARN msg=\"the service asks to wait with everything of the route") != 1 ||
					!strings.Contains(logs, "ask for more") || strings.Count(logs, "sending again") != 1 {
					t.Errorf("the log:\n%s", logs)
				}
				if got := shown(t, r, "a"); len(got) != 0 {
					t.Errorf("still shown: %v", got)
				}
			})
		})
	}
}

// One that says a year is asked again after an hour.
func TestAWaitIsBounded(t *testing.T) {
	t.Parallel()
	for _, reason := range []*push.Reason{reasonDeviceBusy, reasonKeyBusy, reasonQuota} {
		t.Run(reason.Text, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var on atomic.Bool
				on.Store(true)
				r := start(t, func(r *rig, _ *Config, _ map[string]RouteConfig) {
					asks(r, &on, push.Result{Outcome: push.NotSent, Reason: reason, RetryAfter: 365 * 24 * time.Hour},
						func(*push.Delivery) bool { return true })
				})
				n := r.give(note("a"), 20)
				pass(time.Second)
				on.Store(false)
				pass(maxWait - 10*time.Second)
				r.want(n, nil)
				pass(time.Minute)
				r.want(n, map[push.Outcome]int{push.Accepted: 20})
			})
		})
	}
}

// Each route's transport gets the notification as its platform sends it.
func TestATransportSeesItsOwnPlatformsNotification(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, func(_ *rig, _ *Config, apps map[string]RouteConfig) {
			b := apps["b"]
			b.Platform = "other"
			apps["b"] = b
		})
		n := note("b")
		own := *n
		own.Platform, own.Priority, own.Expiration = "other", 5, time.Now().Add(time.Hour)
		n.Others = []*push.Notification{&own}
		r.give(n, 1)
		r.q.broadcast(n, 3000)
		pass(2 * time.Second)
		r.want(n, map[push.Outcome]int{push.Accepted: 3000})
		for _, s := range r.tr["b"].sends() {
			if s.n != &own {
				t.Fatalf("it was given %+v", s.n)
			}
		}
	})
}

// That is never accepted; where it comes all the same its recipients fail, and the log says so once.
func TestWhatHasNoContentForThePlatformFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, func(_ *rig, _ *Config, apps map[string]RouteConfig) {
			b := apps["b"]
			b.Platform = "other"
			apps["b"] = b
		})
		one, many, badges := note("b"), note("b"), note("b")
		badges.BadgeIncrement = 1
		r.give(one, 1)
		r.give(many, 2500)
		r.give(badges, 10)
		pass(2 * time.Second)
		r.want(one, map[push.Outcome]int{push.Failed: 1})
		r.want(many, map[push.Outcome]int{push.Failed: 2500})
		r.want(badges, map[push.Outcome]int{push.Failed: 10})
		if got := r.q.final[one.ID][token(0)]; got.Reason != push.NoContent {
			t.Errorf("failed as %v", got)
		}
		if sends := len(r.tr["b"].sends()); sends != 0 {
			t.Errorf("%d were sent", sends)
		}
		if lines := strings.Count(r.logs.String(), "level=ERROR msg=\"a notification has no content"); lines != 1 {
			t.Errorf("the log:\n%s", r.logs)
		}
		a := r.s.routes.Load().byOutlet[queue.Outlet{App: "b", Route: push.Production}]
		if a.backlog.inMemory != [2]int{} || a.backlog.ready != [2]int{} || len(a.backlog.notifications) != 0 {
			t.Errorf("something is counted still: %v %v %d", a.backlog.inMemory, a.backlog.ready, len(a.backlog.notifications))
		}
	})
}
