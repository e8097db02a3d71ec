package tokens

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/jmoiron/sqlx"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/push"
)

// The kinds of device_token_index: by what a device is found.
const (
	kindUser   = "u"
	kindTag    = "t"
	kindDevice = "d"
	// kindEnvironment finds the sandbox tokens, which are few among many. Production tokens have no such row: where
	// they are the many, a scan of the registry finds them as well.
	kindEnvironment = "e"
	// kindClaim is of rows that no transaction leaves behind: see contend.
	kindClaim = "c"
)

// indexRow is a row of device_token_index.
type indexRow struct {
	app, kind, value string
	token            push.Token
}

// appendIndex appends the rows by which the device is found.
func appendIndex(rows []indexRow, app string, d *push.Device) []indexRow {
	if d.UserID != "" {
		rows = append(rows, indexRow{app, kindUser, d.UserID, d.Token})
	}
	if slot := d.Slot(); slot != "" {
		rows = append(rows, indexRow{app, kindDevice, slot, d.Token})
	}
	if d.Environment == push.Sandbox {
		rows = append(rows, indexRow{app, kindEnvironment, string(push.Sandbox), d.Token})
	}
	for i, tag := range d.Tags {
		if !slices.Contains(d.Tags[:i], tag) {
			rows = append(rows, indexRow{app, kindTag, tag, d.Token})
		}
	}
	return rows
}

// sameIndex reports whether both devices are found by the same.
func sameIndex(a, b *push.Device) bool {
	return a.UserID == b.UserID && a.Slot() == b.Slot() &&
		(a.Environment == push.Sandbox) == (b.Environment == push.Sandbox) &&
		slices.Equal(a.Tags, b.Tags)
}

// diffIndex appends what the record's change takes from the index and what it puts there.
func diffIndex(drop, put []indexRow, e *record) (dropped, added []indexRow) {
	before, after := appendIndex(nil, e.app, &e.stored), appendIndex(nil, e.app, &e.wanted)
	for _, r := range before {
		if !slices.Contains(after, r) {
			drop = append(drop, r)
		}
	}
	for _, r := range after {
		if !slices.Contains(before, r) {
			put = append(put, r)
		}
	}
	return drop, put
}

func compareIndexRows(a, b indexRow) int {
	return cmp.Or(cmp.Compare(a.app, b.app), cmp.Compare(a.kind, b.kind), cmp.Compare(a.value, b.value),
		cmp.Compare(a.token, b.token))
}

func (s *Store) insertIndex(ctx context.Context, tx *sqlx.Tx, rows []indexRow) error {
	slices.SortFunc(rows, compareIndexRows)
	in := database.NewInsert("device_token_index", "app, kind, value, token",
		s.db.Dialect.Upsert("app, kind, value, token"))
	for _, r := range rows {
		if err := in.Add(ctx, tx, r.app, r.kind, []byte(r.value), []byte(r.token)); err != nil {
			return fmt.Errorf("index tokens: %w", err)
		}
	}
	if err := in.Flush(ctx, tx); err != nil {
		return fmt.Errorf("index tokens: %w", err)
	}
	return nil
}

func deleteIndex(ctx context.Context, tx *sqlx.Tx, rows []indexRow) error {
	slices.SortFunc(rows, compareIndexRows)
	for run := range slices.Chunk(rows, maxRows) {
		st := newStatement("DELETE FROM device_token_index WHERE ")
		for i, r := range run { // not (app, kind, value, token) IN (...), for which MariaDB reads the whole index
			if i > 0 {
				st.add(" OR ")
			}
			st.add("app = ? AND kind = ? AND value = ? AND token = ?", r.app, r.kind, []byte(r.value), []byte(r.token))
		}
		if _, err := st.exec(ctx, tx); err != nil {
			return fmt.Errorf("take tokens from the index: %w", err)
		}
	}
	return nil
}
