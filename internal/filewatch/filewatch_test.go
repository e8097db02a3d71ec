package filewatch

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A folder in which something is written all the time, as by a database, hides no change.
func TestChangesInABusyFolder(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	w := New(slog.New(slog.DiscardHandler))
	w.Quiet, w.Most, w.Again = time.Minute, 50*time.Millisecond, time.Hour
	w.Add(filepath.Join(folder, "lhspn.yaml"))
	ctx, cancel := context.WithCancel(t.Context())
	told := make(chan struct{}, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.Run(ctx, nil, func() {
			select {
			case told <- struct{}{}:
			default:
			}
		})
	}()
	busy := time.NewTicker(5 * time.Millisecond)
	defer busy.Stop()
	tooLong := time.After(20 * time.Second)
	for n := 0; n < 2; {
		select {
		case <-told:
			n++
		case <-busy.C:
			if err := os.WriteFile(filepath.Join(folder, "lhspn.db-wal"), []byte{byte(n)}, 0o600); err != nil {
				t.Fatal(err)
			}
		case <-tooLong:
			t.Fatalf("told of it %d times", n)
		}
	}
	cancel()
	<-ended
}
