package webhooks

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/lhspn/lhspn/internal/push"
)

// elapse lets the bubble's time pass.
func elapse(d time.Duration) { <-time.After(d) }

// numbers are the ids of the events from..to.
func numbers(from, to int) (ids []string) {
	for i := from; i <= to; i++ {
		ids = append(ids, strconv.Itoa(i))
	}
	return ids
}

// firsts are the events without those that came before.
func firsts(ids []string) (first []string) {
	seen := map[string]bool{}
	for _, id := range ids {
		if !seen[id] {
			first = append(first, id)
		}
		seen[id] = true
	}
	return first
}

func wantEvents(t *testing.T, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("the receiver got %v, want %v", got, want)
	}
}

func TestEventsComeInOrderFromNowOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, r, st := newFeed(), newReceiver(), newMemory()
		r.latency = 100 * time.Millisecond
		f.add("before the webhook was there")
		g := start(t, f, st, r, endpoint())
		elapse(time.Minute)
		for i := range 250 {
			f.add(fmt.Sprint(i % 7))
		}
		elapse(10 * time.Second)
		if age := time.Since(time.UnixMicro(g.worker(endpoint()).undelivered.Load())); age < 9*time.Second || age > 11*time.Second {
			t.Errorf("after 10 s the oldest is %v old", age)
		}
		elapse(16 * time.Second)
		wantEvents(t, r.events(hook), numbers(2, 251))
		if r.atOnce() != 1 || g.worker(endpoint()).undelivered.Load() != 0 || g.count(Delivered) != 250 {
			t.Errorf("%d at once, undelivered since %d, %v counted", r.atOnce(), g.worker(endpoint()).undelivered.Load(), g.count(Delivered))
		}
		if st.count() > 30 {
			t.Errorf("%d saves in half a minute", st.count())
		}
		elapse(24 * time.Hour)
		if st.count() > 200 {
			t.Errorf("%d saves in a day without events", st.count())
		}
	})
}

func TestTypes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, r := newFeed(), newReceiver()
		e := endpoint()
		e.Types = []push.EventType{push.EventTokenRemoved}
		start(t, f, newMemory(), r, e)
		f.add("a")
		elapse(time.Minute)
		wantEvents(t, r.events(hook), nil)
	})
}

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

// Other settings are tried at once, and go on where the former ones were.
func TestChangedSettings(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, r := newFeed(), newReceiver()
		bad := true
		r.answer = func(request, int) Answer {
			if bad {
				return Answer{Class: Refused, Status: 401}
			}
			return Answer{Class: Delivered, Status: 200}
		}
		g := start(t, f, newMemory(), r, endpoint())
		f.add("a")
		elapse(time.Hour)
		before := len(r.events(hook))
		r.mu.Lock()
		bad = false
		r.mu.Unlock()
		e := endpoint()
		e.Secrets = append(e.Secrets, "whsec_ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4")
		must(t, g.SetEndpoints(t.Context(), []Endpoint{e}, nil))
		elapse(2 * time.Second)
		if got := r.events(hook); len(got) != before+1 {
			t.Errorf("got %v", got)
		}
	})
}

// One that is taken away gets nothing more, and begins anew when it comes back.
func TestRemovedIsForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, r, st := newFeed(), newReceiver(), newMemory()
		g := start(t, f, st, r, endpoint())
		f.add("a")
		elapse(time.Minute)
		must(t, g.SetEndpoints(t.Context(), nil, nil))
		synctest.Wait()
		f.add("b")
		elapse(time.Minute)
		if st.len() != 0 {
			t.Errorf("%d rows are left", st.len())
		}
		must(t, g.SetEndpoints(t.Context(), []Endpoint{endpoint()}, nil))
		f.add("c")
		elapse(time.Minute)
		wantEvents(t, r.events(hook), []string{"1", "3"})
	})
}

// One that comes back while a request of before is still under way begins anew, too, and misses nothing.
func TestTakenAwayAndBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, r, st := newFeed(), newReceiver(), newMemory()
		r.latency = 3 * time.Second
		g := start(t, f, st, r, endpoint())
		f.add("a")
		elapse(time.Second)
		for _, all := range [][]Endpoint{nil, {endpoint()}} {
			if err := g.SetEndpoints(t.Context(), all, nil); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		f.add("b")
		elapse(time.Minute)
		wantEvents(t, r.events(hook), []string{"1", "2"})
	})
}

// An endpoint begins when it comes into force, whoever gets to send to it, and when; if that cannot be kept, it is said.
func TestBeginsWhenInForce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, r, st := newFeed(), newReceiver(), newMemory()
		a, b := start(t, f, st, r), start(t, f, st, r)
		a.own(false)
		b.own(false)
		f.add("before it was there")
		st.setDown(true)
		if err := a.SetEndpoints(t.Context(), []Endpoint{endpoint()}, nil); !errors.Is(err, push.ErrUnavailable) {
			t.Errorf("without a database it is in force with %v", err)
		}
		st.setDown(false)
		if err := a.SetEndpoints(t.Context(), []Endpoint{endpoint()}, nil); err != nil {
			t.Error(err)
		}
		f.add("before the other replica knows")
		if err := b.SetEndpoints(t.Context(), []Endpoint{endpoint()}, nil); err != nil {
			t.Error(err)
		}
		f.add("before it is anybody's")
		b.own(true)
		elapse(time.Minute)
		wantEvents(t, r.events(hook), []string{"2", "3"})
	})
}

// The row of an endpoint in force is gone: another replica has removed it, say, that had it no more for a moment. It
// goes on from where it was.
func TestRowIsGone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, r, st := newFeed(), newReceiver(), newMemory()
		a, b := start(t, f, st, r, endpoint()), start(t, f, st, r, endpoint())
		b.own(false)
		for _, owner := range []*rig{a, b} {
			f.add("a")
			elapse(time.Minute)
			must(t, st.remove(t.Context(), a.worker(endpoint()).key))
			f.add("b")
			f.add("c")
			elapse(time.Minute)
			owner.own(false)
			must(t, st.remove(t.Context(), a.worker(endpoint()).key))
			b.own(true)
		}
		elapse(time.Minute)
		wantEvents(t, firsts(r.events(hook)), numbers(1, 6))
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A cursor that is older than what is kept is no end.
func TestMissedEvents(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, r := newFeed(), newReceiver()
		down := true
		r.answer = func(request, int) Answer {
			if down {
				return Answer{Class: Unreachable}
			}
			return Answer{Class: Delivered, Status: 200}
		}
		g := start(t, f, newMemory(), r, endpoint())
		for range 10 {
			f.add("a")
		}
		elapse(time.Minute)
		f.mu.Lock()
		f.purged = 6
		f.mu.Unlock()
		r.mu.Lock()
		down = false
		r.mu.Unlock()
		elapse(time.Hour)
		wantEvents(t, firsts(r.events(hook)), append([]string{"1"}, numbers(7, 10)...))
		if got := testutil.ToFloat64(g.metrics.missed.WithLabelValues(app)); got != 1 {
			t.Errorf("missed is %v", got)
		}
	})
}

// Replicas take turns, one of them killed in the middle: every event arrives, and each for the first time in its order.
func TestTakeover(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, r, st := newFeed(), newReceiver(), newMemory()
		r.latency = 30 * time.Millisecond
		a, b := start(t, f, st, r, endpoint()), start(t, f, st, r, endpoint())
		b.own(false)
		for i := range 400 {
			f.add(fmt.Sprint(i))
		}
		// Both think that it is theirs for a while.
		elapse(2 * time.Second)
		b.own(true)
		elapse(2 * time.Second)
		a.own(false)
		elapse(2 * time.Second)
		// What b does is not saved any more, as if it were killed.
		st.setDown(true)
		elapse(1500 * time.Millisecond)
		b.stop()
		st.setDown(false)
		a.own(true)
		elapse(time.Minute)
		got := r.events(hook)
		wantEvents(t, firsts(got), numbers(1, 400))
		if again := len(got) - 400; again == 0 || again > 200 {
			t.Errorf("%d came again", again)
		}
	})
}

// With several on their way, those of one notification stay in order, and one that is never taken holds up its own only.
func TestInFlight(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, r := newFeed(), newReceiver()
		r.latency = 100 * time.Millisecond
		e := endpoint()
		e.InFlight = 16
		g := start(t, f, newMemory(), r, e)
		const n = 1600
		for i := range n {
			f.add(fmt.Sprint(i % 40))
		}
		elapse(20 * time.Second)
		got := r.events(hook)
		if len(got) != n || r.atOnce() != 16 {
			t.Errorf("%d events, %d at once", len(got), r.atOnce())
		}
		last := map[int]int{}
		for _, id := range got {
			i, _ := strconv.Atoi(id)
			if i <= last[i%40] {
				t.Errorf("of notification %d, %d comes after %d", i%40, i, last[i%40])
			}
			last[i%40] = i
		}
		// 1601 is refused, and so is what depends on it.
		r.mu.Lock()
		r.answer = func(q request, n int) Answer {
			if q.event == "1601" && n < 4 {
				return Answer{Class: Refused, Status: 400}
			}
			return Answer{Class: Delivered, Status: 200}
		}
		r.mu.Unlock()
		for range 2 {
			f.add("stuck")
		}
		for i := range 50 {
			f.add(fmt.Sprint(i))
		}
		elapse(10 * time.Second)
		if got := r.events(hook)[n:]; len(firsts(got)) != 51 || slices.Contains(got, "1602") {
			t.Errorf("beside the one that is refused came %v", got)
		}
		elapse(time.Hour)
		got = r.events(hook)[n:]
		if len(got) != 52+3 || got[len(got)-1] != "1602" {
			t.Errorf("in the end came %v", got)
		}
		if g.worker(e).undelivered.Load() != 0 {
			t.Error("something is still undelivered")
		}
	})
}

// Receivers that are slow, and ones that are dead, take nothing from others, and the dead get few requests.
func TestOthersHoldNothingUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, st, r := newFeed(), newMemory(), newReceiver()
		var all []Endpoint
		for i := range 150 {
			e := endpoint()
			e.URL = fmt.Sprintf("https://dead%d.example.com/", i)
			all = append(all, e)
		}
		r.answer = func(q request, _ int) Answer {
			if q.url == hook {
				return Answer{Class: Delivered, Status: 200}
			}
			return Answer{Class: Timeout}
		}
		r.latency = 20 * time.Second // so that only one that is not held up gets this one
		start(t, f, st, r, all...)
		f.add("a")
		elapse(time.Minute)
		r.mu.Lock()
		r.top = r.underWay
		r.mu.Unlock()
		elapse(9 * time.Minute)
		healthy := newReceiver()
		e := endpoint()
		start(t, f, st, healthy, e)
		for i := range 100 {
			f.add(fmt.Sprint(i))
		}
		elapse(3 * time.Second)
		wantEvents(t, healthy.events(hook), numbers(2, 101))
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.top > failingSlots || len(r.got) > 150*3 {
			t.Errorf("%d at once, %d requests", r.top, len(r.got))
		}
	})
}

// While the database is away nothing is lost, and it goes on when it is back.
func TestDatabaseAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, r, st := newFeed(), newReceiver(), newMemory()
		st.setDown(true)
		start(t, f, st, r, endpoint())
		elapse(time.Minute)
		st.setDown(false)
		elapse(2 * time.Second)
		for range 20 {
			f.add("a")
		}
		elapse(3 * time.Second)
		st.setDown(true)
		f.add("b")
		elapse(time.Minute)
		st.setDown(false)
		f.add("c")
		elapse(5 * time.Second)
		wantEvents(t, firsts(r.events(hook)), numbers(1, 22))
	})
}

// What is under way when the process stops is finished, and does not come again.
func TestStop(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, r, st := newFeed(), newReceiver(), newMemory()
		r.latency = 300 * time.Millisecond
		g := start(t, f, st, r, endpoint())
		for range 5 {
			f.add("a")
		}
		elapse(500 * time.Millisecond)
		g.stop()
		wantEvents(t, r.events(hook), numbers(1, 2))
		g = start(t, f, st, r, endpoint())
		elapse(time.Minute)
		wantEvents(t, r.events(hook), numbers(1, 5))
		r.mu.Lock()
		r.latency = time.Hour // it does not hold the process up
		r.mu.Unlock()
		f.add("b")
		elapse(time.Second)
		began := time.Now()
		g.stop()
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("stopping took %v", took)
		}
	})
}

// Of a receiver that takes nothing, few events are tried at once, however many may be on their way.
func TestFewOfMany(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, r := newFeed(), newReceiver()
		r.answer = func(request, int) Answer { return Answer{Class: Unreachable} }
		e := endpoint()
		e.InFlight = 4
		start(t, f, newMemory(), r, e)
		for i := range 100 {
			f.add(fmt.Sprint(i))
		}
		elapse(4 * time.Second)
		if got := r.events(hook); len(got) > mostFailing+4 {
			t.Errorf("%d requests", len(got))
		}
	})
}

func TestLabels(t *testing.T) {
	t.Parallel()
	used := map[string]int{}
	for _, c := range []struct{ app, url, want string }{
		{"a", "https://h.example.com/secret", "h.example.com"}, {"a", "https://h.example.com/other", "h.example.com#2"},
		{"b", "https://h.example.com/x", "h.example.com"}, {"b", "http://h.example.com:81/x", "h.example.com:81"},
	} {
		if got := label(&Endpoint{App: c.app, URL: c.url}, used); got != c.want {
			t.Errorf("%s is called %s, want %s", c.url, got, c.want)
		}
	}
}

func TestLargeEventsAreKeptFew(t *testing.T) {
	t.Parallel()
	var items []push.Event
	for range 10 {
		items = append(items, push.Event{Data: make([]byte, 100<<10)})
	}
	if got := len(fit(items)); got != 2 {
		t.Errorf("%d are kept", got)
	}
	items[0].Data = make([]byte, 1<<20)
	if got := len(fit(items)); got != 1 {
		t.Errorf("%d are kept of a large one", got)
	}
	if got := len(fit(items[:0])); got != 0 {
		t.Errorf("%d of none", got)
	}
}
