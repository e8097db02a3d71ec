package webpush

import (
	"net/http"
	"runtime"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/lhspn/lhspn/internal/push"
)

// TestRecall: of a notification that is cancelled, only what the push service may already have waits for its answer.
func TestRecall(t *testing.T) {
	t.Parallel()
	s := newPushService(t, true)
	asked, release := make(chan struct{}, 1), make(chan struct{})
	s.answer = func(w http.ResponseWriter, _ *http.Request) {
		asked <- struct{}{}
		<-release
		w.WriteHeader(http.StatusCreated)
	}
	r := newRig(t, []*pushService{s})
	r.limitsOf = func(origin, int) limits {
		return limits{connections: 1, streams: 1, wait: time.Minute, answer: time.Minute, dial: time.Minute}
	}
	r.run()
	gone, stays := note("x"), note("y")
	gone.ID, stays.ID = uuid.Must(uuid.NewV7()), uuid.Must(uuid.NewV7())
	token := r.register(s.subscribe("/a"))
	first := r.start(gone, token)
	<-asked
	waits, other := r.start(gone, token, token), r.start(stays, token)
	for r.queued.Load() < 3 { // they are looked up by another goroutine
		runtime.Gosched()
	}
	r.Recall(gone.ID)
	for i, result := range <-waits {
		if result != push.Recalled {
			t.Errorf("one that waits, %d: %+v", i, result)
		}
	}
	close(release)
	if got := (<-first)[0]; got.Outcome != push.Accepted {
		t.Errorf("the one that was sent: %+v", got)
	}
	if got := (<-other)[0]; got.Outcome != push.Accepted {
		t.Errorf("that of another notification: %+v", got)
	}
}
