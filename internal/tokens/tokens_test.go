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
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"golang.org/x/sync/errgroup"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/database/dbtest"
	"github.com/lhspn/lhspn/internal/push"
)

func TestRegister(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *Store) {
		now := clock(s)
		first := *now
		full := push.Registration{
			Token: token(1), Environment: push.Sandbox, DefaultEnvironment: push.Production, Badge: 4294967295,
			UserID: ptr("ünï'\"\\\x00"), DeviceID: ptr("d"), Tags: ptr([]string{"plan:pro", "béta", "plan:pro"}), AppVersion: ptr("1.0"), OSVersion: ptr("26"),
			DeviceModel: ptr("iPhone1,1"), Locale: ptr("de_DE"), TimeZone: ptr("Europe/Berlin"),
		}
		want := push.Device{
			Token: token(1), Environment: push.Sandbox, Badge: 4294967295, UserID: "ünï'\"\\\x00", DeviceID: "d", Tags: []string{"plan:pro", "béta", "plan:pro"},
			AppVersion: "1.0", OSVersion: "26", DeviceModel: "iPhone1,1", Locale: "de_DE", TimeZone: "Europe/Berlin", LastUpdated: first, CreatedAt: first,
		}
		check := func(step string, r push.Registration, created bool) {
			t.Helper()
			d, isNew, err := s.Register(t.Context(), app, r)
			if err != nil || isNew != created {
				t.Fatalf("%s: created %v, %v", step, isNew, err)
			}
			if diff := cmp.Diff(want, d); diff != "" {
				t.Errorf("%s: answered (-want +got)\n%s", step, diff)
			}
			stored, err := s.Get(t.Context(), app, r.Token)
			if err != nil {
				t.Fatalf("%s: %v", step, err)
			}
			if diff := cmp.Diff(want, stored); diff != "" {
				t.Errorf("%s: stored (-want +got)\n%s", step, diff)
			}
		}
		check("new", full, true)

		*now = now.Add(1500 * time.Microsecond)
		want.LastUpdated, want.Badge = *now, 0
		check("refreshed with nothing but the token", registration(1), false)

		*now = now.Add(-time.Hour)
		want.Badge = 7
		check("by a clock that is behind", push.Registration{Token: token(1), Badge: 7, DefaultEnvironment: push.Production}, false)

		*now = now.Add(2 * time.Hour)
		want.LastUpdated, want.Badge, want.Environment, want.UserID, want.Tags, want.Locale = *now, 0, push.Production, "", nil, "en"
		check("some fields changed and cleared",
			push.Registration{Token: token(1), Environment: push.Production, UserID: ptr(""), Tags: ptr([]string{}), Locale: ptr("en")}, false)

		if _, err := s.Get(t.Context(), "other", token(1)); !errors.Is(err, push.ErrNotFound) {
			t.Errorf("another app: %v", err)
		}
		checkIndex(t, s)
	})
}

// A page of changes of several apps, the same token in several of them and several times: as if made one after the other.
func TestChangesOfOneTransaction(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *Store) {
		register(t, s, push.Registration{Token: token(2), Badge: 5, DefaultEnvironment: push.Production, UserID: ptr("u")})
		two := func(app string, r push.Registration) *change {
			r.DefaultEnvironment = push.Production
			return &change{app: app, token: r.Token, register: &r}
		}
		group := []*change{
			two(app, push.Registration{Token: token(1), Badge: 1, UserID: ptr("a")}),
			two("other", push.Registration{Token: token(1), Badge: 9, Tags: ptr([]string{"x"})}),
			two(app, push.Registration{Token: token(1), Badge: 2, Tags: ptr([]string{"y"})}),
			{app: app, token: token(1), badge: 3},
			{app: app, token: token(2), remove: true},
			{app: app, token: token(2), badge: 3},
			two(app, push.Registration{Token: token(2), Badge: 6}),
			{app: app, token: token(3), remove: true},
			two(app, push.Registration{Token: token(4), Badge: 6}),
			{app: app, token: token(4), remove: true},
		}
		for i, err := range s.commit(t.Context(), group) {
			if err != nil {
				t.Fatalf("%d: %v", i, err)
			}
		}
		for i, want := range []bool{true, true, false, false, false, false, true, false, true, false} {
			if group[i].created != want {
				t.Errorf("%d: created %v", i, group[i].created)
			}
		}
		if group[3].found != true || group[5].found != false {
			t.Error("badges of the known and the unknown")
		}
		var got []string
		for _, a := range []string{app, "other"} {
			devices, _, err := s.List(t.Context(), a, push.DeviceFilter{}, "", 10)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range devices {
				got = append(got, fmt.Sprint(a, d.Token[7], d.Badge, d.UserID, d.Tags))
			}
		}
		want := []string{fmt.Sprint(app, 1, 3, "a", []string{"y"}), fmt.Sprint(app, 2, 6, "", []string{}), fmt.Sprint("other", 1, 9, "", []string{"x"})}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		checkIndex(t, s)
	})
}

func TestSetBadgeAndDelete(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *Store) {
		before := register(t, s, push.Registration{Token: token(1), Badge: 5, DefaultEnvironment: push.Production, UserID: ptr("u"), Tags: ptr([]string{"t"})})
		if err := s.SetBadge(t.Context(), app, token(1), 4294967295); err != nil {
			t.Fatal(err)
		}
		if err := s.SetBadge(t.Context(), app, token(1), 4294967295); err != nil {
			t.Errorf("the same badge again: %v", err)
		}
		got, err := s.Get(t.Context(), app, token(1))
		before.Badge = 4294967295
		if diff := cmp.Diff(before, got); diff != "" || err != nil {
			t.Errorf("%v, %s", err, diff)
		}
		if err := s.SetBadge(t.Context(), app, token(2), 1); !errors.Is(err, push.ErrNotFound) {
			t.Errorf("unknown: %v", err)
		}
		for range 2 {
			if err := s.Delete(t.Context(), app, token(1)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := s.Get(t.Context(), app, token(1)); !errors.Is(err, push.ErrNotFound) {
			t.Errorf("deleted: %v", err)
		}
		checkIndex(t, s)
	})
}

func TestDeviceWithNewTokenReplacesOld(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *Store) {
		on := func(n int, device string) push.Registration {
			return push.Registration{Token: token(n), DefaultEnvironment: push.Production, DeviceID: &device, UserID: ptr("u"), Tags: ptr([]string{"t"})}
		}
		register(t, s, on(1, "A"))
		register(t, s, on(2, "B"))
		if _, _, err := s.Register(t.Context(), "other", on(3, "A")); err != nil {
			t.Fatal(err)
		}
		register(t, s, on(4, "A"))
		tokens := func() (n []int) {
			t.Helper()
			checkIndex(t, s)
			for _, a := range []string{app, "other"} {
				devices, _, err := s.List(t.Context(), a, push.DeviceFilter{}, "", 10)
				if err != nil {
					t.Fatal(err)
				}
				for _, d := range devices {
					n = append(n, int(d.Token[7]))
				}
			}
			return n
		}
		if got := tokens(); !slices.Equal(got, []int{2, 4, 3}) {
			t.Errorf("a new token: left %v", got)
		}
		register(t, s, on(2, "A"))
		if got := tokens(); !slices.Equal(got, []int{2, 3}) {
			t.Errorf("a known token: left %v", got)
		}
		// Within one transaction: the last one has the device; one that was replaced and comes back is new.
		group := []*change{}
		for _, r := range []push.Registration{on(5, "A"), on(6, "A"), on(2, "A"), on(7, "C"), on(8, "C"), registration(7)} {
			group = append(group, &change{app: app, token: r.Token, register: &r})
		}
		if errs := s.commit(t.Context(), group); errs[0] != nil {
			t.Fatal(errs)
		}
		if got := tokens(); !slices.Equal(got, []int{2, 7, 8, 3}) {
			t.Errorf("in one transaction: left %v", got)
		}
		if !group[2].created || !group[5].created || group[5].device.DeviceID != "" {
			t.Error("what came back is not new")
		}
		var m dto.Metric
		if err := s.metrics.removals.WithLabelValues(removedReplaced).Write(&m); err != nil || m.Counter.GetValue() != 2 {
			t.Errorf("counted %v, %v", &m, err)
		}
	})
}

// Of two tokens of a device an import leaves the later one, whichever comes first, and whether it was imported or registered.
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

// The same device comes with two tokens at once, over two replicas: one of them stays.
func TestDeviceWithTwoTokensAtOnce(t *testing.T) {
	t.Parallel()
	address := dbtest.MySQLAddress(t)
	var stores []*Store
	for range 2 {
		stores = append(stores, open(t, dbtest.Open(t, address)))
	}
	for round := range 20 {
		var g errgroup.Group
		for i, s := range stores {
			g.Go(func() error {
				r := registration(2*round + i)
				r.DeviceID = ptr(fmt.Sprint("device", round))
				_, _, err := s.Register(t.Context(), app, r)
				return err
			})
		}
		if err := g.Wait(); err != nil {
			t.Fatal(err)
		}
		devices, _, err := stores[0].List(t.Context(), app, push.DeviceFilter{}, "", 100)
		if err != nil || len(devices) != round+1 {
			t.Fatalf("round %d: %d devices, %v", round, len(devices), err)
		}
	}
	checkIndex(t, stores[0])
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

// Many registrations at once, many of them of the same tokens, over two replicas: none is lost, each token is new once, the
// index stays in step.
func TestRegisterAtOnce(t *testing.T) {
	t.Parallel()
	run := func(t *testing.T, stores ...*Store) {
		t.Helper()
		const clients, rounds, tokens = 16, 20, 25
		created := make(chan bool, clients*rounds)
		var g errgroup.Group
		for c := range clients {
			g.Go(func() error {
				for i := range rounds {
					r := registration((c*7 + i*3) % tokens)
					r.UserID, r.Tags = ptr(fmt.Sprint("u", c)), ptr([]string{fmt.Sprint("t", i%3), fmt.Sprint("c", c)})
					_, isNew, err := stores[(c+i)%len(stores)].Register(t.Context(), app, r)
					if err != nil {
						return err
					}
					created <- isNew
				}
				return nil
			})
		}
		if err := g.Wait(); err != nil {
			t.Fatal(err)
		}
		close(created)
		n := 0
		for isNew := range created {
			if isNew {
				n++
			}
		}
		if n != tokens {
			t.Errorf("%d of %d tokens were new", n, tokens)
		}
		checkIndex(t, stores[0])
	}
	replicas(t, run)
}

// Two replicas import the same new tokens at once: between the look for a token and its insertion the other may insert it.
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

// A commit whose answer is lost, whether it happened or not, is made again: what was asked for is then there once.
func TestUnknownCommit(t *testing.T) {
	t.Parallel()
	for name, persisted := range map[string]bool{"failed": false, "failed but persisted": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := New(dbtest.SQLite(t), prometheus.NewRegistry())
			calls := 0
			s.tx = func(ctx context.Context, fn func(ctx context.Context, tx *sqlx.Tx) error) error {
				if calls++; calls > 1 {
					return s.db.Tx(ctx, fn)
				}
				lost := fmt.Errorf("%w: %w", database.ErrCommitUnknown, push.ErrUnavailable)
				if !persisted {
					return lost
				}
				return errors.Join(s.db.Tx(ctx, fn), lost)
			}
			r := push.Registration{Token: token(1), Badge: 3, DefaultEnvironment: push.Production, UserID: ptr("u"), DeviceID: ptr("d")}
			if errs := s.commit(t.Context(), []*change{{app: app, token: token(1), register: &r}}); errs[0] != nil {
				t.Fatal(errs)
			}
			if d, err := s.Get(t.Context(), app, token(1)); err != nil || d.Badge != 3 {
				t.Errorf("%+v, %v", d, err)
			}
			checkIndex(t, s)
		})
	}
}

// One change that the database refuses does not take the others of its group with it.
func TestRefusedChange(t *testing.T) {
	t.Parallel()
	s := New(dbtest.MySQL(t), prometheus.NewRegistry())
	good, bad := registration(1), registration(2)
	bad.UserID = ptr(string(make([]byte, 300))) // the API lets none through
	errs := s.commit(t.Context(), []*change{{app: app, token: token(1), register: &good}, {app: app, token: token(2), register: &bad}})
	if len(errs) != 2 || errs[0] != nil || errs[1] == nil || errors.Is(errs[1], push.ErrUnavailable) {
		t.Errorf("%v", errs)
	}
	if _, err := s.Get(t.Context(), app, token(1)); err != nil {
		t.Error(err)
	}
}

func TestUnavailable(t *testing.T) {
	t.Parallel()
	db, err := database.Open(t.Context(), "mysql://u:p@unix("+t.TempDir()+"/none)/d", database.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	s := open(t, db)
	_, _, register := s.Register(t.Context(), app, registration(1))
	_, get := s.Get(t.Context(), app, token(1))
	_, _, list := s.List(t.Context(), app, push.DeviceFilter{}, "", 1)
	for what, err := range map[string]error{
		"Register": register, "Get": get, "List": list,
		"SetBadge": s.SetBadge(t.Context(), app, token(1), 1),
		"Delete":   s.Delete(t.Context(), app, token(1)),
		"Import":   s.Import(t.Context(), app, []push.Device{{Token: token(1)}}),
	} {
		if !errors.Is(err, push.ErrUnavailable) {
			t.Errorf("%s: %v", what, err)
		}
	}
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

func TestList(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *Store) {
		for i := range 30 {
			r := registration(i)
			r.UserID, r.Tags = ptr(fmt.Sprint("u", i%3)), ptr([]string{fmt.Sprint("t", i%2), "all"})
			if i%5 == 0 {
				r.Environment = push.Sandbox
			}
			register(t, s, r)
		}
		for _, c := range []struct {
			filter push.DeviceFilter
			in     func(i int) bool
		}{
			{push.DeviceFilter{}, func(int) bool { return true }},
			{push.DeviceFilter{UserID: "u1"}, func(i int) bool { return i%3 == 1 }},
			{push.DeviceFilter{UserID: "u1", Tag: "t0"}, func(i int) bool { return i%3 == 1 && i%2 == 0 }},
			{push.DeviceFilter{Tag: "all", Environment: push.Sandbox}, func(i int) bool { return i%5 == 0 }},
			{push.DeviceFilter{Environment: push.Production}, func(i int) bool { return i%5 != 0 }},
			{push.DeviceFilter{UserID: "u2", Tag: "t1", Environment: push.Sandbox}, func(i int) bool { return i%3 == 2 && i%2 == 1 && i%5 == 0 }},
			{push.DeviceFilter{UserID: "nobody"}, func(int) bool { return false }},
		} {
			var want, got []push.Token
			for i := range 30 {
				if c.in(i) {
					want = append(want, token(i))
				}
			}
			for _, d := range listAll(t, s, c.filter, 4) {
				got = append(got, d.Token)
			}
			if !slices.Equal(want, got) {
				t.Errorf("%+v: got %d tokens, want %d", c.filter, len(got), len(want))
			}
		}
	})
}

// listAll pages through the list.
func listAll(tb testing.TB, s *Store, filter push.DeviceFilter, limit int) (all []push.Device) {
	tb.Helper()
	for after := push.Token(""); ; {
		page, next, err := s.List(tb.Context(), app, filter, after, limit)
		if err != nil {
			tb.Fatal(err)
		}
		if len(page) > limit {
			tb.Fatalf("a page of %d, not of %d", len(page), limit)
		}
		if all = append(all, page...); next == "" {
			return all
		}
		if next <= after {
			tb.Fatalf("after %q the list goes on after %q", after, next)
		}
		after = next
	}
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
