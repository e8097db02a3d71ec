package push

import (
	"net/url"
	"strconv"
)

// Message is what a notification says, in no platform's words: each platform makes what it shows of it. Empty fields
// were left out.
type Message struct {
	Title, Subtitle, Body string
	Image                 string // an https URL
	Sound                 string // the name of one, or "default"
	Link                  string // an absolute URL that a tap opens: see CheckLink
	Badge                 *uint32
	Thread, Category      string
	Actions               []MessageAction
}

// MessageAction is a button beside the message.
type MessageAction struct {
	ID, Title, Link string
}

// messageActions is how many buttons a message may have: no system shows more.
const messageActions = 10

// ParseMessage reads the block message of a notification. perDeviceBadge says that each device's own badge is added,
// which leaves no place for one in the message. The locations of faults begin with body.message.
func ParseMessage(message JSON, perDeviceBadge bool) (*Message, []Fault) {
	const at = "body.message"
	var c checker
	m := new(Message)
	if !message.IsObject() {
		c.fault(at, "must be an object")
		return m, c.faults
	}
	for key, v := range message.Members() {
		here := Member(at, key)
		switch string(key.Text()) {
		case "title":
			m.Title = c.textOf(here, v)
		case "subtitle":
			m.Subtitle = c.textOf(here, v)
		case "body":
			m.Body = c.textOf(here, v)
		case "image":
			m.Image = c.textOf(here, v)
			if u, err := url.Parse(m.Image); v.IsString() && (err != nil || u.Scheme != "https" || u.Host == "") {
				c.fault(here, "must be an https URL")
			}
		case "sound":
			m.Sound = c.textOf(here, v)
		case "link":
			m.Link = c.link(here, v)
		case "badge":
			n, ok := v.Uint(1<<32 - 1)
			if !ok {
				c.fault(here, "must be a whole number from 0 to 4294967295")
			}
			if perDeviceBadge {
				c.fault(here, "is not allowed together with badge_increment")
			}
			badge := uint32(n)
			m.Badge = &badge
		case "thread":
			m.Thread = c.textOf(here, v)
		case "category":
			m.Category = c.textOf(here, v)
		case "actions":
			m.Actions = c.actions(here, v)
		default:
			c.fault(here, "is not a member of message")
		}
	}
	c.faults = append(c.faults, message.DuplicateKeys(at)...)
	if len(c.faults) == 0 && m.Title == "" && m.Body == "" {
		c.fault(at, "needs a title or a body")
	}
	return m, c.faults
}

func (c *checker) textOf(at string, v JSON) string {
	c.text(at, v)
	return v.String()
}

func (c *checker) link(at string, v JSON) string {
	link := c.textOf(at, v)
	if err := CheckLink(link); v.IsString() && err != nil {
		c.fault(at, err.Error())
	}
	return link
}

func (c *checker) actions(at string, v JSON) (actions []MessageAction) {
	if !v.IsArray() {
		c.fault(at, "must be an array of objects with id and title")
		return nil
	}
	if v.Count() > messageActions {
		c.fault(at, "must have at most "+strconv.Itoa(messageActions)+" elements")
		return nil
	}
	for i, element := range v.Elements() {
		here := at + "[" + strconv.Itoa(i) + "]"
		if !element.IsObject() {
			c.fault(here, "must be an object with id and title")
			continue
		}
		var a MessageAction
		for key, v := range element.Members() {
			member := Member(here, key)
			switch string(key.Text()) {
			case "id":
				a.ID = c.textOf(member, v)
			case "title":
				a.Title = c.textOf(member, v)
			case "link":
				a.Link = c.link(member, v)
			default:
				c.fault(member, "is not a member of an action")
			}
		}
		if a.ID == "" || a.Title == "" {
			c.fault(here, "needs an id and a title")
		}
		actions = append(actions, a)
	}
	return actions
}

// checker gathers faults.
type checker struct {
	faults []Fault
}

func (c *checker) fault(location, message string) {
	if len(c.faults) < maxFaults {
		c.faults = append(c.faults, Fault{Location: location, Message: message})
	}
}

func (c *checker) text(at string, v JSON) {
	if !v.IsString() {
		c.fault(at, "must be a string")
	}
}
