package push

import (
	"fmt"
	"strconv"
	"time"
)

// typeRules is what APNs lays down for each push type.
var typeRules = map[Type]struct {
	suffix     string // of the topic
	priorities []uint8
}{
	TypeAlert:        {"", []uint8{10, 5, 1}},
	TypeBackground:   {"", []uint8{5}},
	TypeLocation:     {".location-query", []uint8{10, 5, 1}},
	TypeVoIP:         {".voip", []uint8{10, 5, 1}},
	TypeComplication: {".complication", []uint8{10, 5, 1}},
	TypeFileProvider: {".pushkit.fileprovider", []uint8{10, 5, 1}},
	TypeMDM:          {"", []uint8{10, 5, 1}}, // the topic is the certificate's UID, which is the app's topic
	TypeLiveActivity: {".push-type.liveactivity", []uint8{10, 5}},
	TypePushToTalk:   {".voip-ptt", []uint8{10, 5, 1}},
	TypeWidgets:      {".push-type.widgets", []uint8{10, 5, 1}},
	TypeControls:     {".push-type.controls", []uint8{10, 5, 1}},
}

// Types lists the push types, for messages and documents.
func Types() []Type {
	return []Type{TypeAlert, TypeBackground, TypeLocation, TypeVoIP, TypeComplication, TypeFileProvider, TypeMDM,
		TypeLiveActivity, TypePushToTalk, TypeWidgets, TypeControls}
}

// Valid reports whether t is one of Types.
func (t Type) Valid() bool {
	_, ok := typeRules[t]
	return ok
}

// Lifetime is how long a notification of the type is worth sending where nobody says: a call is over, and the state of a
// Live Activity is old, long before a day has passed.
func (t Type) Lifetime(event string) time.Duration {
	switch {
	case t == TypeVoIP || t == TypePushToTalk:
		return 30 * time.Second
	case t == TypeLiveActivity && event != "start":
		return time.Hour
	}
	return 24 * time.Hour
}

// TopicSuffix is what is put behind the app's topic for the type.
func (t Type) TopicSuffix() string { return typeRules[t].suffix }

// DefaultPriority is 10, or 5 for background.
func (t Type) DefaultPriority() uint8 { return typeRules[t].priorities[0] }

// Allows reports whether APNs takes the priority with the type.
func (t Type) Allows(priority uint8) bool {
	for _, p := range typeRules[t].priorities {
		if p == priority {
			return true
		}
	}
	return false
}

// MaxPayload is the limit of a payload's length: binary says that it goes over the binary protocol.
func (t Type) MaxPayload(binary bool) int {
	switch {
	case binary:
		return MaxPayloadBinary
	case t == TypeVoIP:
		return MaxPayloadVoIP
	default:
		return MaxPayload
	}
}

// CheckSize is ErrTooLarge with the size where the payload, with the widest badge, is over the limit.
func (p Payload) CheckSize(t Type, binary bool) error {
	limit := t.MaxPayload(binary)
	if p.MaxLen() <= limit {
		return nil
	}
	over := "over HTTP/2"
	if binary {
		over = "over the binary protocol"
	}
	badge := ""
	if p.BadgeAt != 0 {
		badge = " with the widest badge"
	}
	return fmt.Errorf("%w: the payload is %d bytes long%s; push type %s %s takes at most %d",
		ErrTooLarge, p.MaxLen(), badge, t, over, limit)
}

// DeriveType is the push type that a payload speaks of: aps may be nil; badge says that each device's own badge is added.
func DeriveType(aps JSON, badge bool) Type {
	if aps == nil || !aps.IsObject() {
		return TypeAlert
	}
	shown, background := badge, false
	for key, value := range aps.Members() {
		switch string(key.Text()) {
		case "event", "content-state":
			return TypeLiveActivity
		case "alert", "badge", "sound":
			shown = true
		case "content-available":
			background = string(value) == "1"
		}
	}
	if background && !shown {
		return TypeBackground
	}
	return TypeAlert
}

// Priorities names those that Allows allows, for a message.
func (t Type) Priorities() string {
	text := ""
	for i, p := range typeRules[t].priorities {
		if i > 0 {
			text += " or "
		}
		text += strconv.Itoa(int(p))
	}
	return text
}
