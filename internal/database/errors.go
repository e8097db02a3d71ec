package database

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"

	"github.com/go-sql-driver/mysql"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/lhspn/lhspn/internal/push"
)

// ErrCommitUnknown says that the connection was lost while a commit was under way: it may have happened or not.
var ErrCommitUnknown = errors.New("commit may or may not have happened")

// ErrLostRace is how a transaction's own checks say that another one went first: Tx runs it again.
var ErrLostRace = errors.New("another transaction went first")

// ErrInUse is given where another process, as the running service, has the SQLite file.
var ErrInUse = errors.New("the SQLite database is in use by another process")

// The servers' error numbers that matter here.
const mysqlDuplicateEntry = 1062

// lostRaces are the numbers that say: the transaction lost a race, run it again.
var lostRaces = map[uint16]bool{
	1213: true, // deadlock; Galera reports a lost certification by it too
	1205: true, // lock wait timeout
	1020: true, // record has changed: MariaDB's snapshot isolation
	3101: true, // group replication with several primaries: certification lost at the commit
	8005: true, // TiDB: write conflict in a table cached or locked elsewhere
	8022: true, // TiDB: commit failed and was rolled back
	8028: true, // TiDB: the schema changed meanwhile
	9007: true, // TiDB: write conflict
}

// away are the numbers that say: not this server, or not now.
var away = map[uint16]bool{
	1021: true, // the disk is full
	1037: true, // out of memory
	1040: true, // too many connections
	1041: true, // out of memory; Vitess: transactions are throttled
	1044: true, // no access to the database for this user: its grants, as in a restore, are not back yet
	1045: true, // access denied: the password was changed, and not here yet
	1047: true, // Galera: this node is not part of the primary component
	1049: true, // no such database, as in a restore
	1053: true, // the server is being shut down
	1114: true, // a table is full, as InnoDB says it of the disk
	1129: true, // too many failed connections from this host
	1135: true, // no thread for another connection
	1180: true, // Galera: the majority was lost while this commit was under way
	1203: true, // too many connections of this user
	1226: true, // the user's limits
	1290: true, // read only
	1317: true, // the statement was killed
	1698: true, // access denied: the user's way to authenticate was changed
	1792: true, // read only transaction
	1820: true, // the password is to be changed before anything else
	1836: true, // read only mode
	1862: true, // the password has expired
	1927: true, // MariaDB: the connection was killed
	1969: true, // MariaDB: max_statement_time
	3024: true, // MySQL: max_execution_time
	3032: true, // MySQL: offline mode
	3100: true, // group replication: the commit was refused, as without a majority
	3118: true, // MySQL: the account is locked
	3168: true, // MySQL: the server is not available
	3169: true, // MySQL: the session was killed
	3796: true, // group replication: the member is not in a state to answer
	3797: true, // group replication: it left or lost the group before the transaction was sent
	3798: true, // group replication: it left or lost the group while the transaction waited
	4151: true, // MariaDB: the account is locked
	9001: true, // TiDB: its placement driver does not answer
	9002: true, // TiDB: its store does not answer
	9003: true, // TiDB: its store is busy
	9005: true, // TiDB: region unavailable
}

// cut are the numbers of a connection that broke, or could not be made, behind a router: those of clients, which it
// passes on, and the server's own for a network that fails.
var cut = map[uint16]bool{
	1158: true, // error reading communication packets
	1159: true, // timeout reading communication packets
	1160: true, // error writing communication packets
	1161: true, // timeout writing communication packets
	2002: true, // no connection to the server, through a socket
	2003: true, // no connection to the server
	2006: true, // the server has gone away
	2013: true, // the connection was lost during a query
}

// readOnly are the numbers of a server that takes no writes, as an old primary.
var readOnly = map[uint16]bool{1290: true, 1792: true, 1836: true}

// mysqlUnknown is the number of errors that have none; Vitess and TiDB say what they are in the text alone.
const mysqlUnknown = 1105

// Texts of errors without a number. This is the one place that looks at texts: nothing else tells these apart.
var (
	unknownLostRaces = []string{
		"VT15001",                 // Vitess: the transaction was rolled back, and its connection is of no use any more
		"PessimisticLockNotFound", // TiDB: its lock is gone
		"[try again later]",       // TiDB
	}
	unknownAway = []string{
		"code = Unavailable", // vtgate: of a tablet's answer
		"Code: UNAVAILABLE",
		"Code(17)", // vtgate: the cluster is failing over
		"no healthy tablet",
	}
)

func unknownIs(err error, texts []string) bool {
	e, ok := errors.AsType[*mysql.MySQLError](err)
	return ok && e.Number == mysqlUnknown && slices.ContainsFunc(texts,
		func(t string) bool { return strings.Contains(e.Message, t) })
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
	return errors.Is(err, ErrLostRace) || lostRaces[mysqlCode(err)] || unknownIs(err, unknownLostRaces) ||
		code == sqlite3.SQLITE_BUSY || code == sqlite3.SQLITE_LOCKED
}

// isConnectionLost reports whether the connection broke or could not be made.
func isConnectionLost(err error) bool {
	if _, ok := errors.AsType[*net.OpError](err); ok || cut[mysqlCode(err)] {
		return true
	}
	return errors.Is(err, mysql.ErrInvalidConn) || errors.Is(err, driver.ErrBadConn) ||
		errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF)
}

// markTooLarge wraps the error of a statement that is longer than the server takes with push.ErrTooLarge.
func markTooLarge(err error) error {
	const packetTooLarge = 1153
	if errors.Is(err, mysql.ErrPktTooLarge) || mysqlCode(err) == packetTooLarge {
		return fmt.Errorf("%w: the database's max_allowed_packet is too small for it: %w", push.ErrTooLarge, err)
	}
	return err
}

// MarkUnavailable wraps an error that says the database is away, or has no room, with push.ErrUnavailable, and returns
// any other as it is. Tx does so itself; it is for what is read outside a transaction.
func MarkUnavailable(err error) error {
	if err == nil || errors.Is(err, push.ErrUnavailable) || errors.Is(err, push.ErrTooLarge) {
		return err
	}
	if err = markTooLarge(err); errors.Is(err, push.ErrTooLarge) {
		return err
	}
	code := sqliteCode(err)
	if isConnectionLost(err) || away[mysqlCode(err)] || unknownIs(err, unknownAway) || IsDeadlock(err) ||
		code == sqlite3.SQLITE_FULL || code == sqlite3.SQLITE_IOERR {
		return fmt.Errorf("%w: %w", push.ErrUnavailable, err)
	}
	return err
}
