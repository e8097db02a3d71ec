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

// write writes what differs.
func (w *transaction) write(ctx context.Context, sorted []*record) error {
	var inserts, upserts, removals []*record
	var drop, put []indexRow
	touches := map[touch][]*record{}
	for _, e := range sorted {
		switch {
		case !e.exists && !e.remains:
			if w.fresh { // it may be stored, and has to go then
				return errKnown
			}
		case !e.exists:
			inserts = append(inserts, e)
			put = appendIndex(put, e.app, &e.wanted)
		case !e.remains:
			removals = append(removals, e)
			drop = appendIndex(drop, e.app, &e.stored)
		case e.onlyTouched():
			t := touch{app: e.app, badge: e.wanted.Badge}
			if !e.wanted.LastUpdated.Equal(e.stored.LastUpdated) {
				t.updated = e.wanted.LastUpdated
			} else if e.wanted.Badge == e.stored.Badge {
				continue
			}
			if touches[t] == nil && len(touches) == maxTouches {
				upserts = append(upserts, e)
			} else {
				touches[t] = append(touches[t], e)
			}
		default:
			upserts = append(upserts, e)
			if !sameIndex(&e.stored, &e.wanted) {
				drop, put = diffIndex(drop, put, e)
			}
		}
	}
	if err := w.insert(ctx, inserts, func(...string) string { return "" }); err != nil {
		switch {
		case !database.IsDuplicate(err):
		case w.fresh:
			return errKnown
		default: // it was registered elsewhere since it was looked for
			err = fmt.Errorf("%w: %w", database.ErrLostRace, err)
		}
		return fmt.Errorf("insert tokens: %w", err)
	}
	for _, t := range slices.SortedFunc(maps.Keys(touches), compareTouches) {
		if err := w.touch(ctx, t, touches[t]); err != nil {
			return fmt.Errorf("refresh tokens: %w", err)
		}
	}
	if err := w.insert(ctx, upserts, func(columns ...string) string {
		return w.store.db.Dialect.Upsert("app, token", columns...)
	}); err != nil {
		return fmt.Errorf("update tokens: %w", err)
	}
	for app, run := range byApp(removals) {
		_, err := newStatement("DELETE FROM device_tokens WHERE app = ? AND token IN").add("", app).
			list(len(run), func(i int) any { return []byte(run[i].token) }).exec(ctx, w.tx)
		if err != nil {
			return fmt.Errorf("remove tokens: %w", err)
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
	for _, e := range inserts {
		w.growth.counts.Add(e.app, quota.Tokens, 1)
	}
	for _, e := range removals {
		w.growth.counts.Add(e.app, quota.Tokens, -1)
	}
	if err := w.tell(ctx, removals); err != nil {
		return err
	}
	if err := deleteIndex(ctx, w.tx, drop); err != nil {
		return err
	}
	return w.store.insertIndex(ctx, w.tx, put)
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
	if !records[0].exists { // most have the default of these, and a statement whose rows all have it is shorter
		names = strings.Replace(names, "kind, badge", "kind?, badge?0", 1)
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
