package queue

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/push"
)

// A notification's row has the form of one platform in its columns, and those of the others in the column contents.

const contentsVersion = 1

type contents struct {
	Version int    `json:"v"`
	Others  []form `json:"others"`
}

// form is what a notification is on one platform and not on all.
type form struct {
	Platform   string     `json:"platform"`
	Route      push.Route `json:"route,omitempty"`
	Type       push.Type  `json:"type,omitempty"`
	Kind       push.Kind  `json:"kind,omitempty"`
	KindOf     string     `json:"kind_of,omitempty"`
	Key        string     `json:"key,omitempty"`
	Priority   uint8      `json:"priority,omitempty"`
	Expiration time.Time  `json:"expiration,omitzero"`
	CollapseID string     `json:"collapse_id,omitempty"`
	Payload    []byte     `json:"payload"`
	BadgeAt    int        `json:"badge_at,omitempty"`
	TicketAt   int        `json:"ticket_at,omitempty"`
}

// encodeContents is what the column has: nil where the notification is for one platform.
func encodeContents(n *push.Notification) ([]byte, error) {
	if len(n.Others) == 0 {
		return nil, nil
	}
	c := contents{Version: contentsVersion}
	for _, o := range n.Others {
		c.Others = append(c.Others, form{
			Platform: o.PlatformName(), Route: o.Environment, Type: o.Type, Kind: o.Kind, KindOf: o.KindOf, Key: o.Key,
			Priority: o.Priority, Expiration: o.Expiration, CollapseID: o.CollapseID,
			Payload: o.Payload.JSON, BadgeAt: o.Payload.BadgeAt, TicketAt: o.Payload.TicketAt,
		})
	}
	encoded, err := json.Marshal(&c)
	if err != nil {
		return nil, fmt.Errorf("encode the forms of other platforms: %w", err)
	}
	return encoded, nil
}

// decodeContents gives the notification its Others.
func decodeContents(n *push.Notification, encoded []byte) error {
	if len(encoded) == 0 {
		return nil
	}
	var c contents
	if err := json.Unmarshal(encoded, &c); err != nil {
		return fmt.Errorf("notification %s: decode the forms of other platforms: %w", n.ID, err)
	}
	if c.Version != contentsVersion {
		return fmt.Errorf("notification %s: the forms of other platforms are of version %d", n.ID, c.Version)
	}
	for i := range c.Others {
		f := &c.Others[i]
		n.Others = append(n.Others, &push.Notification{
			ID: n.ID, App: n.App, BadgeIncrement: n.BadgeIncrement, Rate: n.Rate, CreatedAt: n.CreatedAt, SendAt: n.SendAt,
			Platform: f.Platform, Environment: f.Route, Type: f.Type, Kind: f.Kind, KindOf: f.KindOf, Key: f.Key,
			Priority: f.Priority, Expiration: f.Expiration, CollapseID: f.CollapseID,
			Payload: push.Payload{JSON: f.Payload, BadgeAt: f.BadgeAt, TicketAt: f.TicketAt},
		})
	}
	return nil
}

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
	// What a payload is shown by is read with it: it may say for how long it is kept.
	rows, err := q.db.Reader().QueryContext(ctx, `SELECT id, name, platform, expires_at, service_id, badge_increment,
		payload, badge_at, ticket_at, contents, audience, created_at, send_at
		FROM notifications WHERE app = ? AND id IN `+list(len(ids)), append([]any{app}, idArgs(ids)...)...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var id, name []byte
		var contents, audience, serviceID sql.RawBytes
		var expires, created, sendAt database.Time
		n := &push.Notification{App: app}
		if err := rows.Scan(&id, &name, &n.Platform, &expires, &serviceID, &n.BadgeIncrement, &n.Payload.JSON,
			&n.Payload.BadgeAt, &n.Payload.TicketAt, &contents, &audience, &created, &sendAt); err != nil {
			return err
		}
		copy(n.ID[:], id)
		n.Name = string(name)
		n.Expiration, n.CreatedAt, n.SendAt = expires.Time, created.Time, sendAt.Time
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
