package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
)

// part is something that runs until its own context ends, and then finishes what it has begun.
type part struct {
	name string
	run  func(ctx context.Context) error
}

// runParts runs the parts until ctx ends or one of them fails. Then it stops them one after the other, the last first,
// each when the one after it has come to its end: the parts stand in the order in which they need each other.
func runParts(ctx context.Context, log *slog.Logger, parts []part) error {
	type running struct {
		part
		stop context.CancelFunc
		done chan error
	}
	failed := make(chan string, len(parts))
	var all []running
	for _, p := range parts {
		own, stop := context.WithCancel(context.WithoutCancel(ctx))
		r := running{p, stop, make(chan error, 1)}
		all = append(all, r)
		go func() {
			err := p.run(own)
			r.done <- err
			if own.Err() == nil {
				failed <- p.name
			}
		}()
	}
	select {
	case <-ctx.Done():
		log.Info("stopping")
	case name := <-failed:
		log.Error("stopping, since a part of the service has ended", "part", name)
	}
	var errs []error
	for _, r := range slices.Backward(all) {
		r.stop()
		if err := <-r.done; err != nil && !errors.Is(err, context.Canceled) {
			errs = append(errs, fmt.Errorf("%s: %w", r.name, err))
		}
	}
	return errors.Join(errs...)
}
