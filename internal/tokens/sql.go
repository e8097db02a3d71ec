package tokens

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

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

func (s *Store) forUpdate() string { return s.db.Dialect.ForUpdate() }

// columnNames are the columns of a device, but app and token, in the order of row; from firstOptional on those that may
// be NULL, in the order of optional.
var columnNames = []string{
	"environment", "kind", "badge", "last_updated", "created_at",
	"kind_of", "user_id", "device_id", "tags", "app_version", "os_version", "device_model", "locale", "time_zone",
	"address"}

const firstOptional = 5

var deviceColumns = strings.Join(columnNames, ", ")

// appendDevice appends the values of app, token and the columns before firstOptional.
func appendDevice(args []any, app string, d *push.Device, at *stamp) []any {
	return append(args, app, []byte(d.Token), string(d.Environment), string(d.Kind), int64(d.Badge), at.of(d.LastUpdated),
		at.of(d.CreatedAt))
}

// stamp is a time as the engines take it. Most rows of a transaction have the same, which is written out once.
type stamp struct {
	time  time.Time
	value any
}

func (s *stamp) of(t time.Time) any {
	if s.value == nil || !t.Equal(s.time) {
		s.time = t
		s.value, _ = database.Time{Time: t}.Value() // it has no error to give
	}
	return s.value
}

// optional has the values of the columns from firstOptional on; nil is NULL.
type optional [10]any

const optionalTags = 3

// add sets those that the device has. Its tags are not encoded yet.
func (o *optional) add(d *push.Device) {
	for i, v := range [...]string{
		d.KindOf, d.UserID, d.DeviceID, "", d.AppVersion, d.OSVersion, d.DeviceModel, d.Locale, d.TimeZone,
	} {
		if v != "" {
			o[i] = []byte(v)
		}
	}
	if len(d.Tags) > 0 {
		o[optionalTags] = d.Tags
	}
	if len(d.Address) > 0 {
		o[len(o)-1] = d.Address
	}
}

func (o *optional) encodeTags(d *push.Device) error {
	if len(d.Tags) == 0 {
		return nil
	}
	text, err := json.Marshal(d.Tags)
	if err != nil {
		return fmt.Errorf("encode tags: %w", err)
	}
	o[optionalTags] = text
	return nil
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
	lastUpdated, createdAt                  storedTime
}

// storedTime is a time as it is read. One that cannot be read, as only somebody else can have written it, is the
// beginning of 1970: it costs its row alone, and not the page that the row is of.
type storedTime struct{ time.Time }

// Scan implements sql.Scanner.
func (t *storedTime) Scan(v any) error {
	var read database.Time
	t.Time = time.Unix(0, 0).UTC()
	if err := read.Scan(v); err == nil {
		t.Time = read.Time
	}
	return nil
}

// deviceDest is where to scan token and deviceColumns into.
func (r *row) deviceDest() []any {
	return []any{&r.token, &r.environment, &r.kind, &r.badge, &r.lastUpdated, &r.createdAt, &r.kindOf, &r.userID,
		&r.deviceID, &r.tags, &r.appVersion, &r.osVersion, &r.deviceModel, &r.locale, &r.timeZone, &r.address}
}

func (r *row) device() push.Device {
	return push.Device{
		Token: push.Token(r.token), Environment: environment(r.environment), Kind: push.Kind(r.kind),
		KindOf:      string(r.kindOf),
		Badge:       uint32(r.badge),
		LastUpdated: r.lastUpdated.Time, CreatedAt: r.createdAt.Time, Tags: decodeTags(r.tags),
		UserID: string(r.userID), DeviceID: string(r.deviceID), AppVersion: string(r.appVersion),
		OSVersion:   string(r.osVersion),
		DeviceModel: string(r.deviceModel), Locale: string(r.locale), TimeZone: string(r.timeZone),
		Address: slices.Clone([]byte(r.address)),
	}
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

// decodeTags is what is stored of the tags; what cannot be read is none.
func decodeTags(b []byte) (tags []string) {
	if len(b) == 0 || json.Unmarshal(b, &tags) != nil {
		return nil
	}
	return tags
}
