// Package apps keeps the apps, keys and credentials that operators set while the service runs: all SQL on them is
// here. Entries are JSON, encrypted; of keys only the hash is kept.
//
// It knows neither HTTP nor what an entry says, and nothing of the apps in the configuration file.
package apps

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/push"
)

// App is a stored app.
type App struct {
	Name string
	// Entry is decrypted; nil with Err, which says why it cannot be.
	Entry []byte
	Err   error
	// Deleting says that it takes no request any more, and goes when all that it has is removed. It has no keys then.
	Deleting             bool
	CreatedAt, UpdatedAt time.Time
	Keys                 []Key
}

// Key is a stored key.
type Key struct {
	Name, Scope string
	Hash        [sha256.Size]byte
	Rate        int // requests a second; 0 for no limit
	CreatedAt   time.Time
	ExpiresAt   time.Time // zero for never
}

// Store keeps them. All replicas share it: each looks at Version often, which is cheap, and reads all when that has
// changed.
type Store struct {
	db    *database.DB
	seals *Seals
	now   func() time.Time // time.Now; tests move it
}

// New returns a Store on a migrated database. It starts nothing.
func New(db *database.DB, seals *Seals) *Store { return &Store{db: db, seals: seals, now: time.Now} }

// Version grows with every change.
func (s *Store) Version(ctx context.Context) (version int64, err error) {
	err = s.db.Reader().QueryRowContext(ctx, "SELECT version FROM app_changes WHERE id = 0").Scan(&version)
	return version, wrap(err, "look for changed apps")
}

// All are the apps in the order of their names, as they are at the version or later.
func (s *Store) All(ctx context.Context) (all []App, version int64, err error) {
	if version, err = s.Version(ctx); err != nil { // before the rest, so that none that changes meanwhile is missed
		return nil, 0, err
	}
	if all, err = s.read(ctx, s.db.Reader()); err != nil {
		return nil, 0, wrap(err, "read the apps")
	}
	return all, version, nil
}

// queryer is a reader or a transaction.
type queryer interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

func (s *Store) read(ctx context.Context, from queryer) ([]App, error) {
	rows, err := from.QueryContext(ctx, "SELECT name, deleting, entry, created_at, updated_at FROM apps ORDER BY name")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []App
	index := map[string]int{}
	for rows.Next() {
		var a App
		var sealed []byte
		var created, updated database.Time
		if err := rows.Scan(&a.Name, &a.Deleting, &sealed, &created, &updated); err != nil {
			return nil, err
		}
		a.CreatedAt, a.UpdatedAt = created.Time, updated.Time
		a.Entry, _, a.Err = s.seals.open(a.Name, sealed)
		index[a.Name] = len(all)
		all = append(all, a)
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	_ = rows.Close() // the next query may need its connection
	keys, err := from.QueryContext(ctx,
		"SELECT app, name, scope, sha256, rate, created_at, expires_at FROM app_keys ORDER BY app, name")
	if err != nil {
		return nil, err
	}
	defer keys.Close()
	for keys.Next() {
		var k Key
		var app string
		var hash []byte
		var created, expires database.Time
		if err := keys.Scan(&app, &k.Name, &k.Scope, &hash, &k.Rate, &created, &expires); err != nil {
			return nil, err
		}
		copy(k.Hash[:], hash)
		k.CreatedAt, k.ExpiresAt = created.Time, expires.Time
		if i, there := index[app]; there {
			all[i].Keys = append(all[i].Keys, k)
		}
	}
	return all, keys.Err()
}

// change runs fn in a transaction that all replicas notice. Changes come one after the other: the row of the version is
// locked first.
func (s *Store) change(ctx context.Context, what string, fn func(ctx context.Context, tx *sqlx.Tx) error) error {
	err := s.db.Tx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		if _, err := tx.ExecContext(ctx, "UPDATE app_changes SET version = version + 1 WHERE id = 0"); err != nil {
			return err
		}
		return fn(ctx, tx)
	})
	if database.IsDuplicate(err) {
		return fmt.Errorf("%s: %w", what, push.ErrConflict)
	}
	return wrap(err, what)
}

// Put stores what entry makes of the one there was, nil where there was none. With replace the keys take the place of
// those there were. push.ErrConflict: a key is in use already, or the app is being deleted.
func (s *Store) Put(
	ctx context.Context, name string, keys []Key, replace bool, entry func(before []byte) ([]byte, error),
) (created bool, err error) {
	err = s.change(ctx, "store the app "+name, func(ctx context.Context, tx *sqlx.Tx) error {
		var sealed, before []byte
		var deleting bool
		err := tx.QueryRowContext(ctx, "SELECT entry, deleting FROM apps WHERE name = ?", name).Scan(&sealed, &deleting)
		created = errors.Is(err, sql.ErrNoRows)
		switch {
		case created:
		case err != nil:
			return err
		case deleting:
			return fmt.Errorf("it is being deleted: %w", push.ErrConflict)
		default: // one that cannot be decrypted is given anew
			before, _, _ = s.seals.open(name, sealed)
		}
		plain, err := entry(before)
		if err != nil {
			return err
		}
		if sealed, err = s.seals.seal(name, plain); err != nil {
			return err
		}
		now := database.Time{Time: s.now()}
		if created {
			_, err = tx.ExecContext(ctx, "INSERT INTO apps (name, deleting, entry, created_at, updated_at) VALUES (?, 0, ?, "+
				"?, ?)", name, sealed, now, now)
		} else {
			_, err = tx.ExecContext(ctx, "UPDATE apps SET entry = ?, updated_at = ? WHERE name = ?", sealed, now, name)
		}
		if err != nil || !replace {
			return err
		}
		since, err := keyTimes(ctx, tx, name)
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "DELETE FROM app_keys WHERE app = ?", name); err != nil {
			return err
		}
		for i := range keys {
			created, known := since[keys[i].Hash]
			if !known {
				created = now
			}
			if err := insertKey(ctx, tx, name, &keys[i], created); err != nil {
				return err
			}
		}
		return nil
	})
	return created, err
}

// keyTimes has since when the app has had each of its keys.
func keyTimes(ctx context.Context, tx *sqlx.Tx, app string) (map[[sha256.Size]byte]database.Time, error) {
	rows, err := tx.QueryContext(ctx, "SELECT sha256, created_at FROM app_keys WHERE app = ?", app)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	since := map[[sha256.Size]byte]database.Time{}
	for rows.Next() {
		var hash []byte
		var created database.Time
		if err := rows.Scan(&hash, &created); err != nil {
			return nil, err
		}
		since[[sha256.Size]byte(hash)] = created
	}
	return since, rows.Err()
}

func insertKey(ctx context.Context, tx *sqlx.Tx, app string, k *Key, created database.Time) error {
	_, err := tx.ExecContext(ctx, "INSERT INTO app_keys (app, name, scope, sha256, rate, created_at, expires_at) "+
		"VALUES (?, ?, ?, ?, ?, ?, ?)",
		app, k.Name, k.Scope, k.Hash[:], k.Rate, created, database.Time{Time: k.ExpiresAt})
	return err
}

// Delete has the app take no request any more: its keys are gone. push.ErrNotFound where there is none.
func (s *Store) Delete(ctx context.Context, name string) error {
	return s.change(ctx, "delete the app "+name, func(ctx context.Context, tx *sqlx.Tx) error {
		if err := changedOne(tx.ExecContext(ctx,
			"UPDATE apps SET deleting = 1, updated_at = ? WHERE name = ? AND deleting = 0",
			database.Time{Time: s.now()}, name)); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, "DELETE FROM app_keys WHERE app = ?", name)
		return err
	})
}

// Gone is for when all that a deleted app had is removed.
func (s *Store) Gone(ctx context.Context, name string) error {
	return s.change(ctx, "forget the app "+name, func(ctx context.Context, tx *sqlx.Tx) error {
		_, err := tx.ExecContext(ctx, "DELETE FROM apps WHERE name = ? AND deleting = 1", name)
		return err
	})
}

// AddKey adds a key to an app. push.ErrNotFound where there is no such app; push.ErrConflict where it has a key of the
// name, or any app has the key.
func (s *Store) AddKey(ctx context.Context, app string, key Key) error {
	return s.change(ctx, "add a key to "+app, func(ctx context.Context, tx *sqlx.Tx) error {
		var one int
		err := tx.QueryRowContext(ctx, "SELECT 1 FROM apps WHERE name = ? AND deleting = 0", app).Scan(&one)
		if errors.Is(err, sql.ErrNoRows) {
			return push.ErrNotFound
		}
		if err != nil {
			return err
		}
		return insertKey(ctx, tx, app, &key, database.Time{Time: s.now()})
	})
}

// DeleteKey revokes a key. push.ErrNotFound where the app has none of the name.
func (s *Store) DeleteKey(ctx context.Context, app, name string) error {
	return s.change(ctx, "revoke a key of "+app, func(ctx context.Context, tx *sqlx.Tx) error {
		return changedOne(tx.ExecContext(ctx, "DELETE FROM app_keys WHERE app = ? AND name = ?", app, name))
	})
}

// Reseal encrypts anew, with the first key, what is encrypted with another, and says how many entries that were.
func (s *Store) Reseal(ctx context.Context) (n int, err error) {
	stale, err := s.stale(ctx, s.db.Reader())
	if err != nil || len(stale) == 0 {
		return 0, wrap(err, "look for entries under a former master key")
	}
	err = s.change(ctx, "encrypt entries anew", func(ctx context.Context, tx *sqlx.Tx) error {
		stale, err := s.stale(ctx, tx)
		n = len(stale)
		for name, plain := range stale {
			sealed, err := s.seals.seal(name, plain)
			if err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, "UPDATE apps SET entry = ? WHERE name = ?", sealed, name); err != nil {
				return err
			}
		}
		return err
	})
	return n, err
}

// stale are the entries that are encrypted with another key than the first, by their apps.
func (s *Store) stale(ctx context.Context, from queryer) (map[string][]byte, error) {
	rows, err := from.QueryContext(ctx, "SELECT name, entry FROM apps")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	found := map[string][]byte{}
	for rows.Next() {
		var name string
		var sealed []byte
		if err := rows.Scan(&name, &sealed); err != nil {
			return nil, err
		}
		if plain, stale, err := s.seals.open(name, sealed); err == nil && stale {
			found[name] = plain
		}
	}
	return found, rows.Err()
}

// changedOne is push.ErrNotFound where no row was changed.
func changedOne(r sql.Result, err error) error {
	if err != nil {
		return err
	}
	n, err := r.RowsAffected()
	if err == nil && n == 0 {
		return push.ErrNotFound
	}
	return err
}

func wrap(err error, what string) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, database.MarkUnavailable(err))
}
