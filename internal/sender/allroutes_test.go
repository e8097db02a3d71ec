package sender

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/queue"
)

// startBoth is start with one more route of app a, of another platform. It is behind the first one in their order.
func startBoth(t *testing.T, change func(r *rig, first *RouteConfig)) (*rig, *fakeTransport) {
	t.Helper()
	web := newFakeTransport()
	r := start(t, func(r *rig, _ *Config, apps map[string]RouteConfig) {
		a := apps["a"]
		change(r, &a)
		apps["a"] = a
	})
	c := RouteConfig{Transport: web, Kind: "http2", Platform: "webpush"}
	if err := r.s.SetRoutes(map[queue.Outlet]*RouteConfig{{App: "a", Route: "webpush"}: &c}); err != nil {
		t.Fatal(err)
	}
	return r, web
}

// forBoth is a notification for both of them.
func forBoth() *push.Notification {
	n := note("a")
	other := *n
	other.Platform, other.Key = "webpush", ""
	n.Others = []*push.Notification{&other}
	return n
}

// What becomes of a person's devices on one route is not up to another one.
func TestAPersonsRoutesDoNotHoldEachOther(t *testing.T) {
	t.Parallel()
	ways := []push.Route{push.Production, "webpush"}
	once := func(t *testing.T, web *fakeTransport, n *push.Notification) {
		t.Helper()
		if sends := web.sendsOf(n); sends != 1 {
			t.Errorf("sent %d times to the browser", sends)
		}
	}
	t.Run("a topic is refused", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			r, web := startBoth(t, func(r *rig, _ *RouteConfig) {
				r.tr["a"].answer = func(*push.Delivery) push.Result {
					return push.Result{Outcome: push.Blocked, Reason: reasonTopicDisallowed, Status: 403}
				}
			})
			r.give(note("a"), 1)
			pass(time.Minute)
			n := forBoth()
			r.s.Handoff(n, []*queue.Batch{r.q.toUser(n, 2, ways...)})
			pass(time.Second)
			once(t, web, n)
		})
	})
	t.Run("there is no room", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			r, web := startBoth(t, func(r *rig, first *RouteConfig) {
				first.InFlight, first.Memory = 100, 200
				r.tr["a"].answer = func(*push.Delivery) push.Result {
					return push.Result{Outcome: push.NotSent, Reason: push.ConnectionLost}
				}
			})
			for range 300 {
				r.give(note("a"), 1)
			}
			pass(10 * time.Second)
			n := forBoth()
			r.s.Handoff(n, []*queue.Batch{r.q.toUser(n, 2, ways...)})
			pass(time.Second)
			once(t, web, n)
		})
	})
	for name, both := range map[string]bool{"the first one's form has expired": false, "both have expired": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r, web := startBoth(t, func(*rig, *RouteConfig) {})
				pass(time.Second)
				n := forBoth()
				n.Expiration = time.Now().Add(30 * time.Second)
				if both {
					n.Others[0].Expiration = n.Expiration
				}
				r.q.toUser(n, 2, ways...)
				r.q.setDown(push.ErrUnavailable)
				pass(40 * time.Second)
				r.q.setDown(nil)
				pass(10 * time.Second)
				if sends := web.sendsOf(n); sends > 0 == both {
					t.Errorf("sent %d times to the browser", sends)
				}
				if sends := r.tr["a"].sendsOf(n); sends != 0 || r.q.left() != 0 {
					t.Errorf("what had expired was sent %d times; %d rows are left", sends, r.q.left())
				}
			})
		})
	}
}

// Someone with thousands of devices is no reason to have others wait, nor to have all of them at once in the table.
func TestAPersonWithThousandsOfDevices(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, func(r *rig, _ *Config, apps map[string]RouteConfig) {
			a := apps["a"]
			a.MaxRate = 1000
			apps["a"] = a
		})
		pass(time.Second)
		many := note("a")
		r.s.Handoff(many, []*queue.Batch{r.q.toUser(many, 30_000, push.Production)})
		pass(time.Second)
		other := r.give(note("a"), 1)
		pass(10 * time.Second)
		r.want(other, map[push.Outcome]int{push.Accepted: 1})
		pass(time.Minute)
		r.want(many, map[push.Outcome]int{push.Accepted: 30_000})
	})
}

// An app's keys are any number: refused ones take the memory of the route's others neither one by one nor together.
func TestManyRefusedKeysLeaveRoom(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ memory, size, keys, payload int }{{2000, 1, 2500, 2}, {16_000, 1000, 40, 2}, {64_000, 1, 2500, 4000}} {
		synctest.Test(t, func(t *testing.T) {
			r := start(t, func(r *rig, cfg *Config, apps map[string]RouteConfig) {
				cfg.Payloads = 4 << 20
				r.tr["a"].answer = func(d *push.Delivery) push.Result {
					if d.Notification.Key != "t" {
						return push.Result{Outcome: push.Blocked, Reason: reasonTopicDisallowed, Status: 403}
					}
					return push.Result{Outcome: push.Accepted}
				}
				a := apps["a"]
				a.InFlight, a.Memory = c.memory/4, c.memory
				apps["a"] = a
			})
			pass(time.Second)
			for range c.keys {
				n := note("a")
				n.Key, n.Payload.JSON = "t."+n.ID.String(), make([]byte, c.payload)
				r.give(n, c.size)
			}
			pass(20 * time.Second)
			one, many := r.give(note("a"), 1), r.give(note("a"), c.memory/8)
			pass(10 * time.Second)
			r.want(one, map[push.Outcome]int{push.Accepted: 1})
			r.want(many, map[push.Outcome]int{push.Accepted: c.memory / 8})
		})
	}
}

// Of notifications to one device each has a payload of its own: what they take is bounded for all routes together, and
// leaves the others something.
func TestPayloadsAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const most = 4 << 20
		var away atomic.Bool
		away.Store(true)
		r := start(t, func(r *rig, cfg *Config, apps map[string]RouteConfig) {
			cfg.Payloads = most
			r.tr["a"].answer = func(*push.Delivery) push.Result {
				if away.Load() {
					return push.Result{Outcome: push.NotSent, Reason: push.ConnectionLost}
				}
				return push.Result{Outcome: push.Accepted}
			}
		})
		pass(time.Second)
		all := make([]*push.Notification, 2000)
		for i := range all {
			all[i] = note("a")
			all[i].Payload.JSON = make([]byte, 4000)
			r.give(all[i], 1)
		}
		other := r.give(note("b"), 1)
		pass(30 * time.Second)
		if taken := r.s.payloads.taken.Load(); taken > most/2+8192 {
			t.Errorf("one route takes %d of %d bytes", taken, most)
		}
		r.want(other, map[push.Outcome]int{push.Accepted: 1})
		away.Store(false)
		pass(time.Minute)
		for _, n := range all {
			r.want(n, map[push.Outcome]int{push.Accepted: 1})
		}
		if taken := r.s.payloads.taken.Load(); taken != 0 {
			t.Errorf("%d bytes are taken by nothing", taken)
		}
	})
}
