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

// refuses takes every event but one.
func refuses(event string) func(request, int) Answer {
	return func(q request, _ int) Answer {
		if q.event == event {
			return Answer{Class: Refused, Status: 413}
		}
		return Answer{Class: Delivered, Status: 200}
	}
}

// One event that is never taken holds up those of its own notification, and no other, also over a restart. It is tried
// by the schedule and then passed over; what waited for it comes after that, in order.
func TestOneEventThatIsRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, r, st := newFeed(), newReceiver(), newMemory()
		r.answer = refuses("3")
		g := start(t, f, st, r, endpoint())
		for i := range 12 {
			f.add(fmt.Sprint((i + 1) % 3)) // 3, 6, 9 and 12 are of one notification
		}
		elapse(4 * time.Minute)
		wantEvents(t, firsts(r.events(hook)), numbers(1, 3))
		elapse(6 * time.Minute)
		others := []string{"1", "2", "3", "4", "5", "7", "8", "10", "11"}
		wantEvents(t, firsts(r.events(hook)), others)
		for range 3 { // after restarts too
			g.stop()
			g = start(t, f, st, r, endpoint())
			f.add("1")
			elapse(time.Hour)
		}
		wantEvents(t, firsts(r.events(hook)), append(others, "13", "14", "15"))
		if age := time.Since(time.UnixMicro(g.worker(endpoint()).undelivered.Load())); age < 3*time.Hour || age > 4*time.Hour {
			t.Errorf("the oldest is shown as %v old", age)
		}
		elapse(4 * 24 * time.Hour)
		got := r.events(hook)
		wantEvents(t, firsts(got), append(others, "13", "14", "15", "6", "9", "12"))
		if n := len(r.at(hook, "3")); n != 10 || len(got) != 15+9 {
			t.Errorf("it was tried %d times; %d requests", n, len(got))
		}
		if passed := testutil.ToFloat64(g.metrics.passed.WithLabelValues(app)); passed != 1 || g.worker(endpoint()).undelivered.Load() != 0 {
			t.Errorf("%v passed over", passed)
		}
	})
}

// An event that is set aside and cannot be read any more is told of, as any that is given up.
func TestSetAsideAndUnreadable(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, r, st := newFeed(), newReceiver(), newMemory()
		r.answer = refuses("3")
		e := endpoint()
		g := start(t, f, st, r, e)
		for i := range 12 {
			f.add(fmt.Sprint(i))
		}
		elapse(time.Hour)
		f.mu.Lock()
		f.events[2].ID, f.events[2].Type = "4", push.EventUnreadable // 3 and 4 are in one row
		f.mu.Unlock()
		elapse(24 * time.Hour)
		if n := testutil.ToFloat64(g.metrics.passed.WithLabelValues(app)); n != 1 || len(st.away[e.key()]) != 0 {
			t.Errorf("%v told of, %v aside", n, st.away)
		}
	})
}

// A receiver that takes nothing keeps its order: nothing is set aside.
func TestOutageKeepsTheOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, r, st := newFeed(), newReceiver(), newMemory()
		began := time.Now()
		var delivered []string
		r.answer = func(q request, _ int) Answer {
			if q.at.Sub(began) < 6*time.Hour {
				return Answer{Class: Failed, Status: 500}
			}
			delivered = append(delivered, q.event)
			return Answer{Class: Delivered, Status: 200}
		}
		start(t, f, st, r, endpoint())
		for i := range 50 {
			f.add(fmt.Sprint(i))
		}
		elapse(24 * time.Hour)
		r.mu.Lock()
		defer r.mu.Unlock()
		wantEvents(t, delivered, numbers(1, 50))
		if len(r.got) > 50+20 {
			t.Errorf("%d requests", len(r.got))
		}
	})
}

// A receiver that refuses one notification after the other has a bounded number of events set aside.
func TestManyThatAreRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, r, st := newFeed(), newReceiver(), newMemory()
		r.answer = func(q request, _ int) Answer {
			if n, _ := strconv.Atoi(q.event); n%2 == 0 {
				return Answer{Class: Refused, Status: 400}
			}
			return Answer{Class: Delivered, Status: 200}
		}
		start(t, f, st, r, endpoint())
		for i := range 220 {
			f.add(fmt.Sprint(i))
		}
		elapse(10 * time.Hour)
		st.mu.Lock()
		aside := 0
		for _, all := range st.away {
			aside = max(aside, len(all))
		}
		st.mu.Unlock()
		if aside != maxAside {
			t.Errorf("%d are set aside", aside)
		}
		if got := r.events(hook); len(got) > 5000 {
			t.Errorf("%d requests", len(got))
		}
	})
}

// A receiver that answers 410 to an event that is set aside is gone, too.
func TestGoneByOneThatIsSetAside(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, r := newFeed(), newReceiver()
		r.answer = func(q request, n int) Answer {
			switch {
			case q.event == "1" && n > 3:
				return Answer{Class: Gone, Status: 410}
			case q.event == "1":
				return Answer{Class: Refused, Status: 400}
			}
			return Answer{Class: Delivered, Status: 200}
		}
		g := start(t, f, newMemory(), r, endpoint())
		f.add("a")
		f.add("b")
		elapse(2 * time.Hour)
		f.add("c")
		elapse(time.Hour)
		if got := r.events(hook); slices.Contains(got, "3") || !g.worker(endpoint()).disabled.Load() {
			t.Errorf("it got %v", got)
		}
	})
}
