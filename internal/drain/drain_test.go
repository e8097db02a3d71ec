package drain

import (
	"context"
	"errors"
	"testing"
)

func TestGate(t *testing.T) {
	t.Parallel()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	g := NewGate()
	first, second := g.Enter(), g.Enter()
	if !first || !second || g.Leave(1) || g.Inside() != 1 {
		t.Errorf("%d inside", g.Inside())
	}
	g.Close()
	g.Close() // is harmless
	if g.Enter() {
		t.Error("one came in after it was closed")
	}
	if err := g.Wait(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("with one inside: %v", err)
	}
	if !g.Leave(1) {
		t.Error("the last has left")
	}
	if err := g.Wait(t.Context()); err != nil {
		t.Error(err)
	}

	g = NewGate()
	g.Enter()
	if !g.Leave(1) {
		t.Error("the last has left")
	}
	if err := g.Wait(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("empty and open: %v", err)
	}
	g.Close()
	if err := g.Wait(t.Context()); err != nil {
		t.Error(err)
	}
}
