package sender

import (
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lhspn/lhspn/internal/push"
)

func TestAWrongConfigurationBlocksTheRouteAndNoOther(t *testing.T) {
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

// Some notifications or tokens may be refused, or ignored, for ever in a way that looks like the app's configuration or
// a gateway that is away. While the app waits, the probes find those that go through.
func TestOnePoisonedNotificationDoesNotBlockTheOthers(t *testing.T) {
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
func TestARefusedKeyBlocksOnlyItself(t *testing.T) {
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
		for range 5 {
			many, one, all := r.give(note("a"), 2500), r.give(note("a"), 1), note("a")
			r.q.broadcast(all, 20_000)
			pass(time.Minute)
			r.want(many, map[push.Outcome]int{push.Accepted: 2500})
			r.want(all, map[push.Outcome]int{push.Accepted: 20_000})
			r.want(one, map[push.Outcome]int{push.Accepted: 1})
		}
		r.want(wrong, nil)
		r.want(gone, map[push.Outcome]int{push.Expired: 1500})
		if sends := r.tr["a"].sendsOf(wrong) + r.tr["a"].sendsOf(wrongOne) + r.tr["a"].sendsOf(gone); sends > 4001+15 {
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

// The breaker alone: what a group's news do to the route's pause.
func TestTheBreaker(t *testing.T) {
	t.Parallel()
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	cfg := Config{}.withDefaults()
	newBreaker := func() *breaker {
		b := newBreaker(&cfg, slog.New(slog.DiscardHandler))
		return &b
	}
	news := func(b *breaker, change func(g *groupNews)) *groupNews {
		g := &groupNews{now: now, sentAt: now, epoch: b.route.epoch, most: 1000}
		change(g)
		return g
	}
	answered := func(g *groupNews) { g.answers = 1 }
	lost := func(g *groupNews) { g.lost = 1 }

	t.Run("many lost groups are one failure", func(t *testing.T) {
		t.Parallel()
		b := newBreaker()
		groups := []*groupNews{news(b, lost), news(b, lost), news(b, lost)}
		for _, g := range groups {
			b.update(g)
		}
		if b.route.failures != 1 || b.shown() != causeConnection {
			t.Errorf("%d failures, shown %v", b.route.failures, b.shown())
		}
	})
	t.Run("an old answer ends the pause of a lost connection, but not that of a refusal", func(t *testing.T) {
		t.Parallel()
		b := newBreaker()
		old := news(b, answered)
		b.update(news(b, lost))
		if !b.update(old) || b.shown() != notPaused {
			t.Error("it is paused although the gateway answers")
		}
		b = newBreaker()
		old = news(b, answered)
		b.update(news(b, func(g *groupNews) { g.blocked = reasonInvalidProviderToken }))
		if b.update(old) || b.shown() != causeConfiguration {
			t.Error("what was sent before ends it")
		}
		if !b.update(news(b, answered)) || b.shown() != notPaused {
			t.Error("it does not end")
		}
	})
	t.Run("the pauses grow until sending is at its full width again", func(t *testing.T) {
		t.Parallel()
		b := newBreaker()
		outage := func(g *groupNews) { g.outage = true }
		for range 4 {
			b.update(news(b, outage))
		}
		b.update(news(b, answered))
		if b.route.ramp != rampStart || b.shown() != causeUnavailable || b.route.failures != 4 {
			t.Errorf("%+v", b.route)
		}
		for range 6 {
			b.update(news(b, answered))
		}
		if b.route.ramp != 0 || b.shown() != notPaused || b.route.failures != 0 {
			t.Errorf("%+v", b.route)
		}
	})
	t.Run("the longest wait that was asked for counts", func(t *testing.T) {
		t.Parallel()
		b := newBreaker()
		wait := func(d time.Duration) *groupNews {
			return news(b, func(g *groupNews) { g.answers, g.asked = 1, asked{route: d, reason: reasonQuota} })
		}
		first, longer, shorter := wait(time.Minute), wait(2*time.Minute), wait(time.Second)
		for _, g := range []*groupNews{first, longer, shorter} {
			b.update(g)
		}
		if b.route.until != now.Add(2*time.Minute) || b.shown() != causeThrottled || b.route.failures != 1 {
			t.Errorf("%+v", b.route)
		}
	})
	t.Run("a key is probed with one", func(t *testing.T) {
		t.Parallel()
		b := newBreaker()
		d := &push.Delivery{Notification: &push.Notification{Key: "k"}, Result: push.Result{Outcome: push.Blocked, Reason: reasonTopicDisallowed}}
		b.answered(d, now, now)
		later := now.Add(cfg.Blocked)
		if b.allows("k", 500, now) != 0 || b.allows("other", 500, now) != 500 || b.allows("k", 500, later) != 1 {
			t.Error("it lets the wrong number go")
		}
		if b.sends("k", later); b.allows("k", 500, later) != 0 {
			t.Error("another goes while the probe is under way")
		}
		d.Result = push.Result{Outcome: push.Accepted}
		if !b.answered(d, later, later) || b.allows("k", 500, later) != 500 {
			t.Error("it does not end")
		}
	})
}

// A probe that was taken back says nothing of the service, whatever else is refused.
func TestARecalledProbeEndsNoPause(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const away, recalled = 1, 2
		var mode atomic.Int32
		r := start(t, func(r *rig, _ *Config, _ map[string]RouteConfig) {
			r.tr["a"].answer = func(d *push.Delivery) push.Result {
				switch {
				case mode.CompareAndSwap(recalled, away): // one
					return push.Recalled
				case mode.Load() == away:
					return push.Result{Outcome: push.NotSent, Reason: push.ConnectionLost}
				case d.Notification.Key == "refused":
					return push.Result{Outcome: push.Blocked, Reason: reasonTopicDisallowed, Status: 403}
				}
				return push.Result{Outcome: push.Accepted}
			}
		})
		refused := note("a")
		refused.Key = "refused"
		r.give(refused, 1)
		pass(time.Second)
		mode.Store(away)
		many := r.give(note("a"), 3000)
		pass(20 * time.Second)
		before := r.tr["a"].sendsOf(many)
		mode.Store(recalled)
		pass(3 * defaultPauseMax)
		if probes := r.tr["a"].sendsOf(many) - before; probes == 0 || probes > 50 {
			t.Errorf("%d were sent to a gateway that is away", probes)
		}
	})
}
