package database_test

import (
	"context"
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
