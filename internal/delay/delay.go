// Package delay waits. It knows nothing of what for.
package delay

import (
	"context"
	"time"
)

// For waits so long, or returns ctx's error where that ends first.
func For(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
