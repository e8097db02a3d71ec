package database

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lhspn/lhspn/internal/push"
)

func TestGroupCommitCoalesces(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var groups [][]int
		g := NewGroupCommit(3, func(_ context.Context, items []int) []error {
			groups = append(groups, slices.Clone(items))
			time.Sleep(time.Second) //nolint:forbidigo // the bubble's clock: a commit takes a second
			return []error{nil}
		})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- g.Run(ctx) }()

		errs := make(chan error, 6)
		do := func(item int) { errs <- g.Do(t.Context(), item) }
		go do(0)
		synctest.Wait() // the first is under way, alone
		for i := 1; i <= 5; i++ {
			go do(i)
			synctest.Wait()
		}
		for range 6 {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if want := [][]int{{0}, {1, 2, 3}, {4, 5}}; !slices.EqualFunc(groups, want, slices.Equal) {
			t.Errorf("groups %v, want %v", groups, want)
		}
	})
}

// Callers that come back one after the other share the next transaction, too; a caller alone waits for nobody.
func TestGroupCommitLingers(t *testing.T) {
	t.Parallel()
	for committers := 1; committers <= 2; committers++ { // a second one takes no part of what the first gathers
		t.Run(fmt.Sprint(committers), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { testLingers(t, committers) })
		})
	}
}

func testLingers(t *testing.T, committers int) {
	t.Helper()
	const callers, rounds, commit = 16, 10, 2 * time.Millisecond
	var mu sync.Mutex
	var groups []int
	g := NewGroupCommit(64, func(_ context.Context, items []int) []error {
		mu.Lock()
		groups = append(groups, len(items))
		mu.Unlock()
		time.Sleep(commit) //nolint:forbidigo // the bubble's clock
		return []error{nil}
	})
	done := make(chan struct{})
	for i := range callers {
		go func() {
			for range rounds {
				if err := g.Do(t.Context(), i); err != nil {
					t.Error(err)
				}
				time.Sleep(time.Duration(i) * 20 * time.Microsecond) //nolint:forbidigo // they take more or less time to come back
			}
			done <- struct{}{}
		}()
	}
	// Only when all of them wait: did the first transaction start with half of them, the halves could take turns from
	// then on.
	synctest.Wait()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, committers)
	for range committers {
		go func() { ended <- g.Run(ctx) }()
	}
	for range callers {
		<-done
	}
	if most := rounds * 3 / 2; len(groups) > most { // without lingering it is two for each round
		t.Errorf("%d transactions for %d rounds: %v", len(groups), rounds, groups)
	}
	time.Sleep(time.Second) //nolint:forbidigo // all is over
	for range 10 {          // what is expected shrinks
		begin := time.Now()
		if err := g.Do(t.Context(), 0); err != nil {
			t.Error(err)
		}
		if took := time.Since(begin); took > commit+maxLinger {
			t.Errorf("a caller alone waited %v", took)
		}
	}
	begin := time.Now()
	if err := g.Do(t.Context(), 0); err != nil || time.Since(begin) != commit {
		t.Errorf("a caller alone waited %v for a commit of %v: %v", time.Since(begin), commit, err)
	}
	cancel()
	for range committers {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

func TestGroupCommitAnswersEachItem(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		odd := errors.New("odd")
		release := make(chan struct{})
		g := NewGroupCommit(10, func(_ context.Context, items []int) []error {
			<-release
			errs := make([]error, len(items))
			for i, item := range items {
				if item%2 == 1 {
					errs[i] = odd
				}
			}
			return errs
		})
		ctx, cancel := context.WithCancel(t.Context())
		defer synctest.Wait()
		defer cancel()
		go g.Run(ctx)
		done := make(chan struct{})
		for i := range 7 {
			go func() {
				if err := g.Do(t.Context(), i); errors.Is(err, odd) != (i%2 == 1) {
					t.Errorf("item %d: %v", i, err)
				}
				done <- struct{}{}
			}()
		}
		synctest.Wait()
		close(release)
		for range 7 {
			<-done
		}
	})
}

// What waits when the service is told to stop is committed; what comes later is turned away.
func TestGroupCommitStops(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		committed := 0
		g := NewGroupCommit(2, func(ctx context.Context, items []int) []error {
			<-release
			committed += len(items)
			return []error{ctx.Err()} // the group's context must outlive Run's
		})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- g.Run(ctx) }()
		errs := make(chan error, 5)
		for i := range 5 {
			go func() { errs <- g.Do(t.Context(), i) }()
		}
		synctest.Wait()
		cancel()
		close(release)
		for range 5 {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
		if err := <-ended; err != nil || committed != 5 {
			t.Errorf("%d of 5 committed, %v", committed, err)
		}
		if err := g.Do(t.Context(), 9); !errors.Is(err, ErrStopped) || !errors.Is(err, push.ErrUnavailable) {
			t.Errorf("after the end: %v", err)
		}
	})
}

// A committer that was stopped before it began must not leave callers waiting either.
func TestGroupCommitStoppedAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := NewGroupCommit(2, func(context.Context, []int) []error { return []error{nil} })
		early := make(chan error, 1)
		go func() { early <- g.Do(t.Context(), 1) }() // waits for Run
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := g.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if err := <-early; err != nil {
			t.Errorf("what waited at the start: %v", err)
		}
		if err := g.Do(t.Context(), 2); !errors.Is(err, ErrStopped) {
			t.Errorf("after the end: %v", err)
		}
	})
}

// Callers that come at the very moment of the end are answered too, one way or the other.
func TestGroupCommitEndsUnderLoad(t *testing.T) {
	t.Parallel()
	for range 500 {
		synctest.Test(t, func(t *testing.T) { // which fails when somebody waits for ever
			g := NewGroupCommit(2, func(context.Context, []int) []error { return []error{nil} })
			ctx, cancel := context.WithCancel(t.Context())
			for range 2 {
				go g.Run(ctx)
			}
			for i := range 8 {
				go func() {
					var err error
					for err == nil {
						err = g.Do(context.Background(), i)
					}
					if !errors.Is(err, ErrStopped) {
						t.Error(err)
					}
				}()
			}
			runtime.Gosched()
			cancel()
		})
	}
}

// The last committer ends in the instant after a caller saw that it had not been told to stop: too short to be met by
// chance.
func TestGroupCommitEndsBesideCaller(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := NewGroupCommit(2, func(context.Context, []int) []error { return []error{nil} })
		answer := make(chan error, 1)
		go func() { answer <- g.Do(context.Background(), 1) }()
		synctest.Wait()
		close(g.stopped) // as the last committer does
		if err := <-answer; !errors.Is(err, ErrStopped) {
			t.Error(err)
		}
	})
}

func TestGroupCommitCallerGivesUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := NewGroupCommit(2, func(context.Context, []int) []error { return []error{nil} })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := g.Do(ctx, 1); !errors.Is(err, context.DeadlineExceeded) { // nobody runs it
			t.Error(err)
		}
	})
}
