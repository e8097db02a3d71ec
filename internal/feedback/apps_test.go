package feedback

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lhspn/lhspn/internal/push"
)

// Apps come and go while the job runs: one that came has its passes, one that went has none, and one whose feedback
// service is another now is read there.
func TestAppsComeAndGo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{})
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- r.job.Run(ctx) }()
		passed := func(app string) float64 { return value(t, r.job.metrics.passes.WithLabelValues(app, "ok")) }
		another := &source{tuples: []tuple{{time.Now(), token(7)}}}
		time.Sleep(2 * time.Minute) //nolint:forbidigo // in a synctest bubble
		synctest.Wait()
		if passed("a") != 1 || passed("h") != 1 {
			t.Fatalf("passes: a %v, h %v, want one of each", passed("a"), passed("h"))
		}
		r.job.SetApps(map[string]Source{"a": another, "new": nil})
		time.Sleep(3 * time.Hour) //nolint:forbidigo // in a synctest bubble
		synctest.Wait()
		if passed("a") < 3 || passed("new") < 2 {
			t.Errorf("passes: a %v, new %v, want those of three hours", passed("a"), passed("new"))
		}
		if got := passed("h"); got != 0 {
			t.Errorf("%v passes are shown of the app that went", got)
		}
		if len(r.inbox.history) == 0 || r.inbox.history[0].Token != token(7) {
			t.Errorf("history %v, want what the other feedback service told", r.inbox.history)
		}
		if _, err := r.job.RunOnce(ctx, "h"); !errors.Is(err, push.ErrNotFound) {
			t.Errorf("a pass of the app that went: %v", err)
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
