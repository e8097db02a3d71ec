package sender

import (
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
