package database

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"

	"github.com/jmoiron/sqlx"
)

// On MySQL every statement of a transaction, its begin and its commit are a round trip each, which take longer than
// what a short statement does. An Insert's result is nobody's business, so that it can go along with the next of them.

type (
	togetherKey struct{}
	laterKey    struct{}
)

// Together has Tx send to MySQL in one what goes together: the begin, each Insert, and what is executed or queried
// after them, or the commit. That an Insert failed is known with what it was sent with. On SQLite it changes nothing,
// nor where SeveralWriters: a node of Galera that rolls a transaction back for another node's, between two statements
// that were sent together, goes on with the second one by itself and commits that.
func Together(ctx context.Context) context.Context {
	return context.WithValue(ctx, togetherKey{}, true)
}

func isTogether(ctx context.Context) bool {
	together, _ := ctx.Value(togetherKey{}).(bool)
	return together
}

func oneByOne(ctx context.Context) context.Context {
	return context.WithValue(ctx, togetherKey{}, false)
}

// later is for what may be sent together with what follows.
func later(ctx context.Context) context.Context { return context.WithValue(ctx, laterKey{}, true) }

// notUnderstood are the numbers of a server that does not take several statements at once, as its parser says it.
var notUnderstood = map[uint16]bool{1064: true, 1149: true, 1235: true, mysqlUnknown: true}

// apart runs a transaction statement by statement that was refused when its statements were sent together: then it
// shows which of them, and what that means.
func (db *DB) apart(ctx context.Context, fn func(ctx context.Context, tx *sqlx.Tx) error, refused error) error {
	err := db.Tx(oneByOne(ctx), fn)
	switch {
	case err == nil && notUnderstood[mysqlCode(refused)]:
		db.noneTogether.Store(true)
	case IsDuplicate(err): // with its own row, if what was refused is a commit that happened all the same
		return fmt.Errorf("%w: %w: %w", ErrCommitUnknown, refused, err)
	}
	return err
}

// mysqlConn is what database/sql uses of a connection to MySQL.
type mysqlConn interface {
	sqlConn
	driver.NamedValueChecker
}

// errApart says that the driver does not take what is sent together. There is no such case: what waits is short enough
// for every server (see insertBytes), and has a value for each place.
var errApart = errors.New("statements that cannot be sent together")

// togetherConn is a connection of which a transaction may be sent together.
type togetherConn struct {
	mysqlConn
	open  bool // such a transaction is under way
	sent  bool // a part of it was sent
	text  strings.Builder
	args  []driver.NamedValue
	bytes int // of the text with its arguments, about
}

// BeginTx implements driver.ConnBeginTx.
func (c *togetherConn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	if !isTogether(ctx) {
		return c.mysqlConn.BeginTx(ctx, opts)
	}
	c.forget()
	c.open = true
	c.text.WriteString("START TRANSACTION")
	return (*togetherTx)(c), nil
}

func (c *togetherConn) forget() {
	clear(c.args)
	c.open, c.sent, c.args, c.bytes = false, false, c.args[:0], 0
	c.text.Reset()
}

// add has the statement wait.
func (c *togetherConn) add(query string, args []driver.NamedValue, bytes int) {
	if c.text.Len() > 0 {
		c.text.WriteByte(';')
	}
	c.text.WriteString(query)
	c.args = append(c.args, args...)
	c.bytes += bytes
}

// send sends what waits, and what it gives is of the last statement.
func (c *togetherConn) send(ctx context.Context) (driver.Result, error) {
	if c.text.Len() == 0 {
		return driver.ResultNoRows, nil
	}
	c.sent = true
	result, err := c.mysqlConn.ExecContext(ctx, c.text.String(), c.args)
	if errors.Is(err, driver.ErrSkip) { // for which database/sql would prepare the last statement, without the others
		err = errApart
	}
	clear(c.args)
	c.args, c.bytes = c.args[:0], 0
	c.text.Reset()
	return result, err
}

// ExecContext implements driver.ExecerContext.
func (c *togetherConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if !c.open {
		return c.mysqlConn.ExecContext(ctx, query, args)
	}
	bytes := len(query)
	for i := range args {
		bytes += argBytes(args[i].Value)
	}
	if c.bytes+bytes > insertBytes {
		if _, err := c.send(ctx); err != nil {
			return nil, err
		}
	}
	if bytes > insertBytes { // the driver may have to send it in another way
		return c.mysqlConn.ExecContext(ctx, query, args)
	}
	c.add(query, args, bytes)
	if ctx.Value(laterKey{}) != nil {
		return driver.ResultNoRows, nil
	}
	return c.send(ctx)
}

// QueryContext implements driver.QueryerContext.
func (c *togetherConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	if _, err := c.send(ctx); err != nil {
		return nil, err
	}
	return c.mysqlConn.QueryContext(ctx, query, args)
}

// PrepareContext implements driver.ConnPrepareContext.
func (c *togetherConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	if _, err := c.send(ctx); err != nil {
		return nil, err
	}
	return c.mysqlConn.PrepareContext(ctx, query)
}

// togetherTx is the transaction that is under way.
type togetherTx togetherConn

// Commit implements driver.Tx. Where the server refuses something it leaves no transaction open.
func (t *togetherTx) Commit() error {
	c := (*togetherConn)(t)
	defer c.forget()
	c.add("COMMIT", nil, 0)
	_, err := c.send(context.Background()) // as a commit by itself: no context cuts it off
	if mysqlCode(err) != 0 {
		if _, undo := c.mysqlConn.ExecContext(context.Background(), "ROLLBACK", nil); undo != nil {
			err = errors.Join(err, c.Close())
		}
	}
	return err
}

// Rollback implements driver.Tx.
func (t *togetherTx) Rollback() error {
	c := (*togetherConn)(t)
	defer c.forget()
	if !c.sent {
		return nil
	}
	_, err := c.mysqlConn.ExecContext(context.Background(), "ROLLBACK", nil)
	return err
}
