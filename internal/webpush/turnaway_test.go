package webpush

import (
	"testing"
	"time"
)

// TestTurnAway has many messages for a service that is slow, or becomes fast: how often they come back is bounded, and
// the service is kept busy.
func TestTurnAway(t *testing.T) {
	t.Parallel()
	const (
		wait     = 2 * time.Second
		tick     = 100 * time.Millisecond
		place    = 256
		messages = 10_000
	)
	for name, rate := range map[string]func(at time.Duration) int{ // messages in a tick
		"slow":            func(time.Duration) int { return 5 },
		"becomes fast":    func(at time.Duration) int { return map[bool]int{true: 1, false: 200}[at < 20*time.Second] },
		"answers nothing": func(at time.Duration) int { return map[bool]int{true: 0, false: 20}[at < 30*time.Second] },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var a turnAway
			start := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
			due := map[time.Duration]int{0: messages} // by when they come
			queued, refused, idle, answers := 0, 0, time.Duration(0), uint64(0)
			at := time.Duration(0)
			for ; answers < messages && at < time.Hour; at += tick {
				for range due[at] {
					if queued < place {
						queued++
						continue
					}
					refused++
					due[(at+a.next(wait, answers, start.Add(at))).Round(tick)]++
				}
				delete(due, at)
				n := min(rate(at), queued)
				if n < rate(at) {
					idle += tick
				}
				queued, answers = queued-n, answers+uint64(n)
			}
			if answers != messages || refused > 6*messages || idle > 2*awayMost {
				t.Errorf("after %s %d are answered; they were turned away %d times, and the service was idle for %s", at, answers, refused, idle)
			}
		})
	}
}
