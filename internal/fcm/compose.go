package fcm

import (
	"strconv"
	"time"

	"github.com/lhspn/lhspn/internal/push"
)

// lifetime is how long a notification is worth sending where nobody says, as on the other platforms. FCM's own would be
// 28 days.
const lifetime = 24 * time.Hour

// Wants reports whether the content has something for FCM: a message, a block of its own, or nothing but data.
func Wants(c *push.Content) bool {
	return c.Blocks["message"] != nil || c.Blocks[Name] != nil || len(c.Blocks) == 1 && c.Blocks["data"] != nil
}

// Compose makes the notification that FCM gets of the content: its message object, without the target and the ttl,
// which the transport puts in. What the block fcm says wins over message, member by member, and over the neutral
// fields.
func Compose(c *push.Content) (*push.Notification, []push.Fault) {
	m := composer{content: c, notification: c.Notification(Name)}
	m.compose()
	if len(m.faults) > 0 {
		return nil, m.faults
	}
	return m.notification, nil
}

// Preview is the payload as it is sent, without the target, and with a count of 1 where each device has its own.
func Preview(n *push.Notification) push.JSON {
	now := n.CreatedAt
	if n.SendAt.After(now) {
		now = n.SendAt
	}
	return appendBody(nil, n, "", 1, now)
}

// composer holds a message while it is made.
type composer struct {
	checker
	content      *push.Content
	notification *push.Notification

	// The parts of the message object. android lacks its notification, its ttl and the members below.
	android, androidNotification, shown, rest members
	data                                      manyMembers
	androidData                               push.JSON
	// asked: the block has a notification for Android, whatever is in it.
	asked bool
}

func (m *composer) compose() {
	if block := m.content.Blocks["message"]; block != nil {
		m.message(block)
	}
	if block := m.content.Blocks["data"]; block != nil {
		m.neutralData(block)
	}
	if id := m.content.CollapseID; id != "" {
		m.android.set("collapse_key", quote(id))
		m.androidNotification.set("tag", quote(id))
	} else if m.content.Replace {
		m.androidNotification.set("tag", quote(m.content.ID.String()))
	}
	m.expiration()
	if block := m.content.Blocks[Name]; block != nil {
		m.block(block)
	}
	m.ticket()
	if len(m.faults) > 0 {
		return
	}
	m.setPriority()
	m.write()
	m.checkSize()
}

// message takes up the neutral message: what FCM's notification has no place for goes into data, for the app to use.
func (m *composer) message(block push.JSON) {
	const at = "body.message"
	msg, faults := push.ParseMessage(block, m.content.BadgeIncrement > 0)
	if len(faults) > 0 {
		m.faults = append(m.faults, faults...)
		return
	}
	set := func(to interface{ set(string, push.JSON) }, name, value string) {
		if value != "" {
			to.set(name, quote(value))
		}
	}
	set(&m.shown, "title", msg.Title)
	set(&m.shown, "body", msg.Body)
	set(&m.shown, "image", msg.Image)
	set(&m.androidNotification, "sound", msg.Sound)
	if msg.Badge != nil {
		if *msg.Badge > maxCount {
			m.fault(at+".badge", "must be at most 2147483647 for FCM")
		}
		m.androidNotification.set("notification_count", strconv.AppendUint(nil, uint64(*msg.Badge), 10))
	}
	set(&m.data, "subtitle", msg.Subtitle)
	set(&m.data, "link", msg.Link)
	set(&m.data, "thread", msg.Thread)
	set(&m.data, "category", msg.Category)
	for key, v := range block.Members() {
		if key.Is("actions") && v.Count() > 0 {
			m.data.set("actions", quote(string(v.AppendCompact(nil))))
		}
	}
}

// neutralData takes up the field data: values that are not strings become JSON text, for FCM has only strings.
func (m *composer) neutralData(block push.JSON) {
	const at = "body.data"
	if !block.IsObject() {
		m.fault(at, "must be an object")
		return
	}
	for key, v := range block.Members() {
		m.dataKey(at, key)
		if !v.IsString() {
			v = quote(string(v.AppendCompact(nil)))
		}
		m.data.set(key.String(), v)
	}
	m.faults = append(m.faults, block.DuplicateKeys(at)...)
}

// expiration gives the notification the neutral one, or the default.
func (m *composer) expiration() {
	if !m.content.Expires {
		m.notification.Expiration = m.start().Add(lifetime)
	}
}

func (m *composer) start() time.Time {
	if m.content.SendAt.After(m.content.CreatedAt) {
		return m.content.SendAt
	}
	return m.content.CreatedAt
}

// block takes up FCM's message object.
func (m *composer) block(block push.JSON) {
	const at = "body." + Name
	m.faults = append(m.faults, m.duplicates(at, block)...)
	m.object(at, block, messageForm, func(name, here string, v push.JSON) {
		switch name {
		case "notification":
			if v == nil {
				m.shown = nil
			}
			m.object(here, v, notificationForm, func(name, _ string, v push.JSON) { m.shown.set(name, compact(v)) })
		case "data":
			if v == nil {
				m.data = manyMembers{}
				return
			}
			for key, v := range v.Members() {
				m.data.set(key.String(), compact(v))
			}
		case "android":
			if v == nil {
				m.android, m.androidNotification, m.androidData = nil, nil, nil
			}
			m.object(here, v, androidForm, m.androidMember)
		case "fcm_options":
			m.object(here, v, optionsForm, func(string, string, push.JSON) {})
			m.rest.set(name, compact(v))
		default:
			m.rest.set(name, compact(v))
		}
	})
}

func (m *composer) androidMember(name, at string, v push.JSON) {
	switch name {
	case "notification":
		if v == nil {
			m.androidNotification = nil
		}
		m.asked = v != nil && v.IsObject() && string(compact(v)) != "{}"
		m.object(at, v, androidNotificationForm, func(name, here string, v push.JSON) {
			if name == "notification_count" && m.content.BadgeIncrement > 0 {
				m.fault(here, "is not allowed together with badge_increment")
			}
			m.androidNotification.set(name, compact(v))
		})
	case "ttl":
		ttl, ok := parseTTL(v)
		switch {
		case !v.IsString():
		case !ok:
			m.fault(at, `must be from "0s" to "2419200s", 28 days`)
		case ttl == 0:
			m.notification.Expiration = time.Time{}
		default:
			m.notification.Expiration = m.start().Add(ttl)
		}
	case "data":
		m.androidData = compact(v)
	case "fcm_options":
		m.object(at, v, optionsForm, func(string, string, push.JSON) {})
		m.android.set(name, compact(v))
	default:
		m.android.set(name, compact(v))
	}
}

// object goes through the members of one of FCM's objects. Each is checked, and taken where nothing is wrong with it. A
// null takes away what the notification's other fields gave.
func (m *composer) object(at string, v push.JSON, forms map[string]form, take func(name, at string, v push.JSON)) {
	if v == nil { // a null: the caller has taken away what was there
		return
	}
	if !v.IsObject() {
		m.fault(at, "must be an object")
		return
	}
	for key, v := range v.Members() {
		here, name := push.Member(at, key), snake(key.String())
		f, known := forms[name]
		switch {
		case known && v.IsNull():
			take(name, here, nil)
		case known:
			before := m.found
			if m.value(here, f, v); m.found == before {
				take(name, here, v)
			}
		case at == "body."+Name && (name == "token" || name == "fid" || name == "topic" || name == "condition"):
			m.fault(here, "is not allowed here: to says who gets the notification")
		default:
			m.fault(here, "is not a member of FCM's message")
		}
	}
}

// duplicates are the keys that one object has twice, in either spelling.
func (m *composer) duplicates(at string, block push.JSON) []push.Fault {
	faults := block.DuplicateKeys(at)
	if !block.IsObject() || len(faults) > 0 {
		return faults
	}
	return append(faults, spelledTwice(at, block, 0)...)
}

// spelledTwice finds members that are there in snake_case and in camelCase, in the objects whose names we know.
func spelledTwice(at string, v push.JSON, depth int) (faults []push.Fault) {
	names := map[string]bool{}
	for key, v := range v.Members() {
		here, name := push.Member(at, key), snake(key.String())
		if names[name] {
			faults = append(faults, push.Fault{Location: here, Message: "is there twice, as " + name + " too"})
		}
		names[name] = true
		if depth < 2 && v.IsObject() && (name == "android" || name == "notification" || name == "fcm_options") {
			faults = append(faults, spelledTwice(here, v, depth+1)...)
		}
	}
	return faults
}
