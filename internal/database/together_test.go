package database_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/database/dbtest"
	"github.com/lhspn/lhspn/internal/push"
)

// insert inserts a thing by a statement of its own.
func insert(ctx context.Context, tx *sqlx.Tx, values ...any) error {
	in := database.NewInsert("things", "id, n, m", "")
	return errors.Join(in.Add(ctx, tx, values...), in.Flush(ctx, tx))
}

// inserts does so for each of the ids in one transaction that is sent together. 0 stands for one that is refused.
func inserts(t *testing.T, db *database.DB, ids ...int) error {
	t.Helper()
	return db.Tx(database.Together(t.Context()), func(ctx context.Context, tx *sqlx.Tx) error {
		for _, id := range ids {
			var n any
			if id > 0 {
				n = id
			}
			if err := insert(ctx, tx, id, n, id); err != nil {
				return err
			}
		}
		return nil
	})
}

func TestTogether(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		makeTable(t, db)
		if err := inserts(t, db); err != nil {
			t.Errorf("nothing: %v", err)
		}
		if err := inserts(t, db, 1, 2); err != nil {
			t.Fatal(err)
		}
		err := db.Tx(database.Together(t.Context()), func(ctx context.Context, tx *sqlx.Tx) error {
			long := strings.Repeat(" ", 2<<20) // longer than what is sent together
			for id, n := range map[int]string{3: "3", 4: long + "4", 5: long[:1<<20-70] + "5", 6: long[:1<<20-70] + "6"} {
				if err := insert(ctx, tx, id, n, 0); err != nil {
					return err
				}
			}
			var n int
			if err := tx.QueryRowContext(ctx, "SELECT COUNT(*) FROM things").Scan(&n); err != nil || n != 6 {
				t.Errorf("the transaction sees %d rows, %v", n, err)
			}
			if err := insert(ctx, tx, 7, 7, 7); err != nil {
				return err
			}
			result, err := tx.ExecContext(ctx, "UPDATE things SET n = n + 10 WHERE id IN (?, ?)", 1, 7)
			if err != nil {
				return err
			}
			if changed, err := result.RowsAffected(); err != nil || changed != 2 {
				t.Errorf("%d rows were changed, %v", changed, err)
			}
			_, err = tx.ExecContext(ctx, "DELETE FROM things WHERE id IN (4, 5, 6)")
			return err
		})
		const want = "[{1 11 1} {2 2 2} {3 3 0} {7 17 7}]"
		if got := things(t, db); err != nil || got != want {
			t.Errorf("left %s, %v", got, err)
		}
		gone := errors.New("no more of it")
		err = db.Tx(database.Together(t.Context()), func(ctx context.Context, tx *sqlx.Tx) error {
			_, err := tx.ExecContext(ctx, "DELETE FROM things")
			return errors.Join(gone, err, insert(ctx, tx, 8, 8, 8))
		})
		if got := things(t, db); !errors.Is(err, gone) || got != want {
			t.Errorf("rolled back, %s are left, %v", got, err)
		}
	})
}

// What is refused leaves nothing behind, and says why as if it had been sent alone.
func TestTogetherRefused(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		makeTable(t, db)
		execute(t, db, "INSERT INTO things (id, n, m) VALUES (2, 2, 2)")
		for _, ids := range [][]int{{1, 2}, {2, 1}} {
			if err := inserts(t, db, ids...); !database.IsDuplicate(err) {
				t.Errorf("%d: %v", ids, err)
			}
		}
		err := inserts(t, db, 1, 0, 3)
		if err == nil || database.IsDuplicate(err) || errors.Is(err, database.ErrCommitUnknown) ||
			errors.Is(err, push.ErrUnavailable) {
			t.Errorf("a wrong statement: %v", err)
		}
		if got := things(t, db); got != "[{2 2 2}]" {
			t.Errorf("left %s", got)
		}
		if err := inserts(t, db, 1); err != nil { // no lock is left, either
			t.Error(err)
		}
	})
}

func TestTogetherWhenTheConnectionBreaks(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name      string
		before    bool
		persisted bool
	}{
		{"not sent", true, false},
		{"answer lost", false, true},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			f := &faults{word: []byte("\x03START TRANSACTION;INSERT"), before: c.before}
			db := through(t, dbtest.MySQLAddress(t), f)
			makeTable(t, db)
			f.left.Store(1)
			err := inserts(t, db, 1, 2)
			if !errors.Is(err, database.ErrCommitUnknown) || !errors.Is(err, push.ErrUnavailable) {
				t.Errorf("error %v", err)
			}
			if got := things(t, db); (got == "[{1 1 1} {2 2 2}]") != c.persisted || !c.persisted && got != "[]" {
				t.Errorf("left %s", got)
			}
		})
	}
}

func TestTogetherIsOneRoundTrip(t *testing.T) {
	t.Parallel()
	f := &faults{word: []byte{}, hang: make(chan struct{})} // that all writes contain
	close(f.hang)
	db := through(t, dbtest.MySQLAddress(t), f)
	makeTable(t, db)
	f.left.Store(1000)
	if err := inserts(t, db, 1, 2); err != nil {
		t.Fatal(err)
	}
	if n := 1000 - f.left.Load(); n != 1 {
		t.Errorf("%d writes to the server", n)
	}
}

// A race that is lost is run again as ever.
func TestTogetherAfterALostRace(t *testing.T) {
	t.Parallel()
	db := dbtest.MySQL(t)
	deadlock(database.Together(t.Context()), t, db, func(ctx context.Context, tx *sqlx.Tx, id int) error {
		in := database.NewInsert("things", "id, n, m", db.Dialect.UpsertAdd("id", "n"))
		return errors.Join(in.Add(ctx, tx, id, 1, 0), in.Flush(ctx, tx)) // it is sent with the commit
	})
}
