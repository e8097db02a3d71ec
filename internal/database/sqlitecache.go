package database

import (
	"container/list"
	"context"
	"database/sql/driver"
)

// SQLite parses a statement each time it is given as a text, which for a multi-row INSERT takes longer than running it.
// So the one connection that writes keeps the statements that it has executed lately.

const (
	keptStatements = 128
	keptLength     = 16 << 10 // of a text, in bytes: few rows of many are as long
)

// keepingConnector opens connections that keep their statements.
type keepingConnector struct{ driver.Connector }

// Connect implements driver.Connector.
func (c keepingConnector) Connect(ctx context.Context) (driver.Conn, error) {
	opened, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	conn, ok := opened.(sqliteConn)
	if !ok {
		return opened, nil
	}
	return &keepingConn{sqliteConn: conn, kept: map[string]*list.Element{}, recent: list.New()}, nil
}

// sqliteConn is what database/sql uses of a connection.
type sqliteConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
	driver.Pinger
	driver.SessionResetter
	driver.Validator
}

type keepingConn struct {
	sqliteConn
	kept   map[string]*list.Element
	recent *list.List // of *keptStatement, the one used last in front
}

type keptStatement struct {
	query string
	stmt  driver.Stmt
}

// ExecContext implements driver.ExecerContext.
func (c *keepingConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if len(query) > keptLength {
		return c.sqliteConn.ExecContext(ctx, query, args)
	}
	stmt, err := c.prepared(ctx, query)
	if err != nil {
		return nil, err
	}
	execer, ok := stmt.(driver.StmtExecContext)
	if !ok {
		return c.sqliteConn.ExecContext(ctx, query, args)
	}
	return execer.ExecContext(ctx, args)
}

func (c *keepingConn) prepared(ctx context.Context, query string) (driver.Stmt, error) {
	if e := c.kept[query]; e != nil {
		c.recent.MoveToFront(e)
		return e.Value.(*keptStatement).stmt, nil
	}
	stmt, err := c.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	c.kept[query] = c.recent.PushFront(&keptStatement{query, stmt})
	if c.recent.Len() > keptStatements {
		c.forget(c.recent.Back())
	}
	return stmt, nil
}

func (c *keepingConn) forget(e *list.Element) {
	kept := c.recent.Remove(e).(*keptStatement)
	delete(c.kept, kept.query)
	_ = kept.stmt.Close()
}

// Close implements driver.Conn.
func (c *keepingConn) Close() error {
	for c.recent.Len() > 0 {
		c.forget(c.recent.Back())
	}
	return c.sqliteConn.Close()
}
