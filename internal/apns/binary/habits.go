package binary

import (
	"sync"
	"sync/atomic"
	"time"
)

// habits are what is known of how the gateway answers when we half-close a connection.
type habits struct {
	abrupt  atomic.Bool // it ends connections without close_notify
	endless atomic.Bool // it does not end them
	resets  atomic.Bool // it resets them

	// slowest is about the longest that an error response took to come, as a time.Duration. Quick ones let it shrink.
	slowest atomic.Int64

	mu sync.Mutex // guards what follows, and resets while it changes
	// trustAfter is how many orderly ends are to be seen before resets is cleared, nextTrustAfter how many after the
	// next reset.
	trustAfter, nextTrustAfter int
}

// reset notes that the gateway has broken off a connection which we had half-closed, most likely by a reset. From then
// on connections are half-closed only once they have been silent for ConfirmAfter, until enough of them have come to an
// orderly end: one the first time, and more each time that it turns out to have been too few.
func (h *habits) reset() {
	const most = 64
	h.mu.Lock()
	defer h.mu.Unlock()
	h.trustAfter = max(h.nextTrustAfter, 1)
	h.nextTrustAfter = min(2*h.trustAfter, most)
	h.resets.Store(true)
}

// response notes that an error response came so long after its notification was written.
func (h *habits) response(after time.Duration) {
	h.slowest.Store(max(int64(after), h.slowest.Load()/8*7))
}

// orderlyEnd notes that a connection came to its end in answer to our half-close. early says that there had been no
// silence before that.
func (h *habits) orderlyEnd(early bool) {
	h.endless.Store(false)
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case !h.resets.Load():
		if early {
			h.nextTrustAfter = 1
		}
	case h.trustAfter > 1:
		h.trustAfter--
	default:
		h.resets.Store(false)
	}
}
