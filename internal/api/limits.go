package api

import (
	"container/list"
	"context"
	"math"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// The IETF's header fields on rates (draft-ietf-httpapi-ratelimit-headers), RateLimit and RateLimit-Policy, in the case
// that net/http gives every name.
const (
	headerRateLimit       = "Ratelimit"
	headerRateLimitPolicy = "Ratelimit-Policy"
)

// policy names a rate in the header fields.
type policy struct {
	name           string
	perSecond, all int // all at once at the most
}

// tell writes what is left of the rate, behind what is told of another, and when to try again where it is used up.
func (p policy) tell(h http.Header, tokens float64, allowed bool) {
	window := max(1, p.all/max(1, p.perSecond))
	left := max(0, int(tokens))
	wait := int(math.Ceil(max(0, float64(p.all)-tokens) / float64(p.perSecond)))
	if !allowed {
		left = 0 // whatever is left is for others
		wait = max(1, wait)
		next := math.Ceil(max(0, 1-tokens) / float64(p.perSecond))
		h[headerRetryAfter] = []string{strconv.Itoa(max(1, int(next)))}
	}
	addItem(h, headerRateLimitPolicy, `"`+p.name+`";q=`+strconv.Itoa(p.all)+";w="+strconv.Itoa(window))
	addItem(h, headerRateLimit, `"`+p.name+`";r=`+strconv.Itoa(left)+";t="+strconv.Itoa(wait))
}

// addItem adds to a field that is a list.
func addItem(h http.Header, field, item string) {
	if before := h[field]; len(before) > 0 {
		item = before[0] + ", " + item
	}
	h[field] = []string{item}
}

// limiters is a rate limiter for each client address. One that has not been used for long is forgotten: by then it is
// whole again.
type limiters struct {
	perSecond rate.Limit
	burst     int
	most      int // that are remembered of now, and as many of before

	mu          sync.Mutex // guards all below
	now, before map[netip.Addr]*rate.Limiter
	since       time.Time
}

// limiterWindow is longer than any of them takes to be whole again.
const limiterWindow = 4 * time.Minute

func newLimiters(perSecond, burst, most int) *limiters {
	return &limiters{perSecond: rate.Limit(perSecond), burst: burst, most: most, now: map[netip.Addr]*rate.Limiter{}}
}

// of is the address's.
func (l *limiters) of(at time.Time, address netip.Addr) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	if at.Sub(l.since) > limiterWindow || len(l.now) >= l.most {
		l.now, l.before, l.since = make(map[netip.Addr]*rate.Limiter, len(l.now)/2), l.now, at
	}
	one := l.now[address]
	if one == nil {
		if one = l.before[address]; one == nil {
			one = rate.NewLimiter(l.perSecond, l.burst)
		}
		l.now[address] = one
	}
	return one
}

// addressRates is a rate for each client address.
type addressRates struct {
	policy
	limiters *limiters
}

const maxAddresses = 100_000 // that are remembered

func newAddressRates(perSecond int) *addressRates {
	if perSecond <= 0 {
		return nil
	}
	p := policy{"address", perSecond, 10 * perSecond}
	return &addressRates{p, newLimiters(p.perSecond, p.all, maxAddresses)}
}

// SetLimits has these limits of Config hold from now on. What addresses have used up of a rate that stays the same is
// remembered.
func (a *API) SetLimits(registerRate, maxInFlight int) {
	if now := a.addresses.Load(); now == nil || now.perSecond != registerRate {
		a.addresses.Store(newAddressRates(registerRate))
	}
	a.gate.set(maxInFlight)
}

// allow takes one request of the address's rate, if there is one left, and tells the caller.
func (a *addressRates) allow(h http.Header, address netip.Addr) bool {
	at := time.Now()
	l := a.limiters.of(at, address)
	allowed := l.AllowN(at, 1)
	a.tell(h, l.TokensAt(at), allowed)
	return allowed
}

// keyRate is a key's rate. All phones share the one of a register key: of that an address has no more than its share of
// what those that came lately have, and a part is kept for those that come new.
type keyRate struct {
	policy
	limiter *rate.Limiter
	shared  bool

	mu          sync.Mutex // guards all below
	now, before map[netip.Addr]int
	since       time.Time
}

const shareWindow = 10 * time.Second

func newKeyRate(perSecond int, shared bool) *keyRate {
	k := &keyRate{policy: policy{"key", perSecond, perSecond}, shared: shared, now: map[netip.Addr]int{}}
	k.limiter = rate.NewLimiter(rate.Limit(perSecond), perSecond)
	if shared {
		k.limiter.SetBurst(perSecond + k.kept())
	}
	return k
}

// kept is what is for those that come new.
func (k *keyRate) kept() int { return max(1, k.perSecond/5) }

func (k *keyRate) allow(h http.Header, address netip.Addr) bool {
	at, left := time.Now(), float64(k.all)
	if k.shared {
		left = k.share(at, address)
	}
	allowed := left >= 1 && k.limiter.AllowN(at, 1)
	if allowed && k.shared {
		k.mu.Lock()
		k.now[address]++
		k.mu.Unlock()
		left--
	}
	k.tell(h, min(k.limiter.TokensAt(at), left), allowed)
	return allowed
}

// share is how many more the address may have now.
func (k *keyRate) share(at time.Time, address netip.Addr) float64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	if at.Sub(k.since) > shareWindow {
		k.now, k.before, k.since = make(map[netip.Addr]int, len(k.now)), k.now, at
	}
	had := k.now[address]
	if len(k.now) < maxAddresses {
		k.now[address] = had // it is counted among those that came, whatever it gets
	}
	share := max(1, k.perSecond*int(shareWindow.Seconds())/max(1, len(k.now), len(k.before)))
	if had == 0 {
		return float64(share)
	}
	return min(float64(share-had), k.limiter.TokensAt(at)-float64(k.kept()))
}

// gate bounds the requests that are worked on at the same time, by their weight. Those that wait get in by turns of
// their apps, so that the many of one app do not hold up another's few, nor its phones its own backend; and the last
// eighth of the room is for those that have little of it, so that they do not wait until the heavy ones are through.
type gate struct {
	mu      sync.Mutex // guards all below
	free    int
	most    int
	has     map[turn]int        // what those that are in weigh
	waiting map[turn]*list.List // of *waiter
	turns   []turn              // those that have some waiting, the next one first
	waiters int
}

// turn is whose requests wait in line: an app's, those with what anybody has apart from those of its backend.
type turn struct {
	app     string // empty: without a key of one
	anybody bool
}

type waiter struct {
	weight int
	in     chan struct{} // closed when it is let in
}

const (
	// maxWaiting is how many requests wait at the gate at the most; twice as many where the many of some were there before
	// others came.
	maxWaiting  = 4096
	longestWait = 10 * time.Second
	// weightBytes is how long a body is that weighs one.
	weightBytes = 4 << 10
)

func newGate(most int) *gate {
	g := &gate{has: map[turn]int{}, waiting: map[turn]*list.List{}}
	g.set(most)
	return g
}

// set has at most so much be under way from now on; 0: no limit. What is under way already goes on.
func (g *gate) set(most int) {
	if most <= 0 {
		most = math.MaxInt / 2
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.free += most - g.most
	g.most = most
	g.next()
}

// part is what the heaviest request weighs. mu is held.
func (g *gate) part() int { return max(1, g.most/4) }

func (g *gate) weigh(body int) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return min(1+body/weightBytes, g.part())
}

// enter waits for its turn. Whoever is let in must leave.
func (g *gate) enter(ctx context.Context, t turn, weight int) error {
	g.mu.Lock()
	if g.waiters == 0 && weight <= g.free && g.fair(t, weight) {
		g.let(t, weight)
		g.mu.Unlock()
		return nil
	}
	queue := g.waiting[t]
	if g.waiters >= maxWaiting || t.anybody && g.waiters >= maxWaiting*3/4 {
		// The line is full; who has less than the share of one turn still gets in.
		if queue != nil && queue.Len() >= maxWaiting/(len(g.turns)+1) {
			g.mu.Unlock()
			return errBusy
		}
	}
	w := &waiter{weight: weight, in: make(chan struct{})}
	if queue == nil {
		queue = list.New()
		g.waiting[t] = queue
	}
	if queue.Len() == 0 {
		g.turns = append(g.turns, t)
	}
	at := queue.PushBack(w)
	g.waiters++
	g.next() // those before it may be waiting for what is not for them
	g.mu.Unlock()
	long := time.NewTimer(longestWait)
	defer long.Stop()
	err := errBusy
	select {
	case <-w.in:
		return nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-long.C:
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-w.in: // at the same moment
		g.out(t, weight)
	default:
		queue.Remove(at)
		g.waiters--
		if queue.Len() == 0 {
			g.drop(t)
		}
	}
	g.next()
	return err
}

func (g *gate) leave(t turn, weight int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.out(t, weight)
	g.next()
}

// let notes that one is in. mu is held.
func (g *gate) let(t turn, weight int) {
	g.free -= weight
	g.has[t] += weight
}

// out notes that one is in no more. mu is held.
func (g *gate) out(t turn, weight int) {
	g.free += weight
	if g.has[t] -= weight; g.has[t] == 0 {
		delete(g.has, t)
	}
}

// fair reports whether with one more it has no more than a part, or leaves an eighth to others. mu is held.
func (g *gate) fair(t turn, weight int) bool {
	return g.has[t]+weight <= g.part() || g.free-weight >= g.most/8
}

// next lets in those whose turn it is. Who has its part is passed over while only what is for others is left. mu is
// held.
func (g *gate) next() {
	for i := 0; i < len(g.turns); {
		t := g.turns[i]
		queue := g.waiting[t]
		w := queue.Front().Value.(*waiter) // nothing else is put there
		if !g.fair(t, w.weight) && g.has[t] > 0 {
			i++
			continue
		}
		if w.weight > g.free && g.free < g.most { // one that is too heavy since there is less room goes alone
			return
		}
		queue.Remove(queue.Front())
		g.waiters--
		g.let(t, w.weight)
		close(w.in)
		copy(g.turns[i:], g.turns[i+1:])
		g.turns[len(g.turns)-1] = t
		if queue.Len() == 0 {
			g.drop(t)
		}
		i = 0
	}
}

// drop takes one of which none waits out of the turns. mu is held.
func (g *gate) drop(t turn) {
	delete(g.waiting, t)
	for i, other := range g.turns {
		if other == t {
			g.turns = append(g.turns[:i:i], g.turns[i+1:]...)
			return
		}
	}
}
