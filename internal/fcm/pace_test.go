package fcm

import (
	"testing"
	"time"
)

// send is a sender that always has more, in groups of size; it returns how many went within each of the seconds.
func send(p *pacer, size int, rate float64, from time.Time, seconds int) []int {
	sent := make([]int, seconds)
	for now := from; ; {
		now = now.Add(p.reserve(size, rate, now))
		second := int(now.Sub(from) / time.Second)
		if second >= seconds {
			return sent
		}
		sent[second] += size
	}
}

func TestPacerRamps(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1, paceFree, 100} {
		var p pacer
		sent := send(&p, size, 10_000, accepted, 120)
		total := 0
		for second, n := range sent[:60] {
			total += n
			if most := 10_000*(second+2)/60 + 300; n > most {
				t.Errorf("groups of %d, second %d: %d, want at most %d", size, second, n, most)
			}
		}
		if total < 280_000 || total > 320_000 { // half of what the full rate would be
			t.Errorf("groups of %d: %d in the first minute", size, total)
		}
		for second, n := range sent[61:] {
			if n < 9_800 || n > 10_200 {
				t.Errorf("groups of %d, second %d: %d", size, second+61, n)
			}
		}
	}
}

// TestPacerFalls: after a time without messages it begins again, as far down as the time was long.
func TestPacerFalls(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		idle        time.Duration
		least, most int // in the second after it
	}{
		{0, 9_800, 10_200}, {15 * time.Second, 7_000, 8_000}, {30 * time.Second, 4_500, 5_500}, {time.Hour, 100, 500},
	} {
		var p pacer
		send(&p, 100, 10_000, accepted, 90)
		if n := send(&p, 100, 10_000, accepted.Add(90*time.Second+test.idle), 1)[0]; n < test.least || n > test.most {
			t.Errorf("after %v: %d, want %d to %d", test.idle, n, test.least, test.most)
		}
	}
}

// TestPacerFollowsUse: a trickle does not raise the rate for the broadcast that follows it.
func TestPacerFollowsUse(t *testing.T) {
	t.Parallel()
	var p pacer
	now := accepted
	for range 600 {
		if wait := p.reserve(1, 10_000, now); wait > 0 {
			t.Fatalf("a single message waits %v", wait)
		}
		now = now.Add(time.Second)
	}
	if n := send(&p, 100, 10_000, now, 1)[0]; n > 500 {
		t.Errorf("%d in the first second", n)
	}
}

func TestPacerLetsUrgentGo(t *testing.T) {
	t.Parallel()
	var p pacer
	now := accepted
	if wait := p.reserve(800, 10_000, now); wait > 0 {
		t.Errorf("the first group waits %v", wait)
	}
	if wait := p.reserve(1, 10_000, now); wait > 0 {
		t.Errorf("an urgent message waits %v behind it", wait)
	}
	if wait := p.reserve(800, 10_000, now); wait < time.Second {
		t.Errorf("the next group waits %v", wait)
	}
	// But not without a bound.
	for range 10_000 {
		if p.reserve(paceFree, 10_000, now) > 0 {
			return
		}
	}
	t.Error("messages in small groups never wait")
}

// TestPacerKeepsSmallRates: where the full rate is small there is no ramp, and the rate holds all the same.
func TestPacerKeepsSmallRates(t *testing.T) {
	t.Parallel()
	var p pacer
	total := 0
	for _, n := range send(&p, 50, 50, accepted, 60) {
		total += n
	}
	if total < 2_900 || total > 3_100 {
		t.Errorf("%d in a minute at 50 a second", total)
	}
}
