package webpush

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/lhspn/lhspn/internal/push"
)

// lifetime is how long a notification is worth sending where nobody says, as on the other platforms.
const lifetime = 24 * time.Hour

// maxTopic is the length of a Topic (RFC 8030, 5.4), in characters of base64url.
const maxTopic = 32

// The priorities of a notification, as an Urgency says them (RFC 8030, 5.3). The neutral ones are 10, 5 and 1.
const (
	urgencyHigh    = 10
	urgencyNormal  = 5
	urgencyLow     = 3
	urgencyVeryLow = 1
)

// urgencies has the header's values by priority.
var urgencies = [...]string{
	urgencyVeryLow: "very-low", urgencyLow: "low", urgencyNormal: "normal", urgencyHigh: "high",
}

// urgency is the header's value for a priority, whatever that is.
func urgency(priority uint8) string {
	if int(priority) < len(urgencies) && urgencies[priority] != "" {
		return urgencies[priority]
	}
	return urgencies[urgencyNormal]
}

// Wants reports whether the content has something for browsers: a message, or a block of their own.
func Wants(c *push.Content) bool { return c.Blocks["message"] != nil || c.Blocks[Name] != nil }

// Compose makes the notification that browsers get of the content. Its payload is what webpush.payload says, or a
// declarative message (https://www.w3.org/TR/push-api/#declarative-push-message) made of message and data. Its collapse
// id is the Topic.
func Compose(c *push.Content) (*push.Notification, []push.Fault) {
	m := composer{content: c, n: c.Notification(Name)}
	m.compose()
	if len(m.faults) > 0 {
		return nil, m.faults
	}
	return m.n, nil
}

// Preview is the payload as a browser gets it, with a badge of 1 where each has its own. One that is no JSON is shown
// as a JSON string.
func Preview(n *push.Notification) push.JSON {
	payload := n.Payload.AppendTo(nil, 1)
	if v, err := push.ParseJSON(payload); err == nil {
		return v
	}
	return quote(string(payload))
}

// composer holds a notification while it is made.
type composer struct {
	content *push.Content
	n       *push.Notification
	faults  []push.Fault
	// source is the field that the payload comes from, for the fault of its size.
	source string
}

func (m *composer) fault(at, message string) {
	m.faults = append(m.faults, push.Fault{Location: at, Message: message})
}

func (m *composer) compose() {
	c := m.content
	m.n.CollapseID = topicOf(c.CollapseID)
	if c.CollapseID == "" && c.Replace {
		m.n.CollapseID = hex.EncodeToString(c.ID[:]) // 32 characters, all of which a Topic may have
	}
	if !c.Expires {
		m.n.Expiration = c.CreatedAt.Add(lifetime)
		if c.SendAt.After(c.CreatedAt) {
			m.n.Expiration = c.SendAt.Add(lifetime)
		}
	}
	var payload push.JSON
	if block := c.Blocks[Name]; block != nil {
		payload = m.block(block)
	}
	message := c.Blocks["message"]
	switch {
	case payload != nil:
		m.source = "body." + Name + ".payload"
		m.payload(payload)
	case message != nil:
		m.source = "body.message"
		m.declarative(message, c.Blocks["data"])
	case len(m.faults) == 0:
		m.fault("body."+Name, "needs a payload, or a message beside it")
	}
	if m.n.Priority == 0 {
		m.n.Priority = urgencyHigh // as on the other platforms
	}
	if size := m.n.Payload.MaxLen(); size > MaxPlaintext && len(m.faults) == 0 {
		m.faults = append(m.faults, push.Fault{Location: m.source, TooLarge: true, Message: fmt.Sprintf(
			"the payload for webpush is %d bytes long%s; an encrypted message holds at most %d", size, m.n.Payload.Counted(),
			MaxPlaintext)})
	}
}

// topicOf is a collapse id as a Topic: itself where it fits, else its hash.
func topicOf(collapseID string) string {
	if collapseID == "" || isTopic(collapseID) {
		return collapseID
	}
	hash := sha256.Sum256([]byte(collapseID))
	return base64.RawURLEncoding.EncodeToString(hash[:])[:maxTopic]
}

func isTopic(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c != '-' && c != '_' && (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') {
			return false
		}
	}
	return s != "" && len(s) <= maxTopic
}

// block reads the block webpush, and returns its payload.
func (m *composer) block(block push.JSON) (payload push.JSON) {
	const at = "body." + Name
	if !block.IsObject() {
		m.fault(at, "must be an object")
		return nil
	}
	for key, v := range block.Members() {
		switch here := push.Member(at, key); key.String() {
		case "payload":
			payload = v
		case "urgency":
			if m.n.Priority = priorityOf(v.String()); m.n.Priority == 0 || !v.IsString() {
				m.fault(here, "must be one of: very-low, low, normal, high")
			}
		case "topic":
			if m.n.CollapseID = v.String(); !isTopic(m.n.CollapseID) {
				m.fault(here, "must be 1 to 32 characters of A-Z, a-z, 0-9, - and _")
			}
		default:
			m.fault(here, "is not a member of webpush: there are payload, urgency and topic")
		}
	}
	m.faults = append(m.faults, block.DuplicateKeys(at)...)
	return payload
}

func priorityOf(name string) uint8 {
	for priority, urgency := range urgencies {
		if urgency != "" && urgency == name {
			return uint8(priority)
		}
	}
	return 0
}

// payload takes the caller's own payload: a string's text, or JSON. An object gets each device's own badge, where there
// is one, under the name that declarative messages have it.
func (m *composer) payload(v push.JSON) {
	p := &m.n.Payload
	switch {
	case m.content.Receipts && !v.IsObject():
		m.fault(m.source, "must be an object, which the ticket for receipts can be a member of")
	case v.IsString():
		if p.JSON = []byte(v.String()); len(p.JSON) == 0 {
			m.fault(m.source, "must not be empty")
		}
	case v.IsObject() && (m.content.BadgeIncrement > 0 || m.content.Receipts):
		w := writer{b: append(make([]byte, 0, len(v)+32), '{')}
		if m.content.BadgeIncrement > 0 {
			w.b = append(w.b, `"app_badge":`...)
			p.BadgeAt = len(w.b)
		}
		for key, v := range v.Members() {
			switch {
			case m.content.BadgeIncrement > 0 && key.Is("app_badge"):
				m.fault(m.source+".app_badge", "is not allowed together with badge_increment")
			case m.content.Receipts && key.Is(push.TicketMember):
				m.fault(m.source+"."+push.TicketMember, push.TicketTaken)
			}
			w.raw(key, v)
		}
		m.ticket(&w)
		p.JSON = append(w.b, '}')
	default:
		p.JSON = v.AppendCompact(nil)
	}
	m.links(v)
}

// links checks what a payload's notification and its buttons open, where it is one that a browser or the service worker
// of docs/webpush shows as it is.
func (m *composer) links(payload push.JSON) {
	m.buttons(m.source, payload)
	m.buttons(m.source+".notification", payload.Get("notification"))
}

func (m *composer) buttons(at string, notification push.JSON) {
	m.navigate(at, notification)
	actions := notification.Get("actions")
	if actions == nil || !actions.IsArray() {
		return
	}
	for i, action := range actions.Elements() {
		m.navigate(fmt.Sprintf("%s.actions[%d]", at, i), action)
	}
}

func (m *composer) navigate(at string, object push.JSON) {
	if v := object.Get("navigate"); v != nil && v.IsString() {
		if err := push.CheckReference(v.String()); err != nil {
			m.fault(at+".navigate", err.Error())
		}
	}
}

// declarative makes the message that browsers show without a service worker, where they can, and that a service worker
// shows where they cannot. It is only complete with a link: without one every browser leaves it to the service worker.
func (m *composer) declarative(block, data push.JSON) {
	message, faults := push.ParseMessage(block, m.content.BadgeIncrement > 0)
	m.faults = append(m.faults, faults...)
	if data != nil {
		m.faults = append(m.faults, data.DuplicateKeys("body.data")...)
		if !data.IsObject() {
			m.fault("body.data", "must be an object")
		}
	}
	if len(m.faults) > 0 {
		return
	}

	p := &m.n.Payload
	w := writer{b: make([]byte, 0, 1024)}
	w.b = append(w.b, `{"web_push":8030`...)
	switch {
	case m.content.BadgeIncrement > 0:
		w.b = append(w.b, `,"app_badge":`...)
		p.BadgeAt = len(w.b)
	case message.Badge != nil:
		w.b = fmt.Appendf(w.b, `,"app_badge":%d`, *message.Badge)
	}
	w.b = append(w.b, `,"notification":{`...)
	title, body := texts(message)
	w.text("title", title)
	w.text("body", body)
	w.url("navigate", message.Link)
	w.url("image", message.Image)
	switch {
	case m.content.CollapseID != "":
		w.text("tag", m.content.CollapseID)
	case m.content.Replace:
		w.text("tag", m.content.ID.String())
	}
	if message.Badge != nil {
		w.text("app_badge", fmt.Sprint(*message.Badge)) // where WebKit's first version has it, and as it has it
	}
	if data != nil {
		w.raw(push.JSON(`"data"`), data)
	}
	for i, action := range message.Actions {
		if i == 0 {
			w.b = append(w.b, `,"actions":[{`...)
		} else {
			w.b = append(w.b, `,{`...)
		}
		w.text("action", action.ID)
		w.text("title", action.Title)
		w.url("navigate", action.Link)
		w.b = append(w.b, '}')
	}
	if len(message.Actions) > 0 {
		w.b = append(w.b, ']')
	}
	w.b = append(w.b, '}')
	m.ticket(&w)
	p.JSON = append(w.b, '}')
}

// ticket makes a place for the ticket, where one is asked for.
func (m *composer) ticket(w *writer) {
	if !m.content.Receipts {
		return
	}
	w.raw(push.JSON(`"`+push.TicketMember+`"`), push.JSON(`""`))
	m.n.Payload.TicketAt = len(w.b) - len(`"`)
}

// texts are the title, which a declarative message must have, and the body. A web notification has no subtitle: it is
// the body's first line.
func texts(m *push.Message) (title, body string) {
	lines := make([]string, 0, 3)
	for _, line := range []string{m.Title, m.Subtitle, m.Body} {
		if line != "" {
			lines = append(lines, line)
		}
	}
	return lines[0], strings.Join(lines[1:], "\n")
}

// writer appends members of an object.
type writer struct{ b []byte }

func (w *writer) raw(key, value push.JSON) {
	if last := w.b[len(w.b)-1]; last != '{' {
		w.b = append(w.b, ',')
	}
	w.b = append(append(w.b, key...), ':')
	w.b = value.AppendCompact(w.b)
}

// text appends a text that is not empty.
func (w *writer) text(name, s string) {
	if s != "" {
		w.raw(quote(name), quote(s))
	}
}

// url appends a URL of the web. A link into an app, which a message may have for the other platforms, leads nowhere in
// a browser.
func (w *writer) url(name, s string) {
	if strings.HasPrefix(s, "https://") || strings.HasPrefix(s, "http://") {
		w.text(name, s)
	}
}

// quote is a text as a JSON string. What only HTML needs escaped stays as it is: each byte counts.
func quote(s string) push.JSON {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // a string has a JSON form
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}
