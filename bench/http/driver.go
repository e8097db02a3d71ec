package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	_ "github.com/go-sql-driver/mysql" // the driver
	_ "modernc.org/sqlite"             // the driver

	"github.com/lhspn/lhspn/bench/internal/rig"
)

// driverLoop is a loop over the bare driver: one upsert of a token row and its commit, again and again, from as many
// goroutines as the load has connections; SQLite has one writer. It returns upserts a second.
func driverLoop(ctx context.Context, o options, engine string) (float64, error) {
	dir, discard, err := rig.TempDir()
	if err != nil {
		return 0, err
	}
	defer discard()
	address, remove, err := rig.NewDatabase(ctx, engine, dir)
	if err != nil {
		return 0, err
	}
	defer remove()
	var db *sql.DB
	table, upsert := `CREATE TABLE t (app VARCHAR(64) NOT NULL, token VARBINARY(100) NOT NULL, environment VARCHAR(16) NOT NULL,
		badge INT UNSIGNED NOT NULL, last_updated DATETIME(6) NOT NULL, created_at DATETIME(6) NOT NULL, PRIMARY KEY (app, token))`,
		`INSERT INTO t (app, token, environment, badge, last_updated, created_at) VALUES ('hedgehog', ?, 'production', 0, ?, ?)
		ON DUPLICATE KEY UPDATE badge = VALUES(badge), last_updated = VALUES(last_updated)`
	if path, is := strings.CutPrefix(address, "sqlite:"); is {
		table = strings.Replace(table, "VARBINARY(100)", "BLOB", 1) + " WITHOUT ROWID"
		upsert, _, _ = strings.Cut(upsert, "ON DUPLICATE")
		upsert += "ON CONFLICT (app, token) DO UPDATE SET badge = excluded.badge, last_updated = excluded.last_updated"
		db, err = sql.Open("sqlite", "file:"+path+
			"?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=busy_timeout(5000)")
		if err == nil {
			db.SetMaxOpenConns(1)
		}
	} else {
		db, err = sql.Open("mysql", strings.TrimPrefix(address, "mysql://")+"?interpolateParams=true")
		if err == nil {
			db.SetMaxOpenConns(o.connections)
			db.SetMaxIdleConns(o.connections)
		}
	}
	if err != nil {
		return 0, fmt.Errorf("open the database: %w", err)
	}
	defer func() { _ = db.Close() }()
	if _, err := db.ExecContext(ctx, table); err != nil {
		return 0, fmt.Errorf("make the table: %w", err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next, counted atomic.Int64
	var wait sync.WaitGroup
	begin := time.Now().Add(o.warmup)
	end := begin.Add(o.duration)
	for range o.connections {
		wait.Go(func() {
			for now := time.Now(); now.Before(end); now = time.Now() {
				stamp := now.UTC().Format("2006-01-02 15:04:05.000000")
				if _, err := db.ExecContext(ctx, upsert, []byte(rig.Token(int(next.Add(1)))), stamp, stamp); err != nil {
					cancel(fmt.Errorf("upsert: %w", err))
					return
				}
				if !now.Before(begin) {
					counted.Add(1)
				}
			}
		})
	}
	wait.Wait()
	if err := context.Cause(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return 0, err
	}
	return float64(counted.Load()) / o.duration.Seconds(), nil
}

// highWater remembers how many requests a run has made, warm-up included.
type highWater struct{ value atomic.Int64 }

// watch counts the calls of request.
func (h *highWater) watch(request func([]byte, int64) []byte) func([]byte, int64) []byte {
	return func(dst []byte, n int64) []byte {
		h.value.Add(1)
		return request(dst, n)
	}
}
