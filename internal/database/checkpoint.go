package database

import (
	"context"
	"database/sql"
	"sync"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/lhspn/lhspn/internal/delay"
)

const (
	// checkpointPages is how long SQLite's log gets: 16 MiB. Tokens come in no order, so that a transaction of many
	// changes as many pages, and what several of them change is then copied into the file once.
	checkpointPages = 4000
	// longestLog is the length from which whoever commits copies it, so that it does not grow without end where it is
	// written faster than copied.
	longestLog = 4 * checkpointPages
	// checkpointPause is the least from one look at the log's length to the next.
	checkpointPause = 50 * time.Millisecond
)

// checkpointer copies SQLite's log into its file on a connection of its own. SQLite by itself has that done by the
// commit that makes the log too long, which then takes some fifty times as long as others, and all that wait for the
// one writer with it.
type checkpointer struct {
	own     *sqlx.DB
	write   *sqlx.DB
	written chan struct{} // has an element when something was committed since the last look
	stop    context.CancelFunc
	ended   sync.WaitGroup
}

func newCheckpointer(own, write *sqlx.DB) *checkpointer {
	ctx, stop := context.WithCancel(context.Background())
	c := &checkpointer{own: own, write: write, written: make(chan struct{}, 1), stop: stop}
	c.ended.Go(func() { c.run(ctx) })
	return c
}

// committed says that the log may have become longer.
func (c *checkpointer) committed() {
	select {
	case c.written <- struct{}{}:
	default:
	}
}

func (c *checkpointer) close() error {
	c.stop()
	c.ended.Wait()
	return c.own.Close()
}

func (c *checkpointer) run(ctx context.Context) {
	for {
		select {
		case <-c.written:
		case <-ctx.Done():
			return
		}
		if waiting(ctx, c.own, "NOOP") >= checkpointPages {
			waiting(ctx, c.own, "PASSIVE")
			// The log is begun anew by a writer that finds all of it copied, and while it was copied it may have grown:
			// that little is copied while nobody writes.
			waiting(ctx, c.write, "PASSIVE")
		}
		if delay.For(ctx, checkpointPause) != nil {
			return
		}
	}
}

// waiting copies the log, or only looks at it, and says how many pages of it are not in the file yet. An error says
// nothing that the next commit will not say, too.
func waiting(ctx context.Context, on *sqlx.DB, mode string) int {
	var busy, log, copied sql.NullInt64
	if err := on.QueryRowContext(ctx, "PRAGMA wal_checkpoint("+mode+")").Scan(&busy, &log, &copied); err != nil {
		return 0
	}
	return int(log.Int64 - copied.Int64)
}
