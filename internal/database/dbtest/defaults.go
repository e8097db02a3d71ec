package dbtest

import (
	"database/sql"
	"strings"
	"testing"

	"github.com/lhspn/lhspn/internal/database"
)

// SameDefaults fails the test where a column of the list, written as for database.NewInsert, does not have the default
// in the table that the list says: rows would be stored with another value than they were given.
func SameDefaults(tb testing.TB, db *database.DB, table, columns string) {
	tb.Helper()
	query := "SELECT column_default FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = ? " +
		"AND column_name = ?"
	if db.Dialect == database.SQLite {
		query = "SELECT dflt_value FROM pragma_table_info(?) WHERE name = ?"
	}
	for column := range strings.SplitSeq(columns, ",") {
		name, want, optional := strings.Cut(strings.TrimSpace(column), "?")
		if !optional {
			continue
		}
		var stored sql.NullString
		if err := db.Reader().QueryRowContext(tb.Context(), query, table, name).Scan(&stored); err != nil {
			tb.Fatalf("%s.%s: %v", table, name, err)
		}
		if got := plainDefault(stored.String); got != plainDefault(want) {
			tb.Errorf("%s.%s has the default %q, and %q where it is inserted", table, name, got, want)
		}
	}
}

// plainDefault is a default without the engine's quotes. NULL, 0, an empty text and Never are one: the empty text.
func plainDefault(text string) string {
	text = strings.Trim(strings.TrimPrefix(text, "x'"), "'")
	if text == "NULL" || text == "0" || text == "0x" || strings.HasPrefix(text, "1970-01-01 00:00:00") {
		return ""
	}
	return text
}
