package sender

import (
	"sync"
	"time"
)

// share counts an app's answers and the bad-token ones among them, by the hour, for about a day.
type share struct {
	mu    sync.Mutex // guards all below
	hours [24]hourly
}

type hourly struct {
	hour         int64 // since the Unix epoch
	answers, bad int
}

func newShare() *share { return &share{} }

func (s *share) add(now time.Time, answers, bad int) {
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
	h.bad += bad
}

// bad is the share among the day's answers or, where worse, among those of this hour and the last: a gateway that was
// configured wrongly an hour ago must not hide behind a good day.
func (s *share) bad(now time.Time) (share float64, answers int) {
	hour := now.Unix() / 3600
	s.mu.Lock()
	defer s.mu.Unlock()
	var day, recent hourly
	for _, h := range s.hours {
		if h.hour <= hour-24 {
			continue
		}
		day.answers, day.bad = day.answers+h.answers, day.bad+h.bad
		if h.hour >= hour-1 {
			recent.answers, recent.bad = recent.answers+h.answers, recent.bad+h.bad
		}
	}
	return max(ratio(day), ratio(recent)), day.answers
}

func ratio(h hourly) float64 {
	if h.answers == 0 {
		return 0
	}
	return float64(h.bad) / float64(h.answers)
}
