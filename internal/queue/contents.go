package queue

import (
	"encoding/json"
	"fmt"
	"time"

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
