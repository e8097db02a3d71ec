package tokens

import (
	"context"
	"encoding/binary"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/database/dbtest"
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/quota"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

const app = "hedgehog"

// open is a running registry in db, which is stopped before the test ends.
func open(tb testing.TB, db *database.DB) *Store {
	tb.Helper()
	s := New(db, countersOf(db), prometheus.NewRegistry())
	ctx, cancel := context.WithCancel(context.WithoutCancel(tb.Context()))
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	tb.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			tb.Error(err)
		}
	})
	return s
}

func countersOf(db *database.DB) *quota.Counters {
	return quota.New(db, quota.Config{}, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
}

// each runs fn with a registry on either engine.
func each(t *testing.T, fn func(t *testing.T, s *Store)) {
	t.Helper()
	dbtest.Each(t, func(t *testing.T, db *database.DB) { fn(t, open(t, db)) })
}

// replicas runs fn with one registry on SQLite, and with two on one MySQL database.
func replicas(t *testing.T, fn func(t *testing.T, stores ...*Store)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		fn(t, open(t, dbtest.SQLite(t)))
	})
	t.Run("mysql", func(t *testing.T) {
		t.Parallel()
		address := dbtest.MySQLAddress(t)
		fn(t, open(t, dbtest.Open(t, address)), open(t, dbtest.Open(t, address)))
	})
}

// token is a token for each number, in the numbers' order.
func token(n int) push.Token {
	var b [32]byte
	binary.BigEndian.PutUint64(b[:], uint64(n))
	b[31] = 0x27 // what a driver would have to escape
	return push.Token(b[:])
}

func ptr[T any](v T) *T { return &v }

func registration(n int) push.Registration {
	return push.Registration{Token: token(n), DefaultEnvironment: push.Production}
}

func register(tb testing.TB, s *Store, r push.Registration) push.Device {
	tb.Helper()
	d, _, err := s.Register(tb.Context(), app, r)
	if err != nil {
		tb.Fatal(err)
	}
	return d
}

// clock sets the store's time, before it is used.
func clock(s *Store) *time.Time {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	s.now = func() time.Time { return now }
	return &now
}

// checkIndex compares the index with what the devices say.
func checkIndex(t interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}, s *Store) {
	t.Helper()
	var apps []string
	if err := s.db.Reader().Select(&apps, "SELECT DISTINCT app FROM device_tokens UNION SELECT DISTINCT app FROM device_token_index"); err != nil {
		t.Fatal(err)
	}
	var counted, there int64
	if err := s.db.Reader().Get(&counted, "SELECT COALESCE(SUM(tokens), 0) FROM token_usage"); err != nil {
		t.Fatal(err)
	}
	if err := s.db.Reader().Get(&there, "SELECT COUNT(*) FROM device_tokens"); err != nil {
		t.Fatal(err)
	}
	if counted != there {
		t.Fatalf("%d tokens are counted, %d are there", counted, there)
	}
	var want []indexRow
	for _, a := range apps {
		err := s.Export(context.Background(), a, func(d push.Device) error {
			want = appendIndex(want, a, &d)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	slices.SortFunc(want, compareIndexRows)
	rows, err := s.db.Reader().Query("SELECT app, kind, value, token FROM device_token_index ORDER BY app, kind, value, token")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var got []indexRow
	for rows.Next() {
		var r indexRow
		if err := rows.Scan(&r.app, &r.kind, &r.value, &r.token); err != nil {
			t.Fatal(err)
		}
		got = append(got, r)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(want, got) {
		t.Fatalf("the index is out of step: it has %d rows, the devices give %d\n%v\n%v", len(got), len(want), got, want)
	}
}
