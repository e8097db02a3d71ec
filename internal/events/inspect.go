package events

import (
	"bytes"
	"context"
	"time"

	"github.com/lhspn/lhspn/internal/push"
)

// aboutRows is how many rows a page of About reads.
const aboutRows = 100

// About looks for the app's events that name the device token, the newest first, up to limit of them, in up to rows of
// the newest rows and as long as ctx lasts. since is how far back it has come: the zero time where that is all that is
// kept.
func (s *Store) About(ctx context.Context, app string, token push.Token, rows, limit int) (
	items []push.Event, since time.Time, err error,
) {
	head, err := s.head(ctx)
	if err != nil {
		return nil, time.Time{}, err
	}
	text := []byte(`"` + token.String() + `"`)
	for before := head + 1; rows > 0; {
		var page []struct {
			Seq  uint64
			Body []byte
		}
		err := s.db.Reader().SelectContext(ctx, &page, `SELECT seq, body FROM events
			WHERE app = ? AND seq < ? AND seq > 0 ORDER BY seq DESC LIMIT ?`, app, before, min(aboutRows, rows))
		if ctx.Err() != nil && !since.IsZero() {
			return items, since, nil
		}
		if err != nil {
			return nil, since, wrap(err, "look through the events")
		}
		for _, r := range page {
			before = r.Seq
			lines, err := decode(r.Body)
			if err != nil {
				s.cannotRead(app, r.Seq, err)
				continue
			}
			for i := len(lines) - 1; i >= 0; i-- {
				l := &lines[i]
				since = l.At
				if bytes.Contains(l.Data, text) {
					items = append(items, push.Event{Type: l.Type, At: l.At, Data: l.Data})
				}
				if len(items) == limit {
					return items, since, nil
				}
			}
		}
		if len(page) < min(aboutRows, rows) {
			return items, time.Time{}, nil
		}
		rows -= len(page)
	}
	return items, since, nil
}
