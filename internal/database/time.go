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
		t.Time, err = parseTime(v)
	case []byte:
		t.Time, err = parseTime(string(v))
	default:
		err = fmt.Errorf("scan a time from %T", v)
	}
	return err
}

// Never stands for a time that has not come, in columns that are set later: a NULL would let the row grow.
var Never = Time{time.Unix(0, 0).UTC()}

// parseTime is time.Parse with timeLayout, for the only form in which times are stored.
func parseTime(s string) (time.Time, error) {
	if len(s) != len(timeLayout) {
		return time.ParseInLocation(timeLayout, s, time.UTC)
	}
	var parts [7]int
	for p, n := 0, 0; n < len(s); n++ {
		c, layout := s[n], timeLayout[n]
		switch {
		case layout < '0' || layout > '9':
			if c != layout {
				return time.ParseInLocation(timeLayout, s, time.UTC)
			}
			p++
		case c < '0' || c > '9':
			return time.ParseInLocation(timeLayout, s, time.UTC)
		default:
			parts[p] = parts[p]*10 + int(c-'0')
		}
	}
	t := time.Date(parts[0], time.Month(parts[1]), parts[2], parts[3], parts[4], parts[5], parts[6]*1000, time.UTC)
	if t.Day() != parts[2] || t.Hour() != parts[3] || t.Minute() != parts[4] || t.Second() != parts[5] ||
		int(t.Month()) != parts[1] { // out of its range, and carried over
		return time.ParseInLocation(timeLayout, s, time.UTC)
	}
	return t, nil
}
