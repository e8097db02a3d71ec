package database

import (
	"database/sql/driver"
	"fmt"
	"time"
)

// Time is a moment as both engines keep it: UTC, to the microsecond, readable, and in an order that is also its text's.
// MySQL has it as DATETIME(6), SQLite as text of fixed width.
type Time struct{ time.Time }

const timeLayout = "2006-01-02 15:04:05.000000"

// Value implements driver.Valuer; the zero time is NULL.
func (t Time) Value() (driver.Value, error) {
	if t.IsZero() {
		return nil, nil
	}
	return t.UTC().Format(timeLayout), nil
}

// Scan implements sql.Scanner; NULL is the zero time.
func (t *Time) Scan(v any) error {
	var err error
	switch v := v.(type) {
	case nil:
		t.Time = time.Time{}
	case time.Time:
		t.Time = v.UTC()
	case string:
		t.Time, err = time.ParseInLocation(timeLayout, v, time.UTC)
	case []byte:
		t.Time, err = time.ParseInLocation(timeLayout, string(v), time.UTC)
	default:
		err = fmt.Errorf("scan a time from %T", v)
	}
	return err
}
