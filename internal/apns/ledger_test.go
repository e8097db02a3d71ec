package apns

import (
	"sync"

	"github.com/lhspn/lhspn/internal/push"
)

// ledger counts how often each group that was handed to a transport came back.
type ledger struct {
	mu   sync.Mutex // guards done
	done map[*push.Group]int
	wake chan struct{} // capacity one: a group came back
}

func newLedger() *ledger {
	return &ledger{done: map[*push.Group]int{}, wake: make(chan struct{}, 1)}
}

// enter has g's Done counted.
func (l *ledger) enter(g *push.Group) {
	l.mu.Lock()
	l.done[g] = 0
	l.mu.Unlock()
	g.Done = func(g *push.Group) {
		l.mu.Lock()
		l.done[g]++
		l.mu.Unlock()
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
}

// wait waits until all groups that were sent are done.
func (l *ledger) wait() {
	for {
		l.mu.Lock()
		open := 0
		for _, n := range l.done {
			if n == 0 {
				open++
			}
		}
		l.mu.Unlock()
		if open == 0 {
			return
		}
		<-l.wake
	}
}

// balanced checks that every group was done exactly once, with a result for each delivery.
func (l *ledger) balanced(t reporter) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for g, n := range l.done {
		if n != 1 {
			t.Errorf("Done of a group of %d was called %d times", len(g.Deliveries), n)
		}
		for i := range g.Deliveries {
			if g.Deliveries[i].Result.Outcome == push.Pending {
				t.Errorf("delivery %d has no result", i)
			}
		}
	}
}
