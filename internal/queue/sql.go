package queue

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/push"
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

func (q *Queue) forUpdate() string { return q.db.Dialect.ForUpdate() }

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

// runs are the values of each app, up to n at a time. The apps are in order, so that transactions lock rows in one.
func runs[T any](byApp map[string][]T, n int) iter.Seq2[string, []T] {
	return func(yield func(app string, run []T) bool) {
		for _, app := range slices.Sorted(maps.Keys(byApp)) {
			for run := range slices.Chunk(byApp[app], n) {
				if !yield(app, run) {
					return
				}
			}
		}
	}
}

// wrap says what was attempted, and marks an error that means that the database is away. nil stays nil.
func wrap(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf(format+": %w", append(args, database.MarkUnavailable(err))...)
}

// ofPlatforms is a condition on the token column, and on the environment's, empty or beginning with AND. A platform's
// tokens are a range of the key that they are in, those of the default one what is between the ranges.
func ofPlatforms(s push.PlatformSet) (condition string, args []any) {
	condition, args = ofNames(s)
	if len(s.Except) > 0 {
		condition += " AND environment NOT IN " + list(len(s.Except))
		for _, route := range s.Except {
			args = append(args, string(route))
		}
	}
	return condition, args
}

func ofNames(s push.PlatformSet) (condition string, args []any) {
	if len(s.Names) == 0 {
		return "", nil
	}
	others := slices.Contains(s.Names, push.DefaultPlatform)
	var ranges []string
	for _, name := range s.All {
		if name != push.DefaultPlatform && slices.Contains(s.Names, name) != others {
			ranges = append(ranges, "(token >= ? AND token < ?)")
			args = append(args, []byte(name+":"), []byte(name+";")) // ';' follows ':'
		}
	}
	switch {
	case len(ranges) == 0 && others:
		return "", nil
	case len(ranges) == 0:
		return " AND 1 = 0", nil
	case others:
		return " AND NOT (" + strings.Join(ranges, " OR ") + ")", args
	}
	return " AND (" + strings.Join(ranges, " OR ") + ")", args
}

func pointers[T any](values []T) []*T {
	all := make([]*T, len(values))
	for i := range values {
		all[i] = &values[i]
	}
	return all
}
