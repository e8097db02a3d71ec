// Package simtest runs the simulator within tests.
package simtest

import (
	"context"
	"log/slog"
	"testing"

	"github.com/lhspn/lhspn/internal/simulator"
)

// Start runs a simulator until the test is over.
func Start(tb testing.TB, cfg simulator.Config) *simulator.Simulator {
	tb.Helper()
	sim, err := simulator.New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- sim.Run(ctx) }()
	tb.Cleanup(func() {
		cancel()
		if err := <-ran; err != nil {
			tb.Errorf("simulator: %v", err)
		}
	})
	return sim
}
