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
	// accepted has tokens that were accepted: all of them, and when these are many a sample.
	accepted tokenSample
}

type hourly struct {
	hour         int64 // since the Unix epoch
	answers, bad int
	// known are the answers about tokens that had been accepted before, as far as accepted has these; knownBad are those
	// of them that called the token bad.
	known, knownBad int
	deaths          float64 // the largest share of doubtful deaths
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
	alive := s.addKnown(h, g, sum)
	h.deaths = max(h.deaths, s.deaths.add(s, g, sum.outcomes[push.Accepted], alive, now))
}

// addKnown counts what was answered about tokens that were accepted before: all of them, and where these are many about
// those that tells lets through. It returns how many were accepted again.
func (s *share) addKnown(h *hourly, g *group, sum *summary) (alive int) {
	if sum.bad > 0 {
		for i := range g.Deliveries {
			if d := &g.Deliveries[i]; d.Result.BadToken() && s.knows(d.Token) {
				h.known++
				h.knownBad++
			}
		}
	}
	if s.accepted.mask == 0 {
		for i := range g.Deliveries {
			alive += s.countAccepted(&g.Deliveries[i])
		}
	} else {
		for _, i := range g.telling {
			alive += s.countAccepted(&g.Deliveries[i])
		}
	}
	h.known += alive
	return alive
}

// knows reports whether the token was accepted before; where these are many it knows those of the sample alone.
func (s *share) knows(t push.Token) bool {
	return (s.accepted.mask == 0 || oneOfSixteen(t)) && s.accepted.has(t)
}

// countAccepted is 1 where the delivery was accepted as one of its token was before.
func (s *share) countAccepted(d *push.Delivery) int {
	if d.Result.Outcome == push.Accepted && !s.accepted.add(d.Token) && s.accepted.has(d.Token) {
		return 1
	}
	return 0
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
		day.add(&h)
		if h.hour >= hour-1 {
			recent.add(&h)
			r.Unregistered = max(r.Unregistered, h.deaths)
		}
	}
	accepted := len(s.accepted.set)
	r.Bad, r.Answers = max(day.badShare(accepted), recent.badShare(accepted)), day.answers
	r.Unsure = r.Bad == 0 && accepted < knownEnough && max(day.mostlyBad(), recent.mostlyBad()) > 0
	return r
}

func (h *hourly) add(other *hourly) {
	h.answers, h.bad = h.answers+other.answers, h.bad+other.bad
	h.known, h.knownBad = h.known+other.known, h.knownBad+other.knownBad
}

// fewKnown is how many bad answers about tokens that were accepted before say something where there are few of such
// answers; where fewer tokens were accepted at all it is as many.
const fewKnown = 8

// badShare is the share of bad tokens among the answers about those that were accepted before, where so many tokens
// were accepted since the program began. Anybody who has the app can register any number of others, none of which was
// ever accepted: they count only where none was, as when the program starts with another gateway, and nearly all are
// bad.
func (h *hourly) badShare(accepted int) float64 {
	switch {
	case accepted == 0:
		return h.mostlyBad()
	case h.known >= knownEnough, h.knownBad >= min(fewKnown, accepted) && 2*h.knownBad >= h.known:
		return float64(h.knownBad) / float64(h.known)
	}
	return 0
}

// mostlyBad is the share of bad tokens among all answers, where something must be wrong if none of them was invented;
// else 0.
func (h *hourly) mostlyBad() float64 {
	if h.bad > 0 && float64(h.bad) >= 0.95*float64(h.answers) {
		return float64(h.bad) / float64(h.answers)
	}
	return 0
}
