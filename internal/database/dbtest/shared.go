package dbtest

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/jmoiron/sqlx"

	"github.com/lhspn/lhspn/migrations"
)

// To migrate takes longer than most tests. So the databases on the server stay, and are emptied for the next test.

// lend gives the test one of those databases, to itself: it has a lock of the server's on it while it runs.
func lend(tb testing.TB, cfg *mysql.Config) (address string) {
	tb.Helper()
	on := connect(tb, cfg)
	if isVitess(tb, on) { // its locks are none that a test could rely on
		return reuse(tb, cfg)
	}
	execute(tb, on, "SET SESSION autocommit = 1, sql_safe_updates = 0") // whatever the server's defaults are
	for i := 0; ; i++ {
		cfg.DBName = fmt.Sprintf("lhspn_test_%s_%d", schema(), i)
		var locked bool
		if err := on.GetContext(tb.Context(), &locked, "SELECT GET_LOCK(?, 0)", cfg.DBName); err != nil {
			tb.Fatalf("lock %s: %v", cfg.DBName, err)
		}
		if locked {
			break
		}
	}
	execute(tb, on, "CREATE DATABASE IF NOT EXISTS "+cfg.DBName)
	disconnect(tb, on, cfg.DBName)
	execute(tb, on, "USE "+cfg.DBName)
	return prepare(tb, on, cfg)
}

// prepare makes an earlier test's database like a new one, migrated and empty. Tables that the test adds go with it.
func prepare(tb testing.TB, on *sqlx.DB, cfg *mysql.Config) (address string) {
	tb.Helper()
	address = "mysql://" + cfg.FormatDSN()
	empty(tb, on)
	if err := migrate(tb.Context(), address); err != nil {
		tb.Fatal(err)
	}
	before := tables(tb, on)
	tb.Cleanup(func() {
		for _, table := range tables(tb, on) {
			if !slices.Contains(before, table) {
				execute(tb, on, "DROP TABLE "+table)
			}
		}
	})
	return address
}

// reusable are the databases on Vitess that this process has made and that no test has at the moment.
var reusable struct {
	mu    sync.Mutex // guards names
	names []string
}

// reuse gives the test one of them, emptied, or makes one more.
func reuse(tb testing.TB, cfg *mysql.Config) string {
	tb.Helper()
	reusable.mu.Lock()
	if n := len(reusable.names); n > 0 {
		cfg.DBName, reusable.names = reusable.names[n-1], reusable.names[:n-1]
	}
	reusable.mu.Unlock()
	if cfg.DBName == "" {
		create(tb, connect(tb, cfg), cfg)
	}
	tb.Cleanup(func() {
		reusable.mu.Lock()
		defer reusable.mu.Unlock()
		reusable.names = append(reusable.names, cfg.DBName)
	})
	return prepare(tb, connect(tb, cfg), cfg)
}

// schema tells one list of migrations from another.
var schema = sync.OnceValue(func() string {
	hash := sha256.New()
	files, err := fs.Glob(migrations.FS, "mysql/*.sql")
	for _, file := range files {
		text, readErr := fs.ReadFile(migrations.FS, file)
		err = errors.Join(err, readErr)
		_, _ = fmt.Fprintln(hash, file, len(text), string(text))
	}
	if err != nil {
		panic(err)
	}
	return fmt.Sprintf("%x", hash.Sum(nil)[:4])
})

// disconnect ends what an earlier test's killed processes may still have asked for.
func disconnect(tb testing.TB, on *sqlx.DB, name string) {
	tb.Helper()
	for {
		clients, err := clientsOf(tb.Context(), on, name)
		if err != nil {
			tb.Fatalf("look for clients of %s: %v", name, err)
		}
		if len(clients) == 0 {
			return
		}
		for _, client := range clients {
			_, _ = on.ExecContext(tb.Context(), fmt.Sprint("KILL ", client)) // which fails for one that has gone by now
		}
	}
}

// clientsOf has the ids of the database's connections. Not from information_schema.processlist: MySQL 9 refuses to read
// that while any connection's statement has bytes that are no text, as device tokens are.
func clientsOf(ctx context.Context, on *sqlx.DB, name string) (ids []int64, err error) {
	var all []struct {
		ID       int64          `db:"Id"`
		Database sql.NullString `db:"db"`
	}
	err = on.Unsafe().SelectContext(ctx, &all, "SHOW PROCESSLIST") // which has more columns
	for _, client := range all {
		if client.Database.String == name {
			ids = append(ids, client.ID)
		}
	}
	return ids, err
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

// borrow waits for one of the databases that there are, and empties it.
func borrow(tb testing.TB, cfg *mysql.Config) (address string) {
	tb.Helper()
	cfg.DBName = <-free()
	tb.Cleanup(func() { free() <- cfg.DBName })
	empty(tb, connect(tb, cfg))
	return "mysql://" + cfg.FormatDSN()
}

func tables(tb testing.TB, on *sqlx.DB) (names []string) {
	tb.Helper()
	if err := on.SelectContext(context.WithoutCancel(tb.Context()), &names, "SHOW TABLES"); err != nil {
		tb.Fatalf("look for tables: %v", err)
	}
	return names
}

// empty leaves in the tables what migrations put there.
func empty(tb testing.TB, on *sqlx.DB) {
	tb.Helper()
	names := tables(tb, on)
	if len(names) > 0 { // those that are elsewhere, and are found by a rule of Vitess alone
		for _, table := range []string{"device_tokens", "device_token_index", "token_usage"} {
			if !slices.Contains(names, table) {
				names = append(names, table)
			}
		}
	}
	for _, table := range names {
		switch table {
		case "schema_versions", "schema_lock":
		case "shards":
			execute(tb, on, "UPDATE shards SET owner = '', epoch = 0, writes = 0")
		case "app_changes":
			execute(tb, on, "UPDATE app_changes SET version = 1")
		default:
			emptyTable(tb, on, table)
		}
	}
}

// emptyTable deletes what is in the table. One statement deletes at most 10,000 rows on Vitess; to truncate takes
// longer.
func emptyTable(tb testing.TB, on *sqlx.DB, table string) {
	tb.Helper()
	var rows int
	if err := on.GetContext(tb.Context(), &rows, "SELECT COUNT(*) FROM "+table); err != nil {
		tb.Fatalf("count the rows of %s: %v", table, err)
	}
	switch {
	case rows == 0:
	case rows > 10_000:
		execute(tb, on, "TRUNCATE TABLE "+table)
	default:
		execute(tb, on, "DELETE FROM "+table)
	}
}
