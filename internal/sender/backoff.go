package sender

import (
	"context"
	"math/rand/v2"
	"time"
)

// backoff is the exponential delay after n failures (from 0) with full jitter: base × 2ⁿ at most, capped.
func backoff(base, most time.Duration, n int) time.Duration {
	d := most
	if n < 32 && base<<n > 0 {
		d = min(most, base<<n)
	}
	return 1 + rand.N(d)
}

// sleep is false where ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
