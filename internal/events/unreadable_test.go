package events

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/lhspn/lhspn/internal/push"
)

// A row that cannot be read costs its own events: whoever reads is told where they are, and gets those behind them.
func TestARowThatCannotBeRead(t *testing.T) {
	each(t, func(r *rig) {
		for _, row := range [][]string{{"a", "b"}, {"c", "d", "e"}, {"f"}} {
			r.write(app, Lease{3, 1}, row...)
			r.place()
		}
		before, _, err := r.Read(r.Context(), app, "", nil, 10)
		r.must(err)
		r.must(r.db.Tx(r.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
			_, err := tx.ExecContext(ctx, "UPDATE events SET body = ? WHERE n = 3", []byte{99, 1, 2, 3})
			return err
		}))

		check := func(what string, items []push.Event, types ...push.EventType) (unreadable push.Event) {
			r.Helper()
			var got []push.EventType
			for _, e := range items {
				if got = append(got, e.Type); e.Type == push.EventUnreadable {
					unreadable = e
				}
			}
			if !slices.Equal(got, types) {
				r.Fatalf("%s: %q, want %q", what, got, types)
			}
			return unreadable
		}
		done, none := push.EventDone, push.EventUnreadable
		said := func(e push.Event) (d Unreadable) {
			r.must(json.Unmarshal(e.Data, &d))
			return d
		}
		items, next, err := r.Read(r.Context(), app, "", nil, 10)
		r.must(err)
		e := check("all", items, done, done, none, done)
		if d := said(e); d.Events != 3 || d.After != before[1].ID || e.ID != before[4].ID || e.At.IsZero() || next != before[5].ID {
			r.Errorf("%+v says %+v; next %s", e, d, next)
		}
		items, _, err = r.Read(r.Context(), app, before[2].ID, []push.EventType{push.EventTokenRemoved}, 10)
		r.must(err)
		if d := said(check("of another type, from the middle of the row", items, none)); d.Events != 2 || d.After != before[2].ID {
			r.Errorf("from the middle of the row: %+v", d)
		}
		var inPages []push.Event
		for cursor := ""; ; {
			page, next, err := r.Read(r.Context(), app, cursor, nil, 1)
			r.must(err)
			if len(page) == 0 {
				break
			}
			inPages, cursor = append(inPages, page...), next
		}
		check("one by one", inPages, done, done, none, done)
		token, err := push.ParseToken(strings.Repeat("ab", 32))
		r.must(err)
		if about, _, err := r.About(r.Context(), app, token, 10, 10); err != nil {
			r.Errorf("looking for a token: %v %v", about, err)
		}
		if n := testutil.ToFloat64(r.metrics.unreadable); n != 4 {
			r.Errorf("%v counted", n)
		}
	})
}
