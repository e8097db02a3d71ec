package database

import (
	"context"
	"database/sql/driver"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// tidb is a connection to a server that takes MySQL's limit of a statement's time and MariaDB's, and keeps to MySQL's
// alone.
type tidb struct {
	driver.Conn // of which nothing is called
	executed    []string
}

func (c *tidb) Connect(context.Context) (driver.Conn, error) { return c, nil }
func (c *tidb) Driver() driver.Driver                        { return nil }
func (c *tidb) ExecContext(_ context.Context, query string, _ []driver.NamedValue) (driver.Result, error) {
	c.executed = append(c.executed, query)
	return driver.ResultNoRows, nil
}

func (c *tidb) QueryContext(_ context.Context, query string, _ []driver.NamedValue) (driver.Rows, error) {
	return &variables{left: strings.Count(query, "'tidb_txn_mode'")}, nil
}

// variables are the rows of SHOW GLOBAL VARIABLES.
type variables struct{ left int }

func (*variables) Columns() []string { return []string{"Variable_name", "Value"} }
func (*variables) Close() error      { return nil }
func (v *variables) Next(row []driver.Value) error {
	if v.left == 0 {
		return io.EOF
	}
	v.left--
	row[0], row[1] = "tidb_txn_mode", "pessimistic"
	return nil
}

func TestTiDBHasALimitThatItKeepsTo(t *testing.T) {
	t.Parallel()
	server := &tidb{}
	var several atomic.Bool
	c := sessionConnector{Connector: server, limit: 1500 * time.Millisecond, severalWriters: &several}
	if _, err := c.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	if want := "SET SESSION max_execution_time = 1500"; server.executed[len(server.executed)-1] != want {
		t.Errorf("the last of %q is not %q", server.executed, want)
	}
	if slices.ContainsFunc(server.executed, func(s string) bool { return strings.Contains(s, "max_statement_time") }) {
		t.Errorf("it was given MariaDB's limit, which it ignores: %q", server.executed)
	}
	if !several.Load() {
		t.Error("it was not noticed that others write beside it")
	}
}
