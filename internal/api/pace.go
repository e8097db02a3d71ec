package api

import (
	"context"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// pace keeps receipts, which anybody may send without a key and over as many connections as they like, from taking the
// time of those who have one. While there are other requests receipts come one after the other, at the pace; who is
// early waits for its turn, which costs nothing. Refusing would not do: a refusal costs as much as a receipt, and who
// is refused comes again.
type pace struct {
	limiter *rate.Limiter
	// other is when the last other request came, in Unix nanoseconds.
	other atomic.Int64
}

const (
	// pacePerCore is how many receipts a second there are for each core beside other requests: a quarter of its time, or
	// less.
	pacePerCore = 3000
	// paceAfter is for how long after another request the pace holds.
	paceAfter = time.Second
	// longestTurn is what a receipt waits for its turn at the most.
	longestTurn = 5 * time.Second
)

func newPace() *pace {
	perSecond := pacePerCore * runtime.GOMAXPROCS(0)
	return &pace{limiter: rate.NewLimiter(rate.Limit(perSecond), perSecond/100)}
}

// another notes a request that is no receipt.
func (p *pace) another(at time.Time) { p.other.Store(at.UnixNano()) }

// turn waits for the turn of a receipt. errBusy: it is too far off.
func (p *pace) turn(ctx context.Context, at time.Time) error {
	if at.UnixNano()-p.other.Load() > paceAfter.Nanoseconds() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, longestTurn)
	defer cancel()
	if p.limiter.Wait(ctx) != nil {
		return explain(errBusy, "Too many receipts come at once.")
	}
	return nil
}
