package webpush

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// encrypted is how many messages, of a tenth of a millisecond each, two cores encrypt in a second in which others have
// answers.
func encrypted(t *testing.T, answers int) (n int) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		const seconds = 10
		c := newCores(2)
		ctx, cancel := context.WithTimeout(t.Context(), seconds*time.Second)
		defer cancel()
		var mu sync.Mutex
		var running sync.WaitGroup
		for range 4 { // apps have workers of their own, of which no more run at once than there are cores
			running.Go(func() {
				for ctx.Err() == nil {
					turn := c.begin(ctx)
					time.Sleep(100 * time.Microsecond) //nolint:forbidigo // the bubble's clock
					c.end(turn)
					mu.Lock()
					n++
					mu.Unlock()
				}
			})
		}
		running.Go(func() {
			for ctx.Err() == nil {
				c.Answered(answers / 100)
				time.Sleep(10 * time.Millisecond) //nolint:forbidigo // the bubble's clock
			}
		})
		running.Wait()
		n /= seconds
	})
	return n
}

// TestCoresLeaveOthersTheirPart: encryption takes every core while nobody else needs one, leaves other routes what they
// need, and keeps a part however much that is.
func TestCoresLeaveOthersTheirPart(t *testing.T) {
	t.Parallel()
	const whole = 20_000 // of two cores
	for _, of := range []struct{ answers, least, most int }{
		{0, whole * 99 / 100, whole + 10},
		{500, whole * 99 / 100, whole + 10}, // others need a hundredth of a core
		{25_000, whole * 70 / 100, whole * 80 / 100},
		{50_000, whole * 46 / 100, whole * 54 / 100},
		{1_000_000, whole * 11 / 100, whole * 14 / 100},
	} {
		if n := encrypted(t, of.answers); n < of.least || n > of.most {
			t.Errorf("%d messages were encrypted while others had %d answers a second, want %d to %d", n, of.answers, of.least,
				of.most)
		}
	}
}

// TestCoresStop: nothing waits for the others' part when the transport stops.
func TestCoresStop(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCores(1)
		turn := c.begin(t.Context())
		turn.debt = longestRest
		c.turns <- turn
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		begin := time.Now()
		c.begin(ctx)
		if waited := time.Since(begin); waited > 0 {
			t.Errorf("it waited %v", waited)
		}
	})
}
