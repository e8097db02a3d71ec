package webpush

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// shareWindow is how long answers of other routes are counted before the share of encryption follows them.
	shareWindow = 100 * time.Millisecond
	// costOfOthers is what is left of the cores for each answer of another route: several times what one takes, the
	// database's part included, because routes that lack cores have fewer answers than they could.
	costOfOthers = 20 * time.Microsecond
	// leastShare of the cores is encryption's however busy the others are, so that browsers are not kept waiting for good.
	leastShare = 1.0 / 8
	// A core is left to the others for shortestRest at a time, long enough for a timer to be exact, and for longestRest at
	// the most: a message that took long may have waited for the core itself.
	shortestRest = 2 * time.Millisecond
	longestRest  = 10 * time.Millisecond
)

// Cores shares the machine's cores between encryption, of which a message takes fifty times what one to Apple takes in
// all, and the other routes. There is one for all transports of the process; without it a broadcast to browsers would
// take every core from those to phones.
type Cores struct {
	turns  chan *turn // one for each core
	others atomic.Int64

	mu    sync.Mutex // guards what follows
	since time.Time  // when others began at 0
	part  float64    // encryption's, of each core
}

// turn is the right to encrypt on one core.
type turn struct {
	begun time.Time
	debt  time.Duration // how long the core is to be the others'
}

// NewCores returns the cores that this process may use.
func NewCores() *Cores { return newCores(runtime.GOMAXPROCS(0)) }

func newCores(n int) *Cores {
	c := &Cores{turns: make(chan *turn, n), since: time.Now(), part: 1}
	for range n {
		c.turns <- &turn{}
	}
	return c
}

// Answered says that other routes had n answers.
func (c *Cores) Answered(n int) { c.others.Add(int64(n)) }

// begin waits until it is encryption's turn; end must follow. A context that ends ends the wait for the others' part.
func (c *Cores) begin(ctx context.Context) *turn {
	t := <-c.turns
	if t.debt >= shortestRest {
		rest := time.NewTimer(t.debt)
		select {
		case <-ctx.Done():
			rest.Stop()
		case <-rest.C:
		}
		t.debt = 0
	}
	t.begun = time.Now()
	return t
}

func (c *Cores) end(t *turn) {
	now := time.Now()
	if part := c.share(now); part < 1 {
		t.debt = min(t.debt+time.Duration(float64(now.Sub(t.begun))*(1-part)/part), longestRest)
	} else {
		t.debt = 0
	}
	c.turns <- t
}

// share is what encryption may take of each core.
func (c *Cores) share(now time.Time) float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if age := now.Sub(c.since); age >= shareWindow {
		wanted := float64(c.others.Swap(0)) * float64(costOfOthers) / float64(age) / float64(cap(c.turns))
		c.since, c.part = now, max(leastShare, 1-wanted)
		if wanted < 1.0/100 {
			c.part = 1
		}
	}
	return c.part
}
