package tokens

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/events"
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/quota"
)

// RemoveUnchanged removes each token that was last registered at or before its invalidation's time, and reports which.
// A token that was registered again after that time stays: the device has the app again. So does one that is registered
// for another route than the invalidation's, or where it was called bad for another kind: it was sent what it is not
// for.
func (s *Store) RemoveUnchanged(
	ctx context.Context, tx *sqlx.Tx, invalidations []push.Invalidation,
) (removed []bool, err error) {
	defer s.metrics.time("remove", time.Now())
	var counts quota.Changes
	w := transaction{store: s, tx: tx, records: map[key]*record{}}
	for _, inv := range invalidations {
		if k := (key{inv.App, inv.Token}); w.records[k] == nil {
			w.add(&record{key: k})
		}
	}
	slices.SortFunc(w.sorted, func(a, b *record) int { return compareKeys(a.key, b.key) })
	if err := w.load(ctx, w.sorted); err != nil {
		return nil, fmt.Errorf("read tokens to remove: %w", err)
	}
	removed = make([]bool, len(invalidations))
	told := s.events.Write(s.now())
	until := map[*record]time.Time{}
	for i, inv := range invalidations {
		e := w.records[key{inv.App, inv.Token}]
		elsewhere := inv.Route != "" && (e.stored.Environment != inv.Route || inv.Source == push.SourceBadToken &&
			e.stored.Kind != inv.Kind)
		if at := inv.At.UTC().Truncate(time.Microsecond); e.remains && !elsewhere && !e.stored.LastUpdated.After(at) {
			e.remains, removed[i], until[e] = false, true, at
			s.metrics.removals.WithLabelValues(string(inv.Source)).Inc()
			what := removal(e, invalidReasons[inv.Source], string(inv.Source), inv.At)
			if err := told.Add(inv.App, push.EventTokenRemoved, what); err != nil {
				return nil, err
			}
		}
	}
	var drop []indexRow
	gone := slices.DeleteFunc(slices.Clone(w.sorted), func(e *record) bool { return !e.exists || e.remains })
	for run := range slices.Chunk(gone, maxRows) {
		// The rows are locked and the condition is known to hold. It is in the statement all the same: should an
		// engine not keep the lock, nothing else is removed.
		st := newStatement("DELETE FROM device_tokens WHERE ")
		for i, e := range run {
			if i > 0 {
				st.add(" OR ")
			}
			st.add("app = ? AND token = ? AND last_updated <= ?", e.app, []byte(e.token), database.Time{Time: until[e]})
			drop = appendIndex(drop, e.app, &e.stored)
			counts.Add(e.app, quota.Tokens, -1)
		}
		n, err := st.exec(ctx, tx)
		if err == nil && n != len(run) {
			err = database.ErrLostRace
		}
		if err != nil {
			return nil, fmt.Errorf("remove tokens: %w", err)
		}
	}
	if err := deleteIndex(ctx, tx, drop); err != nil {
		return nil, err
	}
	if err := told.Flush(ctx, tx); err != nil {
		return nil, err
	}
	return removed, s.counters.Write(ctx, tx, &counts)
}

var invalidReasons = map[push.Source]string{
	push.SourceFeedback: "Feedback", push.SourceUnregistered: "Unregistered", push.SourceBadToken: "BadToken",
}

// removal is what is told of the token's removal.
func removal(e *record, reason, source string, at time.Time) events.TokenRemoved {
	return events.TokenRemoved{
		Platform: e.token.PlatformName(), Token: e.token.String(), UserID: events.TextOrNull(e.stored.UserID),
		Reason: reason, Source: source, Timestamp: at.Unix(),
	}
}
