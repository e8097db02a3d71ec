package queue

import (
	"context"
	"time"
)

// OldestDue says for how long the first batch in this replica's shards has been due, 0 where nothing is. What is in
// flight, paused or slowed down by its own rate counts, too: a large value alone is no fault, and with no results
// beside it it is.
func (q *Queue) OldestDue(ctx context.Context) (time.Duration, error) {
	heads, err := q.Heads(ctx, q.Owned())
	if err != nil {
		return 0, err
	}
	now, oldest := q.now(), time.Duration(0)
	for _, h := range heads {
		for _, due := range h.Due {
			if !due.IsZero() {
				oldest = max(oldest, now.Sub(due))
			}
		}
	}
	return oldest, nil
}
