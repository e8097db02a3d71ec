package database_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jmoiron/sqlx"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/push"
)

// What clusters answer with at a commit: one that lost a race is run again, one that the cluster cannot do now is not
// the caller's fault.
func TestClusterErrors(t *testing.T) {
	t.Parallel()
	for number, lostRace := range map[uint16]bool{
		1213: true,                                         // Galera: certification lost
		3101: true,                                         // group replication: certification lost
		8022: true,                                         // TiDB
		9007: true,                                         // TiDB
		1047: false,                                        // Galera: no majority
		1180: false,                                        // Galera: majority lost during the commit
		3100: false,                                        // group replication: no majority
		1290: false,                                        // group replication: not the primary
		1021: false,                                        // no room
		1114: false,                                        // no room, as InnoDB says it
		1041: false,                                        // Vitess: throttled
		8005: true,                                         // TiDB
		1158: false, 1159: false, 1160: false, 1161: false, // the network
		2003: false, 2006: false, 2013: false, // a router's
		3168: false, 3796: false, 3797: false, 3798: false, // group replication
		1044: false, 1045: false, 1049: false, 1698: false, // the user's password, grants or database are changed
		1820: false, 1862: false, 3118: false, 4151: false, // the user's account is locked, or its password has expired
	} {
		err := fmt.Errorf("commit: %w", &mysql.MySQLError{Number: number})
		if database.IsDeadlock(err) != lostRace {
			t.Errorf("%d: taken for a lost race: %v", number, !lostRace)
		}
		if !errors.Is(database.MarkUnavailable(err), push.ErrUnavailable) {
			t.Errorf("%d is not marked as unavailable", number)
		}
	}
}

// Vitess and TiDB have errors without a number of their own.
func TestErrorsWithoutANumber(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"target: lhspn.-80.primary: vttablet: rpc error: code = Unavailable desc = error reading from server": "away",
		"target: lhspn.-80.primary: Code: UNAVAILABLE":                                                        "away",
		"vttablet: Code(17): primary is not serving, there is a reparent operation in progress":               "away",
		"target: lhspn.80-.primary: no healthy tablet available":                                              "away",
		"VT15001: previously failed. rollback needed":                                                         "lost race",
		"PessimisticLockNotFound":                         "lost race",
		"Information schema is changed [try again later]": "lost race",
		"VT12001: unsupported: update of vindex column":   "fault",
	} {
		err := fmt.Errorf("commit: %w", &mysql.MySQLError{Number: 1105, Message: text})
		got := "fault"
		switch {
		case database.IsDeadlock(err):
			got = "lost race"
		case errors.Is(database.MarkUnavailable(err), push.ErrUnavailable):
			got = "away"
		}
		if got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
	for _, err := range []error{mysql.ErrPktTooLarge, &mysql.MySQLError{Number: 1153}} {
		if got := database.MarkUnavailable(err); !errors.Is(got, push.ErrTooLarge) || errors.Is(got, push.ErrUnavailable) {
			t.Errorf("%v: %v", err, got)
		}
	}
}

func TestUnavailable(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	for name, address := range map[string]string{
		"refused": "mysql://u:p@tcp(" + closed.Addr().String() + ")/d",
		"silent":  "mysql://u:p@tcp(" + silent.Addr().String() + ")/d?timeout=100ms&readTimeout=100ms",
		"socket":  "mysql://u:p@unix(" + filepath.Join(t.TempDir(), "none") + ")/d",
	} {
		t.Run(name, func(t *testing.T) {
			db, err := database.Open(t.Context(), address, database.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			start := time.Now()
			_, migrated := database.Migrated(t.Context(), db)
			for what, err := range map[string]error{
				"Tx":       db.Tx(t.Context(), func(context.Context, *sqlx.Tx) error { return nil }),
				"Ping":     db.Ping(t.Context()),
				"Migrate":  database.Migrate(t.Context(), db, discard),
				"Migrated": migrated,
			} {
				if !errors.Is(err, push.ErrUnavailable) {
					t.Errorf("%s: %v", what, err)
				}
				if err != nil && strings.Contains(err.Error(), "u:p") {
					t.Errorf("%s tells the password: %v", what, err)
				}
			}
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}
