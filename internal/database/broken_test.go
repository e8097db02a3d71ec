package database_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/jmoiron/sqlx"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/database/dbtest"
	"github.com/lhspn/lhspn/internal/push"
)

// faults is a network to the server that breaks a connection at the write that holds a word.
type faults struct {
	word   []byte
	before bool // the server does not get that write; else it does, and its answer is lost
	// hang, where not nil, holds the write up until it is closed, in place of breaking the connection.
	hang chan struct{}
	// hangs, where not nil, is called when a write begins to hang.
	hangs func()
	left  atomic.Int32
}

type faultyConn struct {
	net.Conn
	faults *faults
}

func (c *faultyConn) Write(b []byte) (int, error) {
	if bytes.Contains(b, c.faults.word) && c.faults.left.Add(-1) >= 0 {
		if c.faults.hang != nil {
			if c.faults.hangs != nil {
				c.faults.hangs()
			}
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
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	f.hangs = cancel // however long it took to come so far
	f.left.Store(1)
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
