package webhooks

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lhspn/lhspn/internal/push"
)

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
			st.lose(a.worker(endpoint()).key)
			f.add("b")
			f.add("c")
			elapse(time.Minute)
			owner.own(false)
			st.lose(a.worker(endpoint()).key)
			b.own(true)
		}
		elapse(time.Minute)
		wantEvents(t, firsts(r.events(hook)), numbers(1, 6))
	})
}

// otherSecret is another one than endpoint's.
const otherSecret = "whsec_ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4"

// A webhook is taken away and comes back with another secret at one replica, before the one that sends to it has heard
// of either. What happened since comes under the new secret only, whole, and what happened while it was away does not.
func TestBackUnderAnotherSecret(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		hears  [][]Endpoint // what the sending replica hears later, one after the other
		killed bool         // the other one does not live to see it
	}{
		"heard of at once":                      {hears: [][]Endpoint{{back()}}},
		"heard of one after the other":          {hears: [][]Endpoint{nil, {back()}}},
		"heard of when the first one is killed": {hears: [][]Endpoint{nil, {back()}}, killed: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f, r, st := newFeed(), newReceiver(), newMemory()
				a, b := start(t, f, st, r, endpoint()), start(t, f, st, r, endpoint())
				a.own(false)
				f.add("before")
				elapse(time.Minute)
				must(t, a.SetEndpoints(t.Context(), nil, nil))
				f.add("while it is away")
				elapse(time.Second)
				must(t, a.SetEndpoints(t.Context(), []Endpoint{back()}, nil))
				if c.killed {
					a.stop()
				}
				f.add("since")
				f.add("since")
				elapse(2 * time.Second)
				for _, all := range c.hears {
					must(t, b.SetEndpoints(t.Context(), all, nil))
					synctest.Wait()
				}
				f.add("since")
				elapse(time.Minute)
				wantEvents(t, r.under(endpoint().Secrets[0]), []string{"1"})
				wantEvents(t, r.under(otherSecret), []string{"3", "4", "5"})
			})
		})
	}
}

// back is endpoint with another secret.
func back() Endpoint {
	e := endpoint()
	e.Secrets = []string{otherSecret}
	return e
}

// A replica whose settings stay others than those that the webhook began anew with sends to it after a moment all the
// same: who began it may be gone, or be the one that is out of date.
func TestOtherSettingsStay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, r, st := newFeed(), newReceiver(), newMemory()
		a, b := start(t, f, st, r, endpoint()), start(t, f, st, r, endpoint())
		a.own(false)
		f.add("before")
		elapse(time.Minute)
		must(t, a.SetEndpoints(t.Context(), nil, nil))
		must(t, a.SetEndpoints(t.Context(), []Endpoint{back()}, nil))
		a.stop()
		f.add("since")
		elapse(5 * time.Second)
		wantEvents(t, r.events(hook), []string{"1"})
		elapse(time.Minute)
		wantEvents(t, r.events(hook), []string{"1", "2"})
		b.stop()
	})
}
