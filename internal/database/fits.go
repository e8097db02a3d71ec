package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/migrations"
)

// checkColumns refuses a schema that has this program's version and lacks a column of its migrations. Until the first
// release those are rewritten, and what an earlier one made would pass for up to date, and fail every request.
func checkColumns(ctx context.Context, db *DB) error {
	target, err := latestVersion(db.Dialect)
	if err != nil {
		return err
	}
	var version sql.NullInt64
	if err := db.read.GetContext(ctx, &version, "SELECT MAX(version_id) FROM "+versionTable); err != nil {
		return fmt.Errorf("read the schema's version: %w", MarkUnavailable(err))
	}
	if version.Int64 > target { // a later program may have no use for all of them
		return nil
	}
	tables, err := declaredColumns(db.Dialect)
	if err != nil {
		return err
	}
	for _, table := range slices.Sorted(maps.Keys(tables)) {
		query := "SELECT " + strings.Join(tables[table], ", ") + " FROM " + table + " WHERE 1 = 0"
		_, err := db.read.ExecContext(ctx, query)
		if err = MarkUnavailable(err); errors.Is(err, push.ErrUnavailable) {
			return fmt.Errorf("check the schema: %w", err)
		}
		if err != nil {
			return fmt.Errorf("an earlier, unreleased state of the program made this database, and its schema does not fit any "+
				"more (Deploying in docs/operations.md says what to do): table %s: %w", table, err)
		}
	}
	return nil
}

// declaredColumns are the columns that the migrations make, by table. They make whole tables, a column a line.
func declaredColumns(d Dialect) (map[string][]string, error) {
	files, err := fs.Glob(migrations.FS, string(d)+"/*.sql")
	if err != nil {
		return nil, fmt.Errorf("read the migrations: %w", err)
	}
	tables := map[string][]string{}
	for _, name := range files {
		text, err := fs.ReadFile(migrations.FS, name)
		if err != nil {
			return nil, fmt.Errorf("read the migrations: %w", err)
		}
		table := ""
		for line := range strings.Lines(string(text)) {
			if rest, ok := strings.CutPrefix(line, "CREATE TABLE IF NOT EXISTS "); ok {
				table, _, _ = strings.Cut(rest, " ")
				continue
			}
			fields := strings.Fields(line)
			switch {
			case strings.HasPrefix(line, ")"):
				table = ""
			case table != "" && len(fields) > 1 && fields[0][0] >= 'a' && fields[0][0] <= 'z':
				tables[table] = append(tables[table], fields[0])
			}
		}
	}
	return tables, nil
}
