package database_test

import (
	"strings"
	"testing"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/database/dbtest"
)

// An examination tells a server that takes no writes from one where the user may not, and leaves no table behind,
// however far it came.
func TestExamine(t *testing.T) {
	t.Parallel()
	address := dbtest.MySQLAddress(t)
	plain := dbtest.Open(t, address)
	dbtest.NotOnVitess(t, plain, "a session there has not these settings")
	of := func(setting string) string {
		t.Helper()
		separator := "?"
		if strings.Contains(address, "?") {
			separator = "&"
		}
		db, err := database.Open(t.Context(), address+separator+setting, database.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		var text strings.Builder
		for _, f := range db.Examine(t.Context(), 16) {
			text.WriteString(f.What + "\n")
			if f.Fatal {
				text.WriteString("  fatal: " + f.Mend + "\n")
			}
		}
		return text.String()
	}
	readOnly, binlog := "transaction_read_only=1", false
	var version string
	if err := plain.Reader().QueryRowx("SELECT VERSION(), @@log_bin").Scan(&version, &binlog); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(version, "MariaDB") {
		readOnly = "tx_read_only=1"
	}
	if told := of("autocommit=1"); strings.Contains(told, "fatal") || !strings.Contains(told, "version "+version) {
		t.Errorf("of a server that is all right: %s", told)
	}
	if told := of(readOnly); !strings.Contains(told, "takes no writes") || !strings.Contains(told, "fatal: the address of the primary") {
		t.Errorf("of one that is read only: %s", told)
	}
	if told := of("binlog_format='STATEMENT'"); binlog && !strings.Contains(told, "fatal: whether the database takes writes") {
		t.Errorf("of one that refuses to insert: %s", told)
	}
	var left []string
	if err := plain.Reader().Select(&left, "SHOW TABLES LIKE 'lhspn_doctor%'"); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
