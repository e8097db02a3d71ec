package fcm

import (
	"bytes"
	"fmt"
	"strconv"

	"github.com/lhspn/lhspn/internal/push"
)

// Every payload begins with head: the transport puts the target after its third brace and the ttl after its last.
const (
	headTarget = `{"message":{`
	head       = headTarget + `"android":{`
)

// ticket checks that there is room for one: data has it, and so does the data for Android alone, which would replace
// that.
func (m *composer) ticket() {
	if !m.content.Receipts {
		return
	}
	taken := func(at string, data push.JSON) {
		if data.Get(push.TicketMember) != nil {
			m.fault(at+"."+push.TicketMember, push.TicketTaken)
		}
	}
	const own = "body." + Name
	if m.data.get(push.TicketMember) != nil { // of one of them, or both
		taken("body.data", m.content.Blocks["data"])
		taken(own+".data", m.content.Blocks[Name].Get("data"))
	}
	taken(own+".android.data", m.androidData)
}

// appendTicket appends the member data, with a place for the ticket, to the message or to what is Android's own.
func (m *composer) appendTicket(b []byte, inner []byte) []byte {
	b = append(b, `,"data":{`...)
	if len(inner) > 0 {
		b = append(append(b, inner...), ',')
	}
	b = append(b, `"`+push.TicketMember+`":"`...)
	m.notification.Payload.TicketAt = len(b)
	return append(b, `"}`...)
}

// setPriority settles how urgent the message is: as the block says, as the notification says, or as FCM does without a
// word, high where something is shown.
func (m *composer) setPriority() {
	n := m.notification
	if v := m.android.get("priority"); v != nil {
		n.Priority = 5
		if bytes.EqualFold(v.Text(), []byte("HIGH")) {
			n.Priority = 10
		}
	} else if n.Priority == 0 {
		n.Priority = 5
		if m.shows() {
			n.Priority = 10
		}
	}
	m.android.set("priority", nil) // it goes to the front
	name := push.JSON(`"NORMAL"`)
	if n.Priority == 10 {
		name = push.JSON(`"HIGH"`)
	}
	m.android = append(members{{"priority", name}}, m.android...)
}

// shows reports whether the message has a notification, which the system shows, beside what only goes with one.
func (m *composer) shows() bool {
	if len(m.shown) > 0 || m.asked {
		return true
	}
	for _, member := range m.androidNotification {
		switch member.name {
		case "tag", "sound", "notification_count":
		default:
			return true
		}
	}
	return false
}

// write puts the payload together. A message that shows nothing gets no notification for the sake of a tag or a badge:
// FCM would show that instead of waking the app.
func (m *composer) write() {
	p := &m.notification.Payload
	b := append(make([]byte, 0, 1024), head...)
	b = m.android.appendTo(b)
	if m.shows() {
		if m.content.BadgeIncrement > 0 {
			b = append(b, `,"notification":{"notification_count":`...)
			p.BadgeAt = len(b)
			if len(m.androidNotification) > 0 {
				b = append(b, ',')
			}
			b = append(m.androidNotification.appendTo(b), '}')
		} else {
			b = m.androidNotification.appendObject(b, "notification")
		}
	}
	switch {
	case m.androidData != nil && m.content.Receipts:
		b = m.appendTicket(b, m.androidData.Inner())
	case m.androidData != nil:
		b = append(append(b, `,"data":`...), m.androidData...)
	}
	b = append(b, '}')
	b = m.shown.appendObject(b, "notification")
	if m.androidData == nil && m.content.Receipts {
		b = m.appendTicket(b, m.data.appendTo(nil))
	} else {
		b = m.data.appendObject(b, "data")
	}
	if len(m.rest) > 0 {
		b = m.rest.appendTo(append(b, ','))
	}
	p.JSON = append(b, "}}"...)
}

// checkSize counts as FCM does: the bytes of the keys and values of the notification and of data, each once.
func (m *composer) checkSize() {
	size, counted := m.shown.size()+m.data.size(), m.notification.Payload.Counted()
	if m.shows() {
		size += m.androidNotification.size()
		if m.notification.Payload.BadgeAt != 0 {
			size += len("notification_count") + len(strconv.Itoa(maxCount))
		}
	}
	if m.androidData != nil {
		size += mapSize(m.androidData)
	}
	if m.content.Receipts {
		size += len(push.TicketMember) + push.TicketLen
	}
	at := "body." + Name
	for _, name := range []string{"message", "data"} {
		if m.content.Blocks[Name] == nil && m.content.Blocks[name] != nil {
			at = "body." + name
			break
		}
	}
	if size > maxPayload {
		m.faults = append(m.faults, push.Fault{Location: at, TooLarge: true, Message: fmt.Sprintf(
			"the keys and values of FCM's notification and data are %d bytes long%s; FCM takes at most %d", size, counted,
			maxPayload)})
	} else if n := m.notification.Payload.MaxLen(); n > maxDocument {
		m.faults = append(m.faults, push.Fault{Location: at, TooLarge: true, Message: fmt.Sprintf(
			"FCM's message is %d bytes long%s; at most %d are sent", n, counted, maxDocument)})
	}
}
