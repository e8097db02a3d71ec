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
	// accepted has tokens that were accepted: all of them, and when these are many a sample, as deaths has one.
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
	s.addKnown(h, g, sum)
	h.deaths = max(h.deaths, s.deaths.add(g.Deliveries, g.telling, sum.outcomes[push.Accepted], now))
}

// addKnown counts what was answered about tokens that were accepted before: all of them, and where these are many about
// those that tells lets through.
func (s *share) addKnown(h *hourly, g *group, sum *summary) {
	many := s.accepted.mask != 0
	if sum.bad > 0 {
		for i := range g.Deliveries {
			d := &g.Deliveries[i]
			if d.Result.BadToken() && (!many || oneOfSixteen(d.Token)) && s.accepted.has(d.Token) {
				h.known++
				h.knownBad++
			}
		}
	}
	if !many {
		for i := range g.Deliveries {
			s.countAccepted(h, &g.Deliveries[i])
		}
		return
	}
	for _, i := range g.telling {
		s.countAccepted(h, &g.Deliveries[i])
	}
}

func (s *share) countAccepted(h *hourly, d *push.Delivery) {
	if d.Result.Outcome == push.Accepted && !s.accepted.add(d.Token) && s.accepted.has(d.Token) {
		h.known++
	}
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
	r.Bad, r.Answers = max(day.badShare(), recent.badShare()), day.answers
	return r
}

func (h *hourly) add(other *hourly) {
	h.answers, h.bad = h.answers+other.answers, h.bad+other.bad
	h.known, h.knownBad = h.known+other.known, h.knownBad+other.knownBad
}

// mostlyBad is the share of bad tokens from which something must be wrong where little is known of tokens that were
// accepted before.
const mostlyBad = 0.95

// badShare is the share of bad tokens among the answers about those that were accepted before. Anybody who has the app
// can register any number of others, none of which was ever accepted. Where little is known of such tokens, as when the
// program starts with another gateway, it is that of all answers, if that is nearly one, and 0 else.
func (h *hourly) badShare() float64 {
	if h.known >= knownEnough {
		return float64(h.knownBad) / float64(h.known)
	}
	if float64(h.bad) >= mostlyBad*float64(h.answers) && h.bad > 0 {
		return float64(h.bad) / float64(h.answers)
	}
	return 0
}
