package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/pressly/goose/v3"
	gooseDatabase "github.com/pressly/goose/v3/database"

	"github.com/lhspn/lhspn/internal/delay"
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/migrations"
)

// versionTable is where goose writes down which migrations have been applied.
const versionTable = "schema_versions"

// Migrate brings the schema up to date. Several processes may do so at once: one does the work, the others wait for it.
func Migrate(ctx context.Context, db *DB, log *slog.Logger) error {
	return MigrateTelling(ctx, db, log, func(int, int) {})
}

// MigrateTelling is Migrate that tells, from the goroutine it is called on, how many of how many steps are done: at the
// start and after each. It tells nothing where the schema is up to date already.
func MigrateTelling(ctx context.Context, db *DB, log *slog.Logger, tell func(done, all int)) error {
	// What is up to date already needs no lock: a replica that starts must not wait for anybody.
	if done, err := Migrated(ctx, db); done || err != nil {
		return err
	}
	pool, release, err := db.migrationPool()
	if err != nil {
		return err
	}
	defer release()
	if db.Dialect == SQLite { // the file is this process's alone
		return migrate(ctx, db.Dialect, pool, log, tell)
	}
	lock := migrationLock{db: db, holder: uuid.NewString(), expiry: migrationLockExpiry, log: log}
	if err := lock.prepare(ctx); err != nil {
		return fmt.Errorf("prepare the migration lock: %w", err)
	}
	return lock.hold(ctx, func(ctx context.Context) error {
		if err := completeVersionTable(ctx, pool); err != nil {
			return fmt.Errorf("complete the table of versions: %w", MarkUnavailable(err))
		}
		return migrate(ctx, db.Dialect, pool, log, tell)
	})
}

// completeVersionTable makes the version table as goose does, with its row of version 0. Goose takes a table for
// complete, and refuses one without that row; but MySQL commits the table before the row, and a process can end between
// the two.
func completeVersionTable(ctx context.Context, pool *sql.DB) error {
	store, err := gooseDatabase.NewStore(goose.DialectMySQL, versionTable)
	if err != nil {
		return err
	}
	var tables int
	if err := pool.QueryRowContext(ctx,
		"SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = ?",
		versionTable).Scan(&tables); err != nil {
		return err
	}
	if tables == 0 {
		if err := store.CreateVersionTable(ctx, pool); err != nil {
			return err
		}
	}
	if rows, err := store.ListMigrations(ctx, pool); err != nil || len(rows) > 0 {
		return err
	}
	return store.Insert(ctx, pool, gooseDatabase.InsertRequest{Version: 0})
}

func migrate(ctx context.Context, d Dialect, pool *sql.DB, log *slog.Logger, tell func(done, all int)) error {
	told := &toldStore{tell: tell}
	provider, err := newProvider(d, pool, told)
	if err != nil {
		return err
	}
	if told.before, err = provider.GetDBVersion(ctx); err != nil {
		return fmt.Errorf("read the schema's version: %w", MarkUnavailable(err))
	}
	for _, source := range provider.ListSources() {
		if source.Version > told.before {
			told.all++
		}
	}
	tell(0, told.all)
	results, err := provider.Up(ctx)
	if err != nil {
		return fmt.Errorf("migrate the schema: %w", MarkUnavailable(err))
	}
	if len(results) > 0 {
		log.InfoContext(ctx, "schema migrated", "version", results[len(results)-1].Source.Version, "steps", len(results))
	}
	return nil
}

// Migrated reports whether every migration this program knows has been applied. A newer schema is fine too: migrations
// expand before they contract, so that the program before and the one after can run on it.
func Migrated(ctx context.Context, db *DB) (bool, error) {
	query := "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = ?"
	if db.Dialect == SQLite {
		query = "SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name = ?"
	}
	var tables int
	if err := db.read.GetContext(ctx, &tables, query, versionTable); err != nil {
		return false, fmt.Errorf("look for the schema: %w", MarkUnavailable(err))
	}
	if tables == 0 {
		return false, nil
	}
	var version sql.NullInt64
	if err := db.read.GetContext(ctx, &version, "SELECT MAX(version_id) FROM "+versionTable); err != nil {
		return false, fmt.Errorf("read the schema's version: %w", MarkUnavailable(err))
	}
	target, err := latestVersion(db.Dialect)
	return err == nil && version.Int64 >= target, err
}

func latestVersion(d Dialect) (int64, error) {
	files, err := fs.ReadDir(migrations.FS, string(d))
	if err != nil {
		return 0, fmt.Errorf("read the migrations: %w", err)
	}
	// The names begin with numbers of equal width, and are sorted.
	return goose.NumericComponent(files[len(files)-1].Name())
}

func newProvider(d Dialect, pool *sql.DB, told *toldStore) (*goose.Provider, error) {
	files, err := fs.Sub(migrations.FS, string(d))
	if err != nil {
		return nil, fmt.Errorf("read the migrations: %w", err)
	}
	dialect := goose.DialectMySQL
	if d == SQLite {
		dialect = goose.DialectSQLite3
	}
	store, err := gooseDatabase.NewStore(dialect, versionTable)
	if err != nil {
		return nil, fmt.Errorf("prepare the migrations: %w", err)
	}
	told.Store = store
	store = told
	if d == MySQL {
		store = completedStore{told}
	}
	provider, err := goose.NewProvider(goose.DialectCustom, pool, files, goose.WithStore(store),
		goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return nil, fmt.Errorf("prepare the migrations: %w", err)
	}
	return provider, nil
}

// toldStore tells of each step when goose has written down that it is done.
type toldStore struct {
	gooseDatabase.Store
	tell      func(done, all int)
	before    int64
	done, all int
}

// Insert implements gooseDatabase.Store.
func (s *toldStore) Insert(ctx context.Context, db gooseDatabase.DBTxConn, req gooseDatabase.InsertRequest) error {
	err := s.Store.Insert(ctx, db, req)
	if err == nil && req.Version > s.before { // version 0 is the table's own row
		s.done++
		s.tell(s.done, s.all)
	}
	return err
}

// completedStore is one whose table is known to be there: see completeVersionTable. Goose's own query for it is one
// that Vitess refuses.
type completedStore struct{ gooseDatabase.Store }

// TableExists implements gooseDatabase.StoreExtender in part.
func (completedStore) TableExists(context.Context, gooseDatabase.DBTxConn) (bool, error) {
	return true, nil
}

// How soon a dead migrator's lock is taken over, by default.
const migrationLockExpiry = 10 * time.Second

// migrationLock lets one process migrate at a time, by a row that its holder keeps changing. It is taken over from a
// holder whose row has stood still for the expiry: each waiter watches with its own clock, so the machines' clocks need
// not agree. (Not GET_LOCK, which Galera refuses and a distributed engine keeps to one server. Not goose's WithLocker
// either: Up looks for the version table, and makes it, before it takes the lock.)
//
// A holder that only stalled may come back after its lock was taken over and finish the statement it was in. That is
// harmless: every migration can be run again.
type migrationLock struct {
	db     *DB
	holder string
	expiry time.Duration
	log    *slog.Logger
}

// hold runs fn while it holds the lock. fn's context ends when the lock is lost.
func (l *migrationLock) hold(ctx context.Context, fn func(ctx context.Context) error) error {
	if err := l.acquire(ctx); err != nil {
		return fmt.Errorf("take the migration lock: %w", err)
	}
	held, lose := context.WithCancelCause(ctx)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		if err := l.keep(held); err != nil {
			lose(fmt.Errorf("keep the migration lock: %w", err))
		}
	}()
	err := fn(held)
	if cause := context.Cause(held); cause != nil && ctx.Err() == nil {
		err = errors.Join(cause, err)
	}
	lose(nil)
	<-stopped
	// The caller may have been told to stop: the lock is given back all the same, or the next one waits for nothing.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if releaseErr := l.release(ctx); releaseErr != nil {
		l.log.WarnContext(ctx, "migration lock not given back; it expires", "error", releaseErr)
	}
	return err
}

// prepare makes the lock's row, which cannot be a migration's business.
func (l *migrationLock) prepare(ctx context.Context) error {
	err := l.exec(ctx, "CREATE TABLE IF NOT EXISTS schema_lock (id TINYINT UNSIGNED NOT NULL, "+
		"holder VARCHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, beat BIGINT UNSIGNED NOT NULL, PRIMARY KEY "+
		"(id)) ENGINE=InnoDB")
	if err == nil {
		err = l.exec(ctx, "INSERT INTO schema_lock (id, holder, beat) VALUES (1, '', 0)"+l.db.Dialect.Upsert("id"))
	}
	return err
}

func (l *migrationLock) acquire(ctx context.Context) error {
	type row struct {
		Holder string `db:"holder"`
		Beat   uint64 `db:"beat"`
	}
	var seen row
	var since time.Time
	for waits := 0; ; waits++ {
		var now row
		if err := l.db.read.GetContext(ctx, &now, "SELECT holder, beat FROM schema_lock WHERE id = 1"); err != nil {
			return MarkUnavailable(err)
		}
		if waits == 0 || now != seen {
			seen, since = now, time.Now()
		}
		if now.Holder == l.holder { // by an UPDATE whose answer was lost
			return nil
		}
		if now.Holder == "" || time.Since(since) >= l.expiry {
			if now.Holder != "" {
				l.log.WarnContext(ctx, "migration lock taken over from a process that stands still", "holder", now.Holder)
			}
			taken, err := l.swap(ctx, "UPDATE schema_lock SET holder = ?, beat = beat + 1 WHERE id = 1 AND holder = ? AND "+
				"beat = ?",
				l.holder, now.Holder, now.Beat)
			if err != nil && !errors.Is(err, ErrCommitUnknown) {
				return err
			}
			if taken {
				return nil
			}
			continue
		}
		if waits == 0 {
			l.log.InfoContext(ctx, "waiting for another process that migrates the schema", "holder", now.Holder)
		}
		if err := delay.For(ctx, min(l.expiry/20, 200*time.Millisecond)); err != nil {
			return err
		}
	}
}

// keep shows the waiters that the holder lives, until ctx ends. It returns an error when the lock is lost.
func (l *migrationLock) keep(ctx context.Context) error {
	last := time.Now()
	for delay.For(ctx, l.expiry/10) == nil {
		kept, err := l.swap(ctx, "UPDATE schema_lock SET beat = beat + 1 WHERE id = 1 AND holder = ?", l.holder)
		switch {
		case err == nil && !kept:
			return errors.New("another process took it over")
		case err == nil:
			last = time.Now()
		case ctx.Err() == nil && time.Since(last) > l.expiry/2:
			return err
		}
	}
	return nil
}

func (l *migrationLock) release(ctx context.Context) error {
	_, err := l.swap(ctx, "UPDATE schema_lock SET holder = '', beat = beat + 1 WHERE id = 1 AND holder = ?", l.holder)
	return err
}

func (l *migrationLock) exec(ctx context.Context, statement string) error {
	_, err := l.swap(ctx, statement)
	return err
}

// swap reports whether the statement met the row.
func (l *migrationLock) swap(ctx context.Context, statement string, args ...any) (met bool, err error) {
	err = l.db.Tx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		result, err := tx.ExecContext(ctx, statement, args...)
		if err != nil {
			return err
		}
		n, err := result.RowsAffected()
		met = n > 0
		return err
	})
	return met && err == nil, err
}

// migrationPool is where migrations run: on MySQL connections of their own, whose statements may take as long as an
// ALTER TABLE takes.
func (db *DB) migrationPool() (pool *sql.DB, release func(), err error) {
	if db.Dialect == SQLite {
		return db.write.DB, func() {}, nil
	}
	cfg := db.mysql.Clone()
	cfg.ReadTimeout, cfg.WriteTimeout = 0, 0
	connector, err := newConnector(cfg, 0, &db.severalWriters)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: open MySQL to migrate: %w", push.ErrUnavailable, err)
	}
	pool = sql.OpenDB(connector)
	return pool, func() { _ = pool.Close() }, nil
}
