package tokens

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/jmoiron/sqlx"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/push"
)

// maxRows bounds the rows that one statement names: below SQLite's limits of 32,766 arguments and of an expression's
// depth, and small enough to hold its locks for milliseconds.
const maxRows = 500

// statement is SQL under construction. It is reused.
type statement struct {
	sql  []byte
	args []any
}

var statements = sync.Pool{New: func() any { return new(statement) }}

func newStatement(sql string) *statement {
	s := statements.Get().(*statement)
	s.sql = append(s.sql[:0], sql...)
	s.args = s.args[:0]
	return s
}

func (s *statement) free() {
	clear(s.args)
	statements.Put(s)
}

// add appends SQL with its arguments.
func (s *statement) add(sql string, args ...any) *statement {
	s.sql = append(s.sql, sql...)
	s.args = append(s.args, args...)
	return s
}

// list appends " (?,?)", with the arguments that f gives.
func (s *statement) list(n int, f func(i int) any) *statement {
	s.sql = append(s.sql, " ("...)
	for i := range n {
		if i > 0 {
			s.sql = append(s.sql, ',')
		}
		s.sql = append(s.sql, '?')
		s.args = append(s.args, f(i))
	}
	s.sql = append(s.sql, ')')
	return s
}

// exec runs the statement, gives it back, and returns how many rows it met.
func (s *statement) exec(ctx context.Context, tx *sqlx.Tx) (int, error) {
	defer s.free()
	result, err := tx.ExecContext(ctx, string(s.sql), s.args...)
	if err != nil {
		return 0, err
	}
	n, err := result.RowsAffected()
	return int(n), err
}

// query runs the statement, gives it back, and calls each for every row, scanned into dest.
func (s *statement) query(ctx context.Context, q sqlx.QueryerContext, dest []any, each func() error) error {
	defer s.free()
	rows, err := q.QueryContext(ctx, string(s.sql), s.args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := rows.Scan(dest...); err != nil {
			return err
		}
		if err := each(); err != nil {
			return err
		}
	}
	return rows.Err()
}

// forUpdate ends a SELECT whose rows the transaction is about to change. SQLite has one writer, and so needs none.
func (s *Store) forUpdate() string {
	if s.db.Dialect == database.MySQL {
		return " FOR UPDATE"
	}
	return ""
}

// columnNames are the columns of a device, but app and token, in the order of appendDevice and row. The address, which
// few have, is the last.
var columnNames = []string{
	"environment", "kind", "kind_of", "badge", "last_updated", "created_at", "user_id", "device_id", "tags",
	"app_version", "os_version", "device_model", "locale", "time_zone", "address"}

var deviceColumns = strings.Join(columnNames, ", ")

func appendDevice(args []any, app string, d *push.Device) ([]any, error) {
	tags := any(nil)
	if len(d.Tags) > 0 {
		text, err := json.Marshal(d.Tags)
		if err != nil {
			return nil, fmt.Errorf("encode tags: %w", err)
		}
		tags = text
	}
	return append(args, app, []byte(d.Token), string(d.Environment), string(d.Kind), text(d.KindOf), int64(d.Badge),
		database.Time{Time: d.LastUpdated}, database.Time{Time: d.CreatedAt}, text(d.UserID), text(d.DeviceID), tags,
		text(d.AppVersion), text(d.OSVersion), text(d.DeviceModel), text(d.Locale), text(d.TimeZone), address(d.Address)), nil
}

// address is an address's column value: none is NULL.
func address(b []byte) any {
	if len(b) == 0 {
		return nil
	}
	return b
}

// text is a text's column value: the empty one is NULL.
func text(s string) any {
	if s == "" {
		return nil
	}
	return []byte(s)
}

// number is an integer as it is scanned; NULL is 0. database/sql would make a text of each and read that.
type number int64

// Scan implements sql.Scanner.
func (n *number) Scan(v any) error {
	if i, ok := v.(int64); ok {
		*n = number(i)
		return nil
	}
	var other sql.NullInt64
	err := other.Scan(v)
	*n = number(other.Int64)
	return err
}

// row is one row as it is scanned; what is in it is good until the next one.
type row struct {
	token, environment, kind, kindOf, tags  sql.RawBytes
	userID, deviceID, appVersion, osVersion sql.RawBytes
	deviceModel, locale, timeZone, address  sql.RawBytes
	badge                                   number
	lastUpdated, createdAt                  database.Time
}

// deviceDest is where to scan token and deviceColumns into.
func (r *row) deviceDest() []any {
	return []any{&r.token, &r.environment, &r.kind, &r.kindOf, &r.badge, &r.lastUpdated, &r.createdAt, &r.userID,
		&r.deviceID,
		&r.tags, &r.appVersion, &r.osVersion, &r.deviceModel, &r.locale, &r.timeZone, &r.address}
}

func (r *row) device() (push.Device, error) {
	tags, err := decodeTags(r.tags)
	return push.Device{
		Token: push.Token(r.token), Environment: environment(r.environment), Kind: push.Kind(r.kind),
		KindOf:      string(r.kindOf),
		Badge:       uint32(r.badge),
		LastUpdated: r.lastUpdated.Time, CreatedAt: r.createdAt.Time, Tags: tags,
		UserID: string(r.userID), DeviceID: string(r.deviceID), AppVersion: string(r.appVersion),
		OSVersion:   string(r.osVersion),
		DeviceModel: string(r.deviceModel), Locale: string(r.locale), TimeZone: string(r.timeZone),
		Address: slices.Clone([]byte(r.address)),
	}, err
}

func environment(b []byte) push.Route {
	switch {
	case string(b) == string(push.Production):
		return push.Production
	case string(b) == string(push.Sandbox):
		return push.Sandbox
	}
	return push.Route(b)
}

func decodeTags(b []byte) (tags []string, err error) {
	if len(b) == 0 {
		return nil, nil
	}
	if err := json.Unmarshal(b, &tags); err != nil {
		return nil, fmt.Errorf("decode stored tags: %w", err)
	}
	return tags, nil
}
