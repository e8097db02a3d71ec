package database

import (
	"context"
	"database/sql/driver"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/go-sql-driver/mysql"
)

// sessionConnector sets up each new connection: READ COMMITTED for all of its transactions, which spares each of them a
// statement, and a limit on how long the server runs one statement. A cancelled context makes the driver drop the
// connection, and the server does not notice: without the limit a statement that nobody waits for any more would run
// on, holding its locks.
type sessionConnector struct {
	driver.Connector
	limit time.Duration // 0: none
	// dialect is which of limitStatements the server understood last. It is only a hint: behind one address there may
	// be servers of several kinds.
	dialect atomic.Int32
	// severalWriters is set once a server has said that others write the same rows beside it.
	severalWriters *atomic.Bool
}

// limitStatements are the two ways to say it. MariaDB counts seconds and limits every statement. MySQL and TiDB count
// milliseconds and limit SELECT alone; there, what writes is bounded by innodb_lock_wait_timeout and by being small.
// MySQL's comes first: TiDB takes MariaDB's, too, and ignores it.
var limitStatements = [...]func(time.Duration) string{
	func(d time.Duration) string {
		return "SET SESSION max_execution_time = " + strconv.FormatInt(d.Milliseconds(), 10)
	},
	func(d time.Duration) string {
		return "SET SESSION max_statement_time = " + strconv.FormatFloat(d.Seconds(), 'f', 3, 64)
	},
}

// Connect implements driver.Connector.
func (c *sessionConnector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	execer, ok := conn.(driver.ExecerContext)
	if !ok {
		return conn, nil
	}
	if _, err := execer.ExecContext(ctx, "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED", nil); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("set the isolation level: %w", err)
	}
	if !c.severalWriters.Load() {
		several, err := hasSeveralWriters(ctx, conn)
		if err != nil && mysqlCode(err) == 0 {
			_ = conn.Close()
			return nil, fmt.Errorf("ask what server it is: %w", err)
		}
		if several {
			c.severalWriters.Store(true)
		}
	}
	if c.limit == 0 {
		return conn, nil
	}
	if err := c.limitTime(ctx, execer); err != nil {
		_ = conn.Close()
		return nil, err
	}
	if whole, ok := conn.(mysqlConn); ok {
		return &togetherConn{mysqlConn: whole}, nil
	}
	return conn, nil
}

// limitTime tries the ways to limit the statements' time. A server that knows neither is used without a limit.
func (c *sessionConnector) limitTime(ctx context.Context, execer driver.ExecerContext) error {
	first := c.dialect.Load()
	for i := range int32(len(limitStatements)) {
		dialect := (first + i) % int32(len(limitStatements))
		_, err := execer.ExecContext(ctx, limitStatements[dialect](c.limit), nil)
		if err == nil {
			c.dialect.Store(dialect)
			return nil
		}
		if mysqlCode(err) == 0 { // not the server's answer: the connection broke
			return fmt.Errorf("limit the statements' time: %w", err)
		}
	}
	return nil
}

// hasSeveralWriters asks for the variables of Galera, of group replication with several primaries, and of TiDB.
func hasSeveralWriters(ctx context.Context, conn driver.Conn) (bool, error) {
	queryer, ok := conn.(driver.QueryerContext)
	if !ok {
		return false, nil
	}
	rows, err := queryer.QueryContext(ctx, "SHOW GLOBAL VARIABLES WHERE Variable_name = 'wsrep_on' AND Value = 'ON'"+
		" OR Variable_name = 'group_replication_single_primary_mode' AND Value = 'OFF' OR Variable_name = 'tidb_txn_mode'",
		nil)
	if err != nil {
		return false, err
	}
	several := rows.Next(make([]driver.Value, len(rows.Columns()))) == nil
	return several, rows.Close()
}

func newConnector(cfg *mysql.Config, limit time.Duration, severalWriters *atomic.Bool) (driver.Connector, error) {
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, err
	}
	return &sessionConnector{Connector: connector, limit: limit, severalWriters: severalWriters}, nil
}
