package queue

import (
	"context"
	"slices"
	"testing"

	"github.com/jmoiron/sqlx"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/database/dbtest"
	"github.com/lhspn/lhspn/internal/push"
)

// What one replica doubts the others learn, and that it is no more.
func TestWavesOfReplicas(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		first, second := newRig(t, db, Config{}), newRig(t, db, Config{}) // which do not run, and find nobody dead
		live := func(r *rig, lives bool) {
			t.Helper()
			query := "DELETE FROM replicas WHERE id = ?"
			if lives {
				query = "INSERT INTO replicas (id, beat) VALUES (?, 1)"
			}
			if err := db.Tx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
				_, err := tx.ExecContext(ctx, query, r.id)
				return err
			}); err != nil {
				t.Fatal(err)
			}
		}
		want := func(r *rig, of string, alone bool, waves ...push.Wave) {
			t.Helper()
			all, none, err := r.OthersWaves(t.Context(), of)
			var got []push.Wave
			for _, w := range all {
				if got = append(got, w.Wave); w.Gone != alone {
					t.Errorf("%+v, alone %t", w, alone)
				}
			}
			if err != nil || !slices.Equal(got, waves) || none != alone {
				t.Errorf("%v, alone %t, want %v, %t: %v", got, none, waves, alone, err)
			}
		}
		set := func(r *rig, waves ...push.Wave) {
			t.Helper()
			if err := r.SetWaves(t.Context(), app, waves); err != nil {
				t.Fatal(err)
			}
		}
		live(first, true)
		want(first, app, true)
		live(second, true)
		set(first)
		want(second, app, false)
		bad, dead := push.Wave{Route: push.Production, Bad: true}, push.Wave{Route: push.Sandbox}
		for range 2 {
			set(first, bad, dead)
			want(second, app, false, bad, dead)
		}
		want(first, app, false)
		want(second, "other", false)
		set(first, dead)
		want(second, app, false, dead)
		set(first)
		want(second, app, false)
		set(first, bad)
		live(first, false) // killed
		want(second, app, true, bad)
		all, _, err := second.OthersWaves(t.Context(), app)
		if err == nil {
			err = second.ForgetWaves(t.Context(), app, all)
		}
		if err != nil {
			t.Fatal(err)
		}
		want(second, app, true)
		live(first, true) // it was only lost sight of
		want(second, app, false)
		set(first, bad)
		want(second, app, false, bad)
	})
}

// What may have been committed is taken back, too: a wave that nobody takes back would hold all removal.
func TestAWaveWhoseAnswerWasLostIsTakenBack(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		r.failOnce(persisted)
		if err := r.SetWaves(t.Context(), app, []push.Wave{{Route: push.Production}}); err == nil {
			t.Fatal("the answer was not lost")
		}
		if err := r.SetWaves(t.Context(), app, nil); err != nil {
			t.Fatal(err)
		}
		if n := r.scalar("SELECT COUNT(*) FROM waves"); n != 0 {
			t.Errorf("%d waves are left", n)
		}
	})
}
