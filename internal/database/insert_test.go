package database_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/database/dbtest"
)

// Rows of any length go into statements of few rows or of few bytes, and each is inserted once. The bytes are those
// whose escaping doubles them.
func TestInsertIsBoundedByRowsAndBytes(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		execute(t, db, "CREATE TABLE texts (id INTEGER NOT NULL, text "+
			map[database.Dialect]string{database.MySQL: "MEDIUMBLOB", database.SQLite: "BLOB"}[db.Dialect]+" NOT NULL, PRIMARY KEY (id))")
		long := []byte(strings.Repeat("'", 2<<20))
		count := 0
		err := db.Tx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
			in := database.NewInsert("texts", "id, text", "")
			count = 0
			for _, rows := range []struct{ n, size int }{{1200, 1}, {600, 6500}, {1, 1 << 20}, {2, 10}, {2, 1 << 20}} {
				for range rows.n {
					count++
					if err := in.Add(ctx, tx, count, long[:rows.size]); err != nil {
						return err
					}
				}
			}
			return in.Flush(ctx, tx)
		})
		if err != nil {
			t.Fatal(err)
		}
		var n int
		if err := db.Reader().Get(&n, "SELECT COUNT(*) FROM texts"); err != nil || n != count {
			t.Errorf("%d of %d rows, %v", n, count, err)
		}
	})
}

// An optional column is left out where no row of a statement has anything there, which those that the table does not have
// show; where one row has something, each row gets its own.
func TestInsertLeavesOutWhatNoRowHas(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		execute(t, db, "CREATE TABLE optionals (id INTEGER NOT NULL, n INTEGER NOT NULL DEFAULT 5, text "+
			map[database.Dialect]string{database.MySQL: "VARBINARY(9)", database.SQLite: "BLOB"}[db.Dialect]+
			" NOT NULL DEFAULT '', at VARCHAR(26) NOT NULL DEFAULT '1970-01-01 00:00:00.000000', PRIMARY KEY (id))")
		type row struct {
			ID   int
			N    int
			Text string
			At   string
		}
		want := []row{
			{1, 5, "", "1970-01-01 00:00:00.000000"}, {2, 5, "", "1970-01-01 00:00:00.000000"},
			{3, 5, "", "1970-01-01 00:00:00.000000"}, {4, 0, "", "1970-01-01 00:00:00.000000"},
			{5, 5, "x", "1970-01-01 00:00:00.000000"}, {6, 5, "", "2030-01-02 03:04:05.000000"},
		}
		err := db.Tx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
			in := database.NewInsert("optionals", "id, n?5, missing?, word?alert, flag?1, text?, at?", "")
			for i, r := range want {
				if i == 3 {
					if err := in.Flush(ctx, tx); err != nil {
						return err
					}
				}
				at := any(database.Never)
				if r.ID == 6 {
					at = r.At
				}
				if err := in.Add(ctx, tx, r.ID, uint32(r.N), nil, "alert", true, []byte(r.Text), at); err != nil {
					return err
				}
			}
			return in.Flush(ctx, tx)
		})
		if err != nil {
			t.Fatal(err)
		}
		var got []row
		if err := db.Reader().Select(&got, "SELECT id, n, text, at FROM optionals ORDER BY id"); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, want) {
			t.Errorf("stored %v, want %v", got, want)
		}
	})
}
