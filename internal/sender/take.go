package sender

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/queue"
)

// take admits what was read, page by page, and moves the cursors over each page that is admitted. It returns what is
// left when there is no more time.
func (r *reader) take(ctx context.Context, rows []*queue.Batch, until time.Time) (left []*queue.Batch, err error) {
	for len(rows) > 0 {
		n, named := 1, rows[0].Named()
		for n < len(rows) && named+rows[n].Named() <= loadPage {
			named += rows[n].Named()
			n++
		}
		if err := r.takePage(ctx, rows[:n]); err != nil {
			return nil, err
		}
		if rows = rows[n:]; !time.Now().Before(until) {
			break
		}
	}
	return rows, nil
}

// takePage loads no more than there is room for. What is passed over for want of room is found when the cursors go
// back.
func (r *reader) takePage(ctx context.Context, page []*queue.Batch) error {
	ctx, cancel := context.WithTimeout(ctx, databaseTimeout)
	defer cancel()
	batches, err := r.withSingles(ctx, page)
	if err != nil {
		return err
	}
	for len(batches) > 0 {
		var fitting []*queue.Batch
		fitting, batches = r.fitting(batches)
		if err := r.admit(ctx, fitting); err != nil {
			return err
		}
	}
	for _, b := range page {
		r.advance(b)
	}
	return nil
}

// withSingles has what Singles batches name in their place, of routes that have room.
func (r *reader) withSingles(ctx context.Context, rows []*queue.Batch) ([]*queue.Batch, error) {
	var named, batches []*queue.Batch
	wants := map[*route]bool{}
	for _, b := range rows {
		way := r.s.routeOf(b)
		if way == nil || b.Kind == queue.Unreadable {
			continue // it waits: for its app to be configured (again, or here, too), or for a version that can read it
		}
		if b.Kind != queue.Singles {
			batches = append(batches, b)
			continue
		}
		if _, asked := wants[way]; !asked {
			wants[way] = way.wants(b.Lane)
		}
		if wants[way] {
			named = append(named, b)
		}
	}
	if len(named) == 0 {
		return batches, nil
	}
	singles, err := r.s.q.Singles(ctx, named, r.s.memory.has)
	return append(singles, batches...), err
}

// fitting picks of the batches, which are of one lane, those that are not in memory and that their routes have room
// for. rest are those that have room only where these take less of it than they might. What there is no room for at all
// is in neither.
func (r *reader) fitting(batches []*queue.Batch) (fitting, rest []*queue.Batch) {
	room := map[*route]int{}
	for _, b := range batches {
		way := r.s.routeOf(b)
		if way == nil || r.s.memory.has(b.Key) {
			continue
		}
		left, asked := room[way]
		weight := max(1, len(b.Recipients))
		if !asked {
			left = way.roomFor(b.Lane, weight)
			room[way] = left
		}
		switch {
		case left >= weight:
			room[way] -= weight
			fitting = append(fitting, b)
		case asked:
			rest = append(rest, b)
		}
	}
	return fitting, rest
}

// admit loads the batches' notifications, and admits them.
func (r *reader) admit(ctx context.Context, batches []*queue.Batch) error {
	missing := map[string][]uuid.UUID{}
	for _, b := range batches {
		way := r.s.routeOf(b)
		if way == nil || way.notification(b.Notification) != nil {
			continue
		}
		if ids := missing[b.App]; len(ids) == 0 || ids[len(ids)-1] != b.Notification {
			missing[b.App] = append(ids, b.Notification)
		}
	}
	loaded := map[string]map[uuid.UUID]*push.Notification{}
	for name, ids := range missing {
		found, err := r.s.q.Notifications(ctx, name, ids)
		if err != nil {
			return err
		}
		loaded[name] = found
	}
	for _, b := range batches {
		way := r.s.routeOf(b)
		if way == nil { // taken away meanwhile
			continue
		}
		n := way.notification(b.Notification)
		if n == nil {
			n = loaded[b.App][b.Notification]
		}
		if n != nil { // else an orphan, or it was in memory a moment ago and is settled
			r.postponed = way.admit(b, n) == postponed || r.postponed
		}
	}
	return nil
}
