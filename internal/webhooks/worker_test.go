package webhooks

import (
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

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
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
