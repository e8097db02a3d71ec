package webhooks

import (
	"fmt"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

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
