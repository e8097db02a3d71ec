package queue

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/push"
)

// tally is what is added to one notification's row.
type tally struct {
	app      string
	counts   counts
	sentAt   time.Time // zero where nothing was sent
	expanded bool
	single   bool // what waited was in its row
	// done says, after updateCounts, that it is in the state done now for certain, and sentAt when it was sent as its row
	// has it.
	done bool
}

// counts are in the order of countColumns.
type counts [5]int64

var countColumns = [len(counts{})]string{"accepted", "failed", "unregistered", "expired", "cancelled"}

// add adds what now is more than before.
func (c *counts) add(now, before counts) {
	for i := range c {
		c[i] += now[i] - before[i]
	}
}

func (t *tally) add(o push.Outcome, sentAt time.Time) {
	sent := false
	switch o {
	case push.Accepted:
		t.counts[0]++
		sent = true
	case push.Failed:
		t.counts[1]++
		sent = true
	case push.Unregistered:
		t.counts[2]++
		sent = true
	case push.Expired:
		t.counts[3]++
	case push.Cancelled:
		t.counts[4]++
	case push.Retry:
		sent = true
	case push.Pending, push.NotSent, push.Blocked:
	}
	if sent && (t.sentAt.IsZero() || sentAt.Before(t.sentAt)) {
		t.sentAt = sentAt
	}
}

// sentPrecision is how exact first_sent_at is: notifications sent within it share a statement.
const sentPrecision = 10 * time.Millisecond

// updateCounts adds the tallies up in the notifications' rows. Notifications with the same tally, as most to one
// recipient have it, share a statement.
func updateCounts(ctx context.Context, tx *sqlx.Tx, tallies map[uuid.UUID]*tally, now time.Time) error {
	type alike struct {
		app      string
		counts   counts
		sent     int64
		expanded bool
		single   bool
	}
	type group struct {
		alike
		sentAt  time.Time
		ids     []uuid.UUID
		tallies []*tally
	}
	groups := map[alike]*group{}
	var order []*group
	for id, t := range tallies {
		k := alike{t.app, t.counts, 0, t.expanded, t.single}
		if !t.sentAt.IsZero() {
			k.sent = t.sentAt.UnixMicro() / sentPrecision.Microseconds()
		}
		if k == (alike{app: t.app}) {
			continue
		}
		g := groups[k]
		if g == nil {
			g = &group{alike: k}
			groups[k] = g
			order = append(order, g)
		}
		if t.sentAt.After(g.sentAt) { // the latest: none of them was sent before it was created
			g.sentAt = t.sentAt
		}
		g.ids, g.tallies = append(g.ids, id), append(g.tallies, t)
	}
	for _, g := range order {
		done := g.single
		for ids := range slices.Chunk(g.ids, maxKeys) {
			c := change{counts: g.counts, sentAt: g.sentAt, expanded: g.expanded}
			var err error
			if g.single {
				var all bool
				all, err = (*single)(&c).apply(ctx, tx, g.app, ids, stamp(now))
				done = done && all
			} else {
				err = c.apply(ctx, tx, g.app, ids, now)
			}
			if err != nil {
				return err
			}
		}
		for _, t := range g.tallies {
			t.done, t.sentAt = done, g.sentAt
		}
	}
	return nil
}

// change is what is added to several notifications alike.
type change struct {
	counts     counts
	sentAt     time.Time // zero where nothing was sent
	expanded   bool      // all recipients are known now
	recipients int       // that many more are known
}

// apply makes the change, and finishes those of the notifications of which nothing is left. MySQL evaluates a SET from
// left to right with the new values, others with the old ones: so the counts come last.
func (c *change) apply(ctx context.Context, tx *sqlx.Tx, app string, ids []uuid.UUID, now time.Time) error {
	var sum int64
	var set strings.Builder
	var args []any
	for i, n := range c.counts {
		if n != 0 {
			sum += n
			set.WriteString(", " + countColumns[i] + " = " + countColumns[i] + " + ?")
			args = append(args, n)
		}
	}
	if c.recipients != 0 {
		set.WriteString(", recipients = recipients + ?")
		args = append(args, c.recipients)
	}
	complete := "accepted + failed + unregistered + expired + cancelled + ? = recipients + ?"
	if c.expanded {
		set.WriteString(", expanded = 1")
	} else {
		complete = "expanded = 1 AND " + complete
	}
	state := " ELSE state"
	sent := ""
	lead := []any{sum, c.recipients, sum, c.recipients, stamp(now)}
	if !c.sentAt.IsZero() {
		state = " ELSE 1"
		sent = ", first_sent_at = CASE WHEN first_sent_at = ? THEN ? ELSE first_sent_at END"
		lead = append(lead, database.Never, stamp(c.sentAt))
	}
	args = slices.Concat(lead, args, []any{app}, idArgs(ids))
	_, err := tx.ExecContext(ctx, "UPDATE notifications SET state = CASE WHEN state = 3 THEN 3 "+
		"WHEN "+complete+" THEN 2"+state+" END,"+
		" finished_at = CASE WHEN "+complete+" THEN ? ELSE finished_at END"+sent+set.String()+
		" WHERE app = ? AND id IN "+list(len(ids)), args...)
	return wrap(err, "update counts")
}
