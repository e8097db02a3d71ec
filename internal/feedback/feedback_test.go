package feedback

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lhspn/lhspn/internal/push"
)

func TestRemovesWhatWasNotRegisteredAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{})
		now := time.Now()
		dead := now.Add(-time.Hour)
		r.inbox.tokens[token(1)], r.inbox.tokens[token(2)], r.inbox.tokens[token(3)] = dead.Add(-time.Minute), dead.Add(time.Minute), dead
		r.source.tuples = []tuple{{dead, token(1)}, {dead, token(2)}, {dead, token(3)}, {dead, token(4)}, {dead, ""}, {dead, push.Token(make([]byte, 101))}}
		items, err := r.job.RunOnce(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		if _, stays := r.inbox.tokens[token(2)]; !stays || len(r.inbox.tokens) != 1 {
			t.Errorf("left: %v", r.inbox.tokens)
		}
		if len(items) != 4 || count(items) != 2 || items[0].Source != push.SourceFeedback || items[0].App != "a" {
			t.Errorf("items: %+v", items)
		}
		if n := value(t, r.job.metrics.malformed.WithLabelValues("a")); n != 2 {
			t.Errorf("%v malformed tuples, want 2", n)
		}
		if _, err := r.job.RunOnce(t.Context(), "nobody"); !errors.Is(err, push.ErrNotFound) {
			t.Errorf("of an unknown app: %v", err)
		}
	})
}

func TestAServiceWhoseClockIsAheadRemovesNothingOfTheFuture(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{})
		r.source.tuples = []tuple{{time.Now().Add(time.Hour), token(1)}}
		if _, err := r.job.RunOnce(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		if at := r.inbox.history[0].At; at.After(time.Now()) {
			t.Errorf("recorded at %v", at)
		}
	})
}

func TestATupleIsRecordedWhileTheServiceStaysOpen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{ReadLimit: time.Minute})
		r.source.tuples = []tuple{{time.Now(), token(1)}, {time.Now(), token(2)}}
		r.source.end = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		done := make(chan error, 1)
		go func() { _, err := r.job.RunOnce(t.Context(), "a"); done <- err }()
		synctest.Wait()
		r.inbox.mu.Lock()
		if len(r.inbox.inbox) != 2 {
			t.Errorf("%d recorded while it is open, want 2", len(r.inbox.inbox))
		}
		r.inbox.mu.Unlock()
		if err := <-done; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if len(r.inbox.history) != 2 {
			t.Errorf("%d checked after the deadline, want 2", len(r.inbox.history))
		}
	})
}

func TestManyTuplesShareInserts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{})
		r.inbox.insertTime = time.Millisecond
		for i := range 5000 {
			r.source.tuples = append(r.source.tuples, tuple{time.Now(), token(i)})
		}
		items, err := r.job.RunOnce(t.Context(), "a")
		if err != nil || len(items) != 5000 {
			t.Fatalf("%d items, %v", len(items), err)
		}
		if n := len(r.inbox.groups); n > 20 {
			t.Errorf("%d inserts", n)
		}
	})
}

func TestTuplesSurviveADatabaseOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{})
		r.inbox.down = push.ErrUnavailable
		for i := range 2000 {
			r.source.tuples = append(r.source.tuples, tuple{time.Now(), token(i)})
		}
		done := make(chan error, 1)
		go func() { _, err := r.job.RunOnce(t.Context(), "a"); done <- err }()
		elapse(5 * time.Minute)
		r.inbox.mu.Lock()
		r.inbox.down = nil
		r.inbox.mu.Unlock()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if len(r.inbox.history) != 2000 {
			t.Errorf("%d of 2000 tuples", len(r.inbox.history))
		}
	})
}

func TestWhatWasReadIsRecordedWhenTheProcessStops(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{})
		r.inbox.insertTime = time.Second
		for i := range 300 {
			r.source.tuples = append(r.source.tuples, tuple{time.Now(), token(i)})
		}
		r.source.end = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { _, err := r.job.RunOnce(ctx, "a"); done <- err }()
		synctest.Wait()
		cancel()
		<-done
		if len(r.inbox.inbox)+len(r.inbox.history) != 300 {
			t.Errorf("%d of 300 tuples", len(r.inbox.inbox)+len(r.inbox.history))
		}
		r.source.tuples = []tuple{{time.Now(), token(1)}}
		r.inbox.down = push.ErrUnavailable // and it does not wait for ever
		ctx, cancel = context.WithCancel(t.Context())
		start := time.Now()
		go func() { _, err := r.job.RunOnce(ctx, "a"); done <- err }()
		synctest.Wait()
		cancel()
		if err := <-done; !errors.Is(err, push.ErrUnavailable) || !strings.Contains(err.Error(), "1 tuples lost") {
			t.Errorf("got %v", err)
		}
		if took := time.Since(start); took > 15*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

func TestAFailingServiceDoesNotStopTheCheck(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{})
		broken := errors.New("cut in the middle of a tuple")
		r.source.tuples = []tuple{{time.Now(), token(1)}}
		r.source.end = func(context.Context) error { return broken }
		items, err := r.job.RunOnce(t.Context(), "")
		if !errors.Is(err, broken) || !errors.Is(err, push.ErrUnavailable) || len(items) != 1 {
			t.Errorf("%d items, %v", len(items), err)
		}
	})
}

func TestTheGuard(t *testing.T) {
	for _, tc := range []struct {
		name    string
		share   float64
		sends   int
		others  bool // what the services said is removed
		bad     bool // bad tokens are
		guarded float64
	}{
		{"few bad tokens", 0.04, 1000, true, true, 0},
		{"a wave", 0.05, 1000, false, false, 1},
		{"a wave in few sends", 1, 10, false, false, 1},
		{"too few sends to tell", 1, 9, true, false, 0},
		{"few sends and all good", 0, 99, true, false, 0},
		{"just enough sends", 0, 100, true, true, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, Config{})
				r.shares.setBad(tc.share, tc.sends)
				r.inbox.tokens[token(1)], r.inbox.tokens[token(2)] = time.Now(), time.Now()
				r.inbox.inbox = []push.Invalidation{{App: "a", Token: token(1), At: time.Now(), Source: push.SourceUnregistered}}
				r.inbox.bad = []push.Invalidation{{App: "a", Token: token(2), At: time.Now(), Source: push.SourceBadToken}}
				if _, err := r.job.RunOnce(t.Context(), "a"); err != nil {
					t.Fatal(err)
				}
				_, other := r.inbox.tokens[token(1)]
				_, bad := r.inbox.tokens[token(2)]
				if other == tc.others || bad == tc.bad {
					t.Errorf("removed: told dead %v, bad %v; want %v, %v", !other, !bad, tc.others, tc.bad)
				}
				if got := value(t, r.job.metrics.guarded.WithLabelValues("a", push.DefaultPlatform)); got != tc.guarded {
					t.Errorf("the alert is %v", got)
				}
				if (r.inbox.forgotten > 0) != (tc.guarded > 0) {
					t.Errorf("forgotten %d times", r.inbox.forgotten)
				}
			})
		})
	}
}

func TestBadTokensArePagedAndEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{})
		for i := range 1200 {
			r.inbox.bad = append(r.inbox.bad, push.Invalidation{App: "a", Token: token(i), At: time.Now(), Source: push.SourceBadToken})
		}
		items, err := r.job.RunOnce(t.Context(), "a")
		if err != nil || len(items) != 1200 {
			t.Errorf("%d items, %v", len(items), err)
		}
		r.inbox.sticky = true
		r.inbox.bad = []push.Invalidation{{App: "a", Token: token(1), At: time.Now(), Source: push.SourceBadToken}}
		if _, err := r.job.RunOnce(t.Context(), "a"); err != nil {
			t.Error(err)
		}
	})
}

func TestBadTokensStayWhereNoneIsToGo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{BadTokenAfter: -1})
		r.inbox.bad = []push.Invalidation{{App: "a", Token: token(1), At: time.Now(), Source: push.SourceBadToken}}
		if items, err := r.job.RunOnce(t.Context(), "a"); err != nil || len(items) != 0 || r.inbox.lookups != 0 {
			t.Errorf("%v, %v, %d look-ups", items, err, r.inbox.lookups)
		}
	})
}

func TestTheSchedule(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.job.Run(ctx) }()
		elapse(24*time.Hour + 30*time.Minute)
		synctest.Wait()
		if reads := r.source.reads.Load(); reads < 23 || reads > 27 {
			t.Errorf("%d reads in a day, want about 24", reads)
		}
		r.inbox.mu.Lock()
		r.inbox.inbox = []push.Invalidation{{App: "h", Token: token(1), At: time.Now(), Source: push.SourceUnregistered}}
		r.inbox.mu.Unlock()
		elapse(61 * time.Second)
		synctest.Wait()
		r.inbox.mu.Lock()
		if len(r.inbox.history) != 1 {
			t.Error("a 410 was not checked within a minute")
		}
		r.inbox.notOwner = true
		r.inbox.inbox = []push.Invalidation{{App: "a", Token: token(2), At: time.Now(), Source: push.SourceUnregistered}}
		r.inbox.mu.Unlock()
		reads := r.source.reads.Load()
		elapse(3 * time.Hour)
		synctest.Wait()
		r.inbox.mu.Lock()
		if r.source.reads.Load() != reads || len(r.inbox.history) != 1 {
			t.Error("it works although another replica owns the job")
		}
		r.inbox.mu.Unlock()
		r.shares.setBad(1, 1000)
		elapse(61 * time.Second)
		synctest.Wait()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if r.inbox.forgotten == 0 {
			t.Error("a replica that owns nothing did not speak up about its wave")
		}
	})
}

func TestConcurrentPassesTakeTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{})
		running, most := 0, 0
		r.source.end = func(context.Context) error {
			running++
			most = max(most, running)
			elapse(time.Second)
			running--
			return nil
		}
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				if _, err := r.job.RunOnce(t.Context(), "a"); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if most != 1 || r.source.reads.Load() != 5 {
			t.Errorf("%d at once, %d reads", most, r.source.reads.Load())
		}
	})
}

// Tokens that were never accepted go in a pass of whoever owns the job, where that is configured.
func TestNeverAccepted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{NeverAcceptedAfter: time.Hour})
		if _, err := r.job.RunOnce(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		if len(r.inbox.unproven) != 1 || !r.inbox.unproven[0].Equal(time.Now().Add(-time.Hour)) {
			t.Errorf("removed before %v", r.inbox.unproven)
		}
		if _, err := r.job.run(t.Context(), r.job.app("a"), pass{read: true}); err != nil || len(r.inbox.unproven) != 1 {
			t.Errorf("by who does not own the job: %v, %v", err, r.inbox.unproven)
		}
		off := newRig(t, Config{})
		if _, err := off.job.RunOnce(t.Context(), "a"); err != nil || len(off.inbox.unproven) != 0 {
			t.Errorf("where it is not configured: %v, %v", err, off.inbox.unproven)
		}
	})
}
