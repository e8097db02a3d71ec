package sender

import (
	"sync"
	"time"

	"github.com/lhspn/lhspn/internal/push"
)

// share keeps what a route's answers of about a day say of its device tokens, by the hour.
type share struct {
	mu     sync.Mutex // guards all below
	hours  [24]hourly
	deaths deaths
}

type hourly struct {
	hour         int64 // since the Unix epoch
	answers, bad int
	deaths       float64 // the largest share of doubtful deaths
}

func newShare() *share { return &share{} }

// add takes in a group whose deliveries have their results, and what these come to.
func (s *share) add(g *group, sum *summary, now time.Time) {
	answers := sum.answers()
	if answers == 0 {
		return
	}
	hour := now.Unix() / 3600
	s.mu.Lock()
	defer s.mu.Unlock()
	h := &s.hours[hour%24]
	if h.hour != hour {
		*h = hourly{hour: hour}
	}
	h.answers += answers
	h.bad += sum.bad
	h.deaths = max(h.deaths, s.deaths.add(g.Deliveries, g.telling, sum.outcomes[push.Accepted], now))
}

// report sums up. Of bad tokens it tells the share among the day's answers or, where worse, among those of this hour
// and the last: a gateway that was configured wrongly an hour ago must not hide behind a good day. Of deaths it tells
// the worst of this hour and the last: a wave that has just passed has left its traces.
func (s *share) report(now time.Time) push.AnswerShare {
	hour := now.Unix() / 3600
	s.mu.Lock()
	defer s.mu.Unlock()
	r := push.AnswerShare{Told: s.deaths.told}
	var day, recent hourly
	for _, h := range s.hours {
		if h.hour <= hour-24 {
			continue
		}
		day.answers, day.bad = day.answers+h.answers, day.bad+h.bad
		if h.hour >= hour-1 {
			recent.answers, recent.bad = recent.answers+h.answers, recent.bad+h.bad
			r.Unregistered = max(r.Unregistered, h.deaths)
		}
	}
	r.Bad, r.Answers = max(ratio(day), ratio(recent)), day.answers
	return r
}

func ratio(h hourly) float64 {
	if h.answers == 0 {
		return 0
	}
	return float64(h.bad) / float64(h.answers)
}
