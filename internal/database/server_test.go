package database_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/jmoiron/sqlx"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/database/dbtest"
	"github.com/lhspn/lhspn/internal/push"
)

// A server that became read only, as after a failover, is left, and the error says why.
func TestAReadOnlyServerIsLeft(t *testing.T) {
	t.Parallel()
	db := dbtest.MySQL(t)
	dbtest.NotOnVitess(t, db, "it has no triggers")
	makeTable(t, db)
	execute(t, db, "CREATE TRIGGER read_only BEFORE INSERT ON things FOR EACH ROW "+
		"SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1290, MESSAGE_TEXT = 'The server is running with --read-only'")
	connection := func(query string) (id int, err error) {
		err = db.Tx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
			if err := tx.GetContext(ctx, &id, "SELECT CONNECTION_ID()"); err != nil {
				return err
			}
			_, err := tx.ExecContext(ctx, query)
			return err
		})
		return id, err
	}
	first, err := connection("INSERT INTO things (id, n, m) VALUES (1, 1, 1)")
	if code, ok := errors.AsType[*mysql.MySQLError](err); !ok || code.Number != 1290 || !errors.Is(err, push.ErrUnavailable) {
		t.Errorf("the server is read only: %v", err)
	}
	if second, err := connection("SELECT 1"); err != nil || second == first {
		t.Errorf("connection %d after %d, %v", second, first, err)
	}
}

func TestSettingsThatDoNotWorkAreRefusedAtStart(t *testing.T) {
	t.Parallel()
	db := dbtest.MySQL(t)
	dbtest.NotOnVitess(t, db, "a session there has no binlog_format of its own")
	if err := db.CheckServer(t.Context()); err != nil {
		t.Errorf("the server for tests: %v", err)
	}
	address := dbtest.MySQLAddress(t)
	separator := "?"
	if strings.Contains(address, "?") {
		separator = "&"
	}
	refused := func(setting, says string) {
		t.Helper()
		db, err := database.Open(t.Context(), address+separator+setting, database.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		if err := db.CheckServer(t.Context()); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", setting, err)
		}
	}
	refused("sql_select_limit=2", "SET GLOBAL sql_select_limit")
	var binlog bool
	if err := db.Reader().Get(&binlog, "SELECT @@log_bin"); err != nil || !binlog {
		t.Skipf("the server has no binary log: %v", err)
	}
	refused("binlog_format=%27STATEMENT%27", "binlog_format=ROW")
}
