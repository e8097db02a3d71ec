package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/quota"
)

// Expand takes the next recipients, up to limit, of an Audience batch: it counts their badges up, writes them as Ready
// batches, and moves the cursor, in one transaction. It returns the ready batches and what takes the Audience batch's
// place: nil at the end, and when the notification was cancelled.
//
// Repeating it after any error is harmless: where it was done already, the batches that came of it are returned.
func (q *Queue) Expand(ctx context.Context, l Lease, b *Batch, limit int) (ready []*Batch, next *Batch, err error) {
	start := time.Now()
	var found int64
	var counts quota.Changes
	var page audiencePage
	// The page is read, and its badges are counted up, before the fence: what is settled meanwhile does not wait for that.
	lost, err := q.lateFencedTx(ctx, leaseSet{l: {}}, func(ctx context.Context, tx *sqlx.Tx) error {
		page, err = q.readPage(ctx, tx, b, limit)
		return err
	}, func(ctx context.Context, tx *sqlx.Tx, _ map[Lease]bool) error {
		ready, next, err = q.expand(ctx, tx, l, b, &page)
		if err != nil {
			return err
		}
		found, counts = int64(len(page.recipients)), quota.Changes{}
		counts.Add(b.App, b.counted(), found)
		if next == nil { // itself it waited as one
			counts.Add(b.App, b.counted(), -b.waiting())
		}
		return q.counters.Write(ctx, tx, &counts)
	})
	if err == nil && len(lost) > 0 {
		err = &FencedError{lost}
	}
	if errors.Is(err, errGone) {
		found, counts = 0, quota.Changes{}
		ready, next, err = q.expandedBefore(ctx, b)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("expand the audience of %s: %w", b.Notification, err)
	}
	q.counters.Committed(&counts)
	q.metrics.expanded.Add(float64(found))
	q.metrics.groups.WithLabelValues("expand").Observe(float64(len(ready)))
	q.metrics.seconds.WithLabelValues("expand").Observe(time.Since(start).Seconds())
	return ready, next, nil
}

// audiencePage is the next recipients of an audience, with the route of each, and the token after which the next page
// goes on.
type audiencePage struct {
	recipients []push.Recipient
	routes     []push.Route
	after      push.Token
}

// readPage reads the page and counts its badges up. That of a cancelled notification is empty, and the last.
func (q *Queue) readPage(ctx context.Context, tx *sqlx.Tx, b *Batch, limit int) (page audiencePage, err error) {
	var state int
	var increment uint32
	var encoded []byte
	if err := tx.QueryRowContext(ctx,
		"SELECT state, badge_increment, audience FROM notifications WHERE app = ? AND id = ?",
		b.App, b.Notification[:]).Scan(&state, &increment, &encoded); err != nil {
		return page, fmt.Errorf("read the notification: %w", err)
	}
	if state == stateCancelled {
		return page, nil
	}
	var audience storedAudience
	if err := json.Unmarshal(encoded, &audience); err != nil {
		return page, fmt.Errorf("read the audience: %w", err)
	}
	page.recipients, page.routes, page.after, err = q.registry.AudiencePage(ctx, tx, b.App, audience.of(b.Route),
		b.Cursor.After, limit, increment)
	if err != nil {
		return page, fmt.Errorf("read a page: %w", err)
	}
	return page, nil
}

func (q *Queue) expand(ctx context.Context, tx *sqlx.Tx, l Lease, b *Batch, page *audiencePage) (
	ready []*Batch, next *Batch, err error,
) {
	n, err := consume(ctx, tx, []Key{b.Key})
	if err != nil {
		return nil, nil, fmt.Errorf("consume the cursor: %w", err)
	}
	if n == 0 {
		return nil, nil, errGone
	}
	now := q.now()
	out := database.NewInsert("batches", batchColumns, "")
	platforms := map[platformKey]*platformCounts{}
	key := b.Key // the cursor's own seq is used up: a repetition must not take a ready batch for it
	for route, part := range batchesByRoute(page.recipients, page.routes) {
		key.Seq++
		r := &Batch{Key: key, App: b.App, Route: route, Kind: Ready, Recipients: part, ByPlatform: b.ByPlatform,
			Scheduled: b.Scheduled}
		ready = append(ready, r)
		if b.ByPlatform {
			add(platforms, r).recipients += int64(len(part))
		}
		if err := addBatch(ctx, tx, out, r, r.body()); err != nil {
			return nil, nil, err
		}
	}
	if page.after != "" {
		key.Seq++
		next = &Batch{Key: key, App: b.App, Route: b.Route, Kind: Audience, Cursor: Cursor{After: page.after},
			ByPlatform: b.ByPlatform, Scheduled: b.Scheduled}
		if err := addBatch(ctx, tx, out, next, next.body()); err != nil {
			return nil, nil, err
		}
	}
	if err := out.Flush(ctx, tx); err != nil {
		return nil, nil, fmt.Errorf("insert batches: %w", err)
	}
	expanded := next == nil
	if expanded {
		if expanded, err = allExpanded(ctx, tx, b); err != nil {
			return nil, nil, err
		}
	}
	c := change{expanded: expanded, recipients: len(page.recipients)}
	if err = c.apply(ctx, tx, b.App, []uuid.UUID{b.Notification}, now); err == nil {
		err = q.addToPlatforms(ctx, tx, platforms)
	}
	if err == nil && expanded { // so it may be done
		news := q.newNews(now)
		news.of(b.App, b.Notification, &l)
		err = news.flush(ctx, tx)
	}
	return ready, next, err
}

// allExpanded reports whether the batch, which is consumed, was the last of its audience: there is one for each route.
// The fence's row keeps two of them from ending at once.
func allExpanded(ctx context.Context, tx *sqlx.Tx, b *Batch) (bool, error) {
	if b.Route == "" {
		return true, nil
	}
	var others int
	err := tx.QueryRowContext(ctx, "SELECT COUNT(*) FROM batches WHERE notification_id = ? AND kind IN (?, ?, ?, ?)",
		b.Notification[:], Audience, Audience|byPlatform, Audience|scheduled, Audience|byPlatform|scheduled).Scan(&others)
	return others == 0, wrap(err, "look for the audience's other routes")
}

// audienceSpan is how far apart the first seqs of an audience's batches are, one for each route: each has room for what
// it expands to, and all of them are below generation.
const audienceSpan = generation / 8

// batchesByRoute divides a page into what goes each way, and that into batches.
func batchesByRoute(page []push.Recipient, routes []push.Route) iter.Seq2[push.Route, []push.Recipient] {
	return func(yield func(push.Route, []push.Recipient) bool) {
		distinct := make([]push.Route, 0, 4)
		for i, r := range routes {
			if (i == 0 || r != routes[i-1]) && !slices.Contains(distinct, r) {
				distinct = append(distinct, r)
			}
		}
		slices.Sort(distinct)
		for _, route := range distinct {
			of := page
			if len(distinct) > 1 {
				of = make([]push.Recipient, 0, len(page))
				for i, r := range routes {
					if r == route {
						of = append(of, page[i])
					}
				}
			}
			for part := range slices.Chunk(of, MaxBatch) {
				if !yield(route, part) {
					return
				}
			}
		}
	}
}

// expandedBefore finds what an earlier expansion of the batch, whose commit's answer was lost, has left: all that comes
// after it. Whoever repeats the expansion knows none of that yet.
func (q *Queue) expandedBefore(ctx context.Context, b *Batch) (ready []*Batch, next *Batch, err error) {
	batches, err := q.selectBatches(ctx, q.db.Reader(), "SELECT "+batchColumns+` FROM batches
		WHERE shard = ? AND lane = ? AND due_at = ? AND notification_id = ? AND seq > ? AND seq < ? ORDER BY seq`,
		b.Shard, b.Lane, b.DueAt, b.Notification[:], b.Seq, (b.Seq/audienceSpan+1)*audienceSpan)
	if err != nil {
		return nil, nil, wrap(err, "find what was expanded")
	}
	for _, found := range batches {
		switch found.Kind {
		case Audience:
			next = found
		case Unreadable:
		case Ready, Badges, Singles:
			ready = append(ready, found)
		}
	}
	return ready, next, nil
}
