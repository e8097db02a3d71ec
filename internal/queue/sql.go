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

// Bounds of one statement: SQLite takes 32,766 arguments, and a server's packet limit may be as low as 4 MiB.
const (
	maxArgs  = 30_000
	maxBytes = 1 << 20
	maxKeys  = 1000
)

// insert is a multi-row INSERT under way: rows are added, and go out in as few statements as the bounds allow.
type insert struct {
	head, tail string
	row        string
	args       []any
	rows, size int
}

func newInsert(table, columns, tail string) *insert {
	return &insert{
		head: "INSERT INTO " + table + " (" + columns + ") VALUES ",
		tail: tail,
		row:  "(?" + strings.Repeat(", ?", strings.Count(columns, ",")) + ")",
	}
}

// add appends a row; size is about its length in bytes. A full statement is executed first.
func (in *insert) add(ctx context.Context, tx *sqlx.Tx, size int, values ...any) error {
	if in.rows > 0 && (len(in.args)+len(values) > maxArgs || in.size+size > maxBytes) {
		if err := in.flush(ctx, tx); err != nil {
			return err
		}
	}
	in.args = append(in.args, values...)
	in.rows++
	in.size += size
	return nil
}

// flush executes what has been added.
func (in *insert) flush(ctx context.Context, tx *sqlx.Tx) error {
	if in.rows == 0 {
		return nil
	}
	var b strings.Builder
	b.Grow(len(in.head) + in.rows*(len(in.row)+1) + len(in.tail))
	b.WriteString(in.head)
	for i := range in.rows {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(in.row)
	}
	b.WriteString(in.tail)
	_, err := tx.ExecContext(ctx, b.String(), in.args...)
	in.args, in.rows, in.size = in.args[:0], 0, 0
	return err
}

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

// never stands for a time that has not come, in the columns that are set later: see the migration for why it is not NULL.
var never = stamp(time.Unix(0, 0))

// timeOrZero turns it back.
func timeOrZero(t database.Time) time.Time {
	if t.Unix() == 0 {
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
