package tokens

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jmoiron/sqlx"
	"golang.org/x/sync/errgroup"

	"github.com/lhspn/lhspn/internal/database/dbtest"
	"github.com/lhspn/lhspn/internal/push"
)

// Of two tokens of a device an import leaves the later one, whichever comes first, and whether it was imported or
// registered.
func TestImportOfAnOldTokenOfTheDevice(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *Store) {
		now := clock(s)
		register(t, s, push.Registration{Token: token(1), DefaultEnvironment: push.Production, DeviceID: ptr("live")})
		line := func(n int, device string, age time.Duration) push.Device {
			at := now.Add(-age)
			return push.Device{Token: token(n), Environment: push.Production, DeviceID: device, LastUpdated: at, CreatedAt: at}
		}
		for _, page := range [][]push.Device{
			{line(2, "live", time.Hour), line(3, "a", time.Hour), line(4, "a", 2*time.Hour), line(5, "b", 2*time.Hour), line(6, "b", time.Hour)},
			{line(7, "a", 3*time.Hour), line(8, "b", time.Minute)},
		} {
			if err := s.Import(t.Context(), app, page); err != nil {
				t.Fatal(err)
			}
			checkIndex(t, s)
		}
		var got []push.Token
		if err := s.Export(t.Context(), app, func(d push.Device) error { got = append(got, d.Token); return nil }); err != nil {
			t.Fatal(err)
		}
		if want := []push.Token{token(1), token(3), token(8)}; !slices.Equal(got, want) {
			t.Errorf("left %q, want %q", got, want)
		}
	})
}

// Whoever knows a device id can register an invented token with it, beside the real one. Neither takes the device from the
// other in an import elsewhere, whichever comes first and is the later one, nor do those of two users.
func TestImportOfInventedTokensOfADevice(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *Store) {
		now := clock(s)
		line := func(n int, device, user string, age time.Duration) push.Device {
			at := now.Add(-age)
			return push.Device{Token: token(n), Environment: push.Production, DeviceID: device, UserID: user, LastUpdated: at, CreatedAt: at}
		}
		register(t, s, push.Registration{Token: token(1), DefaultEnvironment: push.Production, DeviceID: ptr("stored"), UserID: ptr("u")})
		for _, page := range [][]push.Device{
			{line(2, "stored", "", -time.Hour), line(3, "stored", "v", -time.Hour), line(4, "stored", "u", time.Hour)}, // 4 is older than 1
			{line(5, "a", "u", 3*time.Hour), line(6, "a", "", time.Hour), line(7, "a", "u", 2*time.Hour), line(8, "a", "", 2*time.Hour)},
			{line(9, "b", "", time.Hour), line(10, "b", "u", 2*time.Hour)},
			{line(11, "b", "v", 2*time.Hour), line(12, "b", "", 0)},
			{line(10, "b", "v", time.Hour)}, // one that comes to have the other's user takes its place
			{line(13, "c", "", 2*time.Hour), line(14, "c", "v", time.Hour)},
		} {
			if err := s.Import(t.Context(), app, page); err != nil {
				t.Fatal(err)
			}
			checkIndex(t, s)
		}
		// Two that have the device come to have one user: a line that is older than one of them takes the place of neither.
		r := push.Registration{Token: token(13), DefaultEnvironment: push.Production, UserID: ptr("v")}
		*now = now.Add(-2 * time.Hour)
		register(t, s, r)
		*now = now.Add(2 * time.Hour)
		if err := s.Import(t.Context(), app, []push.Device{line(15, "c", "v", 90*time.Minute)}); err != nil {
			t.Fatal(err)
		}
		checkIndex(t, s)
		var got []push.Token
		if err := s.Export(t.Context(), app, func(d push.Device) error { got = append(got, d.Token); return nil }); err != nil {
			t.Fatal(err)
		}
		want := []push.Token{token(1), token(2), token(3), token(6), token(7), token(10), token(12), token(13), token(14)}
		if !slices.Equal(got, want) {
			t.Errorf("left %q, want %q", got, want)
		}
	})
}

// A device registers over one replica while another imports an old token of it: the registered one stays.
func TestImportBesideTheDevicesRegistration(t *testing.T) {
	t.Parallel()
	address := dbtest.MySQLAddress(t)
	importing, registering := open(t, dbtest.Open(t, address)), open(t, dbtest.Open(t, address))
	old := time.Now().Add(-time.Hour)
	for round := range 30 {
		device := fmt.Sprint("device", round)
		var g errgroup.Group
		g.Go(func() error {
			return importing.Import(t.Context(), app, []push.Device{{
				Token: token(1000 + round), Environment: push.Production, DeviceID: device, LastUpdated: old, CreatedAt: old,
			}})
		})
		g.Go(func() error {
			r := registration(round)
			r.DeviceID = &device
			_, _, err := registering.Register(t.Context(), app, r)
			return err
		})
		if err := g.Wait(); err != nil {
			t.Fatal(err)
		}
		devices, _, err := importing.List(t.Context(), app, push.DeviceFilter{}, "", 100)
		if err != nil || len(devices) != round+1 || devices[round].Token != token(round) {
			t.Fatalf("round %d: %d devices, %v", round, len(devices), err)
		}
	}
	checkIndex(t, importing)
}

// Two replicas import the same new tokens at once: between the look for a token and its insertion the other may insert
// it.
func TestImportAtOnce(t *testing.T) {
	t.Parallel()
	address := dbtest.MySQLAddress(t)
	stores := []*Store{open(t, dbtest.Open(t, address)), open(t, dbtest.Open(t, address))}
	for round := range 20 {
		var g errgroup.Group
		for _, s := range stores {
			g.Go(func() error {
				var page []push.Device
				for i := range 200 {
					page = append(page, push.Device{Token: token(200*round + i), Environment: push.Production, LastUpdated: s.now(), CreatedAt: s.now(), UserID: "u"})
				}
				return s.Import(t.Context(), app, page)
			})
		}
		if err := g.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	checkIndex(t, stores[0])
}

// Lines are taken for new tokens until one is not: then the whole page is read, and what is known changes or goes as it
// does then, in the pages after it too.
func TestImportOfKnownTokensAmongNewOnes(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *Store) {
		now := clock(s)
		register(t, s, push.Registration{Token: token(500), DefaultEnvironment: push.Production, UserID: ptr("before"), Badge: 3})
		register(t, s, push.Registration{Token: token(501), DefaultEnvironment: push.Production, DeviceID: ptr("live")})
		register(t, s, registration(9500))
		at := now.Add(time.Minute)
		page := func(first int, more ...push.Device) {
			t.Helper()
			for i := range 700 {
				more = append(more, push.Device{Token: token(first + 2*i), Environment: push.Sandbox, UserID: "u", LastUpdated: at, CreatedAt: at})
			}
			if err := s.Import(t.Context(), app, more); err != nil {
				t.Fatal(err)
			}
			checkIndex(t, s)
		}
		page(2)
		// An old line says that a token of another device was this device's: neither that nor the token is true any more.
		page(20_000, push.Device{Token: token(9500), Environment: push.Production, DeviceID: "live", LastUpdated: now.Add(-time.Hour), CreatedAt: now.Add(-time.Hour)},
			push.Device{Token: token(9501), Environment: push.Production, DeviceID: "live", LastUpdated: now.Add(-time.Hour), CreatedAt: now.Add(-time.Hour)})
		page(40_001)
		if d, err := s.Get(t.Context(), app, token(500)); err != nil || d.UserID != "u" || d.Badge != 0 || d.Environment != push.Sandbox {
			t.Errorf("what was known is %+v, %v", d, err)
		}
		if _, err := s.Get(t.Context(), app, token(9501)); !errors.Is(err, push.ErrNotFound) {
			t.Errorf("an old token of the device: %v", err)
		}
		var n int
		if err := s.db.Reader().Get(&n, "SELECT COUNT(*) FROM device_tokens"); err != nil || n != 3*700+2 {
			t.Errorf("%d tokens, %v", n, err)
		}
	})
}

func TestImportAndExport(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *Store) {
		now := clock(s)
		live := register(t, s, push.Registration{Token: token(3), Badge: 1, DefaultEnvironment: push.Production, UserID: ptr("live")})
		old := now.Add(-1000 * time.Hour)
		const n = 2500
		var want []push.Device
		for i := range n {
			want = append(want, push.Device{Token: token(i), Environment: push.Sandbox, Badge: uint32(i), UserID: fmt.Sprint("u", i%7), Tags: []string{"imported"},
				DeviceID: fmt.Sprint("d", i), LastUpdated: old, CreatedAt: old.Add(-time.Hour)})
		}
		for range 2 { // importing twice changes nothing
			for page := range slices.Chunk(want, 1000) {
				if err := s.Import(t.Context(), app, page); err != nil {
					t.Fatal(err)
				}
			}
		}
		want[3] = live // it was registered later than the import's time
		var got []push.Device
		if err := s.Export(t.Context(), app, func(d push.Device) error { got = append(got, d); return nil }); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		stop := errors.New("stop")
		if err := s.Export(t.Context(), app, func(push.Device) error { return stop }); !errors.Is(err, stop) {
			t.Errorf("fn's error: %v", err)
		}
		newer := want[5]
		newer.LastUpdated, newer.UserID, newer.Tags = old.Add(time.Hour), "moved", nil
		if err := s.Import(t.Context(), app, []push.Device{newer}); err != nil {
			t.Fatal(err)
		}
		if d, err := s.Get(t.Context(), app, token(5)); err != nil || cmp.Diff(newer, d) != "" {
			t.Errorf("%v, %s", err, cmp.Diff(newer, d))
		}
		checkIndex(t, s)
	})
}

// A row that somebody else has written costs itself, and not the page that it is of.
func TestARowThatCannotBeRead(t *testing.T) {
	t.Parallel()
	s := open(t, dbtest.SQLite(t))
	for n := range 3 {
		register(t, s, registration(n))
	}
	if err := s.tx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
		_, err := tx.ExecContext(ctx, "UPDATE device_tokens SET last_updated = '-001-12-31 19:00:00.000000', tags = CAST('{' AS BLOB) WHERE token = ?", []byte(token(1)))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	devices, _, err := s.List(t.Context(), app, push.DeviceFilter{}, "", 10)
	if err != nil || len(devices) != 3 || devices[1].LastUpdated.Unix() != 0 || devices[1].Tags != nil {
		t.Errorf("%v, %v", devices, err)
	}
	if d := register(t, s, registration(1)); d.LastUpdated.Year() < 2020 {
		t.Errorf("registered again it is %v", d)
	}
}
