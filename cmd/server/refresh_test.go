package main

import (
	"errors"
	"log/slog"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lhspn/lhspn/internal/api"
	"github.com/lhspn/lhspn/internal/apps"
	"github.com/lhspn/lhspn/internal/config"
	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/database/dbtest"
	"github.com/lhspn/lhspn/internal/push"
)

// operatedOf has an app, fox, stored that is not taken up yet.
func operatedOf(t *testing.T, db *database.DB) *operated {
	t.Helper()
	seals, err := apps.NewSeals(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	o := newOperated(apps.New(db, seals), &config.Config{}, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if _, err := o.store.Put(t.Context(), "fox", nil, false, func([]byte) ([]byte, error) { return []byte("{}"), nil }); err != nil {
		t.Fatal(err)
	}
	return o
}

// Apps that could not be taken up because the database was away are taken up at the next look.
func TestRefreshTriesAgain(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		o := operatedOf(t, db)
		answers := []error{push.ErrUnavailable, errors.New("credentials"), nil}
		applied := 0
		o.apply = func([]config.App, []config.OperatorKey) error {
			applied++
			return answers[applied-1]
		}
		if err := o.refresh(t.Context()); !errors.Is(err, push.ErrUnavailable) {
			t.Errorf("it is taken up with %v", err)
		}
		for range 2 { // faulty credentials are no reason to try again
			if err := o.refresh(t.Context()); err != nil || applied != 2 {
				t.Errorf("%v after %d times", err, applied)
			}
		}
	})
}

// What an operator stored is answered as such, though it cannot be taken up at once: the key is shown but once.
func TestWhatIsStoredIsDone(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		o := operatedOf(t, db)
		var answers []error // to the next ones; none: it is taken up
		o.apply = func([]config.App, []config.OperatorKey) (err error) {
			if len(answers) > 0 {
				err, answers = answers[0], answers[1:]
			}
			return err
		}
		ctx := t.Context()
		if err := o.refresh(ctx); err != nil {
			t.Fatal(err)
		}
		_, hash := o.NewKey(api.ScopeSend)
		answers = []error{push.ErrUnavailable}
		key, err := o.AddKey(ctx, "fox", api.Key{Name: "backend", Scope: api.ScopeSend, Hash: hash})
		if err != nil || key.Name != "backend" || key.CreatedAt.IsZero() || len(answers) > 0 {
			t.Errorf("a key that is stored: %+v, %v", key, err)
		}
		answers = []error{nil, push.ErrUnavailable}
		if err := o.DeleteKey(ctx, "fox", "backend"); err != nil || len(answers) > 0 {
			t.Errorf("a key that is deleted: %v", err)
		}
		if keys, err := o.Keys(ctx, "fox"); err != nil || len(keys) > 0 {
			t.Errorf("there are still %v, %v", keys, err)
		}
		answers = []error{push.ErrUnavailable}
		if err := o.DeleteApp(ctx, "fox"); err != nil || len(answers) > 0 {
			t.Errorf("an app that is deleted: %v", err)
		}
	})
}
