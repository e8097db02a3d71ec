package tokens

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/lhspn/lhspn/internal/push"
)

// What was never accepted, and not registered again, goes after its time; what was accepted once stays for ever, and so
// does what was registered before that is kept.
func TestRemoveUnproven(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *Store) {
		now := clock(s)
		prove := func(on bool) {
			t.Helper()
			if err := s.SetProving(t.Context(), on); err != nil {
				t.Fatal(err)
			}
		}
		accept := func(tokens ...push.Token) {
			t.Helper()
			err := s.db.Tx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error { return s.Accepted(ctx, tx, app, tokens) })
			if err != nil {
				t.Fatal(err)
			}
		}
		remove := func(want int, gone ...int) {
			t.Helper()
			n, err := s.RemoveUnproven(t.Context(), app, now.Add(-24*time.Hour))
			if err != nil || n != want {
				t.Errorf("%d are removed, not %d: %v", n, want, err)
			}
			for _, i := range gone {
				if _, err := s.Get(t.Context(), app, token(i)); !errors.Is(err, push.ErrNotFound) {
					t.Errorf("token %d: %v", i, err)
				}
			}
			checkIndex(t, s)
		}
		register(t, s, registration(0)) // while it is not kept
		*now = now.Add(time.Hour)
		prove(true)
		for i := 1; i < 7; i++ {
			r := registration(i)
			r.UserID = ptr("u")
			register(t, s, r)
		}
		if err := s.Import(t.Context(), app, []push.Device{{Token: token(7), Environment: push.Production, LastUpdated: now.Add(-100 * time.Hour),
			CreatedAt: now.Add(-100 * time.Hour)}}); err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.Register(t.Context(), "other", registration(1)); err != nil {
			t.Fatal(err)
		}
		accept(token(2), token(1), token(99))
		remove(0)
		*now = now.Add(25 * time.Hour)
		register(t, s, registration(3)) // it is still there
		register(t, s, registration(1))
		remove(4, 4, 5, 6, 7)
		remove(0)
		for _, i := range []int{0, 1, 2, 3} {
			if _, err := s.Get(t.Context(), app, token(i)); err != nil {
				t.Errorf("token %d: %v", i, err)
			}
		}
		if _, err := s.Get(t.Context(), "other", token(1)); err != nil {
			t.Errorf("of another app: %v", err)
		}

		// Registered anew it has to be accepted anew, and a replica that does not keep it makes all begin anew.
		if err := s.Delete(t.Context(), app, token(1)); err != nil {
			t.Fatal(err)
		}
		register(t, s, registration(1))
		prove(false)
		*now = now.Add(25 * time.Hour)
		prove(true)
		remove(0)
		register(t, s, registration(8))
		*now = now.Add(time.Minute)
		prove(true) // another replica, which has noted nothing of that token
		register(t, s, registration(9))
		*now = now.Add(25 * time.Hour)
		prove(true) // it starts again, and that is all
		remove(1, 9)
	})
}
