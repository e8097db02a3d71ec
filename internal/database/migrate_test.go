package database_test

import (
	"bytes"
	"context"
	"log/slog"
	"testing"

	"github.com/jmoiron/sqlx"
	"golang.org/x/sync/errgroup"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/database/dbtest"
)

var discard = slog.New(slog.DiscardHandler)

func TestMigrateTwice(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		if done, err := database.Migrated(t.Context(), db); err != nil || !done {
			t.Fatalf("after Migrate: Migrated is %v, %v", done, err)
		}
		var out bytes.Buffer
		if err := database.Migrate(t.Context(), db, slog.New(slog.NewTextHandler(&out, nil))); err != nil {
			t.Fatal(err)
		}
		if out.Len() > 0 {
			t.Errorf("migrating what is migrated logs %s", &out)
		}
		var shards int
		if err := db.Reader().Get(&shards, "SELECT COUNT(*) FROM shards"); err != nil || shards != 64 {
			t.Errorf("%d shards, %v", shards, err)
		}
	})
}

// A schema that a later program has migrated is taken as it is: an upgrade goes replica by replica.
func TestMigrateTakesALaterSchema(t *testing.T) {
	t.Parallel()
	for name, address := range newDatabases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := dbtest.Open(t, address(t))
			dbtest.NotOnVitess(t, db, "the next test gets the database with the version that this one adds")
			err := db.Tx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
				_, err := tx.ExecContext(ctx, "INSERT INTO schema_versions (version_id, is_applied) VALUES (9999, 1)")
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := database.Migrate(t.Context(), db, discard); err != nil {
				t.Error(err)
			}
		})
	}
}

// newDatabases are for tests that change the schema: no other test gets these databases.
var newDatabases = map[string]func(tb testing.TB) (address string){
	"sqlite": func(tb testing.TB) string { tb.Helper(); return "sqlite:" + tb.TempDir() + "/test.db" },
	"mysql":  dbtest.NewMySQLAddress,
}

func TestMigratedTellsAnEmptyDatabase(t *testing.T) {
	t.Parallel()
	for name, address := range newDatabases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, err := database.Open(t.Context(), address(t), database.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			if done, err := database.Migrated(t.Context(), db); err != nil || done {
				t.Errorf("Migrated is %v, %v", done, err)
			}
		})
	}
}

// Eight processes start at once on an empty database: all of them succeed, and the schema is there once each of them
// has returned.
func TestMigrateAtOnce(t *testing.T) {
	t.Parallel()
	address := dbtest.NewMySQLAddress(t)
	var g errgroup.Group
	for range 8 {
		db, err := database.Open(t.Context(), address, database.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		g.Go(func() error {
			if err := database.Migrate(t.Context(), db, discard); err != nil {
				return err
			}
			var tokens int
			return db.Reader().GetContext(context.WithoutCancel(t.Context()), &tokens, "SELECT COUNT(*) FROM bad_tokens")
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
}

// A process that made the table of versions may have been killed before it wrote the first row: MySQL has committed the
// table by then.
func TestMigrateAfterHalfOfTheVersionTable(t *testing.T) {
	t.Parallel()
	db, err := database.Open(t.Context(), dbtest.NewMySQLAddress(t), database.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if err := database.Migrate(t.Context(), db, discard); err != nil {
		t.Fatal(err)
	}
	if err := db.Tx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
		_, err := tx.ExecContext(ctx, "DELETE FROM schema_versions")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if err := database.Migrate(t.Context(), db, discard); err != nil {
		t.Fatal(err)
	}
	if done, err := database.Migrated(t.Context(), db); err != nil || !done {
		t.Errorf("Migrated is %v, %v", done, err)
	}
}
