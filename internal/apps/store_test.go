package apps_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jmoiron/sqlx"

	"github.com/lhspn/lhspn/internal/apps"
	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/database/dbtest"
	"github.com/lhspn/lhspn/internal/push"
)

func masterKey(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }

func open(t *testing.T, db *database.DB, keys ...[]byte) *apps.Store {
	t.Helper()
	seals, err := apps.NewSeals(keys...)
	if err != nil {
		t.Fatal(err)
	}
	return apps.New(db, seals)
}

func key(name string) apps.Key {
	return apps.Key{Name: name, Scope: "send", Hash: sha256.Sum256([]byte(name)), Rate: 5, ExpiresAt: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)}
}

func put(t *testing.T, s *apps.Store, name, entry string, keys ...apps.Key) (created bool) {
	t.Helper()
	created, err := s.Put(t.Context(), name, keys, keys != nil, func([]byte) ([]byte, error) { return []byte(entry), nil })
	if err != nil {
		t.Fatal(err)
	}
	return created
}

func all(t *testing.T, s *apps.Store) ([]apps.App, int64) {
	t.Helper()
	got, version, err := s.All(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return got, version
}

func TestStore(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		s, other := open(t, db, masterKey(1)), open(t, db, masterKey(1))
		_, before := all(t, other)
		if !put(t, s, "a", `{"secret": "geheim"}`, key("one"), key("two")) || !put(t, s, "b", "{}") || put(t, s, "a", `{"secret": "geheimer"}`) {
			t.Error("what is new is told wrongly")
		}
		if err := s.AddKey(t.Context(), "b", key("three")); err != nil {
			t.Fatal(err)
		}
		got, version := all(t, other)
		want := []apps.App{
			{Name: "a", Entry: []byte(`{"secret": "geheimer"}`), Keys: []apps.Key{key("one"), key("two")}},
			{Name: "b", Entry: []byte("{}"), Keys: []apps.Key{key("three")}},
		}
		ignore := cmp.Options{cmpopts.IgnoreFields(apps.App{}, "CreatedAt", "UpdatedAt"), cmpopts.IgnoreFields(apps.Key{}, "CreatedAt")}
		if diff := cmp.Diff(want, got, ignore); diff != "" {
			t.Error(diff)
		}
		if version <= before {
			t.Errorf("version %d after %d", version, before)
		}
		for what, err := range map[string]error{
			"a key's name twice": s.AddKey(t.Context(), "b", apps.Key{Name: "three", Scope: "send"}),
			"a key of two apps":  s.AddKey(t.Context(), "b", apps.Key{Name: "x", Scope: "send", Hash: key("one").Hash}),
		} {
			if !errors.Is(err, push.ErrConflict) {
				t.Errorf("%s: %v", what, err)
			}
		}
		for what, err := range map[string]error{
			"a key of no app":  s.AddKey(t.Context(), "c", key("x")),
			"no such key":      s.DeleteKey(t.Context(), "a", "three"),
			"an app not there": s.Delete(t.Context(), "c"),
		} {
			if !errors.Is(err, push.ErrNotFound) {
				t.Errorf("%s: %v", what, err)
			}
		}
		if _, now := all(t, s); now != version {
			t.Errorf("what failed has changed the version from %d to %d", version, now)
		}
		if err := s.DeleteKey(t.Context(), "a", "one"); err != nil {
			t.Error(err)
		}
		if err := s.Delete(t.Context(), "a"); err != nil {
			t.Error(err)
		}
		if got, _ := all(t, other); !got[0].Deleting || got[0].Keys != nil {
			t.Errorf("after its deletion: %+v", got[0])
		}
		_, err := s.Put(t.Context(), "a", nil, false, func([]byte) ([]byte, error) { return nil, nil })
		if !errors.Is(err, push.ErrConflict) {
			t.Errorf("while it is deleted: %v", err)
		}
		if err := s.Gone(t.Context(), "a"); err != nil {
			t.Error(err)
		}
		if got, _ := all(t, other); len(got) != 1 {
			t.Errorf("left: %+v", got)
		}
	})
}

// A key that is given again has the time of when it was given first.
func TestKeysGivenAgain(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		s := open(t, db, masterKey(1))
		put(t, s, "a", "{}", key("one"), key("two"))
		before, _ := all(t, s)
		put(t, s, "a", "{}", key("two"), key("three"))
		after, _ := all(t, s)
		was, keys := before[0].Keys[0].CreatedAt, after[0].Keys // three and two, by their names
		if len(keys) != 2 || !keys[1].CreatedAt.Equal(was) || !keys[0].CreatedAt.After(was) {
			t.Errorf("after %v the keys are %+v", was, keys)
		}
	})
}

// What is stored shows no secret, is no other app's, and can be moved to another master key.
func TestSecretsAreEncrypted(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		put(t, open(t, db, masterKey(1)), "a", "geheim")
		put(t, open(t, db, masterKey(1)), "b", "other")
		var stored []byte
		if err := db.Reader().Get(&stored, "SELECT entry FROM apps WHERE name = 'a'"); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(stored), "geheim") {
			t.Errorf("stored: %q", stored)
		}
		if got, _ := all(t, open(t, db)); !errors.Is(got[0].Err, apps.ErrNoKey) || got[0].Entry != nil {
			t.Errorf("without a key: %+v", got[0])
		}
		if got, _ := all(t, open(t, db, masterKey(2))); !errors.Is(got[0].Err, apps.ErrNoKey) {
			t.Errorf("with another key: %+v", got[0])
		}
		if n, err := open(t, db, masterKey(2), masterKey(1)).Reseal(t.Context()); n != 2 || err != nil {
			t.Errorf("encrypted anew: %d, %v", n, err)
		}
		if n, err := open(t, db, masterKey(2), masterKey(1)).Reseal(t.Context()); n != 0 || err != nil {
			t.Errorf("again: %d, %v", n, err)
		}
		got, _ := all(t, open(t, db, masterKey(2)))
		if string(got[0].Entry) != "geheim" || got[0].Err != nil {
			t.Errorf("with the new key alone: %+v", got[0])
		}
		execute(t, db, "UPDATE apps SET entry = (SELECT e FROM (SELECT entry AS e FROM apps WHERE name = 'b') AS x) WHERE name = 'a'")
		if got, _ := all(t, open(t, db, masterKey(2))); got[0].Err == nil {
			t.Errorf("another app's entry is taken: %s", got[0].Entry)
		}
		if _, err := open(t, db).Put(t.Context(), "c", nil, false, func([]byte) ([]byte, error) { return nil, nil }); !errors.Is(err, apps.ErrNoKey) {
			t.Errorf("stored without a key: %v", err)
		}
	})
}

func execute(t *testing.T, db *database.DB, statement string) {
	t.Helper()
	if err := db.Tx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
		_, err := tx.ExecContext(ctx, statement)
		return err
	}); err != nil {
		t.Fatal(fmt.Errorf("%s: %w", statement, err))
	}
}
