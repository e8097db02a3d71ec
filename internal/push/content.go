package push

import (
	"time"

	"github.com/google/uuid"
)

// Content is a notification as its caller gave it, the same for every platform: each platform makes its own
// Notification of it. Its blocks are JSON objects whose form each platform checks.
type Content struct {
	ID  uuid.UUID
	App string
	// Name is for people.
	Name string
	// Blocks are the objects of the body by their names: message, data, and one for each platform. An absent one is not
	// there.
	Blocks map[string]JSON
	// Fields are the texts of the body that are one platform's own, by their names.
	Fields map[string]string

	Priority uint8 // 10, 5 or 1; 0 where left out
	// Expires says that an expiration was given; without one each platform has its default. Expiration is zero for now
	// or never.
	Expires        bool
	Expiration     time.Time
	CollapseID     string
	BadgeIncrement uint32
	// Replace asks that a repetition of this notification replace what a device shows of it already.
	Replace bool
	// Receipts asks for a ticket in each recipient's payload.
	Receipts bool
	Rate     uint32
	// CreatedAt is now; SendAt is not before it.
	CreatedAt, SendAt time.Time
}

// Notification is the neutral part of what a platform makes of the content.
func (c *Content) Notification(platform string) *Notification {
	return &Notification{
		ID: c.ID, App: c.App, Name: c.Name, Platform: platform, Priority: c.Priority, Expiration: c.Expiration,
		CollapseID:     c.CollapseID,
		BadgeIncrement: c.BadgeIncrement, Rate: c.Rate, CreatedAt: c.CreatedAt, SendAt: c.SendAt,
	}
}
