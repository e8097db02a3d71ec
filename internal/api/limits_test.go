package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func callFrom(f *fixture, address, key, method, path, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.RemoteAddr = address
	if key != "" {
		r.Header.Set("Authorization", "Bearer "+key)
	}
	w := httptest.NewRecorder()
	f.ServeHTTP(w, r)
	return w
}

// An address has its own rate with a register key, and with a wrong one; others, and other keys, are not slowed.
func TestRateOfAnAddress(t *testing.T) {
	t.Parallel()
	for _, key := range []string{registerKey, "a wrong key", ""} {
		synctest.Test(t, func(t *testing.T) {
			f := newFixture(t)
			f.SetLimits(10, 0)
			put := func(address, key string) *httptest.ResponseRecorder {
				return callFrom(f, address, key, http.MethodPut, "/v1/tokens/"+token1, "")
			}
			for range 100 {
				if w := put("192.0.2.1:1", key); w.Code == 429 {
					t.Fatal("within the burst")
				}
			}
			w := put("192.0.2.1:2", key)
			wantProblem(t, w, 429, "over-the-rate")
			if h := w.Header(); h.Get("Retry-After") != "1" || h.Get("RateLimit") != `"address";r=0;t=10` || h.Get("RateLimit-Policy") != `"address";q=100;w=10` {
				t.Errorf("%v", h)
			}
			if put("192.0.2.2:1", key).Code == 429 || put("192.0.2.1:1", sendKey).Code == 429 {
				t.Error("others are slowed")
			}
			time.Sleep(time.Second) //nolint:forbidigo // synctest's time
			for i := range 11 {
				if w := put("192.0.2.1:1", key); (w.Code == 429) != (i == 10) {
					t.Errorf("%d a second later: %d", i, w.Code)
				}
			}
			time.Sleep(3 * limiterWindow) //nolint:forbidigo // synctest's time
			put("192.0.2.3:1", key)
			put("192.0.2.3:1", key)
			if n := len(f.addresses.Load().limiters.now) + len(f.addresses.Load().limiters.before); n > 4 {
				t.Errorf("%d addresses are remembered", n)
			}
		})
	}
}

// So has what needs no key, the documents included, and what is nowhere.
func TestRateOfWhatIsOpen(t *testing.T) {
	t.Parallel()
	for path, method := range map[string]string{
		"/docs/swagger-ui.css": http.MethodGet, "/nowhere": http.MethodGet, "/v1/notifications": http.MethodDelete,
	} {
		f := newFixture(t)
		f.SetLimits(1, 0)
		for i := range 11 {
			w := callFrom(f, "192.0.2.1:1", "", method, path, "")
			if (w.Code == 429) != (i == 10) {
				t.Errorf("request %d of %s: %d", i, path, w.Code)
			}
		}
		if w := callFrom(f, "192.0.2.1:1", sendKey, http.MethodGet, "/nowhere", ""); w.Code != 404 {
			t.Errorf("with a good key: %d", w.Code)
		}
	}
}

// Of the rate that all phones share one of them takes no more than is left over.
func TestOneClientTakesNotTheRateOfAll(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKeyRate(5, true)
		greedy, refused, phones := netip.MustParseAddr("192.0.2.1"), 0, 0
		for tick := range 600 { // a minute
			for range 10 {
				k.allow(http.Header{}, greedy)
			}
			if tick%10 == 0 {
				phones++
				if !k.allow(http.Header{}, netip.AddrFrom4([4]byte{10, 0, byte(tick / 256), byte(tick)})) {
					refused++
				}
			}
			time.Sleep(100 * time.Millisecond) //nolint:forbidigo // synctest's time
		}
		if refused > phones/20 {
			t.Errorf("%d of %d phones were refused", refused, phones)
		}
	})
}

// What is told to be left is what this address may have; and of each rate that counts something is told.
func TestWhatIsLeftOfARate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKeyRate(5, true)
		for n := range 60 {
			k.allow(http.Header{}, netip.AddrFrom4([4]byte{10, 0, 0, byte(n)}))
			time.Sleep(200 * time.Millisecond) //nolint:forbidigo // synctest's time
		}
		address, refused := netip.MustParseAddr("192.0.2.1"), 0
		for range 10 {
			h := http.Header{headerRateLimit: {`"address";r=9;t=1`}, headerRateLimitPolicy: {`"address";q=100;w=10`}}
			allowed := k.allow(h, address)
			var left, wait int
			if _, err := fmt.Sscanf(h.Get(headerRateLimit), `"address";r=9;t=1, "key";r=%d;t=%d`, &left, &wait); err != nil {
				t.Fatal(h, err)
			}
			if want := `"address";q=100;w=10, "key";q=5;w=1`; h.Get(headerRateLimitPolicy) != want {
				t.Errorf("%v", h)
			}
			if !allowed {
				if refused++; left != 0 || wait == 0 || h.Get("Retry-After") == "" {
					t.Errorf("refused with %v", h)
				}
			}
		}
		if refused < 8 {
			t.Errorf("%d were refused", refused)
		}
	})
}

// The registrations of an app do not hold up what its backend sends, and leave it room to wait.
func TestGateKeepsRegistrationsApart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGate(1)
		phones, backend := turn{"hedgehog", true}, turn{"hedgehog", false}
		if err := g.enter(t.Context(), backend, 1); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		refused := 0
		var phone sync.WaitGroup
		for range maxWaiting {
			phone.Go(func() {
				err := g.enter(ctx, phones, 1)
				if errors.Is(err, errBusy) {
					refused++
				} else if err == nil {
					g.leave(phones, 1)
				}
			})
			synctest.Wait()
		}
		if refused == 0 {
			t.Error("registrations take all the room to wait")
		}
		sent := make(chan error, 1)
		go func() { sent <- g.enter(t.Context(), backend, 1) }()
		synctest.Wait()
		g.leave(backend, 1) // to a phone, which leaves at once, and all in their turns
		if err := <-sent; err != nil || g.waiters < maxWaiting/2 {
			t.Errorf("%v; %d wait when the backend's turn comes", err, g.waiters)
		}
		cancel()
		phone.Wait()
		g.leave(backend, 1)
	})
}

// What a phone may do without a body is bounded as what it may do with one.
func TestRequestsWithoutABodyWaitToo(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.SetLimits(0, 1)
	if err := f.gate.enter(t.Context(), turn{}, 1); err != nil {
		t.Fatal(err)
	}
	for _, method := range []string{http.MethodPut, http.MethodDelete} {
		ctx, cancel := context.WithCancel(t.Context())
		answer := make(chan int, 1)
		go func() {
			r := httptest.NewRequestWithContext(ctx, method, "/v1/tokens/"+token1, http.NoBody)
			r.Header.Set("Authorization", "Bearer "+registerKey)
			w := httptest.NewRecorder()
			f.ServeHTTP(w, r)
			answer <- w.Code
		}()
		for waits := false; !waits; {
			select {
			case code := <-answer:
				t.Fatalf("%s did not wait: %d", method, code)
			default:
				f.gate.mu.Lock()
				waits = f.gate.waiters == 1
				f.gate.mu.Unlock()
				runtime.Gosched()
			}
		}
		cancel()
		<-answer
	}
}

func TestGateTakesAppsInTurn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGate(4)
		busy, calm := turn{app: "busy"}, turn{app: "calm"}
		if err := g.enter(t.Context(), busy, 4); err != nil {
			t.Fatal(err)
		}
		var order []string
		done := make(chan string, 100)
		begin := func(of turn) {
			go func() {
				if err := g.enter(t.Context(), of, 4); err != nil {
					done <- fmt.Sprint(err)
					return
				}
				done <- of.app
				g.leave(of, 4)
			}()
			synctest.Wait()
		}
		for range 5 {
			begin(busy)
		}
		begin(calm)
		gone, cancel := context.WithCancel(t.Context())
		refused := make(chan error, 1)
		go func() { refused <- g.enter(gone, calm, 1) }()
		synctest.Wait()
		cancel()
		if err := <-refused; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		g.leave(busy, 4)
		for range 6 {
			order = append(order, <-done)
		}
		synctest.Wait() // until the last has left
		if at := strings.Index(strings.Join(order, " "), "calm"); at < 0 || at > len("busy busy ") {
			t.Errorf("let in as %q", order)
		}
		if g.free != 4 || g.waiters != 0 || len(g.turns)+len(g.waiting)+len(g.has) != 0 {
			t.Errorf("left over: %+v", g)
		}
		_ = g.enter(t.Context(), busy, 4)
		if err := g.enter(t.Context(), calm, 1); !errors.Is(err, errBusy) {
			t.Errorf("after long: %v", err)
		}
	})
}

// However many heavy requests of one app are under way and wait, those of others find room at once; and what waits for
// room of its own app's holds up nobody.
func TestGateKeepsRoomForOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGate(256)
		heavy, light := turn{app: "heavy"}, turn{app: "light"}
		var in atomic.Int32
		end := make(chan struct{})
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				weight := g.weigh(8 << 20)
				if err := g.enter(t.Context(), heavy, weight); err != nil {
					t.Error(err)
					return
				}
				in.Add(1)
				<-end
				g.leave(heavy, weight)
			})
			synctest.Wait()
		}
		if n := in.Load(); n != 3 {
			t.Errorf("%d of them are under way", n)
		}
		for range 64 {
			if err := g.enter(t.Context(), light, 1); err != nil {
				t.Fatal(err)
			}
		}
		for range 64 {
			g.leave(light, 1)
		}
		close(end)
		all.Wait()
		if g.free != 256 || len(g.has)+g.waiters+len(g.turns) != 0 {
			t.Errorf("left over: %+v", g)
		}
	})
}

// One app alone has nearly all of the room.
func TestGateOfOneApp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for most, want := range map[int]int{1: 1, 4: 4, 256: 224, 0: 1000} {
			g := newGate(most)
			ctx, cancel := context.WithCancel(t.Context())
			var in atomic.Int32
			var all sync.WaitGroup
			for range 1000 {
				all.Go(func() {
					if g.enter(ctx, turn{app: "hedgehog"}, 1) == nil {
						in.Add(1)
					}
				})
				synctest.Wait()
			}
			cancel()
			all.Wait()
			if n := int(in.Load()); n != want {
				t.Errorf("of %d it has %d", most, n)
			}
		}
	})
}

// However many of some wait already, others get into the line.
func TestGateHasALineForEach(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGate(1)
		loud, quiet, phones := turn{app: "loud"}, turn{app: "quiet"}, turn{app: "quiet", anybody: true}
		if err := g.enter(t.Context(), loud, 1); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var refused atomic.Int32
		var all sync.WaitGroup
		begin := func(of turn) {
			all.Go(func() {
				if err := g.enter(ctx, of, 1); errors.Is(err, errBusy) {
					refused.Add(1)
				}
			})
		}
		for range maxWaiting + 10 {
			begin(loud)
		}
		synctest.Wait()
		if n := refused.Swap(0); n != 10 {
			t.Errorf("%d of the many were refused", n)
		}
		for range 100 {
			begin(quiet)
			begin(phones)
		}
		synctest.Wait()
		if n := refused.Swap(0); n != 0 {
			t.Errorf("%d of others were refused", n)
		}
		for range maxWaiting {
			begin(phones)
		}
		synctest.Wait()
		if n := refused.Load(); n < maxWaiting/2 || g.waiters > 2*maxWaiting {
			t.Errorf("%d of as many others were refused, and %d wait", n, g.waiters)
		}
		cancel()
		all.Wait()
		if g.waiters != 0 || len(g.turns)+len(g.waiting) != 0 {
			t.Errorf("left over: %+v", g)
		}
	})
}
