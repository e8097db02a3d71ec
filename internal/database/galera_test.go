package database_test

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/jmoiron/sqlx"
	"golang.org/x/sync/errgroup"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/database/dbtest"
)

// A transaction that loses to one of another node is rolled back whole, wherever between two of its statements that
// comes. `make galera` runs it.
func TestATransactionIsWholeOnTwoNodes(t *testing.T) {
	var dbs []*database.DB
	for _, address := range dbtest.TwoNodes(t) {
		db, err := database.Open(t.Context(), address, database.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		dbs = append(dbs, db)
	}
	const workers, each = 4, 150
	execute := func(statement string) {
		t.Helper()
		if err := dbs[0].Tx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
			_, err := tx.ExecContext(ctx, statement)
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	execute("CREATE TABLE contended (id INT PRIMARY KEY, n INT NOT NULL) ENGINE=InnoDB")
	execute("CREATE TABLE written (id INT PRIMARY KEY AUTO_INCREMENT, n INT NOT NULL, m INT NOT NULL) ENGINE=InnoDB")
	execute("INSERT INTO contended VALUES (1, 0), (2, 0), (3, 0)")
	var done atomic.Int64
	var g errgroup.Group
	for _, db := range dbs {
		for w := range workers {
			g.Go(func() error {
				for i := range each {
					err := db.Tx(database.Together(t.Context()), func(ctx context.Context, tx *sqlx.Tx) error {
						if _, err := tx.ExecContext(ctx, "UPDATE contended SET n = n + 1 WHERE id = ?", 1+(w+i)%3); err != nil {
							return err
						}
						in := database.NewInsert("written", "n, m", "")
						for m := range 2 {
							if err := in.Add(ctx, tx, i, m); err != nil {
								return err
							}
							if err := in.Flush(ctx, tx); err != nil { // sent with the commit, as two statements
								return err
							}
						}
						return nil
					})
					if err != nil {
						continue // it has lost too often
					}
					done.Add(1)
				}
				return nil
			})
		}
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	var counted, first, second int64
	query := func(to *int64, q string) {
		t.Helper()
		if err := dbs[1].Reader().Get(to, q); err != nil {
			t.Fatal(err)
		}
	}
	query(&counted, "SELECT SUM(n) FROM contended")
	query(&first, "SELECT COUNT(*) FROM written WHERE m = 0")
	query(&second, "SELECT COUNT(*) FROM written WHERE m = 1")
	if n := done.Load(); counted != n || first != n || second != n || n == 0 {
		t.Errorf("of %d transactions %d changed the first row, %d inserted one and %d another one", n, counted, first, second)
	}
}
