package database

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

func lockTest(t *testing.T) (lock func(holder string, expiry time.Duration) *migrationLock) {
	t.Helper()
	db, err := Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "test.db"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	// SQLite needs no lock, but it speaks enough of MySQL's SQL for the lock's own logic, once its table is there.
	if _, err := db.write.Exec("CREATE TABLE schema_lock (id INTEGER NOT NULL, holder TEXT NOT NULL, beat INTEGER NOT NULL, PRIMARY KEY (id))"); err != nil {
		t.Fatal(err)
	}
	if _, err := db.write.Exec("INSERT INTO schema_lock VALUES (1, '', 0)"); err != nil {
		t.Fatal(err)
	}
	return func(holder string, expiry time.Duration) *migrationLock {
		return &migrationLock{db: db, holder: holder, expiry: expiry, log: slog.New(slog.DiscardHandler)}
	}
}

func TestMigrationLockOneAtATime(t *testing.T) {
	t.Parallel()
	lock := lockTest(t)
	inside, ended := make(chan struct{}), make(chan error, 1)
	var order []string
	go func() {
		ended <- lock("a", time.Minute).hold(t.Context(), func(context.Context) error {
			close(inside)
			order = append(order, "a")
			return nil
		})
	}()
	select {
	case <-inside:
	case err := <-ended:
		t.Fatal(err)
	}
	err := lock("b", time.Minute).hold(t.Context(), func(context.Context) error {
		order = append(order, "b") // the race detector tells if it is not alone
		return nil
	})
	if err = errors.Join(err, <-ended); err != nil || len(order) != 2 {
		t.Errorf("order %v, %v", order, err)
	}
}

// A living holder keeps the lock for longer than the expiry.
func TestMigrationLockIsKept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		lock := lockTest(t)
		const expiry = time.Minute
		err := lock("a", expiry).hold(t.Context(), func(ctx context.Context) error {
			waiting, cancel := context.WithTimeout(ctx, 3*expiry)
			defer cancel()
			if err := lock("b", expiry).acquire(waiting); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("another took it: %v", err)
			}
			return ctx.Err()
		})
		if err != nil {
			t.Error(err)
		}
	})
}

func TestMigrationLockOfTheDeadIsTakenOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		lock := lockTest(t)
		const expiry = time.Minute
		if err := lock("dead", expiry).acquire(t.Context()); err != nil { // and never keeps nor releases it
			t.Fatal(err)
		}
		start := time.Now()
		err := lock("b", expiry).hold(t.Context(), func(context.Context) error { return nil })
		if took := time.Since(start); err != nil || took < expiry || took > 2*expiry {
			t.Errorf("after %v: %v", took, err)
		}
	})
}

// A holder that stalled, and whose lock was taken over, is told to stop.
func TestMigrationLockLost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		lock := lockTest(t)
		stalled := lock("a", time.Minute)
		err := stalled.hold(t.Context(), func(ctx context.Context) error {
			if _, err := stalled.db.write.ExecContext(ctx, "UPDATE schema_lock SET holder = 'b', beat = beat + 1"); err != nil {
				return err
			}
			<-ctx.Done()
			return ctx.Err()
		})
		if err == nil {
			t.Error("no error")
		}
		var holder string
		if err := stalled.db.read.Get(&holder, "SELECT holder FROM schema_lock"); err != nil || holder != "b" {
			t.Errorf("held by %q, %v", holder, err)
		}
	})
}
