package database_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/database/dbtest"
	"github.com/lhspn/lhspn/internal/push"
)

// The server's own defaults must not matter, and an address can still say otherwise.
func TestSessionVariables(t *testing.T) {
	t.Parallel()
	address := dbtest.MySQLAddress(t)
	for options, want := range map[string]string{
		"":                             "+00:00 STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION 5",
		"sql_mode=%27ANSI%5FQUOTES%27": "+00:00 ANSI_QUOTES 5",
	} {
		separator := "?"
		if strings.Contains(address, "?") {
			separator = "&"
		}
		if options != "" {
			dbtest.NotOnVitess(t, dbtest.Open(t, address), "it takes no ANSI_QUOTES")
		}
		db := dbtest.Open(t, address+separator+options)
		var got string
		if err := db.Reader().Get(&got, "SELECT CONCAT_WS(' ', @@time_zone, @@sql_mode, @@innodb_lock_wait_timeout)"); err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Errorf("%q: %s, want %s", options, got, want)
		}
		// The variable has two names, of which each server has at least one.
		var levels []struct {
			Name  string `db:"Variable_name"`
			Value string `db:"Value"`
		}
		err := db.Reader().Select(&levels, "SHOW SESSION VARIABLES WHERE Variable_name IN ('tx_isolation', 'transaction_isolation')")
		if err != nil || len(levels) == 0 || levels[0].Value != "READ-COMMITTED" {
			t.Errorf("%q: %v, %v", options, levels, err)
		}
	}
}

func TestStatementLimit(t *testing.T) {
	t.Parallel()
	db, err := database.Open(t.Context(), dbtest.MySQLAddress(t), database.Options{StatementLimit: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var n int
	err = db.Reader().GetContext(t.Context(), &n, "SELECT COUNT(*) FROM information_schema.tables a WHERE SLEEP(0.2) = 0")
	if !errors.Is(database.MarkUnavailable(err), push.ErrUnavailable) {
		t.Errorf("a statement beyond the limit: %v", err)
	}
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	for address, good := range map[string]bool{
		"mysql://u:secret@tcp(127.0.0.1:3306)/lhspn":         true,
		"mysql://u:secret@tcp(127.0.0.1:3306)/lhspn?tls=yes": false,
		"mysql://u:secret@tcp(127.0.0.1:3306)/":              false,
		"mysql://u:secret@127.0.0.1:3306/lhspn":              false,
		"mysql://u:secret/lhspn":                             false,
		"mysql://u:secret/more@tcp(127.0.0.1:3306)":          false,
		"mysql://u:a/secret?b@tcp(127.0.0.1:3306)":           false,
		"mysql://secret/lhspn?tls=yes":                       false,
		"sqlite:./data/lhspn.db":                             true,
		"sqlite:":                                            false,
		"postgres://u:secret@host/db":                        false,
		"":                                                   false,
	} {
		err := database.CheckAddress(address)
		if (err == nil) != good {
			t.Errorf("%s: %v", address, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("the error tells the password: %v", err)
		}
		if !good {
			if db, err := database.Open(t.Context(), address, database.Options{}); err == nil {
				t.Errorf("%s: opened", address)
				db.Close()
			}
		}
	}
}

func TestSQLiteIsForOneProcess(t *testing.T) {
	t.Parallel()
	address := "sqlite:" + filepath.Join(t.TempDir(), "deep", "a b?c%.db")
	db, err := database.Open(t.Context(), address, database.Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = database.Open(t.Context(), address, database.Options{})
	if err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("opened twice: %v", err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if db, err = database.Open(t.Context(), address, database.Options{}); err != nil {
		t.Fatalf("after the first was closed: %v", err)
	}
	db.Close()
}

// No commit but those that outrun it by far copies the log into the file: that is done beside them.
func TestTheLogIsCopiedBesideTheWriter(t *testing.T) {
	t.Parallel()
	db := dbtest.SQLite(t)
	var atCommit int
	err := db.Tx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
		return tx.GetContext(ctx, &atCommit, "PRAGMA wal_autocheckpoint")
	})
	if err != nil || atCommit < 10_000 {
		t.Fatalf("a commit copies %d pages, %v", atCommit, err)
	}
	err = db.Tx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
		_, err := tx.ExecContext(ctx, "CREATE TABLE long (page BLOB)")
		if err == nil {
			_, err = tx.ExecContext(ctx, `WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)
				INSERT INTO long SELECT zeroblob(4000) FROM n`)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for {
		var busy, log, copied int
		row := db.Reader().QueryRowContext(t.Context(), "PRAGMA wal_checkpoint(NOOP)")
		if err := row.Scan(&busy, &log, &copied); err != nil {
			t.Fatal(err)
		}
		if log > 5000 && log == copied {
			return
		}
		runtime.Gosched() // until it is, or the test's time is up
	}
}

func TestSQLiteSettings(t *testing.T) {
	t.Parallel()
	db := dbtest.SQLite(t)
	want := map[string]string{"journal_mode": "wal", "synchronous": "2", "busy_timeout": "5000"}
	for pragma, value := range want {
		var read, write string
		err := db.Tx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error { return tx.GetContext(ctx, &write, "PRAGMA "+pragma) })
		if err = errors.Join(err, db.Reader().Get(&read, "PRAGMA "+pragma)); err != nil || read != value || write != value {
			t.Errorf("%s: %s to write, %s to read, %v", pragma, write, read, err)
		}
	}
	if _, err := db.Reader().Exec("DELETE FROM shards"); err == nil {
		t.Error("a reader can write")
	}
	// A reader sees what was committed before it began, while a transaction is open, and waits for nobody.
	err := db.Tx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
		if _, err := tx.ExecContext(ctx, "DELETE FROM shards"); err != nil {
			return err
		}
		var n int
		if err := db.Reader().GetContext(ctx, &n, "SELECT COUNT(*) FROM shards"); err != nil || n != 64 {
			t.Errorf("%d shards, %v", n, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var n int
	if err := db.Reader().Get(&n, "SELECT COUNT(*) FROM shards"); err != nil || n != 0 {
		t.Errorf("%d shards, %v", n, err)
	}
}

// A copy that somebody has put in place is for nobody else to read either, nor are the files beside it.
func TestSQLiteIsForNobodyElse(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lhspn.db")
	for _, file := range []string{path, path + "-wal"} { // as sqlite3 .backup does
		if err := os.WriteFile(file, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	db, err := database.Open(t.Context(), "sqlite:"+path, database.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, file := range []string{path, path + "-wal"} {
		info, err := os.Stat(file)
		if err != nil {
			t.Error(err)
		} else if info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v", file, info.Mode())
		}
	}
}
