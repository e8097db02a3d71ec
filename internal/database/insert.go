package database

import (
	"context"
	"math/bits"
	"strings"

	"github.com/jmoiron/sqlx"
)

// Bounds of one INSERT. SQLite takes 32,766 arguments; 500 rows hold their locks for milliseconds; and what is escaped
// may be twice as long as its bytes, where a server's max_allowed_packet may be as small as MinPacket.
const (
	insertRows  = 500
	insertArgs  = 30_000
	insertBytes = 1 << 20
)

// MinPacket is the smallest max_allowed_packet that the service works with.
const MinPacket = 4 << 20

// Insert is a multi-row INSERT under way: rows are added, and go out in as few statements as the bounds of rows and
// bytes allow. A row that is longer than the bound goes alone.
type Insert struct {
	head, tail, row string
	args            []any
	rows, bytes     int
}

// NewInsert begins an INSERT of the columns, which are separated by commas; tail ends each statement, as Dialect.Upsert
// gives it.
func NewInsert(table, columns, tail string) *Insert {
	return &Insert{
		head: "INSERT INTO " + table + " (" + columns + ") VALUES ",
		tail: tail,
		row:  "(?" + strings.Repeat(",?", strings.Count(columns, ",")) + ")",
	}
}

// Add appends a row, and first executes what is there where the row would not fit into the same statement. It does not
// keep values, but what they refer to until the statement is executed.
func (in *Insert) Add(ctx context.Context, tx *sqlx.Tx, values ...any) error {
	bytes := len(in.row)
	for _, v := range values {
		bytes += argBytes(v)
	}
	if in.rows == insertRows || in.rows > 0 && (in.bytes+bytes > insertBytes || len(in.args)+len(values) > insertArgs) {
		if err := in.Flush(ctx, tx); err != nil {
			return err
		}
	}
	in.args = append(in.args, values...)
	in.rows++
	in.bytes += bytes
	return nil
}

// argBytes is about how long an argument is within a statement.
func argBytes(v any) int {
	const other = 30 // a number, or a time with its quotes
	switch v := v.(type) {
	case []byte:
		return other + len(v)
	case string:
		return other + len(v)
	}
	return other
}

// Flush executes what has been added.
func (in *Insert) Flush(ctx context.Context, tx *sqlx.Tx) error {
	if in.rows == 0 {
		return nil
	}
	args, columns := in.args, len(in.args)/in.rows
	for rows := in.rows; rows > 0; {
		n := rows
		if tx.DriverName() == string(SQLite) { // few texts, which are kept: see keepingConn
			n = 1 << (bits.Len(uint(min(rows, keptRows))) - 1)
		}
		if _, err := tx.ExecContext(ctx, in.statement(n), args[:n*columns]...); err != nil {
			return err
		}
		args, rows = args[n*columns:], rows-n
	}
	clear(in.args)
	in.args, in.rows, in.bytes = in.args[:0], 0, 0
	return nil
}

// keptRows is the number of rows of the longest statement for SQLite. There are no round trips to save.
const keptRows = 64

// statement is the text for so many rows.
func (in *Insert) statement(rows int) string {
	var b strings.Builder
	b.Grow(len(in.head) + rows*(len(in.row)+1) + len(in.tail))
	b.WriteString(in.head)
	for i := range rows {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(in.row)
	}
	b.WriteString(in.tail)
	return b.String()
}
