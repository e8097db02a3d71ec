package feedback

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lhspn/lhspn/internal/push"
)

// tell registers so many tokens of a platform and puts into the inbox that answers called them unregistered.
func (r *rig) tell(platform string, from, n int) {
	r.inbox.mu.Lock()
	defer r.inbox.mu.Unlock()
	for i := from; i < from+n; i++ {
		tok := token(i)
		if platform != push.DefaultPlatform {
			tok = push.TextToken(platform, strings.Repeat("x", 1+i))
		}
		r.inbox.tokens[tok] = time.Now().Add(-time.Hour)
		r.inbox.inbox = append(r.inbox.inbox, push.Invalidation{App: "a", Token: tok, At: time.Now(), Source: push.SourceUnregistered})
	}
	r.shares.set(platform, func(a *push.AnswerShare) { a.Told += n })
}

// left counts the platform's registered tokens.
func (r *rig) left(platform string) (n int) {
	for tok := range r.inbox.tokens {
		if tok.PlatformName() == platform {
			n++
		}
	}
	return n
}

func (r *rig) run(t *testing.T, run func() ([]push.CheckedInvalidation, error)) []push.CheckedInvalidation {
	t.Helper()
	items, err := run()
	if err != nil {
		t.Fatal(err)
	}
	return items
}

// An outage that calls everything unregistered removes nothing, while it lasts and afterwards, and stops no other
// platform.
func TestAWaveOfUnregisteredRemovesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{})
		check := func() ([]push.CheckedInvalidation, error) { return r.job.RunOnce(t.Context(), "a") }
		held := func() float64 { return value(t, r.job.metrics.doubted.WithLabelValues("a", "other")) }
		r.tell("other", 0, 50)
		r.run(t, check)
		if r.left("other") != 0 {
			t.Errorf("%d are left in quiet times", r.left("other"))
		}
		r.tell("other", 100, 500)
		r.tell(push.DefaultPlatform, 100, 500)
		r.shares.setUnregistered("other", 0.9)
		for range 3 {
			r.run(t, check)
		}
		if !r.inbox.wave {
			t.Error("the inbox does not know of the wave: what is accepted in it is overlooked")
		}
		if r.left("other") != 500 || r.left(push.DefaultPlatform) != 0 || held() != 1 {
			t.Errorf("%d and %d are left, the alert is %v", r.left("other"), r.left(push.DefaultPlatform), held())
		}
		if logs := r.logs.String(); strings.Count(logs, "level=WARN msg=\"so many tokens are answered as unregistered") != 1 {
			t.Errorf("the log:\n%s", logs)
		}
		r.shares.setUnregistered("other", 0.1)
		if _ = r.job.glance(t.Context(), r.job.apps["a"]); r.inbox.wave {
			t.Error("the inbox does not know that the wave is over")
		}
		r.inbox.down = push.ErrUnavailable // what was told in the wave is not believed later for that
		if _, err := r.job.RunOnce(t.Context(), "a"); !errors.Is(err, push.ErrUnavailable) {
			t.Errorf("got %v", err)
		}
		r.inbox.down = nil
		if items := r.run(t, check); len(items) != 500 || count(items) != 0 || r.left("other") != 500 || held() != 0 {
			t.Errorf("%d decided, %d removed; %d are left, the alert is %v", len(items), count(items), r.left("other"), held())
		}
		r.tell("other", 100, 5) // those that are dead are called so again
		if items := r.run(t, check); count(items) != 5 {
			t.Errorf("%d removed after it", count(items))
		}
	})
}

func TestAnOperatorConfirmsThatTokensAreUnregistered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{})
		check := func() ([]push.CheckedInvalidation, error) { return r.job.RunOnce(t.Context(), "a") }
		r.shares.setUnregistered("other", 0.9)
		r.tell("other", 0, 500)
		r.run(t, check)
		r.tell("other", 500, 500)
		if items := r.run(t, func() ([]push.CheckedInvalidation, error) { return r.job.RunConfirmed(t.Context(), "a") }); count(items) != 1000 {
			t.Errorf("%d removed", count(items))
		}
		r.tell("other", 1000, 100)
		if items := r.run(t, check); count(items) != 100 {
			t.Errorf("%d removed of those that came later", count(items))
		}
		r.shares.setUnregistered("other", 0)
		r.run(t, check)
		r.shares.setUnregistered("other", 0.9) // another wave
		r.tell("other", 2000, 100)
		if items := r.run(t, check); count(items) != 0 {
			t.Errorf("%d removed in a wave that nobody confirmed", count(items))
		}
	})
}

// A wave may outlast the process: what it left is not believed by the next one, which has seen nothing of it.
func TestWhatAWaveLeftBeforeARestartIsNotBelieved(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{})
		r.tell("other", 0, 500)
		r.tell(push.DefaultPlatform, 0, leftOver)
		r.shares.set("other", func(a *push.AnswerShare) { a.Told = 0 })
		r.shares.set(push.DefaultPlatform, func(a *push.AnswerShare) { a.Told = 0 })
		for range 2 {
			if _, err := r.job.RunOnce(t.Context(), "a"); err != nil {
				t.Fatal(err)
			}
		}
		if r.left("other") != 500 || r.left(push.DefaultPlatform) != 0 {
			t.Errorf("%d and %d are left", r.left("other"), r.left(push.DefaultPlatform))
		}
		r.tell("other", 0, 500) // and now they are told of in quiet times
		if items, err := r.job.RunOnce(t.Context(), "a"); err != nil || count(items) != 500 {
			t.Errorf("%d removed, %v", count(items), err)
		}
	})
}

// A wave of bad tokens on one platform leaves the others alone.
func TestAWaveOfBadTokensIsOfOnePlatform(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{})
		r.tell("other", 0, 5)
		r.tell(push.DefaultPlatform, 0, 5)
		r.inbox.bad = []push.Invalidation{
			{App: "a", Token: push.TextToken("other", "bad"), At: time.Now(), Source: push.SourceBadToken},
			{App: "a", Token: token(99), At: time.Now(), Source: push.SourceBadToken},
		}
		r.shares.setBad(0.5, 1000)
		if _, err := r.job.RunOnce(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		if r.left("other") != 0 || r.left(push.DefaultPlatform) != 5 || len(r.inbox.bad) != 0 {
			t.Errorf("%d and %d are left, bad %v", r.left("other"), r.left(push.DefaultPlatform), r.inbox.bad)
		}
		if len(r.inbox.history) != 6 || r.inbox.forgotten != 1 {
			t.Errorf("%d decided, forgotten %d times", len(r.inbox.history), r.inbox.forgotten)
		}
	})
}

// Where invented tokens and a wrong configuration look the same, what is counted against tokens is forgotten, and those
// called unregistered go.
func TestWhereBadTokensMayBeInvented(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{})
		r.tell(push.DefaultPlatform, 0, 5)
		r.inbox.bad = []push.Invalidation{{App: "a", Token: token(99), At: time.Now(), Source: push.SourceBadToken}}
		r.shares.set(push.DefaultPlatform, func(a *push.AnswerShare) { a.Answers, a.Unsure = 1000, true })
		if _, err := r.job.RunOnce(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		if left := r.left(push.DefaultPlatform); left != 0 || r.inbox.forgotten != 1 || len(r.inbox.history) != 5 {
			t.Errorf("%d are left, forgotten %d times, %d decided", left, r.inbox.forgotten, len(r.inbox.history))
		}
		if n := strings.Count(r.logs.String(), "few were accepted so far"); n != 1 {
			t.Errorf("told %d times", n)
		}
	})
}

// One replica removes, and another one is in the wave: nothing is removed, also where that has not said so yet, and what was told in the wave
// stays when it is over.
func TestAWaveOfAnotherReplicaRemovesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{})
		r.inbox.company = true
		tell := func(from, n int) { // by the other's sends
			r.tell("other", from, n)
			r.shares.set("other", func(a *push.AnswerShare) { a.Told = 0 })
		}
		check := func() ([]push.CheckedInvalidation, error) { return r.job.RunOnce(t.Context(), "a") }
		start := time.Now()
		tell(0, 50)
		if items := r.run(t, check); count(items) != 50 || time.Since(start) > 0 {
			t.Errorf("%d removed in quiet times, after %v", count(items), time.Since(start))
		}
		wave := []push.Wave{{Route: "other"}}
		time.AfterFunc(glanceEvery, func() {
			r.inbox.mu.Lock()
			defer r.inbox.mu.Unlock()
			r.inbox.others = wave
		})
		tell(100, 500)
		if items := r.run(t, check); count(items) != 0 || r.left("other") != 500 {
			t.Errorf("%d removed before the other had said that it is in a wave", count(items))
		}
		r.run(t, check)
		if held := value(t, r.job.metrics.doubted.WithLabelValues("a", "other")); r.left("other") != 500 || held != 1 {
			t.Errorf("%d are left, the alert is %v", r.left("other"), held)
		}
		r.inbox.others = nil
		if items := r.run(t, check); len(items) != 500 || count(items) != 0 {
			t.Errorf("after the wave %d decided, %d removed", len(items), count(items))
		}
		tell(1000, 500) // many, and no wave
		if items := r.run(t, check); count(items) != 500 {
			t.Errorf("%d of 500 removed of which another replica was told", count(items))
		}
		r.inbox.others = []push.Wave{{Route: "other", Bad: true}}
		r.inbox.bad = []push.Invalidation{{App: "a", Token: push.TextToken("other", "bad"), At: time.Now(), Source: push.SourceBadToken}}
		if items := r.run(t, check); len(items) != 0 || r.inbox.forgotten != 1 {
			t.Errorf("%d decided while another replica is told that tokens are bad, forgotten %d times", len(items), r.inbox.forgotten)
		}
		r.inbox.others = wave
		tell(2000, 200)
		if items := r.run(t, func() ([]push.CheckedInvalidation, error) { return r.job.RunConfirmed(t.Context(), "a") }); count(items) != 200 {
			t.Errorf("%d removed that an operator confirmed", count(items))
		}
	})
}

// What this replica doubts others learn, and that it has ended, too: with the wave, and with the process.
func TestWavesAreShared(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{})
		r.inbox.notOwner = true
		r.shares.set("other", func(a *push.AnswerShare) { a.Unregistered, a.Bad = 0.9, 0.5 })
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error)
		go func() { ran <- r.job.Run(ctx) }()
		shared := func(want int) {
			t.Helper()
			elapse(glanceEvery + time.Second)
			r.inbox.mu.Lock()
			defer r.inbox.mu.Unlock()
			if len(r.inbox.shared) != want {
				t.Errorf("shared %v, want %d", r.inbox.shared, want)
			}
		}
		shared(2)
		r.shares.set("other", func(a *push.AnswerShare) { a.Bad = 0 })
		shared(1)
		cancel()
		<-ran
		shared(1) // for another replica to see to
	})
}

// A wave over one route of a platform holds up nothing of the platform's other route.
func TestAWaveIsOfOneRoute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{})
		r.shares.of = map[push.Route]push.AnswerShare{}
		set := func(route push.Route, change func(a *push.AnswerShare)) {
			r.shares.setRoute(push.DefaultPlatform, route, change)
		}
		tell := func(from, n int, route push.Route) {
			for i := from; i < from+n; i++ {
				r.inbox.tokens[token(i)] = time.Now().Add(-time.Hour)
				r.inbox.inbox = append(r.inbox.inbox, push.Invalidation{App: "a", Token: token(i), Route: route, At: time.Now(), Source: push.SourceUnregistered})
			}
			if route != "" {
				set(route, func(a *push.AnswerShare) { a.Told += n })
			}
		}
		set(push.Production, func(a *push.AnswerShare) { a.Answers = 1000 })
		set(push.Sandbox, func(a *push.AnswerShare) { a.Answers, a.Unregistered = 1000, 0.9 })
		tell(0, 5, push.Production)
		tell(10, 50, push.Sandbox)
		tell(90, 1, "")
		check := func() ([]push.CheckedInvalidation, error) { return r.job.RunOnce(t.Context(), "a") }
		held := func() float64 { return value(t, r.job.metrics.doubted.WithLabelValues("a", push.DefaultPlatform)) }
		if items := r.run(t, check); count(items) != 5 || len(items) != 5 || held() != 1 {
			t.Errorf("%d decided, %d removed, the alert is %v", len(items), count(items), held())
		}
		set(push.Sandbox, func(a *push.AnswerShare) { a.Unregistered = 0 })
		tell(100, 5, push.Production)
		if items := r.run(t, check); len(items) != 56 || count(items) != 6 || held() != 0 {
			t.Errorf("after the wave %d decided, %d removed, the alert is %v", len(items), count(items), held())
		}
		// The same of bad tokens.
		bad := func(i int, route push.Route) push.Invalidation {
			return push.Invalidation{App: "a", Token: token(i), Route: route, At: time.Now(), Source: push.SourceBadToken}
		}
		r.inbox.tokens[token(200)], r.inbox.tokens[token(201)] = time.Now().Add(-time.Hour), time.Now().Add(-time.Hour)
		r.inbox.bad = []push.Invalidation{bad(200, push.Production), bad(201, push.Sandbox)}
		set(push.Sandbox, func(a *push.AnswerShare) { a.Bad = 0.9 })
		if items := r.run(t, check); count(items) != 1 || items[0].Token != token(200) || len(r.inbox.bad) != 0 {
			t.Errorf("%+v; bad %v", items, r.inbox.bad)
		}
	})
}

// A replica that was in a wave is no more: what was told in it stays, whatever the one that removes had decided before,
// and whether or not it had heard of the wave. The next ones go by what is told then.
func TestAWaveOfAReplicaThatIsGone(t *testing.T) {
	t.Parallel()
	for _, heard := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, Config{})
			r.inbox.company = true
			a := r.job.app("a")
			check := func(p pass) {
				t.Helper()
				if _, err := r.job.run(t.Context(), a, p); err != nil {
					t.Fatal(err)
				}
			}
			tell := func(from, n int) { // by the other's sends
				r.tell("other", from, n)
				r.shares.set("other", func(a *push.AnswerShare) { a.Told = 0 })
			}
			check(pass{remove: true}) // quiet
			tell(0, 5000)
			r.inbox.others = []push.Wave{{Route: "other"}}
			elapse(30 * time.Second)
			if heard {
				check(pass{remove: true})
			}
			r.inbox.company = false // the other one was killed
			check(pass{remove: true})
			if r.left("other") != 5000 || len(r.inbox.others) != 0 {
				t.Errorf("%d of 5000 tokens are left, and %d waves", r.left("other"), len(r.inbox.others))
			}
			tell(6000, 50)
			check(pass{remove: true})
			if r.left("other") != 5000 {
				t.Errorf("%d of 5000 tokens are left after quiet times", r.left("other"))
			}
		})
	}
}
