package simulator

import (
	"slices"
	"time"

	"github.com/lhspn/lhspn/internal/push"
)

// Received lists what the token received, of whichever service it is, oldest first, as far as it is kept: at RecordAll,
// among the last Config.Recent.
func (s *Simulator) Received(token push.Token) []Notification {
	if r := s.recorderOf(token); r != nil {
		return r.Received(token, s.cfg.Recent)
	}
	return nil
}

// Recent lists what was received last by all services, newest first.
func (s *Simulator) Recent(limit int) []Notification { return s.recent("", limit) }

// Counts is what the token received, of whichever service it is; nothing at RecordTotals.
func (s *Simulator) Counts(token push.Token) Counts {
	if r := s.recorderOf(token); r != nil {
		return r.CountsOf(token)
	}
	return Counts{}
}

// EachCount calls f with the counts of every token of every service, in no order, until it returns false.
func (s *Simulator) EachCount(f func(push.Token, Counts) bool) {
	for _, r := range s.recorders() {
		goOn := true
		r.EachCount(func(token push.Token, c Counts) bool {
			goOn = f(token, c)
			return goOn
		})
		if !goOn {
			return
		}
	}
}

// Totals are the sums of APNs since the start or the last Reset.
func (s *Simulator) Totals() Totals { return s.recorder.Totals() }

// recent lists what one token, or where it is empty every one, received last, newest first.
func (s *Simulator) recent(token push.Token, limit int) []Notification {
	list := []Notification{}
	if token != "" {
		if r := s.recorderOf(token); r != nil {
			list = r.Recent(token, limit)
		}
		return list
	}
	for _, r := range s.recorders() {
		list = append(list, r.Recent("", limit)...)
	}
	slices.SortStableFunc(list, func(a, b Notification) int { return b.Time.Compare(a.Time) })
	return list[:min(limit, len(list))]
}

// AddFeedback puts a token into the list of the feedback service, with the time at which the app was found gone. A
// token that is in the list already gets the new time.
func (s *Simulator) AddFeedback(t time.Time, token push.Token) { s.feedback.add(t, token) }

// Reset forgets what was received, the feedback list and the faults that have happened once. It leaves the connections
// and the faults in force.
func (s *Simulator) Reset() {
	s.recorder.Reset()
	s.feedback.take()
	for _, other := range s.services() {
		other.Reset()
	}
}
