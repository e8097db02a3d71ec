package push

import (
	"strings"
	"time"
)

// ParseTime reads a time as RFC 3339 has it, which time.Parse takes more than, and gives it in UTC and to the
// microsecond: that is what the databases keep. They have no times before 1970 or after 9999; for those, as for what is
// no time, it returns false.
func ParseTime(s string) (time.Time, bool) {
	s = strings.ToUpper(s)
	t, err := time.Parse(time.RFC3339, s)
	if err != nil || !strictTime(s) {
		return time.Time{}, false
	}
	t = t.UTC().Truncate(time.Microsecond)
	return t, t.Unix() >= 0 && t.Year() <= 9999
}

// strictTime refuses what time.Parse takes beside RFC 3339: an hour of one digit, a comma, an offset out of range.
func strictTime(s string) bool {
	n := len(s)
	return s[len("2006-01-02T1")] != ':' && s[len("2006-01-02T15:04:05")] != ',' &&
		(s[n-1] == 'Z' || s[n-len("07:00"):n-len(":00")] < "24" && s[n-len("00"):] < "60")
}
