// Package pushtest holds what tests of the transports share.
package pushtest

import (
	"bytes"
	"encoding/binary"
	"sync"

	"github.com/lhspn/lhspn/internal/push"
)

// Reporter is what *testing.T and *rapid.T share.
type Reporter interface {
	Helper()
	Errorf(format string, args ...any)
}

// Ledger counts how often each group that was handed to a transport came back.
type Ledger struct {
	mu   sync.Mutex // guards done
	done map[*push.Group]int
	wake chan struct{} // capacity one: a group came back
}

// NewLedger returns an empty one.
func NewLedger() *Ledger {
	return &Ledger{done: map[*push.Group]int{}, wake: make(chan struct{}, 1)}
}

// Enter has g's Done counted.
func (l *Ledger) Enter(g *push.Group) {
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

// Wait waits until all groups that were sent are done.
func (l *Ledger) Wait() {
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

// Balanced checks that every group was done exactly once, with a result for each delivery.
func (l *Ledger) Balanced(t Reporter) {
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

// HexToken is a device token of APNs that carries a number.
func HexToken(n int) push.Token {
	b := bytes.Repeat([]byte{0xaa}, 32)
	binary.BigEndian.PutUint32(b, uint32(n))
	return push.Token(b)
}

// NumberOf is the number that HexToken was given.
func NumberOf(token []byte) int { return int(binary.BigEndian.Uint32(token)) }
