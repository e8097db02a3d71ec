// Package drain counts what a transport has taken and not finished, so that it can refuse more and wait for the last.
// It imports nothing of ours.
package drain

import "context"

// Gate counts groups. It is a plain value: its owner's lock guards it, but for Wait, which needs none.
type Gate struct {
	inside int
	closed bool
	empty  chan struct{} // closed when the gate is closed and nothing is inside
}

// NewGate returns an open gate.
func NewGate() Gate { return Gate{empty: make(chan struct{})} }

// Enter takes one in. It is false when the gate is closed.
func (g *Gate) Enter() bool {
	if g.closed {
		return false
	}
	g.inside++
	return true
}

// Leave lets n out, and reports whether nothing is left inside.
func (g *Gate) Leave(n int) (empty bool) {
	g.inside -= n
	if g.inside == 0 && g.closed {
		close(g.empty)
	}
	return g.inside == 0
}

// Close lets none in any more.
func (g *Gate) Close() {
	if !g.closed {
		g.closed = true
		if g.inside == 0 {
			close(g.empty)
		}
	}
}

// Inside is how many are there.
func (g *Gate) Inside() int { return g.inside }

// Wait returns when the gate is closed and nothing is inside, or with ctx's error.
func (g *Gate) Wait(ctx context.Context) error {
	select {
	case <-g.empty:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
