// Package database opens the service's database, MySQL (or MariaDB, or what speaks its protocol) or the embedded
// SQLite, runs transactions on it, migrates it, and tells a duplicate key or a deadlock by the driver's code.
//
// It knows no table: SQL on device tokens is in internal/tokens, SQL on notifications in internal/queue, SQL on
// events in internal/events and internal/webhooks.
package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jmoiron/sqlx"

	"github.com/lhspn/lhspn/internal/delay"
	"github.com/lhspn/lhspn/internal/push"
)

// Dialect is the engine's family. The stores' SQL is the same for both but for the clauses that Dialect writes.
type Dialect string

// The two dialects.
const (
	MySQL  Dialect = "mysql"
	SQLite Dialect = "sqlite"
)

// Upsert is the clause that ends an INSERT: where a row with the same key exists, the given columns take the inserted
// values and the others stay. With no columns the existing row stays as it is.
func (d Dialect) Upsert(key string, columns ...string) string {
	set := make([]string, len(columns))
	if d == SQLite {
		if len(columns) == 0 {
			return " ON CONFLICT DO NOTHING"
		}
		for i, c := range columns {
			set[i] = c + " = excluded." + c
		}
		return " ON CONFLICT (" + key + ") DO UPDATE SET " + strings.Join(set, ", ")
	}
	if len(columns) == 0 { // MySQL's INSERT IGNORE would hide other errors too
		last := key[strings.LastIndexAny(key, ", ")+1:] // not the first: Vitess changes no column that it shards by
		return " ON DUPLICATE KEY UPDATE " + last + " = " + last
	}
	for i, c := range columns {
		set[i] = c + " = VALUES(" + c + ")" // MariaDB has no AS new
	}
	return " ON DUPLICATE KEY UPDATE " + strings.Join(set, ", ")
}

// UpsertAdd is the clause that ends an INSERT: where a row with the same key exists, its columns grow by the inserted
// values.
func (d Dialect) UpsertAdd(key string, columns ...string) string {
	set := make([]string, len(columns))
	for i, c := range columns {
		set[i] = c + " = " + c + " + VALUES(" + c + ")"
		if d == SQLite {
			set[i] = c + " = " + c + " + excluded." + c
		}
	}
	if d == SQLite {
		return " ON CONFLICT (" + key + ") DO UPDATE SET " + strings.Join(set, ", ")
	}
	return " ON DUPLICATE KEY UPDATE " + strings.Join(set, ", ")
}

// ForUpdate ends a SELECT whose rows the transaction is about to change: it locks them until the transaction ends.
// SQLite, with its one writer, has them locked already.
func (d Dialect) ForUpdate() string {
	if d == SQLite {
		return ""
	}
	return " FOR UPDATE"
}

// DB is an open database.
type DB struct {
	Dialect Dialect
	// write runs transactions. SQLite has one connection here: it has one writer.
	write *sqlx.DB
	// read runs what only reads; on MySQL it is the same pool.
	read *sqlx.DB
	// maxIdle is how many connections wait for use.
	maxIdle int
	// mysql is how to open more connections to the same server.
	mysql          *mysql.Config
	severalWriters atomic.Bool
	// noneTogether is set where the server does not take several statements at once.
	noneTogether atomic.Bool
	checkpoints  *checkpointer // of SQLite
	// unlock gives up the exclusive use of an SQLite file.
	unlock func() error
}

// Reader is for statements that only read, outside a transaction.
func (db *DB) Reader() *sqlx.DB { return db.read }

// Close closes every connection.
func (db *DB) Close() error {
	var err error
	if db.checkpoints != nil {
		err = db.checkpoints.close()
	}
	err = errors.Join(err, db.write.Close())
	if db.read != db.write {
		err = errors.Join(err, db.read.Close())
	}
	if db.unlock != nil {
		err = errors.Join(err, db.unlock())
	}
	return err
}

// SeveralWriters reports whether the server is one of several that take writes and do not see each other's row locks.
// It is known within a transaction.
func (db *DB) SeveralWriters() bool { return db.severalWriters.Load() }

// minSelectLimit is more rows than any statement asks for.
const minSelectLimit = 1_000_000

// CheckServer reports what about the server's settings would make statements fail later on.
func (db *DB) CheckServer(ctx context.Context) error {
	if db.Dialect != MySQL {
		return nil
	}
	var packet int64
	var rows string // which Vitess, too, has a number for none of
	err := db.read.QueryRowContext(ctx, "SELECT @@max_allowed_packet, @@sql_select_limit").Scan(&packet, &rows)
	most, _ := strconv.ParseUint(rows, 10, 64)
	switch {
	case err != nil:
		return fmt.Errorf("read the server's settings: %w", MarkUnavailable(err))
	case packet < MinPacket:
		return fmt.Errorf("the database has max_allowed_packet=%d: set it to %d (4M) or more, as statements may be that long",
			packet, MinPacket)
	case most > 0 && most < minSelectLimit: // Vitess takes it for a LIMIT of each SELECT: it is not set for a connection
		return fmt.Errorf("the database has sql_select_limit=%d, which cuts off lists: SET GLOBAL sql_select_limit = DEFAULT",
			most)
	}
	var binlog bool
	var format string
	err = db.read.QueryRowContext(ctx, "SELECT @@log_bin, @@binlog_format").Scan(&binlog, &format)
	if mysqlCode(err) != 0 {
		return nil // an engine that has no such settings, as TiDB
	}
	if err != nil {
		return fmt.Errorf("read the server's settings: %w", MarkUnavailable(err))
	}
	if binlog && format == "STATEMENT" {
		return errors.New("the database has binlog_format=STATEMENT, which cannot record transactions at READ COMMITTED: " +
			"set binlog_format=ROW")
	}
	return nil
}

// Ping reports whether the database can be reached.
func (db *DB) Ping(ctx context.Context) error {
	if err := db.read.PingContext(ctx); err != nil {
		return fmt.Errorf("reach the database: %w", MarkUnavailable(err))
	}
	return nil
}

// ReadTx runs fn, which only reads, in a transaction: on SQLite beside the one that writes. It is not run again.
func (db *DB) ReadTx(ctx context.Context, fn func(ctx context.Context, tx *sqlx.Tx) error) error {
	tx, err := db.read.BeginTxx(ctx, nil)
	if err != nil {
		return MarkUnavailable(fmt.Errorf("begin: %w", err))
	}
	defer tx.Rollback() //nolint:errcheck // there is nothing to lose
	return MarkUnavailable(fn(ctx, tx))
}

// How often, and after which pauses, a transaction is run again that lost a race. One whose connection broke is run
// again less often: it would keep a caller waiting for a database that is away.
const (
	txRaces   = 10
	txBreaks  = 2
	txMinWait = 2 * time.Millisecond
	txMaxWait = 250 * time.Millisecond
)

// Tx runs fn in a transaction, at READ COMMITTED, and commits. Where the engine says that the transaction lost a race
// (a deadlock, a lock timeout, a changed row, a busy file), or the connection broke before the commit was sent, it is
// rolled back and run again, with growing random pauses: fn must start anew each time.
//
// A commit whose answer was lost may have happened: Tx then returns ErrCommitUnknown, and the caller, who alone can
// tell, looks whether it did or repeats what is harmless to repeat.
func (db *DB) Tx(ctx context.Context, fn func(ctx context.Context, tx *sqlx.Tx) error) error {
	if isTogether(ctx) && (db.Dialect == SQLite || db.noneTogether.Load() || db.SeveralWriters()) {
		ctx = oneByOne(ctx)
	}
	var races, breaks int
	for {
		end, err := db.try(ctx, fn)
		switch {
		case end == final || ctx.Err() != nil:
			return err
		case end == refused:
			return db.apart(ctx, fn, err)
		case end == broke:
			if breaks++; breaks > txBreaks {
				return err
			}
		case end == lostRace:
			if races++; races >= txRaces {
				return fmt.Errorf("%w: transaction lost %d races: %w", push.ErrUnavailable, races, err)
			}
		}
		if waitErr := wait(ctx, races+breaks); waitErr != nil {
			return errors.Join(waitErr, err)
		}
	}
}

// ending is how an attempt at a transaction ended.
type ending int

const (
	final    ending = iota // committed, failed for good, or nobody knows
	lostRace               // rolled back; another transaction went first
	broke                  // rolled back, because the connection broke
	refused                // a statement of those that were sent together, or their commit, was refused
)

func (db *DB) try(ctx context.Context, fn func(ctx context.Context, tx *sqlx.Tx) error) (ending, error) {
	tx, err := db.write.BeginTxx(ctx, nil) // of MySQL at READ COMMITTED: see sessionConnector. SQLite is serializable
	switch {
	case IsDeadlock(err):
		return lostRace, err
	case err != nil: // database/sql has tried other connections already
		return final, MarkUnavailable(fmt.Errorf("begin: %w", err))
	}
	defer tx.Rollback() //nolint:errcheck // after a commit it does nothing; before one the first error is the one to tell
	switch err := fn(ctx, tx); {
	case IsDeadlock(err):
		return lostRace, err
	case readOnly[mysqlCode(err)]:
		_ = tx.Rollback()
		db.leave()
		return final, MarkUnavailable(err)
	case isConnectionLost(err):
		return broke, MarkUnavailable(err)
	case isTogether(ctx) && notUnderstood[mysqlCode(err)]:
		return refused, MarkUnavailable(err)
	case err != nil:
		return final, MarkUnavailable(err)
	}
	err = db.commit(ctx, tx)
	switch {
	case IsDuplicate(err): // of a statement that was sent together with the commit
		return final, err
	case isTogether(ctx) && mysqlCode(err) != 0 && !isConnectionLost(err) && !IsDeadlock(err):
		return refused, fmt.Errorf("%w: %w", ErrCommitUnknown, MarkUnavailable(err))
	case err == nil:
		if db.checkpoints != nil {
			db.checkpoints.committed()
		}
		return final, nil
	case errors.Is(err, errNoAnswer):
		return final, fmt.Errorf("%w: %w: %w", ErrCommitUnknown, push.ErrUnavailable, err)
	case IsDeadlock(err):
		return lostRace, err
	case errors.Is(err, sql.ErrTxDone), ctx.Err() != nil && errors.Is(err, ctx.Err()):
		// ctx ended before the commit was sent: database/sql has rolled back.
		return final, fmt.Errorf("commit: %w", context.Cause(ctx))
	}
	if readOnly[mysqlCode(err)] {
		db.leave()
	}
	return final, fmt.Errorf("%w: %w", ErrCommitUnknown, MarkUnavailable(err))
}

// errNoAnswer is what commit returns when the server takes longer than the caller has.
var errNoAnswer = errors.New("the server does not answer a commit")

// commitGrace is how long after the end of its context a commit is still waited for: most often database/sql has rolled
// back, and says so at once.
const commitGrace = 500 * time.Millisecond

// commit commits, and stops to wait with ctx: a commit has no context of its own, and one on a server without a
// majority hangs for as long as that lasts. It may yet happen then; its connection is in use until it has.
func (db *DB) commit(ctx context.Context, tx *sqlx.Tx) error {
	if ctx.Done() == nil || db.Dialect == SQLite {
		return tx.Commit()
	}
	done := make(chan error, 1)
	go func() { done <- tx.Commit() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	grace := time.NewTimer(commitGrace)
	defer grace.Stop()
	select {
	case err := <-done:
		return err
	case <-grace.C:
		return errNoAnswer
	}
}

// leave closes the connections that are not in use: after a failover they lead to the old primary, and new ones may
// not.
func (db *DB) leave() {
	db.write.SetMaxIdleConns(-1)
	db.write.SetMaxIdleConns(db.maxIdle)
}

// wait pauses before the nth repetition.
func wait(ctx context.Context, n int) error {
	limit := min(txMaxWait, txMinWait<<n)
	return delay.For(ctx, time.Duration(rand.Int64N(int64(limit))))
}
