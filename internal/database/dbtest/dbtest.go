// Package dbtest gives tests databases: migrated, empty, of their own, and gone afterwards. Only tests import it.
package dbtest

import (
	"context"
	"crypto/rand"
	"database/sql"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/lhspn/lhspn/internal/database"
)

// ServerVariable names the environment variable with the MySQL or MariaDB server for tests, as a DSN without a
// database.
const ServerVariable = "LHSPN_TEST_MYSQL"

// Each runs fn on either engine, as the parallel subtests "sqlite" and "mysql".
func Each(t *testing.T, fn func(t *testing.T, db *database.DB)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		fn(t, SQLite(t))
	})
	t.Run("mysql", func(t *testing.T) {
		t.Parallel()
		fn(t, MySQL(t))
	})
}

// SQLite is a migrated database in a file.
func SQLite(tb testing.TB) *database.DB {
	tb.Helper()
	return Open(tb, "sqlite:"+filepath.Join(tb.TempDir(), "test.db"))
}

// MySQL is a migrated database on the server for tests; without one the test is skipped.
func MySQL(tb testing.TB) *database.DB {
	tb.Helper()
	return Open(tb, MySQLAddress(tb))
}

// Open opens and migrates the database at the address. Several times the same address, but for SQLite, is several
// replicas.
func Open(tb testing.TB, address string) *database.DB {
	tb.Helper()
	return openMigrated(tb, address, database.Options{})
}

func openMigrated(tb testing.TB, address string, opts database.Options) *database.DB {
	tb.Helper()
	db, err := database.Open(tb.Context(), address, opts)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := db.Close(); err != nil {
			tb.Errorf("close the database: %v", err)
		}
	})
	if err := database.Migrate(tb.Context(), db, slog.New(slog.DiscardHandler)); err != nil {
		tb.Fatal(err)
	}
	return db
}

// MySQLAddress is the address of a new, empty database, not migrated, on the server for tests.
func MySQLAddress(tb testing.TB) string {
	tb.Helper()
	dsn := os.Getenv(ServerVariable)
	if dsn == "" {
		tb.Skipf("no MySQL or MariaDB: run the tests by scripts/testdb, as in: scripts/testdb go test ./...; or set %s", ServerVariable)
	}
	cfg, err := mysql.ParseDSN(dsn)
	if err != nil {
		tb.Fatalf("%s: %v", ServerVariable, err)
	}
	name := "lhspn_test_" + strings.ToLower(rand.Text())
	execute(tb, dsn, "CREATE DATABASE "+name)
	tb.Cleanup(func() { execute(tb, dsn, "DROP DATABASE "+name) })
	cfg.DBName = name
	return "mysql://" + cfg.FormatDSN()
}

func execute(tb testing.TB, dsn, statement string) {
	tb.Helper()
	server, err := sql.Open("mysql", dsn)
	if err != nil {
		tb.Fatal(err)
	}
	defer server.Close()                                                                    //nolint:errcheck // nothing hangs on it
	ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), 30*time.Second) // in a clean-up, tb.Context has ended
	defer cancel()
	if _, err := server.ExecContext(ctx, statement); err != nil {
		tb.Errorf("%s: %v", statement, err)
	}
}
