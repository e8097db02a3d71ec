package tokens

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/events"
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/quota"
)

// touch is the common change of a known token: another badge and perhaps another time, nothing else. The tokens with
// the same one share a statement.
type touch struct {
	app     string
	badge   uint32
	updated time.Time // zero: stays
}

// maxTouches bounds those statements; what else there is goes into the upsert.
const maxTouches = 4

// changes are what a transaction writes, by the way in which it does.
type changes struct {
	inserts, upserts, removals []*record
	touches                    map[touch][]*record
	drop, put                  []indexRow
}

// write writes what differs.
func (w *transaction) write(ctx context.Context, sorted []*record) error {
	c, err := w.changes(sorted)
	if err != nil {
		return err
	}
	if err := w.insertNew(ctx, c.inserts); err != nil {
		return fmt.Errorf("insert tokens: %w", err)
	}
	for _, t := range slices.SortedFunc(maps.Keys(c.touches), compareTouches) {
		if err := w.touch(ctx, t, c.touches[t]); err != nil {
			return fmt.Errorf("refresh tokens: %w", err)
		}
	}
	if err := w.insert(ctx, c.upserts, func(columns ...string) string {
		return w.store.db.Dialect.Upsert("app, token", columns...)
	}); err != nil {
		return fmt.Errorf("update tokens: %w", err)
	}
	if err := w.remove(ctx, c.removals); err != nil {
		return fmt.Errorf("remove tokens: %w", err)
	}
	for _, e := range c.inserts {
		w.growth.counts.Add(e.app, quota.Tokens, 1)
	}
	for _, e := range c.removals {
		w.growth.counts.Add(e.app, quota.Tokens, -1)
	}
	if err := w.tell(ctx, c.removals); err != nil {
		return err
	}
	if err := deleteIndex(ctx, w.tx, c.drop); err != nil {
		return err
	}
	return w.store.insertIndex(ctx, w.tx, c.put)
}

// changes compares what is stored with what is wanted. It fails with errKnown where a token that was taken for a new
// one may be stored.
func (w *transaction) changes(sorted []*record) (*changes, error) {
	c := &changes{touches: map[touch][]*record{}}
	for _, e := range sorted {
		switch {
		case !e.exists && !e.remains:
			if w.fresh { // it may be stored, and has to go then
				return nil, errKnown
			}
		case !e.exists:
			c.inserts = append(c.inserts, e)
			c.put = appendIndex(c.put, e.app, &e.wanted)
		case !e.remains:
			c.removals = append(c.removals, e)
			c.drop = appendIndex(c.drop, e.app, &e.stored)
		case e.onlyTouched():
			c.touch(e)
		default:
			c.upserts = append(c.upserts, e)
			if !sameIndex(&e.stored, &e.wanted) {
				c.drop, c.put = diffIndex(c.drop, c.put, e)
			}
		}
	}
	return c, nil
}

func (c *changes) touch(e *record) {
	t := touch{app: e.app, badge: e.wanted.Badge}
	if !e.wanted.LastUpdated.Equal(e.stored.LastUpdated) {
		t.updated = e.wanted.LastUpdated
	} else if e.wanted.Badge == e.stored.Badge {
		return // nothing differs
	}
	if c.touches[t] == nil && len(c.touches) == maxTouches {
		c.upserts = append(c.upserts, e)
		return
	}
	c.touches[t] = append(c.touches[t], e)
}

// insertNew inserts tokens that were not found when they were looked for.
func (w *transaction) insertNew(ctx context.Context, records []*record) error {
	err := w.insert(ctx, records, func(...string) string { return "" })
	switch {
	case !database.IsDuplicate(err):
		return err
	case w.fresh:
		return errKnown
	}
	return fmt.Errorf("%w: %w", database.ErrLostRace, err) // it was registered elsewhere since
}

func (w *transaction) remove(ctx context.Context, records []*record) error {
	for app, run := range byApp(records) {
		_, err := newStatement("DELETE FROM device_tokens WHERE app = ? AND token IN").add("", app).
			list(len(run), func(i int) any { return []byte(run[i].token) }).exec(ctx, w.tx)
		if err != nil {
			return err
		}
		for _, e := range run {
			source := removedByRequest
			if e.replaced {
				source = removedReplaced
			}
			if e.unproven {
				source = removedUnproven
			}
			w.store.metrics.removals.WithLabelValues(source).Inc()
		}
	}
	return nil
}

// tell writes the events of tokens that were removed by request, or because their device came with another one.
func (w *transaction) tell(ctx context.Context, removals []*record) error {
	told := w.store.events.Write(w.store.now())
	for _, e := range removals {
		reason, source := "Deleted", "request"
		if e.unproven {
			reason, source = "NeverAccepted", removedUnproven
		}
		kind, data := push.EventTokenRemoved, any(removal(e, reason, source, w.store.now()))
		if e.replaced && e.by != "" {
			kind, data = push.EventTokenReplaced, events.TokenReplaced{
				Platform: e.token.PlatformName(), Token: e.token.String(), ReplacedBy: e.by.String(),
				UserID: events.TextOrNull(e.stored.UserID), DeviceID: events.TextOrNull(e.stored.DeviceID),
			}
		}
		if err := told.Add(e.app, kind, data); err != nil {
			return err
		}
	}
	return told.Flush(ctx, w.tx)
}

func compareTouches(a, b touch) int {
	return cmp.Or(cmp.Compare(a.app, b.app), cmp.Compare(a.badge, b.badge), a.updated.Compare(b.updated))
}

func (e *record) onlyTouched() bool {
	a, b := &e.stored, &e.wanted
	return a.Environment == b.Environment && a.CreatedAt.Equal(b.CreatedAt) &&
		a.UserID == b.UserID && a.DeviceID == b.DeviceID &&
		a.Kind == b.Kind && a.KindOf == b.KindOf && slices.Equal(a.Tags, b.Tags) &&
		a.AppVersion == b.AppVersion && a.OSVersion == b.OSVersion && a.DeviceModel == b.DeviceModel &&
		a.Locale == b.Locale && a.TimeZone == b.TimeZone && bytes.Equal(a.Address, b.Address)
}

// newDefaults are the columns in which most new tokens have the default of the table. Statements whose rows all have it
// go without them.
const newDefaults = "kind?, badge?0"

// insert writes the wanted devices; tail is that of a statement of the columns. Of those that may be NULL only the ones
// are written that any of the devices has, or had: most have few of them.
func (w *transaction) insert(ctx context.Context, records []*record, tail func(columns ...string) string) error {
	if len(records) == 0 {
		return nil
	}
	var used, row optional
	for _, e := range records {
		used.add(&e.wanted)
		if e.exists {
			used.add(&e.stored)
		}
	}
	columns := make([]string, 0, len(columnNames))
	columns = append(columns, columnNames[:firstOptional]...)
	for i, name := range columnNames[firstOptional:] {
		if used[i] != nil {
			columns = append(columns, name)
		}
	}
	names := "app, token, " + strings.Join(columns, ", ")
	if !records[0].exists {
		names = strings.Replace(names, "kind, badge", newDefaults, 1)
	}
	unproven := w.store.proving && !records[0].exists
	if unproven {
		names += ", unproven_since"
	}
	in := database.NewInsert("device_tokens", names, tail(columns...))
	values := make([]any, 0, 3+len(columns))
	var at stamp
	now := w.store.now()
	for _, e := range records {
		values = appendDevice(values[:0], e.app, &e.wanted, &at)
		row = optional{}
		row.add(&e.wanted)
		if err := row.encodeTags(&e.wanted); err != nil {
			return err
		}
		for i, v := range row {
			if used[i] != nil {
				values = append(values, v)
			}
		}
		if unproven {
			values = append(values, at.of(now))
		}
		if err := in.Add(ctx, w.tx, values...); err != nil {
			return err
		}
	}
	return in.Flush(ctx, w.tx)
}

func (w *transaction) touch(ctx context.Context, t touch, records []*record) error {
	for run := range slices.Chunk(records, maxRows) {
		s := newStatement("UPDATE device_tokens SET badge = ?").add("", int64(t.badge))
		if !t.updated.IsZero() {
			s.add(", last_updated = ?", database.Time{Time: t.updated})
		}
		_, err := s.add(" WHERE app = ? AND token IN", t.app).
			list(len(run), func(i int) any { return []byte(run[i].token) }).exec(ctx, w.tx)
		if err != nil {
			return err
		}
	}
	return nil
}
