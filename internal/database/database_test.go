package database_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jmoiron/sqlx"
	"golang.org/x/sync/errgroup"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/database/dbtest"
	"github.com/lhspn/lhspn/internal/push"
)

func makeTable(t *testing.T, db *database.DB) {
	t.Helper()
	execute(t, db, "CREATE TABLE things (id INTEGER NOT NULL, n INTEGER NOT NULL, m INTEGER NOT NULL, at "+
		map[database.Dialect]string{database.MySQL: "DATETIME(6)", database.SQLite: "TEXT"}[db.Dialect]+" NULL, PRIMARY KEY (id))")
}

func execute(t *testing.T, db *database.DB, query string, args ...any) {
	t.Helper()
	err := db.Tx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
		_, err := tx.ExecContext(ctx, query, args...)
		return err
	})
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

func things(t *testing.T, db *database.DB) string {
	t.Helper()
	var rows []struct{ ID, N, M int }
	if err := db.Reader().Select(&rows, "SELECT id, n, m FROM things ORDER BY id"); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(rows)
}

func TestUpsert(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		makeTable(t, db)
		insert := "INSERT INTO things (id, n, m) VALUES (?, ?, ?), (?, ?, ?)"
		execute(t, db, insert, 1, 10, 100, 2, 20, 200)
		execute(t, db, insert+db.Dialect.Upsert("id", "n"), 2, 21, 201, 3, 30, 300)
		execute(t, db, insert+db.Dialect.Upsert("id"), 3, 31, 301, 4, 40, 400)
		if got, want := things(t, db), "[{1 10 100} {2 21 200} {3 30 300} {4 40 400}]"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
}

func TestDuplicateKey(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		makeTable(t, db)
		calls := 0
		err := db.Tx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
			calls++
			_, err := tx.ExecContext(ctx, "INSERT INTO things (id, n, m) VALUES (1, 1, 1), (1, 2, 2)")
			return err
		})
		if !database.IsDuplicate(err) || database.IsDeadlock(err) || errors.Is(err, push.ErrUnavailable) || calls != 1 {
			t.Errorf("after %d calls: %v", calls, err)
		}
		if database.IsDuplicate(errors.New("other")) || database.IsDuplicate(nil) {
			t.Error("IsDuplicate of another error")
		}
	})
}

func TestTimeComesBackAsItWent(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		makeTable(t, db)
		at := time.Date(2026, 3, 29, 2, 30, 0, 123456000, time.FixedZone("", 7200))
		execute(t, db, "INSERT INTO things (id, n, m, at) VALUES (1, 0, 0, ?), (2, 0, 0, ?)", database.Time{Time: at}, database.Time{})
		var got []database.Time
		if err := db.Reader().Select(&got, "SELECT at FROM things ORDER BY id"); err != nil {
			t.Fatal(err)
		}
		if !got[0].Equal(at) || got[0].Location() != time.UTC || !got[1].IsZero() {
			t.Errorf("got %v", got)
		}
		var n int
		if err := db.Reader().Get(&n, "SELECT COUNT(*) FROM things WHERE at <= ?", database.Time{Time: at}); err != nil || n != 1 {
			t.Errorf("compared equal: %d, %v", n, err)
		}
	})
}

func TestTxRollsBack(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		makeTable(t, db)
		oops := errors.New("oops")
		ctx, cancel := context.WithCancel(t.Context())
		for name, fail := range map[string]func() error{"error": func() error { return oops }, "cancel": func() error { cancel(); return nil }} {
			err := db.Tx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
				if _, err := tx.ExecContext(ctx, "INSERT INTO things (id, n, m) VALUES (1, 1, 1)"); err != nil {
					return err
				}
				return fail()
			})
			if err == nil || errors.Is(err, database.ErrCommitUnknown) {
				t.Errorf("%s: %v", name, err)
			}
			if got := things(t, db); got != "[]" {
				t.Errorf("%s: left %s", name, got)
			}
			ctx, cancel = context.WithCancel(t.Context())
		}
		cancel()
	})
}

// Transactions that lock two rows in either order deadlock; each is repeated until it has counted.
func TestTxRepeatsAfterDeadlock(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		deadlock(t.Context(), t, db, func(ctx context.Context, tx *sqlx.Tx, id int) error {
			_, err := tx.ExecContext(ctx, "UPDATE things SET n = n + 1 WHERE id = ?", id)
			return err
		})
	})
}

// deadlock has two transactions under ctx count in two rows in either order, in the second row by second.
func deadlock(
	ctx context.Context, t *testing.T, db *database.DB, second func(ctx context.Context, tx *sqlx.Tx, id int) error,
) {
	t.Helper()
	makeTable(t, db)
	execute(t, db, "INSERT INTO things (id, n, m) VALUES (1, 0, 0), (2, 0, 0)")
	var calls atomic.Int32
	var g errgroup.Group
	var bothHold sync.WaitGroup
	bothHold.Add(2)
	for i := range 2 {
		first := true
		g.Go(func() error {
			return db.Tx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
				calls.Add(1)
				if _, err := tx.ExecContext(ctx, "UPDATE things SET n = n + 1 WHERE id = ?", 1+i); err != nil {
					return err
				}
				if first && db.Dialect == database.MySQL { // SQLite lets one in at a time
					first = false
					bothHold.Done()
					bothHold.Wait()
				}
				return second(ctx, tx, 2-i)
			})
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if got, want := things(t, db), "[{1 2 0} {2 2 0}]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if db.Dialect == database.MySQL && calls.Load() != 3 {
		t.Errorf("%d calls; the deadlock did not come about", calls.Load())
	}
}

func TestTxGivesUpAfterManyRaces(t *testing.T) {
	t.Parallel()
	db := dbtest.SQLite(t)
	calls := 0
	err := db.Tx(t.Context(), func(context.Context, *sqlx.Tx) error {
		calls++
		return &mysql.MySQLError{Number: 1213}
	})
	if !errors.Is(err, push.ErrUnavailable) || calls != 10 {
		t.Errorf("after %d calls: %v", calls, err)
	}
}
