package push

import (
	"strconv"
	"time"

	"github.com/google/uuid"
)

// Type is what sort of notification it is, in its platform's own word; it may be empty.
type Type string

// Notification is what is sent, as one platform sends it, the same for all of its recipients there. It is immutable
// once accepted.
type Notification struct {
	ID          uuid.UUID // version 7
	App         string
	Name        string // for people, as of a campaign; may be empty, and need not be unique
	Platform    string // the name of the platform; empty reads as DefaultPlatform
	Environment Route
	Type        Type
	Kind        Kind   // of the tokens that it is for
	KindOf      string // and of which activity or type of activities; empty: any
	Key         string // the scope within a route that a service may refuse as a whole: the topic, with its suffix
	Priority    uint8  // 10, 5 or 1
	// Expiration is when the service and we stop trying. The zero time means now or never: one try, and nothing is
	// stored.
	Expiration time.Time
	CollapseID string
	// ServiceID is what its delivery, to one recipient, is called towards the service, where it was given; else the zero
	// UUID, and the platform names each delivery.
	ServiceID uuid.UUID
	// BadgeIncrement is added to each recipient's stored badge, once; 0 means that badges are left alone.
	BadgeIncrement uint32
	// Rate limits the recipients a second of this notification; 0 means no limit.
	Rate    uint32
	Payload Payload
	// CreatedAt is when it was accepted, SendAt the time before which it is not sent (CreatedAt where none was asked
	// for).
	CreatedAt, SendAt time.Time
	// Trace is the request that it was accepted with, where that is traced.
	Trace Trace
	// Others are the same notification as other platforms send it, each platform once: they share ID, App,
	// BadgeIncrement, Rate, CreatedAt and SendAt, and have no Others of their own.
	Others []*Notification
}

// DefaultPlatform is the platform of hexadecimal device tokens, and of notifications that name none.
const DefaultPlatform = "apns"

// PlatformName is the name of the platform whose form the notification has.
func (n *Notification) PlatformName() string {
	if n.Platform == "" {
		return DefaultPlatform
	}
	return n.Platform
}

// For is the notification as the named platform sends it; nil where it is not for that platform.
func (n *Notification) For(platform string) *Notification {
	if n.PlatformName() == platform {
		return n
	}
	for _, other := range n.Others {
		if other.PlatformName() == platform {
			return other
		}
	}
	return nil
}

// ServiceIDText is ServiceID in its written form, empty where it was not given.
func (n *Notification) ServiceIDText() string {
	if n.ServiceID == uuid.Nil {
		return ""
	}
	return n.ServiceID.String()
}

// Scheduled reports whether it was accepted for later, as exactly as its times are stored.
func (n *Notification) Scheduled() bool { return n.SendAt.UnixMicro() > n.CreatedAt.UnixMicro() }

// ExpirationUnix is the expiration in Unix seconds, 0 for now or never.
func (n *Notification) ExpirationUnix() uint32 {
	if n.Expiration.IsZero() {
		return 0
	}
	return uint32(n.Expiration.Unix()) // the API allows no date beyond 2106
}

// Expired reports whether the notification must not be sent any more. One that is now or never does not expire here: it
// has its one try whenever that comes.
func (n *Notification) Expired(now time.Time) bool {
	return !n.Expiration.IsZero() && !now.Before(n.Expiration)
}

// Payload is a JSON document ready to be sent, with at most two places: where each device's own badge goes in, and
// behind it where its ticket does. Documents are thus not built anew for each device.
type Payload struct {
	// JSON is the document. Where BadgeAt is not 0 it lacks the badge's digits at that offset.
	JSON []byte
	// BadgeAt is the offset in JSON at which the badge's digits belong; 0 means that there is no such place.
	BadgeAt int
	// TicketAt is the offset in JSON, not before BadgeAt, at which the recipient's ticket belongs, between quotes that are
	// there; 0 means that there is no such place. Tickets makes it; nil gives one that nobody takes.
	TicketAt int
	Tickets  *Tickets
}

// AppendTo appends the document for one device, with a ticket that nobody takes. badge is ignored where the payload has
// no place for it.
func (p *Payload) AppendTo(dst []byte, badge uint32) []byte {
	n := Notification{Payload: Payload{JSON: p.JSON, BadgeAt: p.BadgeAt, TicketAt: p.TicketAt}}
	return n.AppendPayload(dst, "", badge)
}

// AppendPayload appends the payload for one recipient. badge is ignored where the payload has no place for it.
func (n *Notification) AppendPayload(dst []byte, t Token, badge uint32) []byte {
	return n.AppendPayloadFrom(dst, 0, t, badge)
}

// AppendPayloadFrom appends the payload without its first bytes, before which it has no places.
func (n *Notification) AppendPayloadFrom(dst []byte, from int, t Token, badge uint32) []byte {
	p := &n.Payload
	if p.BadgeAt > 0 {
		dst = append(dst, p.JSON[from:p.BadgeAt]...)
		dst = strconv.AppendUint(dst, uint64(badge), 10)
		from = p.BadgeAt
	}
	if p.TicketAt > 0 {
		dst = append(dst, p.JSON[from:p.TicketAt]...)
		dst = p.Tickets.Append(dst, n.ID, t)
		from = p.TicketAt
	}
	return append(dst, p.JSON[from:]...)
}

// Len is the length in bytes of what AppendTo appends.
func (p *Payload) Len(badge uint32) int {
	size := len(p.JSON)
	if p.TicketAt > 0 {
		size += TicketLen
	}
	if p.BadgeAt == 0 {
		return size
	}
	for size++; badge >= 10; size++ {
		badge /= 10
	}
	return size
}

// MaxLen is the length with the widest badge, which is what the limits are checked against.
func (p *Payload) MaxLen() int { return p.Len(1<<32 - 1) }

// Counted says in words what MaxLen counts beside the document, for the message that it is too long.
func (p *Payload) Counted() string {
	switch {
	case p.BadgeAt > 0 && p.TicketAt > 0:
		return " with the widest badge and the ticket for receipts"
	case p.BadgeAt > 0:
		return " with the widest badge"
	case p.TicketAt > 0:
		return " with the ticket for receipts"
	}
	return ""
}

// Audience names recipients by what the registry knows of them instead of by their tokens. Exactly one of Users, Tags
// and All is set.
type Audience struct {
	Environment Route `json:"environment,omitempty"` // empty: any
	// Routes are those whose tokens are recipients; none: any.
	Routes []Route `json:"routes,omitempty"`
	// Platforms are those whose tokens are recipients; none: the default one only.
	Platforms []string `json:"platforms,omitempty"`
	// Kind and KindOf select tokens of the default platform. Those of the others have no kind.
	Kind   Kind     `json:"kind,omitempty"`
	KindOf string   `json:"kind_of,omitempty"` // empty: any
	Users  []string `json:"users,omitempty"`
	Tags   *Tags    `json:"tags,omitempty"`
	All    bool     `json:"all,omitempty"`
}

// Tags selects devices: those with at least one of Any (where given), every one of All, and none of None.
type Tags struct {
	Any  []string `json:"any,omitempty"`
	All  []string `json:"all,omitempty"`
	None []string `json:"none,omitempty"`
}

// AudienceMember is a device of an audience: the route that it is registered for, and since when it is registered.
type AudienceMember struct {
	Route Route
	Since time.Time
}
