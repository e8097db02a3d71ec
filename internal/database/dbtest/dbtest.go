// Package dbtest gives tests databases: migrated, empty, of their own, and gone afterwards. Only tests import it.
package dbtest

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jmoiron/sqlx"
	"go.uber.org/goleak"

	"github.com/lhspn/lhspn/internal/database"
)

// ServerVariable names the environment variable with the MySQL or MariaDB server for tests, as a DSN without a
// database.
const ServerVariable = "LHSPN_TEST_MYSQL"

// databasesVariable names the one with the names of databases on that server, separated by spaces, to be used where
// tests cannot make any. What is in them is deleted.
const databasesVariable = "LHSPN_TEST_MYSQL_DATABASES"

// Main is for packages whose tests wait for a database much of the time: twice as many run at once. An argument
// -parallel still wins. It runs them, and looks for goroutines that they leave.
func Main(m *testing.M) {
	_ = flag.Set("test.parallel", strconv.Itoa(2*runtime.GOMAXPROCS(0)))
	goleak.VerifyTestMain(m)
}

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
	return Open(tb, SQLiteAddress(tb))
}

// SQLiteAddress is the address of a new SQLite database, migrated and empty.
func SQLiteAddress(tb testing.TB) string {
	tb.Helper()
	content, err := migrated()
	if err != nil {
		tb.Fatal(err)
	}
	file := filepath.Join(tb.TempDir(), "test.db")
	if err := os.WriteFile(file, content, 0o600); err != nil {
		tb.Fatal(err)
	}
	return "sqlite:" + file
}

// migrated is the content of a migrated SQLite database, for tests to copy: to migrate takes longer than most of them.
var migrated = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "lhspn-dbtest")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // it is in the folder for temporary files
	file := filepath.Join(dir, "migrated.db")
	if err := migrate(context.Background(), "sqlite:"+file); err != nil {
		return nil, err
	}
	return os.ReadFile(filepath.Clean(file))
})

func migrate(ctx context.Context, address string) error {
	db, err := database.Open(ctx, address, database.Options{})
	if err != nil {
		return err
	}
	err = database.Migrate(ctx, db, slog.New(slog.DiscardHandler))
	return errors.Join(err, db.Close())
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

// MySQLAddress is the address of a migrated, empty database on the server for tests, which no other test has.
func MySQLAddress(tb testing.TB) string {
	tb.Helper()
	cfg := server(tb)
	if os.Getenv(databasesVariable) != "" {
		return borrow(tb, cfg)
	}
	return lend(tb, cfg)
}

// TwoNodes are the addresses of a new database, not migrated, on two nodes of the Galera cluster that scripts/galera
// has started; the test is skipped where there is none. What is read over either is what all nodes have committed.
func TwoNodes(t *testing.T) []string {
	t.Helper()
	nodes := strings.Fields(os.Getenv("LHSPN_TEST_GALERA"))
	if len(nodes) < 2 {
		t.Skip("no Galera: run this by scripts/galera")
	}
	t.Setenv(ServerVariable, nodes[0])
	own, err := mysql.ParseDSN(strings.TrimPrefix(NewMySQLAddress(t), "mysql://"))
	if err != nil {
		t.Fatal(err)
	}
	var addresses []string
	for _, node := range nodes[:2] {
		cfg, err := mysql.ParseDSN(node)
		if err != nil {
			t.Fatal(err)
		}
		cfg.DBName = own.DBName
		cfg.Params = map[string]string{"wsrep_sync_wait": "1"}
		addresses = append(addresses, "mysql://"+cfg.FormatDSN())
	}
	return addresses
}

// NewMySQLAddress is the address of a new database, not migrated, on the server for tests.
func NewMySQLAddress(tb testing.TB) string {
	tb.Helper()
	cfg := server(tb)
	if os.Getenv(databasesVariable) != "" {
		return borrow(tb, cfg)
	}
	on := connect(tb, cfg)
	create(tb, on, cfg)
	if !isVitess(tb, on) { // vtcombo loses count of its databases where two are dropped at once: there they stay
		tb.Cleanup(func() { execute(tb, on, "DROP DATABASE "+cfg.DBName) })
	}
	return "mysql://" + cfg.FormatDSN()
}

// create makes a database and enters its name in cfg.
func create(tb testing.TB, on *sqlx.DB, cfg *mysql.Config) {
	tb.Helper()
	cfg.DBName = "lhspn_test_" + strings.ToLower(rand.Text())
	execute(tb, on, "CREATE DATABASE "+cfg.DBName)
}

// server is the server for tests; without one the test is skipped.
func server(tb testing.TB) *mysql.Config {
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
	return cfg
}

// connect opens a connection for as long as the test lasts.
func connect(tb testing.TB, cfg *mysql.Config) *sqlx.DB {
	tb.Helper()
	on, err := sqlx.Open("mysql", cfg.FormatDSN())
	if err != nil {
		tb.Fatal(err)
	}
	on.SetMaxOpenConns(1)
	tb.Cleanup(func() { _ = on.Close() })
	return on
}

func execute(tb testing.TB, on *sqlx.DB, statement string) {
	tb.Helper()
	// in a clean-up, tb.Context has ended
	ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), 30*time.Second)
	defer cancel()
	if _, err := on.ExecContext(ctx, statement); err != nil {
		tb.Errorf("%s: %v", statement, err)
	}
}

// NotOnVitess skips what Vitess cannot do.
func NotOnVitess(tb testing.TB, db *database.DB, why string) {
	tb.Helper()
	if db.Dialect == database.MySQL && isVitess(tb, db.Reader()) {
		tb.Skipf("on Vitess: %s", why)
	}
}

func isVitess(tb testing.TB, on *sqlx.DB) bool {
	tb.Helper()
	var version string
	if err := on.GetContext(tb.Context(), &version, "SELECT VERSION()"); err != nil {
		tb.Fatal(err)
	}
	return strings.Contains(version, "Vitess")
}
