package tokens

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"golang.org/x/sync/errgroup"

	"github.com/lhspn/lhspn/internal/apns/payload"
	"github.com/lhspn/lhspn/internal/database/dbtest"
	"github.com/lhspn/lhspn/internal/push"
)

// A token that was sent a way that is not its own, or what it is not for, is not removed for what that answered.
func TestRemoveUnchangedByRoute(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *Store) {
		for _, c := range []struct {
			route  push.Route
			kind   push.Kind
			source push.Source
			want   bool
		}{
			{push.Production, "", push.SourceBadToken, false},
			{push.Sandbox, payload.KindVoIP, push.SourceBadToken, false},
			{push.Sandbox, "", push.SourceBadToken, true},
			{push.Production, "", push.SourceUnregistered, false},
			{push.Sandbox, payload.KindVoIP, push.SourceUnregistered, true}, // dead for everything
		} {
			if _, _, err := s.Register(t.Context(), app, push.Registration{Token: token(1), Environment: push.Sandbox}); err != nil {
				t.Fatal(err)
			}
			err := s.db.Tx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
				removed, err := s.RemoveUnchanged(ctx, tx, []push.Invalidation{
					{App: app, Token: token(1), Route: c.route, Kind: c.kind, At: time.Now().Add(time.Minute), Source: c.source},
				})
				if err == nil && removed[0] != c.want {
					t.Errorf("%s of %s: removed %v", c.source, c.route, removed[0])
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	})
}

func remove(tb testing.TB, s *Store, invalidations ...push.Invalidation) (removed []bool) {
	tb.Helper()
	err := s.db.Tx(tb.Context(), func(ctx context.Context, tx *sqlx.Tx) (err error) {
		removed, err = s.RemoveUnchanged(ctx, tx, invalidations)
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	return removed
}

func TestRemoveUnchanged(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *Store) {
		now := clock(s)
		for i := range 5 {
			r := registration(i)
			r.UserID, r.DeviceID, r.Tags = ptr("u"), ptr(string(rune('a'+i))), ptr([]string{"t", "s"})
			register(t, s, r)
		}
		if _, _, err := s.Register(t.Context(), "other", registration(1)); err != nil {
			t.Fatal(err)
		}
		dead := func(n int, after time.Duration) push.Invalidation {
			return push.Invalidation{App: app, Token: token(n), At: now.Add(after), Source: push.SourceFeedback}
		}
		got := remove(t, s,
			dead(0, -time.Microsecond),   // registered again since
			dead(1, 0),                   // at the very time
			dead(2, time.Hour),           // long dead
			dead(2, time.Hour),           // told twice
			dead(3, -time.Second),        // told twice, the second counts
			dead(3, 999*time.Nanosecond), // finer than what is stored
			dead(9, time.Hour),           // not registered
			push.Invalidation{App: "none", Token: token(4), At: now.Add(time.Hour), Source: push.SourceUnregistered},
		)
		if want := []bool{false, true, true, false, false, true, false, false}; !slices.Equal(got, want) {
			t.Errorf("removed %v, want %v", got, want)
		}
		var left []push.Token
		if err := s.Export(t.Context(), app, func(d push.Device) error { left = append(left, d.Token); return nil }); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(left, []push.Token{token(0), token(4)}) {
			t.Errorf("left %d tokens", len(left))
		}
		if _, err := s.Get(t.Context(), "other", token(1)); err != nil {
			t.Errorf("another app's token: %v", err)
		}
		if got := remove(t, s); len(got) != 0 {
			t.Errorf("nothing: %v", got)
		}
		checkIndex(t, s)
	})
}

func TestRemoveMany(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *Store) {
		fill(t, s, 1500, func(_ int, d *push.Device) { d.UserID, d.Tags = "u", []string{"a", "b"} })
		var all []push.Invalidation
		for i := range 1400 {
			all = append(all, push.Invalidation{App: app, Token: token(i), At: s.now(), Source: push.SourceFeedback})
		}
		if got := remove(t, s, all...); slices.Contains(got, false) {
			t.Error("some were not removed")
		}
		if left := audience(t, s, push.Audience{Environment: push.Production, All: true}, 1000); len(left) != 100 {
			t.Errorf("left %d", len(left))
		}
		checkIndex(t, s)
	})
}

// Registrations race with removals: whatever the order, a token that was registered after the time stays.
func TestRegisteredAgainStays(t *testing.T) {
	t.Parallel()
	run := func(t *testing.T, a, b *Store) {
		t.Helper()
		const n = 40
		fill(t, a, n, func(i int, d *push.Device) { d.UserID = "old" })
		dead := time.Now()
		var g errgroup.Group
		for i := range n {
			g.Go(func() error {
				r := registration(i)
				r.UserID = ptr("new")
				_, _, err := a.Register(t.Context(), app, r)
				return err
			})
		}
		for range 4 {
			g.Go(func() error {
				return b.db.Tx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
					var all []push.Invalidation
					for i := range n {
						all = append(all, push.Invalidation{App: app, Token: token(i), At: dead, Source: push.SourceFeedback})
					}
					_, err := b.RemoveUnchanged(ctx, tx, all)
					return err
				})
			})
		}
		if err := g.Wait(); err != nil {
			t.Fatal(err)
		}
		for i := range n {
			if d, err := a.Get(t.Context(), app, token(i)); err != nil || d.UserID != "new" {
				t.Errorf("token %d: %+v, %v", i, d, err)
			}
		}
		checkIndex(t, a)
	}
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		s := open(t, dbtest.SQLite(t))
		run(t, s, s)
	})
	t.Run("mysql", func(t *testing.T) {
		t.Parallel()
		address := dbtest.MySQLAddress(t)
		for range 5 {
			a := open(t, dbtest.Open(t, address))
			run(t, a, open(t, dbtest.Open(t, address)))
			for i := range 40 {
				if err := a.Delete(t.Context(), app, token(i)); err != nil && !errors.Is(err, push.ErrNotFound) {
					t.Fatal(err)
				}
			}
		}
	})
}
