package api

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// Beside other requests receipts come at their pace, one after the other, and without them as fast as they may.
func TestPace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPace()
		perSecond := int(p.limiter.Limit())
		took := func(n int, others bool) time.Duration {
			start := time.Now()
			for range n {
				if others {
					p.another(time.Now())
				}
				if err := p.turn(t.Context(), time.Now()); err != nil {
					t.Fatal(err)
				}
			}
			return time.Since(start)
		}
		<-time.After(time.Minute)
		if d := took(10*perSecond, false); d > 0 {
			t.Errorf("with nothing beside them they took %v", d)
		}
		if d := took(2*perSecond, true); d < 1900*time.Millisecond || d > 2*time.Second {
			t.Errorf("twice what there is for a second took %v", d)
		}
		<-time.After(paceAfter + 1)
		if d := took(10*perSecond, false); d > 0 {
			t.Errorf("when the others are gone they took %v", d)
		}
	})
}

// Whose turn is too far off is told to come again, and who leaves waits no longer.
func TestTooFarOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPace()
		p.another(time.Now())
		all := int(p.limiter.Limit()) * 6
		answers := make(chan error, all)
		for range all {
			go func() { answers <- p.turn(t.Context(), time.Now()) }()
		}
		synctest.Wait()
		left, leave := context.WithCancel(t.Context())
		leave()
		if err := p.turn(left, time.Now()); !errors.Is(err, errBusy) {
			t.Errorf("who has left waits: %v", err)
		}
		late := 0
		for range all {
			if err := <-answers; errors.Is(err, errBusy) {
				late++
			} else if err != nil {
				t.Fatal(err)
			}
		}
		if share := float64(late) / float64(all); share < .1 || share > .2 { // what comes in the sixth second
			t.Errorf("%d of %d are told to come again", late, all)
		}
	})
}
