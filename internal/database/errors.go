package database

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/go-sql-driver/mysql"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/lhspn/lhspn/internal/push"
)

// ErrCommitUnknown says that the connection was lost while a commit was under way: it may have happened or not.
var ErrCommitUnknown = errors.New("commit may or may not have happened")

// ErrLostRace is how a transaction's own checks say that another one went first: Tx runs it again.
var ErrLostRace = errors.New("another transaction went first")

// The servers' error numbers that matter here.
const mysqlDuplicateEntry = 1062

// lostRaces are the numbers that say: the transaction lost a race, run it again.
var lostRaces = map[uint16]bool{
	1213: true, // deadlock; Galera reports a lost certification by it too
	1205: true, // lock wait timeout
	1020: true, // record has changed: MariaDB's snapshot isolation
	3101: true, // group replication with several primaries: certification lost at the commit
	8022: true, // TiDB: commit failed and was rolled back
	8028: true, // TiDB: the schema changed meanwhile
	9007: true, // TiDB: write conflict
}

// away are the numbers that say: not this server, or not now.
var away = map[uint16]bool{
	1021: true, // the disk is full
	1040: true, // too many connections
	1047: true, // Galera: this node is not part of the primary component
	1053: true, // the server is being shut down
	1114: true, // a table is full, as InnoDB says it of the disk
	1129: true, // too many failed connections from this host
	1180: true, // Galera: the majority was lost while this commit was under way
	1203: true, // too many connections of this user
	1226: true, // the user's limits
	1290: true, // read only
	1317: true, // the statement was killed
	1792: true, // read only transaction
	1836: true, // read only mode
	1927: true, // MariaDB: the connection was killed
	1969: true, // MariaDB: max_statement_time
	3024: true, // MySQL: max_execution_time
	3032: true, // MySQL: offline mode
	3100: true, // group replication: the commit was refused, as without a majority
	3169: true, // MySQL: the session was killed
	9001: true, // TiDB: its placement driver does not answer
	9002: true, // TiDB: its store does not answer
	9003: true, // TiDB: its store is busy
	9005: true, // TiDB: region unavailable
}

func mysqlCode(err error) uint16 {
	if e, ok := errors.AsType[*mysql.MySQLError](err); ok {
		return e.Number
	}
	return 0
}

// sqliteCode is the primary result code: the extended code's low byte.
func sqliteCode(err error) int {
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		return e.Code() & 0xff
	}
	return 0
}

// IsDuplicate reports whether a row with the same key exists.
func IsDuplicate(err error) bool {
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		return e.Code() == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY || e.Code() == sqlite3.SQLITE_CONSTRAINT_UNIQUE
	}
	return mysqlCode(err) == mysqlDuplicateEntry
}

// IsDeadlock reports whether the transaction lost a race and was, or must be, rolled back; running it again is right.
func IsDeadlock(err error) bool {
	code := sqliteCode(err)
	return errors.Is(err, ErrLostRace) || lostRaces[mysqlCode(err)] || code == sqlite3.SQLITE_BUSY || code == sqlite3.SQLITE_LOCKED
}

// isConnectionLost reports whether the connection broke or could not be made.
func isConnectionLost(err error) bool {
	if _, ok := errors.AsType[*net.OpError](err); ok {
		return true
	}
	return errors.Is(err, mysql.ErrInvalidConn) || errors.Is(err, driver.ErrBadConn) ||
		errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF)
}

// MarkUnavailable wraps an error that says the database is away, or has no room, with push.ErrUnavailable, and returns
// any other as it is. Tx does so itself; it is for what is read outside a transaction.
func MarkUnavailable(err error) error {
	if err == nil || errors.Is(err, push.ErrUnavailable) {
		return err
	}
	code := sqliteCode(err)
	if isConnectionLost(err) || away[mysqlCode(err)] || IsDeadlock(err) || code == sqlite3.SQLITE_FULL || code == sqlite3.SQLITE_IOERR {
		return fmt.Errorf("%w: %w", push.ErrUnavailable, err)
	}
	return err
}
