package webhooks

import (
	"math/rand/v2"
	"time"
)

// schedule is what the specification says to wait after the first, the second, ... attempt that failed:
// https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md, "Deliverability and
// reliability". Together that is a little more than three days.
var schedule = [...]time.Duration{
	5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour, 10 * time.Hour, 14 * time.Hour,
	20 * time.Hour, 24 * time.Hour,
}

// jitter is the share of a wait that is added to it at the most, so that those that failed together do not come back
// together.
const jitter = 0.1

// wait is what is waited after so many failures, 1 or more, and no less than the receiver asks for; false when it is
// not tried again.
func wait(failures int, asked time.Duration) (time.Duration, bool) {
	if failures > len(schedule) {
		return 0, false
	}
	d := schedule[failures-1]
	return max(d+time.Duration(rand.Float64()*jitter*float64(d)), asked), true
}
