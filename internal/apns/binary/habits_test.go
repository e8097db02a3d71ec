package binary

import (
	"testing"
	"time"
)

// Each reset that comes although the gateway was trusted again makes it wait for more orderly ends; an early half-close
// that is answered in good order is as good as new.
func TestTrustAfterReset(t *testing.T) {
	t.Parallel()
	var h habits
	orderly := func(n int) {
		t.Helper()
		for range n - 1 {
			h.orderlyEnd(false)
		}
		if n > 1 && !h.resets.Load() {
			t.Fatalf("trusted before %d orderly ends", n)
		}
		if h.orderlyEnd(false); h.resets.Load() {
			t.Fatalf("not trusted after %d orderly ends", n)
		}
	}
	for _, n := range []int{1, 2, 4, 8, 16, 32, 64, 64} {
		h.reset()
		orderly(n)
	}
	h.orderlyEnd(true)
	h.reset()
	orderly(1)
}

// A slow response is remembered, until enough quick ones have come.
func TestSlowestResponse(t *testing.T) {
	t.Parallel()
	var h habits
	h.response(8 * time.Second)
	h.response(time.Second)
	if got := time.Duration(h.slowest.Load()); got != 7*time.Second {
		t.Errorf("after one quick response it is %v", got)
	}
	for range 30 {
		h.response(time.Second)
	}
	if got := time.Duration(h.slowest.Load()); got != time.Second {
		t.Errorf("after many it is %v", got)
	}
}
