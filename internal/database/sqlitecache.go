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
	conn, ok := opened.(sqlConn)
	if !ok {
		return opened, nil
	}
	return &keepingConn{sqlConn: conn, kept: map[string]*list.Element{}, recent: list.New()}, nil
}

// sqlConn is what database/sql uses of a connection.
type sqlConn interface {
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
	sqlConn
	kept   map[string]*list.Element
	recent *list.List // of *keptStatement, the one used last in front
}

type keptStatement struct {
	query string
	stmt  driver.Stmt
	// reading says that rows are being read from it, and forgotten that it is to be closed after that.
	reading, forgotten bool
}

// usable is the statement, if it can be run now.
func (k *keptStatement) usable() driver.Stmt {
	if k == nil || k.reading {
		return nil
	}
	return k.stmt
}

// ExecContext implements driver.ExecerContext. A statement with arguments, which is one of a store's and short, is run
// to its end: for one that can be interrupted the driver starts a goroutine.
func (c *keepingConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	kept, err := c.prepared(ctx, query)
	if err != nil {
		return nil, err
	}
	execer, ok := kept.usable().(driver.StmtExecContext)
	if !ok {
		return c.sqlConn.ExecContext(ctx, query, args)
	}
	if len(args) > 0 {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		ctx = context.WithoutCancel(ctx)
	}
	return execer.ExecContext(ctx, args)
}

// BeginTx implements driver.ConnBeginTx, with the driver's text. There is one connection that writes, so that neither
// the begin nor the commit waits for another.
func (c *keepingConn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	if opts.ReadOnly {
		return c.sqlConn.BeginTx(ctx, opts)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return (*keptTx)(c), (*keptTx)(c).run("BEGIN IMMEDIATE")
}

// keptTx is the transaction that is under way.
type keptTx keepingConn

func (t *keptTx) run(statement string) error {
	_, err := (*keepingConn)(t).ExecContext(context.Background(), statement, nil)
	return err
}

// Commit implements driver.Tx. After one that failed, as on a full disk, the transaction may be open still.
func (t *keptTx) Commit() error {
	err := t.run("COMMIT")
	if err != nil {
		_ = t.run("ROLLBACK") // it fails where none is open
	}
	return err
}

// Rollback implements driver.Tx.
func (t *keptTx) Rollback() error { return t.run("ROLLBACK") }

// QueryContext implements driver.QueryerContext.
func (c *keepingConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	kept, err := c.prepared(ctx, query)
	if err != nil {
		return nil, err
	}
	queryer, ok := kept.usable().(driver.StmtQueryContext)
	if !ok {
		return c.sqlConn.QueryContext(ctx, query, args)
	}
	rows, err := queryer.QueryContext(ctx, args)
	if err != nil {
		return nil, err
	}
	kept.reading = true
	return &keptResult{rows, kept}, nil
}

// keptResult is the rows of a kept statement.
type keptResult struct {
	driver.Rows
	of *keptStatement
}

// Close implements driver.Rows.
func (r *keptResult) Close() error {
	err := r.Rows.Close()
	r.of.reading = false
	if r.of.forgotten {
		r.of.forgotten = false
		_ = r.of.stmt.Close()
	}
	return err
}

// prepared is the kept statement; nil where the text is too long to be kept.
func (c *keepingConn) prepared(ctx context.Context, query string) (*keptStatement, error) {
	if e := c.kept[query]; e != nil {
		c.recent.MoveToFront(e)
		return e.Value.(*keptStatement), nil
	}
	if len(query) > keptLength {
		return nil, nil //nolint:nilnil // see above
	}
	stmt, err := c.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	kept := &keptStatement{query: query, stmt: stmt}
	c.kept[query] = c.recent.PushFront(kept)
	if c.recent.Len() > keptStatements {
		c.forget(c.recent.Back())
	}
	return kept, nil
}

func (c *keepingConn) forget(e *list.Element) {
	kept := c.recent.Remove(e).(*keptStatement)
	delete(c.kept, kept.query)
	if kept.forgotten = kept.reading; !kept.forgotten {
		_ = kept.stmt.Close()
	}
}

// Close implements driver.Conn.
func (c *keepingConn) Close() error {
	for c.recent.Len() > 0 {
		c.forget(c.recent.Back())
	}
	return c.sqlConn.Close()
}
