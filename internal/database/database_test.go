package database_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jmoiron/sqlx"
	"golang.org/x/sync/errgroup"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/database/dbtest"
	"github.com/lhspn/lhspn/internal/push"
)

func makeTable(t *testing.T, db *database.DB) {
	t.Helper()
	execute(t, db, "CREATE TABLE things (id INTEGER NOT NULL, n INTEGER NOT NULL, m INTEGER NOT NULL, at "+
		map[database.Dialect]string{database.MySQL: "DATETIME(6)", database.SQLite: "TEXT"}[db.Dialect]+" NULL, PRIMARY KEY (id))")
}

func execute(t *testing.T, db *database.DB, query string, args ...any) {
	t.Helper()
	err := db.Tx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
		_, err := tx.ExecContext(ctx, query, args...)
		return err
	})
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

func things(t *testing.T, db *database.DB) string {
	t.Helper()
	var rows []struct{ ID, N, M int }
	if err := db.Reader().Select(&rows, "SELECT id, n, m FROM things ORDER BY id"); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(rows)
}

func TestUpsert(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		makeTable(t, db)
		insert := "INSERT INTO things (id, n, m) VALUES (?, ?, ?), (?, ?, ?)"
		execute(t, db, insert, 1, 10, 100, 2, 20, 200)
		execute(t, db, insert+db.Dialect.Upsert("id", "n"), 2, 21, 201, 3, 30, 300)
		execute(t, db, insert+db.Dialect.Upsert("id"), 3, 31, 301, 4, 40, 400)
		if got, want := things(t, db), "[{1 10 100} {2 21 200} {3 30 300} {4 40 400}]"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
}

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

func TestDuplicateKey(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		makeTable(t, db)
		calls := 0
		err := db.Tx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
			calls++
			_, err := tx.ExecContext(ctx, "INSERT INTO things (id, n, m) VALUES (1, 1, 1), (1, 2, 2)")
			return err
		})
		if !database.IsDuplicate(err) || database.IsDeadlock(err) || errors.Is(err, push.ErrUnavailable) || calls != 1 {
			t.Errorf("after %d calls: %v", calls, err)
		}
		if database.IsDuplicate(errors.New("other")) || database.IsDuplicate(nil) {
			t.Error("IsDuplicate of another error")
		}
	})
}

func TestTimeComesBackAsItWent(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		makeTable(t, db)
		at := time.Date(2026, 3, 29, 2, 30, 0, 123456000, time.FixedZone("", 7200))
		execute(t, db, "INSERT INTO things (id, n, m, at) VALUES (1, 0, 0, ?), (2, 0, 0, ?)", database.Time{Time: at}, database.Time{})
		var got []database.Time
		if err := db.Reader().Select(&got, "SELECT at FROM things ORDER BY id"); err != nil {
			t.Fatal(err)
		}
		if !got[0].Equal(at) || got[0].Location() != time.UTC || !got[1].IsZero() {
			t.Errorf("got %v", got)
		}
		var n int
		if err := db.Reader().Get(&n, "SELECT COUNT(*) FROM things WHERE at <= ?", database.Time{Time: at}); err != nil || n != 1 {
			t.Errorf("compared equal: %d, %v", n, err)
		}
	})
}

func TestTxRollsBack(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		makeTable(t, db)
		oops := errors.New("oops")
		ctx, cancel := context.WithCancel(t.Context())
		for name, fail := range map[string]func() error{"error": func() error { return oops }, "cancel": func() error { cancel(); return nil }} {
			err := db.Tx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
				if _, err := tx.ExecContext(ctx, "INSERT INTO things (id, n, m) VALUES (1, 1, 1)"); err != nil {
					return err
				}
				return fail()
			})
			if err == nil || errors.Is(err, database.ErrCommitUnknown) {
				t.Errorf("%s: %v", name, err)
			}
			if got := things(t, db); got != "[]" {
				t.Errorf("%s: left %s", name, got)
			}
			ctx, cancel = context.WithCancel(t.Context())
		}
		cancel()
	})
}

// Transactions that lock two rows in either order deadlock; each is repeated until it has counted.
func TestTxRepeatsAfterDeadlock(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		makeTable(t, db)
		execute(t, db, "INSERT INTO things (id, n, m) VALUES (1, 0, 0), (2, 0, 0)")
		var calls atomic.Int32
		var g errgroup.Group
		var bothHold sync.WaitGroup
		bothHold.Add(2)
		for i := range 2 {
			first := true
			g.Go(func() error {
				return db.Tx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
					calls.Add(1)
					if _, err := tx.ExecContext(ctx, "UPDATE things SET n = n + 1 WHERE id = ?", 1+i); err != nil {
						return err
					}
					if first && db.Dialect == database.MySQL { // SQLite lets one in at a time
						first = false
						bothHold.Done()
						bothHold.Wait()
					}
					_, err := tx.ExecContext(ctx, "UPDATE things SET n = n + 1 WHERE id = ?", 2-i)
					return err
				})
			})
		}
		if err := g.Wait(); err != nil {
			t.Fatal(err)
		}
		if got, want := things(t, db), "[{1 2 0} {2 2 0}]"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if db.Dialect == database.MySQL && calls.Load() != 3 {
			t.Errorf("%d calls; the deadlock did not come about", calls.Load())
		}
	})
}

func TestTxGivesUpAfterManyRaces(t *testing.T) {
	t.Parallel()
	db := dbtest.SQLite(t)
	calls := 0
	err := db.Tx(t.Context(), func(context.Context, *sqlx.Tx) error {
		calls++
		return &mysql.MySQLError{Number: 1213}
	})
	if !errors.Is(err, push.ErrUnavailable) || calls != 10 {
		t.Errorf("after %d calls: %v", calls, err)
	}
}

// What clusters answer with at a commit: one that lost a race is run again, one that the cluster cannot do now is not the
// caller's fault.
func TestClusterErrors(t *testing.T) {
	t.Parallel()
	for number, lostRace := range map[uint16]bool{
		1213: true,                                         // Galera: certification lost
		3101: true,                                         // group replication: certification lost
		8022: true,                                         // TiDB
		9007: true,                                         // TiDB
		1047: false,                                        // Galera: no majority
		1180: false,                                        // Galera: majority lost during the commit
		3100: false,                                        // group replication: no majority
		1290: false,                                        // group replication: not the primary
		1021: false,                                        // no room
		1114: false,                                        // no room, as InnoDB says it
		8005: true,                                         // TiDB
		1158: false, 1159: false, 1160: false, 1161: false, // the network
		2003: false, 2006: false, 2013: false, // a router's
		3168: false, 3796: false, 3797: false, 3798: false, // group replication
	} {
		err := fmt.Errorf("commit: %w", &mysql.MySQLError{Number: number})
		if database.IsDeadlock(err) != lostRace {
			t.Errorf("%d: taken for a lost race: %v", number, !lostRace)
		}
		if !errors.Is(database.MarkUnavailable(err), push.ErrUnavailable) {
			t.Errorf("%d is not marked as unavailable", number)
		}
	}
}

// Vitess and TiDB have errors without a number of their own.
func TestErrorsWithoutANumber(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"target: lhspn.-80.primary: vttablet: rpc error: code = Unavailable desc = error reading from server": "away",
		"target: lhspn.-80.primary: Code: UNAVAILABLE":                                                        "away",
		"vttablet: Code(17): primary is not serving, there is a reparent operation in progress":               "away",
		"target: lhspn.80-.primary: no healthy tablet available":                                              "away",
		"VT15001: previously failed. rollback needed":                                                         "lost race",
		"PessimisticLockNotFound":                         "lost race",
		"Information schema is changed [try again later]": "lost race",
		"VT12001: unsupported: update of vindex column":   "fault",
	} {
		err := fmt.Errorf("commit: %w", &mysql.MySQLError{Number: 1105, Message: text})
		got := "fault"
		switch {
		case database.IsDeadlock(err):
			got = "lost race"
		case errors.Is(database.MarkUnavailable(err), push.ErrUnavailable):
			got = "away"
		}
		if got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
	for _, err := range []error{mysql.ErrPktTooLarge, &mysql.MySQLError{Number: 1153}} {
		if got := database.MarkUnavailable(err); !errors.Is(got, push.ErrTooLarge) || errors.Is(got, push.ErrUnavailable) {
			t.Errorf("%v: %v", err, got)
		}
	}
}

// faults is a network to the server that breaks a connection at the write that holds a word.
type faults struct {
	word   []byte
	before bool // the server does not get that write; else it does, and its answer is lost
	// hang, where not nil, holds the write up until it is closed, in place of breaking the connection.
	hang chan struct{}
	left atomic.Int32
}

type faultyConn struct {
	net.Conn
	faults *faults
}

func (c *faultyConn) Write(b []byte) (int, error) {
	if bytes.Contains(b, c.faults.word) && c.faults.left.Add(-1) >= 0 {
		if c.faults.hang != nil {
			<-c.faults.hang
			return c.Conn.Write(b)
		}
		if !c.faults.before {
			if n, err := c.Conn.Write(b); err != nil {
				return n, err
			}
			if _, err := c.Read(make([]byte, 1)); err != nil { // once the answer comes the server has done it
				return 0, err
			}
		}
		_ = c.Close()
	}
	return c.Conn.Write(b)
}

// through opens the database behind the address through f.
func through(t *testing.T, address string, f *faults) *database.DB {
	t.Helper()
	cfg, err := mysql.ParseDSN(strings.TrimPrefix(address, "mysql://"))
	if err != nil {
		t.Fatal(err)
	}
	network, name := cfg.Net, "faulty-"+t.Name()
	mysql.RegisterDialContext(name, func(ctx context.Context, addr string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		return &faultyConn{Conn: conn, faults: f}, err
	})
	t.Cleanup(func() { mysql.DeregisterDialContext(name) })
	cfg.Net = name
	return dbtest.Open(t, "mysql://"+cfg.FormatDSN())
}

func TestTxWhenTheConnectionBreaks(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, word string
		before     bool
		times      int32
		unknown    bool
		fails      bool
		persisted  bool
	}{
		{"statement not sent", "INSERT INTO things", true, 1, false, false, true},
		{"statement answer lost", "INSERT INTO things", false, 2, false, false, true},
		{"statement never", "INSERT INTO things", true, 100, false, true, false},
		{"commit not sent", "\x03COMMIT", true, 1, true, true, false},
		{"commit answer lost", "\x03COMMIT", false, 1, true, true, true},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			f := &faults{word: []byte(c.word), before: c.before}
			db := through(t, dbtest.MySQLAddress(t), f)
			makeTable(t, db)
			f.left.Store(c.times)
			err := db.Tx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
				_, err := tx.ExecContext(ctx, "INSERT INTO things (id, n, m) VALUES (1, 1, 1)")
				return err
			})
			f.left.Store(0)
			if (err != nil) != c.fails || errors.Is(err, database.ErrCommitUnknown) != c.unknown || (err != nil && !errors.Is(err, push.ErrUnavailable)) {
				t.Errorf("error %v", err)
			}
			if got := things(t, db); (got == "[{1 1 1}]") != c.persisted {
				t.Errorf("left %s", got)
			}
		})
	}
}

// A server without a majority, as of group replication, answers no commit for as long as that lasts.
func TestTxWhenTheCommitHangs(t *testing.T) {
	t.Parallel()
	f := &faults{word: []byte("\x03COMMIT"), hang: make(chan struct{})}
	db := through(t, dbtest.MySQLAddress(t), f)
	makeTable(t, db)
	f.left.Store(1)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := db.Tx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		_, err := tx.ExecContext(ctx, "INSERT INTO things (id, n, m) VALUES (1, 1, 1)")
		return err
	})
	if !errors.Is(err, database.ErrCommitUnknown) || !errors.Is(err, push.ErrUnavailable) {
		t.Errorf("error %v", err)
	}
	close(f.hang)
	// It may yet happen, or the end of its context rolls it back; either way its row is not locked for ever.
	if err := db.Tx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
		_, err := tx.ExecContext(ctx, "INSERT INTO things (id, n, m) VALUES (1, 2, 2) ON DUPLICATE KEY UPDATE n = n")
		return err
	}); err != nil {
		t.Error(err)
	}
}

func TestUnavailable(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	for name, address := range map[string]string{
		"refused": "mysql://u:p@tcp(" + closed.Addr().String() + ")/d",
		"silent":  "mysql://u:p@tcp(" + silent.Addr().String() + ")/d?timeout=100ms&readTimeout=100ms",
		"socket":  "mysql://u:p@unix(" + filepath.Join(t.TempDir(), "none") + ")/d",
	} {
		t.Run(name, func(t *testing.T) {
			db, err := database.Open(t.Context(), address, database.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			start := time.Now()
			_, migrated := database.Migrated(t.Context(), db)
			for what, err := range map[string]error{
				"Tx":       db.Tx(t.Context(), func(context.Context, *sqlx.Tx) error { return nil }),
				"Ping":     db.Ping(t.Context()),
				"Migrate":  database.Migrate(t.Context(), db, discard),
				"Migrated": migrated,
			} {
				if !errors.Is(err, push.ErrUnavailable) {
					t.Errorf("%s: %v", what, err)
				}
				if err != nil && strings.Contains(err.Error(), "u:p") {
					t.Errorf("%s tells the password: %v", what, err)
				}
			}
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("took %v", took)
			}
		})
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
