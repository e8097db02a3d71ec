package tokens

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jmoiron/sqlx"
	"github.com/prometheus/client_golang/prometheus"
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

// A page of changes of several apps, the same token in several of them and several times: as if made one after the
// other.
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

// Many registrations at once, many of them of the same tokens, over two replicas: none is lost, each token is new once,
// the index stays in step.
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

// A commit whose answer is lost, whether it happened or not, is made again: what was asked for is then there once.
func TestUnknownCommit(t *testing.T) {
	t.Parallel()
	for name, persisted := range map[string]bool{"failed": false, "failed but persisted": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := dbtest.SQLite(t)
			s := New(db, countersOf(db), prometheus.NewRegistry())
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
	db := dbtest.MySQL(t)
	s := New(db, countersOf(db), prometheus.NewRegistry())
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
