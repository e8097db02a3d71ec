package sender

import (
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/queue"
)

// give has the share take in what was answered about so many tokens from the first on: bad says which are called so.
func give(s *share, from, n int, bad func(i int) bool) {
	for end := from + n; from < end; from += 1000 {
		g, sum := &group{}, &summary{}
		g.Deliveries = answer(from, min(1000, end-from), none)
		for i := range g.Deliveries {
			d := &g.Deliveries[i]
			if bad(from + i) {
				d.Result = push.Result{Outcome: push.Failed, Reason: reasonBadDeviceToken}
				sum.bad++
			}
			if tells(d) {
				g.telling = append(g.telling, int32(i))
			}
			sum.outcomes[d.Result.Outcome]++
		}
		s.add(g, sum, time.Now())
	}
}

func TestTheShareOfBadTokens(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newShare()
		give(s, 0, 90_000, none)
		if r := s.report(time.Now()); r.Bad != 0 || r.Answers != 90_000 {
			t.Errorf("%+v", r)
		}
		pass(3 * time.Hour)
		give(s, 0, 90_000, every(90))
		if r := s.report(time.Now()); r.Bad < 0.8 || r.Answers != 180_000 {
			t.Errorf("a bad hour after a good day: %+v", r)
		}
		pass(3 * time.Hour)
		for range 20 {
			give(s, 0, 90_000, none)
		}
		pass(3 * time.Hour)
		if r := s.report(time.Now()); r.Bad > 0.06 {
			t.Errorf("hours later: %+v", r)
		}
		pass(25 * time.Hour)
		if r := s.report(time.Now()); r.Bad != 0 || r.Answers != 0 {
			t.Errorf("a day later: %+v", r)
		}
	})
}

// Whoever has the app can register tokens that are bad. They do not move the guard, however many there are; a gateway
// that is wrong does.
func TestInventedTokensMoveNoGuard(t *testing.T) {
	t.Parallel()
	const real = 300
	invented := func(i int) bool { return i >= real }
	for _, size := range []int{20, 300, 3000} {
		s := newShare()
		give(s, 0, real+size, invented)
		if r := s.report(time.Now()); r.Bad != 0 {
			t.Errorf("%d invented, the first broadcast: %+v", size, r)
		}
		for range 5 {
			give(s, 0, real+size, invented)
		}
		if r := s.report(time.Now()); r.Bad != 0 {
			t.Errorf("%d invented: %+v", size, r)
		}
		for range 2 { // now the gateway is another
			give(s, 0, real+size, all)
		}
		if r := s.report(time.Now()); r.Bad < 0.2 {
			t.Errorf("%d invented, a wrong gateway: %+v", size, r)
		}
	}
	s := newShare() // the program started with a wrong gateway
	give(s, 0, real, all)
	if r := s.report(time.Now()); r.Bad != 1 {
		t.Errorf("a wrong gateway from the start: %+v", r)
	}
}

// Nor do they in a quiet hour, or where the app has few devices; and a wrong gateway still does there.
func TestInventedTokensOfQuietApps(t *testing.T) {
	t.Parallel()
	const invented = 1_000_000 // those from here on
	for name, c := range map[string]struct {
		before func(s *share)
		wrong  func(s *share) // then the gateway
		unsure bool
	}{
		"a quiet hour after a good day": {
			before: func(s *share) {
				for range 10 {
					give(s, 0, 5000, none)
				}
				pass(3 * time.Hour)
				give(s, 0, 1, none)
				give(s, invented, 40, all)
				pass(time.Hour)
				give(s, invented, 20, all)
			},
			wrong: func(s *share) { give(s, 0, 40, all) },
		},
		"few devices": {
			before: func(s *share) {
				for range 3 {
					give(s, 0, 10, none)
					give(s, invented, 200, all)
				}
			},
			wrong:  func(s *share) { pass(3 * time.Hour); give(s, 0, 10, all) },
			unsure: true,
		},
		"one device": {
			before: func(s *share) { give(s, 0, 1, none); give(s, invented, 60, all) },
			wrong:  func(s *share) { pass(3 * time.Hour); give(s, 0, 1, all) },
			unsure: true,
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newShare()
			c.before(s)
			if r := s.report(time.Now()); r.Bad != 0 || r.Unsure != c.unsure {
				t.Errorf("%s: %+v", name, r)
			}
			c.wrong(s)
			if r := s.report(time.Now()); r.Bad < 0.2 {
				t.Errorf("%s, a wrong gateway: %+v", name, r)
			}
		})
	}
}

// Whoever has the app can register tokens that the service calls dead, as invented subscriptions of browsers are. They
// hold nothing where tokens that were accepted before are well; where these are dead, too, all is held.
func TestInventedTokensThatAreDead(t *testing.T) {
	t.Parallel()
	const limit, invented = 0.5, 1_000_000
	for _, c := range []struct{ real, broadcasts, invented int }{{15, 3, 60}, {300, 2, 1000}, {100_000, 3, 4000}} {
		s := newShare()
		give := func(from, n int, dead func(int) bool) (share float64) {
			for end := from + n; from < end; from += 500 {
				share = take(s, answer(from, min(500, end-from), dead))
			}
			return share
		}
		for range c.broadcasts {
			give(0, c.real, none)
		}
		if share := give(invented, c.invented, all); share >= limit {
			t.Errorf("%+v: they come to %.2f", c, share)
		}
		if share := give(0, c.real, all); share < limit {
			t.Errorf("%+v: an outage comes to %.2f", c, share)
		}
	}
}

// answer makes the answers of a group: of so many tokens from the first on, those that dead says are unregistered.
func answer(from, n int, dead func(i int) bool) []push.Delivery {
	group := make([]push.Delivery, n)
	for i := range group {
		group[i].Token = token(from + i)
		if group[i].Result.Outcome = push.Accepted; dead(from + i) {
			group[i].Result.Outcome = push.Unregistered
		}
	}
	return group
}

// take has the share take in the group, and returns that of the deaths.
func take(s *share, deliveries []push.Delivery) float64 {
	g, sum := &group{}, &summary{}
	g.Deliveries = deliveries
	for i := range deliveries {
		if tells(&deliveries[i]) {
			g.telling = append(g.telling, int32(i))
		}
		sum.outcomes[deliveries[i].Result.Outcome]++
	}
	s.add(g, sum, time.Now())
	return s.report(time.Now()).Unregistered
}

// every has i of n be true, spread.
func every(percent int) func(i int) bool { return func(i int) bool { return i*37%100 < percent } }

func all(int) bool  { return true }
func none(int) bool { return false }

// What the guard holds is a share of at least a half; see feedback.Config.
func TestDeathsThatAreAndAreNotDoubted(t *testing.T) {
	t.Parallel()
	const limit = 0.5
	broadcast := func(s *share, size int, dead func(int) bool) (worst float64) {
		for from := 0; from < size; from += 1000 {
			worst = max(worst, take(s, answer(from, min(1000, size-from), dead)))
		}
		return worst
	}
	for _, c := range []struct {
		name    string
		worst   func(s *share) float64
		doubted bool
	}{
		{"a few dead ones in each broadcast", func(s *share) (worst float64) {
			for day := range 30 {
				worst = max(worst, broadcast(s, 50_000, func(i int) bool { return i%30 == day }))
			}
			return worst
		}, false},
		{"the first broadcast, a third dead", func(s *share) float64 { return broadcast(s, 50_000, every(33)) }, false},
		{"the first broadcast, nearly all dead", func(s *share) float64 { return broadcast(s, 50_000, every(80)) }, true},
		{"nearly all dead but those that are known", func(s *share) float64 {
			broadcast(s, 5000, none)
			return broadcast(s, 50_000, func(i int) bool { return i%10 != 0 && i >= 5000 })
		}, true}, // of those that are known nothing was heard for long
		{"nearly all dead but those that are known, among them", func(s *share) float64 {
			alive := func(i int) bool { return i/16%4 == 0 }
			for from := range 50 {
				take(s, answer(from*64, 16, none))
			}
			for from := range 50 {
				take(s, answer(from*64, 16, none))
			}
			return broadcast(s, 3200, func(i int) bool { return !alive(i) })
		}, false},
		{"an outage in the first broadcast", func(s *share) float64 { return broadcast(s, 1000, all) }, true},
		{"an outage after a good day", func(s *share) float64 {
			broadcast(s, 1_000_000, none)
			return take(s, answer(0, 300, all))
		}, true},
		{"an outage of a part of the service", func(s *share) float64 {
			broadcast(s, 20_000, none)
			return broadcast(s, 20_000, every(30))
		}, true},
		{"an outage of a small app", func(s *share) float64 {
			worst := 0.0
			for i := range 12 {
				worst = max(worst, take(s, answer(i, 1, all)))
			}
			return worst
		}, true},
		{"an old phone or two", func(s *share) float64 { return take(s, answer(0, 6, all)) }, false},
		{"dead for long, as the service says", func(s *share) float64 {
			group := answer(0, 1000, all)
			for i := range group {
				group[i].Result.DeadAt = time.Now().Add(-30 * 24 * time.Hour).UnixMicro()
			}
			return take(s, group)
		}, false},
		{"dead just now, as the service says", func(s *share) float64 {
			group := answer(0, 1000, all)
			for i := range group {
				group[i].Result.DeadAt = time.Now().Add(-time.Minute).UnixMicro()
			}
			return take(s, group)
		}, true},
		{"answers of another route are none", func(s *share) float64 {
			group := answer(0, 1000, every(10))
			for i := range group {
				if group[i].Result.Outcome == push.Accepted {
					group[i].Result.Outcome = push.Failed
				}
			}
			return take(s, group[:60])
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if worst := c.worst(newShare()); worst >= limit != c.doubted {
				t.Errorf("the share is %.3f", worst)
			}
		})
	}
}

func TestASampleOfTokensStaysSmall(t *testing.T) {
	t.Parallel()
	var s tokenSample
	for i := range 1_000_000 {
		if tok := token(i); inSample(tok) {
			s.add(tok)
		}
	}
	kept := 0
	for i := range 1_000_000 {
		if tok := token(i); inSample(tok) && s.has(tok) {
			kept++
		}
	}
	if len(s.set) > tokensSampled || len(s.set) < tokensSampled/3 || kept != len(s.set) {
		t.Errorf("%d of a million, %d found", len(s.set), kept)
	}
}

func inSample(t push.Token) bool {
	return tells(&push.Delivery{Recipient: push.Recipient{Token: t}, Result: push.Result{Outcome: push.Accepted}})
}

func TestSharesByPlatform(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, func(r *rig, cfg *Config, apps map[string]RouteConfig) {
			cfg.Poll = time.Minute // nothing comes from others
			b := apps["b"]
			b.Platform = "other"
			apps["b"] = b
			r.tr["b"].answer = func(*push.Delivery) push.Result {
				return push.Result{Outcome: push.Unregistered, Reason: reasonUnregistered}
			}
		})
		n := note("b")
		n.Platform = "other"
		r.give(n, 1000)
		r.give(note("a"), 1000)
		pass(time.Second)
		if s := r.s.AnswerShares("a"); len(s) != 1 || s[0].Platform != push.DefaultPlatform || s[0].Unregistered != 0 || s[0].Answers != 1000 {
			t.Errorf("%+v", s)
		}
		if s := r.s.AnswerShares("b"); len(s) != 1 || s[0].Platform != "other" || s[0].Unregistered < 0.5 || s[0].Told != 1000 {
			t.Errorf("%+v", s)
		}
		pass(3 * time.Hour)
		if s := r.s.AnswerShares("b"); s[0].Unregistered != 0 {
			t.Errorf("hours later: %+v", s)
		}
	})
}

// Each app asks for its shares every few seconds: that takes as long whether there are few apps or ten thousand.
func TestSharesOfManyApps(t *testing.T) {
	t.Parallel()
	if few, many := quickestShares(t, 100), quickestShares(t, 10_000); many > 20*few {
		t.Errorf("%v with 100 apps, %v with 10,000", few, many)
	}
}

// quickestShares is how long a hundred of so many apps take to ask, at best: the rest of the time others had the machine.
func quickestShares(t *testing.T, apps int) time.Duration {
	t.Helper()
	all := map[queue.Outlet]*route{}
	for i := range apps {
		outlet := queue.Outlet{App: strconv.Itoa(i), Route: push.Production}
		all[outlet] = &route{app: outlet.App, name: outlet.Route, share: newShare()}
	}
	s := &Sender{}
	s.routes.Store(newRoutes(all))
	best := time.Hour
	for range 30 {
		start := time.Now()
		for i := range 100 {
			if shares := s.AnswerShares(strconv.Itoa(i)); len(shares) != 1 || shares[0].Route != push.Production {
				t.Fatalf("app %d has %+v", i, shares)
			}
		}
		best = min(best, time.Since(start))
	}
	return best
}
