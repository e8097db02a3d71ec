package tokens

import (
	"github.com/lhspn/lhspn/internal/quota"
)

// growth is how many more tokens a transaction's apps have by it, and the room that is reserved for them until it ends.
type growth struct {
	counts   quota.Changes
	reserved map[string]int64
}

// reserve takes room for one more token of the app; the error is a push.QuotaError.
func (g *growth) reserve(counters *quota.Counters, app string) error {
	return g.reserveN(counters, app, 1)
}

func (g *growth) reserveN(counters *quota.Counters, app string, n int64) error {
	if err := counters.Reserve(app, quota.Counts{quota.Tokens: n}); err != nil {
		return err
	}
	if g.reserved == nil {
		g.reserved = map[string]int64{}
	}
	g.reserved[app] += n
	return nil
}

// reserveRest takes room for what is more than was reserved before: new tokens that did not take the place of others,
// as was thought that they would.
func (g *growth) reserveRest(counters *quota.Counters) error {
	for app, n := range g.counts.Of(quota.Tokens) {
		if more := n - g.reserved[app]; more > 0 {
			if err := g.reserveN(counters, app, more); err != nil {
				return err
			}
		}
	}
	return nil
}

// release forgets all of it, at the end of an attempt.
func (g *growth) release(counters *quota.Counters) {
	for app, n := range g.reserved {
		counters.Release(app, quota.Counts{quota.Tokens: n})
	}
	*g = growth{}
}
