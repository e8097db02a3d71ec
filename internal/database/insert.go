package database

import (
	"context"
	"math/bits"
	"reflect"
	"strconv"
	"strings"
	"sync"

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
	*columnList
	head, tail  string
	args        []any
	rows, bytes int
	used        uint64 // bits by column: where some row has another value than the default
}

// columnList is the columns of an INSERT.
type columnList struct {
	names    []string
	defaults []columnDefault
	optional uint64 // bits by column: what may be left out
}

// columnDefault is what an optional column has by default, as text and as number.
type columnDefault struct {
	text   string
	number int64
}

// NewInsert begins an INSERT of the columns, of which there are at most 64, separated by commas; tail ends each
// statement, as Dialect.Upsert gives it. A column may be followed by a question mark and by what it has in its table by
// default, as in "priority?10"; nothing there stands for NULL, 0, an empty text or Never. It is left out of statements
// none of whose rows have anything else there.
func NewInsert(table, columns, tail string) *Insert {
	list, known := columnLists.Load(columns)
	if !known {
		list, _ = columnLists.LoadOrStore(columns, newColumnList(columns))
	}
	return &Insert{columnList: list.(*columnList), head: "INSERT INTO " + table + " (", tail: tail}
}

// columnLists keeps the lists by their texts, which are those of a few statements.
var columnLists sync.Map

func newColumnList(columns string) *columnList {
	names := strings.Split(columns, ",")
	list := &columnList{names: names, defaults: make([]columnDefault, len(names))}
	for i, column := range names {
		name, text, optional := strings.Cut(strings.TrimSpace(column), "?")
		names[i] = name
		if optional {
			n, _ := strconv.ParseInt(text, 10, 64) // 0 for what is no number
			list.optional, list.defaults[i] = list.optional|1<<i, columnDefault{text, n}
		}
	}
	return list
}

// Add appends a row, and first executes what is there where the row would not fit into the same statement. It does not
// keep values, but what they refer to until the transaction ends.
func (in *Insert) Add(ctx context.Context, tx *sqlx.Tx, values ...any) error {
	var bytes int
	var used uint64
	for i, v := range values {
		bytes += argBytes(v)
		if in.optional&(1<<i) != 0 && !in.defaults[i].is(v) {
			used |= 1 << i
		}
	}
	if in.rows == insertRows || in.rows > 0 && (in.bytes+bytes > insertBytes || len(in.args)+len(values) > insertArgs) {
		if err := in.Flush(ctx, tx); err != nil {
			return err
		}
	}
	if in.args == nil {
		in.args = *argsPool.Get().(*[]any) // nothing else is put there
	}
	in.args = append(in.args, values...)
	in.rows++
	in.bytes += bytes
	in.used |= used
	return nil
}

// argsPool spares each group of requests the growth of its arguments; long lists are not kept.
var argsPool = sync.Pool{New: func() any { return new([]any) }}

const maxPooledArgs = 8 << 10

// is reports whether v is the default.
func (d columnDefault) is(v any) bool {
	switch v := v.(type) {
	case nil:
		return d.text == ""
	case []byte:
		return string(v) == d.text
	case string:
		return v == d.text
	case Time:
		return d.text == "" && v.Equal(Never.Time)
	}
	switch r := reflect.ValueOf(v); {
	case r.Kind() == reflect.Bool:
		return r.Bool() == (d.number == 1)
	case r.CanInt():
		return r.Int() == d.number
	case r.CanUint():
		return r.Uint() == uint64(d.number)
	}
	return false
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
	columns, args := in.needed()
	ctx = later(ctx)
	for rows := in.rows; rows > 0; {
		n := rows
		if tx.DriverName() == string(SQLite) { // few texts, which are kept: see keepingConn
			n = 1 << (bits.Len(uint(min(rows, keptRows))) - 1)
		}
		if _, err := tx.ExecContext(ctx, in.statement(columns, n), args[:n*len(columns)]...); err != nil {
			return err
		}
		args, rows = args[n*len(columns):], rows-n
	}
	if cap(in.args) <= maxPooledArgs {
		clear(in.args)
		spare := in.args[:0]
		argsPool.Put(&spare)
	}
	in.args, in.rows, in.bytes, in.used = nil, 0, 0, 0
	return nil
}

// needed is what the statement has to name, and the rows' values of that, which take the place of all of them.
func (in *Insert) needed() (columns []string, args []any) {
	drop := in.optional &^ in.used
	if drop == 0 {
		return in.names, in.args
	}
	args = in.args[:0]
	for i, v := range in.args {
		if drop&(1<<(i%len(in.names))) == 0 {
			args = append(args, v)
		}
	}
	for i, name := range in.names {
		if drop&(1<<i) == 0 {
			columns = append(columns, name)
		}
	}
	return columns, args
}

// keptRows is the number of rows of the longest statement for SQLite. There are no round trips to save.
const keptRows = 64

// statement is the text for so many rows.
func (in *Insert) statement(columns []string, rows int) string {
	row := "(?" + strings.Repeat(",?", len(columns)-1) + ")"
	names := strings.Join(columns, ", ")
	var b strings.Builder
	b.Grow(len(in.head) + len(names) + 10 + rows*(len(row)+1) + len(in.tail))
	b.WriteString(in.head)
	b.WriteString(names)
	b.WriteString(") VALUES ")
	for i := range rows {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(row)
	}
	b.WriteString(in.tail)
	return b.String()
}
