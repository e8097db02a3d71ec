package sender

import (
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/time/rate"

	"github.com/lhspn/lhspn/internal/push"
)

// rates has the limits of the notifications with a rate of their own of which something is in memory. The routes share
// them: the rate is the notification's, however many ways its recipients go.
type rates struct {
	mu sync.Mutex // guards all below, and ownRate.routes
	of map[uuid.UUID]*ownRate
}

// ownRate is the rate of one notification.
type ownRate struct {
	routes int // that have it

	mu     sync.Mutex // guards all below
	limit  *rate.Limiter
	latest time.Time // that was asked for: a limiter whose clock is put back lets more go
}

func newRates() *rates { return &rates{of: map[uuid.UUID]*ownRate{}} }

// take is the notification's limit, nil for none. A route that took it releases it once.
func (s *rates) take(n *push.Notification) *ownRate {
	if n.Rate == 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	own := s.of[n.ID]
	if own == nil {
		own = &ownRate{limit: limiter(int(n.Rate))}
		s.of[n.ID] = own
	}
	own.routes++
	return own
}

func (s *rates) release(id uuid.UUID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	own := s.of[id]
	if own.routes--; own.routes == 0 {
		delete(s.of, id)
	}
}

// reserve is how many of n may go, and from when on: all that there is now or, where they have to wait, up to half a
// burst. What is reserved is gone; so routes that wait have their turns in the order in which they came.
func (o *ownRate) reserve(n int, now time.Time) (granted int, from time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.latest = later(o.latest, now)
	granted = max(1, min(n, max(o.limit.Burst()/2, int(o.limit.TokensAt(o.latest)))))
	return granted, o.latest.Add(o.limit.ReserveN(o.latest, granted).DelayFrom(o.latest))
}

// allows is how many of n recipients the notification's own rate lets go now, or how long to wait. Those that are sent
// to are to be taken off what is granted.
func (a *active) allows(n int, now time.Time) (int, time.Duration) {
	if a.limit == nil {
		return n, 0
	}
	if a.granted == 0 {
		a.granted, a.grantedFrom = a.limit.reserve(n, now)
	}
	if wait := a.grantedFrom.Sub(now); wait > 0 {
		return 0, wait
	}
	return min(n, a.granted), 0
}
