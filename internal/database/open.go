package database

import (
	"context"
	"crypto/tls"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jmoiron/sqlx"
	"modernc.org/sqlite"
)

// These are without the address: it holds a password.
var (
	errScheme    = errors.New("a database address begins with sqlite: or mysql://")
	errMySQLForm = errors.New("the database address is not of the form mysql://user:password@tcp(host:port)/name")
)

// Options bound what the pool takes.
type Options struct {
	// MaxConns is the number of connections to MySQL; default 16. SQLite has one writer and a few readers.
	MaxConns int
	// TLS is how connections to MySQL are encrypted; nil leaves it to the address's parameter tls.
	TLS *tls.Config
	// StatementLimit is how long MySQL may run one statement; default 30 s. Migrations are not limited.
	StatementLimit time.Duration
	// ReadOnly opens an SQLite file for reading beside the process that it belongs to. It runs no transaction.
	ReadOnly bool
	// SQLite, where not nil, is put around what opens connections to SQLite, as to look at their statements.
	SQLite func(driver.Connector) driver.Connector
}

// Open opens what address names: mysql://user:password@tcp(host:port)/name?options (the options are the driver's), or
// sqlite:path. It does not migrate. MySQL is not contacted yet; an SQLite file is made, with its folder, and taken for
// this process alone.
func Open(ctx context.Context, address string, opts Options) (*DB, error) {
	switch {
	case strings.HasPrefix(address, "mysql://"):
		return openMySQL(strings.TrimPrefix(address, "mysql://"), opts)
	case strings.HasPrefix(address, "sqlite:"):
		return openSQLite(ctx, strings.TrimPrefix(address, "sqlite:"), opts)
	}
	return nil, errScheme
}

// CheckAddress reports what is wrong with the address, connecting to nothing.
func CheckAddress(address string) error {
	switch {
	case strings.HasPrefix(address, "mysql://"):
		_, err := mysqlConfig(strings.TrimPrefix(address, "mysql://"))
		return err
	case strings.HasPrefix(address, "sqlite:"):
		if strings.TrimPrefix(address, "sqlite:") == "" {
			return fmt.Errorf("sqlite: needs the path of a file, as in sqlite:./data/lhspn.db")
		}
		return nil
	}
	return errScheme
}

func mysqlConfig(dsn string) (*mysql.Config, error) {
	cfg, err := mysql.ParseDSN(dsn)
	if err != nil {
		// The driver's error may say what it took for the address, which is the password where the form is another.
		bare, _, _ := strings.Cut(dsn, "?")
		if _, wrong := mysql.ParseDSN(bare); wrong != nil {
			return nil, errMySQLForm
		}
		return nil, fmt.Errorf("the options of the database address: %w", err)
	}
	if cfg.DBName == "" {
		return nil, fmt.Errorf("the database address names no database: mysql://user:password@tcp(host:port)/name")
	}
	cfg.ParseTime, cfg.Loc = true, time.UTC
	cfg.ClientFoundRows = true   // rows matched, not rows changed
	cfg.InterpolateParams = true // one round trip a statement
	cfg.MaxAllowedPacket = 0     // the server's own limit: what is beyond it would look like a broken connection
	cfg.Logger = silent{}        // broken connections are reported by whoever used them
	if cfg.Timeout == 0 {
		cfg.Timeout = 5 * time.Second
	}
	if cfg.ReadTimeout == 0 {
		cfg.ReadTimeout = 60 * time.Second
	}
	if cfg.WriteTimeout == 0 {
		cfg.WriteTimeout = 30 * time.Second
	}
	if cfg.Params == nil {
		cfg.Params = map[string]string{}
	}
	// What the SQL relies on, whatever the server's defaults are: without a strict mode, as managed servers are often
	// set up, a value that does not fit is cut off silently; what a statement does outside a transaction is done for good;
	// and not every statement names a key. A lock wait longer than this is better begun anew than waited for.
	for k, v := range map[string]string{
		"time_zone": "'+00:00'", "sql_mode": "'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'", "innodb_lock_wait_timeout": "5",
		"autocommit": "1", "sql_safe_updates": "0",
	} {
		if _, set := cfg.Params[k]; !set {
			cfg.Params[k] = v
		}
	}
	if err := cfg.Apply(mysql.Charset("utf8mb4", "")); err != nil {
		return nil, err
	}
	return cfg, nil
}

func openMySQL(dsn string, opts Options) (*DB, error) {
	cfg, err := mysqlConfig(dsn)
	if err != nil {
		return nil, err
	}
	if opts.TLS != nil {
		cfg.TLS = opts.TLS.Clone()
		if cfg.TLS.ServerName == "" {
			cfg.TLS.ServerName = "localhost" // of a socket
			if host, _, err := net.SplitHostPort(cfg.Addr); err == nil {
				cfg.TLS.ServerName = host
			}
		}
	}
	if opts.MaxConns == 0 {
		opts.MaxConns = 16
	}
	if opts.StatementLimit == 0 {
		opts.StatementLimit = 30 * time.Second
	}
	db := &DB{Dialect: MySQL, maxIdle: opts.MaxConns, mysql: cfg}
	pooled := cfg.Clone()
	pooled.MultiStatements = true // see Together; all that is not the statements' own text is an argument
	connector, err := newConnector(pooled, opts.StatementLimit, &db.severalWriters)
	if err != nil {
		return nil, fmt.Errorf("open MySQL: %w", err)
	}
	pool := sqlx.NewDb(sql.OpenDB(connector), "mysql")
	pool.SetMaxOpenConns(opts.MaxConns)
	pool.SetMaxIdleConns(opts.MaxConns)
	pool.SetConnMaxLifetime(4 * time.Minute) // below the shortest idle limits of servers and middle boxes
	db.write, db.read = pool, pool
	return db, nil
}

type silent struct{}

func (silent) Print(...any) {}

func openSQLite(ctx context.Context, path string, opts Options) (*DB, error) {
	if path == "" {
		return nil, fmt.Errorf("sqlite: needs the path of a file, as in sqlite:./data/lhspn.db")
	}
	if opts.ReadOnly {
		return openSQLiteReader(ctx, path)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return nil, fmt.Errorf("make the database's folder: %w", err)
	}
	unlock, err := lockFile(path + ".lock")
	if err != nil {
		return nil, err
	}
	// SQLite would make it, and with it the files beside it, for everybody to read.
	if f, err := os.OpenFile(filepath.Clean(path), os.O_CREATE|os.O_RDWR, 0o600); err == nil { // SQLite says why not
		_ = f.Close()
	}
	for _, file := range []string{path, path + "-wal", path + "-shm"} { // a copy that was put here
		if info, err := os.Stat(file); err == nil && info.Mode().Perm()&0o077 != 0 {
			_ = os.Chmod(file, info.Mode().Perm()&^0o077)
		}
	}
	// What a commit waits for is its data and the file's length, not the time of the change. Where there is no fdatasync,
	// fsync is used.
	_, _ = sqlite.Fdatasync(true)
	common := sqliteFile(path) + "&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)" +
		"&_pragma=foreign_keys(1)&_pragma=temp_store(memory)&_pragma=wal_autocheckpoint(" + strconv.Itoa(longestLog) + ")"
	db := &DB{Dialect: SQLite, unlock: unlock}
	// In KiB of pages, each of which takes twice its length of memory.
	writer, err := sqlite.NewConnector(common + "&_txlock=immediate&_pragma=cache_size(-6000)")
	reader, readerErr := sqlite.NewConnector(common + "&mode=ro&_pragma=cache_size(-2000)")
	copier, copierErr := sqlite.NewConnector(common + "&_pragma=cache_size(-100)")
	if err = errors.Join(err, readerErr, copierErr); err == nil {
		if opts.SQLite != nil {
			writer, reader = opts.SQLite(writer), opts.SQLite(reader)
		}
		db.write = sqlx.NewDb(sql.OpenDB(keepingConnector{writer}), string(SQLite))
		db.write.SetMaxOpenConns(1)
		err = db.write.PingContext(ctx) // makes the file, which the readers do not
	}
	if err != nil {
		_ = unlock()
		return nil, fmt.Errorf("open SQLite %s: %w", path, err)
	}
	db.read = sqlx.NewDb(sql.OpenDB(reader), string(SQLite))
	db.read.SetMaxOpenConns(max(2, runtime.NumCPU()))
	db.read.SetMaxIdleConns(max(2, runtime.NumCPU()))
	own := sqlx.NewDb(sql.OpenDB(copier), string(SQLite))
	own.SetMaxOpenConns(1)
	db.checkpoints = newCheckpointer(own, db.write)
	return db, nil
}

func sqliteFile(path string) string {
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?_pragma=busy_timeout(5000)"
}

// openSQLiteReader opens a file that is there, for reading only.
func openSQLiteReader(ctx context.Context, path string) (*DB, error) {
	connector, err := sqlite.NewConnector(sqliteFile(path) + "&mode=ro")
	if err != nil {
		return nil, fmt.Errorf("open SQLite %s: %w", path, err)
	}
	pool := sqlx.NewDb(sql.OpenDB(connector), string(SQLite))
	pool.SetMaxOpenConns(1)
	if err := pool.PingContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open SQLite %s: %w", path, err), pool.Close())
	}
	return &DB{Dialect: SQLite, write: pool, read: pool}, nil
}
