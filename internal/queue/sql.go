package queue

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/lhspn/lhspn/internal/database"
)

// maxKeys bounds what one statement names in a list. MariaDB makes a list of 1,000 a table of its own, to be joined,
// and then reads the whole of the other.
const maxKeys = 900

// list is "(?, ?, ...)" for n arguments.
func list(n int) string {
	return "(?" + strings.Repeat(",?", n-1) + ")"
}

// affected runs the statement and says how many rows it found.
func affected(ctx context.Context, tx *sqlx.Tx, query string, args ...any) (int64, error) {
	res, err := tx.ExecContext(ctx, query, args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// forUpdate locks what a SELECT finds until the transaction ends. SQLite, with its one writer, has it locked already.
func (q *Queue) forUpdate() string {
	if q.db.Dialect == database.SQLite {
		return ""
	}
	return " FOR UPDATE"
}

// stamp is a time as both engines take it. Done once for many rows it spares each of them the formatting.
func stamp(t time.Time) any {
	v, _ := database.Time{Time: t}.Value() // it has no error to give
	return v
}

// timeOrZero turns database.Never into the zero time.
func timeOrZero(t database.Time) time.Time {
	if t.Equal(database.Never.Time) {
		return time.Time{}
	}
	return t.Time
}

// idArgs is the list of the identifiers as arguments, sorted, so that transactions lock rows in one order.
func idArgs(ids []uuid.UUID) []any {
	slices.SortFunc(ids, func(a, b uuid.UUID) int { return slices.Compare(a[:], b[:]) })
	args := make([]any, len(ids))
	for i := range ids {
		args[i] = ids[i][:]
	}
	return args
}

// wrap says what was attempted, and marks an error that means that the database is away. nil stays nil.
func wrap(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf(format+": %w", append(args, database.MarkUnavailable(err))...)
}
