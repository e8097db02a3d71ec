package webhooks

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// An event is tried again by the specification's schedule, while the others wait, and then passed over.
func TestScheduleOfRetries(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, r, st := newFeed(), newReceiver(), newMemory()
		r.answer = func(q request, _ int) Answer {
			if q.event == "1" {
				return Answer{Class: Failed, Status: 500}
			}
			return Answer{Class: Delivered, Status: 200}
		}
		g := start(t, f, st, r, endpoint())
		f.add("a")
		f.add("b")
		elapse(5 * 24 * time.Hour)
		at := r.at(hook, "1")
		if len(at) != 10 {
			t.Fatalf("%d attempts", len(at))
		}
		for i, want := range []time.Duration{
			5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour, 10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour,
		} {
			if got := at[i+1].Sub(at[i]); got < want || got > want+want/10+time.Second {
				t.Errorf("attempt %d comes after %v, want %v and a tenth at the most", i+2, got, want)
			}
		}
		second := r.at(hook, "2")
		if len(second) != 1 || second[0].Sub(at[9]) > time.Second {
			t.Errorf("the next came at %v, the last attempt was at %v", second, at[9])
		}
		if got := testutil.ToFloat64(g.metrics.passed.WithLabelValues(app)); got != 1 || g.count(Failed) != 10 || g.count(Delivered) != 1 {
			t.Errorf("%v passed over, %v failed, %v delivered", got, g.count(Failed), g.count(Delivered))
		}
	})
}

// The schedule goes on where it was on another replica, and after a restart.
func TestScheduleSurvivesRestarts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, r, st := newFeed(), newReceiver(), newMemory()
		r.answer = func(request, int) Answer { return Answer{Class: Failed, Status: 500} }
		g := start(t, f, st, r, endpoint())
		f.add("a")
		elapse(20 * time.Minute)
		for range 4 {
			g.stop()
			g = start(t, f, st, r, endpoint())
			elapse(2 * time.Minute)
		}
		if got := len(r.at(hook, "1")); got != 3 {
			t.Errorf("%d attempts in half an hour", got)
		}
		elapse(15 * time.Minute)
		if got := len(r.at(hook, "1")); got != 4 {
			t.Errorf("%d attempts in 43 minutes", got)
		}
	})
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, r := newFeed(), newReceiver()
		r.answer = func(_ request, n int) Answer {
			if n == 1 {
				return Answer{Class: Throttled, Status: 429, RetryAfter: time.Minute}
			}
			return Answer{Class: Delivered, Status: 200}
		}
		start(t, f, newMemory(), r, endpoint())
		f.add("a")
		elapse(2 * time.Minute)
		at := r.at(hook, "1")
		if len(at) != 2 || at[1].Sub(at[0]) < time.Minute || at[1].Sub(at[0]) > 62*time.Second {
			t.Errorf("attempts at %v", at)
		}
	})
}

// A receiver that is gone gets nothing more, not after a restart either, until its settings change; then what it has not
// got.
func TestGoneDisables(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, r, st := newFeed(), newReceiver(), newMemory()
		gone := true
		r.answer = func(request, int) Answer {
			if gone {
				return Answer{Class: Gone, Status: 410}
			}
			return Answer{Class: Delivered, Status: 200}
		}
		g := start(t, f, st, r, endpoint())
		f.add("a")
		elapse(time.Hour)
		f.add("b")
		elapse(time.Hour)
		if w := g.worker(endpoint()); !w.disabled.Load() || w.undelivered.Load() != 0 {
			t.Error("it is not shown as disabled")
		}
		g.stop()
		g = start(t, f, st, r, endpoint())
		elapse(time.Hour)
		wantEvents(t, r.events(hook), numbers(1, 1))
		if !g.worker(endpoint()).disabled.Load() {
			t.Error("after a restart it is not disabled any more")
		}
		r.mu.Lock()
		gone = false
		r.mu.Unlock()
		e := endpoint()
		e.Secrets = []string{"whsec_ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4"}
		must(t, g.SetEndpoints(t.Context(), []Endpoint{e}, nil))
		elapse(3 * time.Second)
		wantEvents(t, r.events(hook), []string{"1", "1", "2"})
		if g.worker(e).disabled.Load() {
			t.Error("it is still shown as disabled")
		}
	})
}
