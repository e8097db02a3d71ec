package database

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/jmoiron/sqlx"
)

// The connection that writes keeps a bounded number of statements, and a kept one runs as a new one does: after an
// error, with other arguments, after a change of the table, and when it was forgotten.
func TestSQLiteKeepsStatements(t *testing.T) {
	t.Parallel()
	db, err := Open(t.Context(), "sqlite:"+t.TempDir()+"/test.db", Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	exec := func(query string, args ...any) error {
		return db.Tx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
			_, err := tx.ExecContext(ctx, query, args...)
			return err
		})
	}
	must := func(query string, args ...any) {
		t.Helper()
		if err := exec(query, args...); err != nil {
			t.Fatal(err)
		}
	}
	const insert = "INSERT INTO t (a, b) VALUES (?, ?)"
	must("CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT)")
	must(insert, 1, "one")
	if err := exec(insert, 1, "again"); !IsDuplicate(err) {
		t.Errorf("a duplicate: %v", err)
	}
	must(insert, 2, nil)
	must("ALTER TABLE t ADD COLUMN c TEXT DEFAULT 'c'")
	must(insert, 3, "three")
	kept := func() (n int, has bool) {
		conn, err := db.write.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.Raw(func(c any) error {
			keeping := c.(*keepingConn)
			n, has = keeping.recent.Len(), keeping.kept[insert] != nil
			if len(keeping.kept) != n {
				t.Errorf("%d statements by their text, %d by their use", len(keeping.kept), n)
			}
			return nil
		})
		return n, has
	}
	if _, has := kept(); !has {
		t.Error("the statement is not kept")
	}
	for i := range 2 * keptStatements {
		must(fmt.Sprintf("UPDATE t SET b = 'x%d' WHERE a = 2", i))
	}
	if n, has := kept(); has || n != keptStatements {
		t.Errorf("%d statements are kept, the first %v", n, has)
	}
	must(insert, 4, "four")
	var got []struct {
		A    int
		B, C string
	}
	if err := db.Reader().SelectContext(t.Context(), &got, "SELECT a, b, c FROM t ORDER BY a"); err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("[{1 one c} {2 x%d c} {3 three c} {4 four c}]", 2*keptStatements-1); fmt.Sprint(got) != want {
		t.Errorf("%v, not %s", got, want)
	}
}

// A kept query is run anew while its rows are still being read, and can be forgotten meanwhile.
func TestSQLiteKeepsQueries(t *testing.T) {
	t.Parallel()
	db, err := Open(t.Context(), "sqlite:"+t.TempDir()+"/test.db", Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	err = db.Tx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
		if _, err := tx.ExecContext(ctx, "CREATE TABLE t (a INTEGER PRIMARY KEY)"); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "INSERT INTO t (a) VALUES (?), (?), (?)", 1, 2, 3); err != nil {
			return err
		}
		const query = "SELECT a FROM t WHERE a >= ? ORDER BY a"
		for range 3 {
			outer, err := tx.QueryContext(ctx, query, 1)
			if err != nil {
				return err
			}
			var got []int
			for outer.Next() {
				var a int
				if err := outer.Scan(&a); err != nil {
					return err
				}
				var inner []int
				if err := tx.SelectContext(ctx, &inner, query, a); err != nil {
					return err
				}
				got = append(got, a, len(inner))
				for i := range keptStatements {
					if _, err := tx.ExecContext(ctx, fmt.Sprintf("UPDATE t SET a = a WHERE a = %d", i)); err != nil {
						return err
					}
				}
			}
			if err := errors.Join(outer.Err(), outer.Close()); err != nil { //nolint:sqlclosecheck // the next run needs it closed
				return err
			}
			if fmt.Sprint(got) != "[1 3 2 2 3 1]" {
				t.Errorf("%v", got)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
