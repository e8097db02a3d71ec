package queue

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/lhspn/lhspn/internal/push"
)

// readContents gives the statuses what was accepted: the payloads and the audience. They are read for what is shown
// only, since a list by state looks at many more rows.
func (q *Queue) readContents(ctx context.Context, app string, statuses []*push.Status) error {
	byID := make(map[uuid.UUID]*push.Status, len(statuses))
	ids := make([]uuid.UUID, len(statuses))
	for i, s := range statuses {
		byID[s.ID], ids[i] = s, s.ID
	}
	for chunk := range slices.Chunk(ids, maxKeys) {
		if err := q.readSomeContents(ctx, app, chunk, byID); err != nil {
			return err
		}
		if err := q.readReceipts(ctx, chunk, byID); err != nil {
			return err
		}
	}
	return nil
}

func (q *Queue) readSomeContents(ctx context.Context, app string, ids []uuid.UUID,
	byID map[uuid.UUID]*push.Status) error {
	rows, err := q.db.Reader().QueryContext(ctx, `SELECT id, name, platform, payload, badge_at, ticket_at, contents, audience, service_id
		FROM notifications WHERE app = ? AND id IN `+list(len(ids)), append([]any{app}, idArgs(ids)...)...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var id, name []byte
		var contents, audience, serviceID sql.RawBytes
		n := &push.Notification{App: app}
		if err := rows.Scan(&id, &name, &n.Platform, &n.Payload.JSON, &n.Payload.BadgeAt, &n.Payload.TicketAt, &contents,
			&audience, &serviceID); err != nil {
			return err
		}
		copy(n.ID[:], id)
		n.Name = string(name)
		if err := decodeContents(n, contents); err != nil {
			return err
		}
		setServiceID(n, serviceID)
		s := byID[n.ID]
		s.Notification = n
		if audience != nil {
			s.Audience = new(push.Audience)
			if err := json.Unmarshal(audience, s.Audience); err != nil {
				return fmt.Errorf("notification %s: decode the audience: %w", n.ID, err)
			}
		}
	}
	return rows.Err()
}

func pointers[T any](values []T) []*T {
	all := make([]*T, len(values))
	for i := range values {
		all[i] = &values[i]
	}
	return all
}
