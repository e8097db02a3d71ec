package queue

import (
	"testing"
	"time"

	"github.com/lhspn/lhspn/internal/push"
)

// A cursor has one written form, and a place that the database can be asked for.
func FuzzInvalidationCursor(f *testing.F) {
	f.Add(formatCursor(&push.CheckedInvalidation{
		Invalidation: push.Invalidation{Token: push.TextToken("fcm", "x"), At: time.Unix(1, 0), Source: push.SourceUnregistered}, CheckedAt: time.Unix(2, 0),
	}))
	f.Add("OTIyMzM3MjAzNjg1NDc3NTgwNyBZUSA5MjIzMzcyMDM2ODU0Nzc1ODA3IGZlZWRiYWNr") // in the year 294247
	f.Add("")
	f.Fuzz(func(t *testing.T, cursor string) {
		c, err := parseCursor(cursor)
		if err == nil && (formatCursor(&c) != cursor || c.CheckedAt.UTC().Year() > 9999 || c.At.UTC().Year() > 9999 || c.At.Unix() < 0) {
			t.Errorf("%q is taken for %+v", cursor, c)
		}
	})
}
