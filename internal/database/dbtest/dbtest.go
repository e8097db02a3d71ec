// Package dbtest gives tests databases: migrated, empty, of their own, and gone afterwards. Only tests import it.
package dbtest

import (
	"context"
	"crypto/rand"
	"database/sql"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jmoiron/sqlx"

	"github.com/lhspn/lhspn/internal/database"
)

// ServerVariable names the environment variable with the MySQL or MariaDB server for tests, as a DSN without a
// database.
const ServerVariable = "LHSPN_TEST_MYSQL"

// databasesVariable names the one with the names of databases on that server, separated by spaces, to be used where
// tests cannot make any. What is in them is deleted.
const databasesVariable = "LHSPN_TEST_MYSQL_DATABASES"

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
		tb.Skipf("no MySQL or MariaDB: run the tests by scripts/testdb, as in: scripts/testdb go test ./...; or set %s",
			ServerVariable)
	}
	cfg, err := mysql.ParseDSN(dsn)
	if err != nil {
		tb.Fatalf("%s: %v", ServerVariable, err)
	}
	if os.Getenv(databasesVariable) != "" {
		return borrow(tb, cfg)
	}
	name := "lhspn_test_" + strings.ToLower(rand.Text())
	execute(tb, dsn, "CREATE DATABASE "+name)
	tb.Cleanup(func() { execute(tb, dsn, "DROP DATABASE "+name) })
	cfg.DBName = name
	return "mysql://" + cfg.FormatDSN()
}

// free holds the names of the databases that no test has.
var free = sync.OnceValue(func() chan string {
	names := strings.Fields(os.Getenv(databasesVariable))
	all := make(chan string, len(names))
	for _, name := range names {
		all <- name
	}
	return all
})

// borrow waits for one of the databases that there are, and empties it. What is migrated stays so, as migrations may
// take a second each there.
func borrow(tb testing.TB, cfg *mysql.Config) (address string) {
	tb.Helper()
	cfg.DBName = <-free()
	tb.Cleanup(func() { free() <- cfg.DBName })
	server, err := sql.Open("mysql", cfg.FormatDSN())
	if err != nil {
		tb.Fatal(err)
	}
	defer server.Close() //nolint:errcheck // nothing hangs on it
	var tables []string
	if err := sqlx.NewDb(server, "mysql").SelectContext(tb.Context(), &tables, "SHOW TABLES"); err != nil {
		tb.Fatalf("look for tables: %v", err)
	}
	if len(tables) > 0 { // those that are elsewhere, and are found by a rule of Vitess alone
		for _, table := range []string{"device_tokens", "device_token_index"} {
			if !slices.Contains(tables, table) {
				tables = append(tables, table)
			}
		}
	}
	for _, table := range tables {
		switch table {
		case "schema_versions", "schema_lock":
		case "shards": // whose rows are a migration's
			execute(tb, cfg.FormatDSN(), "UPDATE shards SET owner = '', epoch = 0, writes = 0")
		default:
			empty(tb, server, table)
		}
	}
	return "mysql://" + cfg.FormatDSN()
}

// empty deletes what is in the table. One statement deletes at most 10,000 rows on Vitess; to truncate takes longer.
func empty(tb testing.TB, server *sql.DB, table string) {
	tb.Helper()
	var rows int
	err := server.QueryRowContext(tb.Context(), "SELECT COUNT(*) FROM "+table).Scan(&rows)
	switch {
	case err != nil || rows == 0:
	case rows > 10_000:
		_, err = server.ExecContext(tb.Context(), "TRUNCATE TABLE "+table)
	default:
		_, err = server.ExecContext(tb.Context(), "DELETE FROM "+table) //nolint:gosec // the database's own list of tables
	}
	if err != nil {
		tb.Fatalf("empty %s: %v", table, err)
	}
}

// NotOnVitess skips what Vitess cannot do.
func NotOnVitess(tb testing.TB, db *database.DB, why string) {
	tb.Helper()
	if db.Dialect != database.MySQL {
		return
	}
	var version string
	if err := db.Reader().Get(&version, "SELECT VERSION()"); err != nil {
		tb.Fatal(err)
	}
	if strings.Contains(version, "Vitess") {
		tb.Skipf("on Vitess (%s): %s", version, why)
	}
}

func execute(tb testing.TB, dsn, statement string) {
	tb.Helper()
	server, err := sql.Open("mysql", dsn)
	if err != nil {
		tb.Fatal(err)
	}
	defer server.Close() //nolint:errcheck // nothing hangs on it
	// in a clean-up, tb.Context has ended
	ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), 30*time.Second)
	defer cancel()
	if _, err := server.ExecContext(ctx, statement); err != nil {
		tb.Errorf("%s: %v", statement, err)
	}
}
