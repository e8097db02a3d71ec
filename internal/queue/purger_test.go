package queue

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lhspn/lhspn/internal/push"
)

type fakeHistory struct {
	mu     sync.Mutex
	rows   int
	calls  int
	before time.Time
	other  bool // another replica owns the job
	down   bool
}

func (f *fakeHistory) OwnsJob(name string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return name == "purge" && !f.other
}

func (f *fakeHistory) Purge(_ context.Context, before time.Time, limit int) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	f.before = before
	if f.down {
		return 0, push.ErrUnavailable
	}
	n := min(limit, f.rows)
	f.rows -= n
	return n, nil
}

func (f *fakeHistory) change(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func TestPurgeRemovesInStepsWhatIsOld(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fakeHistory{rows: 4500, other: true}
		p, err := newPurger(f, 48*time.Hour, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- p.Run(ctx) }()
		letPass(time.Hour)
		f.change(func() {
			if f.calls != 0 {
				t.Error("purged although another replica owns the job")
			}
			f.other, f.down = false, true
		})
		letPass(time.Hour)
		f.change(func() { f.down = false })
		letPass(16 * time.Minute)
		f.change(func() {
			if f.rows != 0 {
				t.Errorf("%d rows are left", f.rows)
			}
			if age := time.Since(f.before); age < 48*time.Hour || age > 49*time.Hour {
				t.Errorf("purged what is older than %v", age)
			}
		})
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestARetentionMustNotBeTooShort(t *testing.T) {
	t.Parallel()
	if _, err := newPurger(&fakeHistory{}, time.Minute, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a minute was taken")
	}
}

// letPass lets time pass in a synctest bubble.
func letPass(d time.Duration) {
	time.Sleep(d) //nolint:forbidigo // in a synctest bubble
	synctest.Wait()
}
