package payload

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/lhspn/lhspn/internal/push"
)

// The payload limits, in bytes.
const (
	MaxPayload       = 4096 // HTTP/2
	MaxPayloadVoIP   = 5120 // HTTP/2, push type voip
	MaxPayloadBinary = 2048 // the binary protocol, since iOS 8
)

const maxTopic = 255

// The names of what a notification has for APNs alone, and of its common data.
const (
	blockAPS    = "aps"
	blockData   = "data"
	fieldType   = "push_type"
	fieldSuffix = "topic_suffix"
	fieldID     = "apns_id"
)

var blocks, fields = []string{blockAPS}, []string{fieldType, fieldSuffix, fieldID}

// Platform is APNs as an app has it: what internal/api asks of a platform.
type Platform struct {
	Topic string
	// Environments are the app's routes, the one of tokens that are registered without an environment first.
	Environments []push.Route
	// Binary says that the app sends over the binary protocol, which takes smaller payloads.
	Binary bool
}

// Name is the platform's.
func (*Platform) Name() string { return push.DefaultPlatform }

// Routes are the app's environments.
func (p *Platform) Routes() []push.Route { return p.Environments }

// Blocks names the objects of a notification that are for APNs.
func (*Platform) Blocks() []string { return blocks }

// Fields names the texts of a notification that are for APNs.
func (*Platform) Fields() []string { return fields }

// Kinds are those of its device tokens.
func (*Platform) Kinds() []push.TokenKind { return tokenKinds }

// Compose makes the notification that APNs gets; nil where the content has nothing for it. Faults' locations begin with
// body, as in internal/api. The error is push.ErrTooLarge, with the size.
func (p *Platform) Compose(c *push.Content) (*push.Notification, []push.Fault, error) {
	if !wants(c) {
		return nil, nil, nil
	}
	n := c.Notification(push.DefaultPlatform)
	aps, data := c.Blocks[blockAPS], c.Blocks[blockData]
	var ch checker
	if message := c.Blocks[blockMessage]; message != nil {
		m, faults := push.ParseMessage(message, n.BadgeIncrement > 0)
		if len(faults) > 0 {
			return nil, faults, nil
		}
		aps, data = fromMessage(m, aps, data, c.Receipts)
	}
	if c.Replace && n.CollapseID == "" {
		n.CollapseID = n.ID.String()
	}
	n.Type = ch.pushType(c, aps)
	event := textOf(aps, "event")
	r := rulesOf(n.Type, event)
	ch.priority(n, &r)
	ch.topic(n, p.Topic, &r, c.Fields)
	ch.id(n, p.Binary, c.Fields)
	if !c.Expires {
		n.Expiration = n.SendAt.Add(r.lifetime)
	}
	if n.Kind == KindLiveActivityStart {
		n.KindOf = textOf(aps, "attributes-type")
	}
	payload, faults := build(n.Type, aps, data, n.BadgeIncrement > 0, c.Receipts)
	if faults = append(ch.faults, faults...); len(faults) > 0 {
		return nil, faults, nil
	}
	n.Payload = payload
	if err := checkSize(n, p.Binary); err != nil {
		return n, nil, fmt.Errorf("%w (body.%s)", err, madeOf(c))
	}
	return n, nil, nil
}

// madeOf names the block that the payload is made of in the first place.
func madeOf(c *push.Content) string {
	for _, block := range []string{blockAPS, blockMessage} {
		if c.Blocks[block] != nil {
			return block
		}
	}
	return blockData
}

// wants reports whether the content has something for APNs. Data, or a badge alone, is for it unless there is a block
// for another platform that they may go with.
func wants(c *push.Content) bool {
	if c.Blocks[blockAPS] != nil || c.Blocks[blockMessage] != nil {
		return true
	}
	if c.Blocks[blockData] == nil && c.BadgeIncrement == 0 {
		return false
	}
	for name := range c.Blocks {
		if name != blockData && len(c.Fields) == 0 {
			return false
		}
	}
	return true
}

// pushType is the given one, or what the payload speaks of.
func (c *checker) pushType(content *push.Content, aps push.JSON) push.Type {
	given, is := content.Fields[fieldType]
	if !is {
		return derive(aps, content.BadgeIncrement > 0)
	}
	t := push.Type(given)
	if _, known := rules[t]; !known {
		c.fault("body."+fieldType, "must be one of: "+typeNames)
		return TypeAlert
	}
	return t
}

func (c *checker) priority(n *push.Notification, r *typeRules) {
	switch {
	case n.Priority == 0:
		n.Priority = r.priorities[0]
	case !r.allows(n.Priority):
		c.fault("body.priority", "must be "+r.priorityNames()+" with push type "+string(n.Type))
	}
}

// topic sets the notification's topic and kind. What goes to another topic than its type's own is for no registered
// token, as far as an answer may speak against one.
func (c *checker) topic(n *push.Notification, topic string, r *typeRules, fields map[string]string) {
	const at = "body." + fieldSuffix
	n.Kind = r.kind
	suffix, given := fields[fieldSuffix]
	if !given || suffix == r.suffix {
		n.Key = topic + r.suffix
		return
	}
	if limit := maxTopic - len(topic); len(suffix) > limit {
		c.fault(at, "must have at most "+strconv.Itoa(limit)+" bytes, and has "+strconv.Itoa(len(suffix)))
	} else if suffix != "" && suffix[0] != '.' {
		c.fault(at, "must begin with a dot")
	} else if strings.ContainsFunc(suffix, notOfTopic) { // APNs would refuse the topic, and the notification would wait
		c.fault(at, "must be of letters, digits, dots, hyphens and underscores, as a bundle id")
	}
	n.Key, n.Kind = topic+suffix, push.KindNone
}

func notOfTopic(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '.' && r != '-' && r != '_'
}

// id sets the notification's own apns-id.
func (c *checker) id(n *push.Notification, binary bool, fields map[string]string) {
	const at = "body." + fieldID
	text, given := fields[fieldID]
	if !given {
		return
	}
	id, err := uuid.Parse(text)
	switch {
	case err != nil || len(text) != len(id.String()) || id == uuid.Nil:
		c.fault(at, "must be a UUID, like 123e4567-e89b-12d3-a456-426655440000")
	case binary:
		c.fault(at, "is for HTTP/2: the binary protocol has no such name")
	default:
		n.ServiceID = id
	}
}

// checkSize is push.ErrTooLarge with the size where the payload, with the widest badge, is over the limit.
func checkSize(n *push.Notification, binary bool) error {
	limit, over := MaxPayload, "over HTTP/2"
	switch {
	case binary:
		limit, over = MaxPayloadBinary, "over the binary protocol"
	case n.Type == TypeVoIP:
		limit = MaxPayloadVoIP
	}
	size := n.Payload.MaxLen()
	if size <= limit {
		return nil
	}
	return fmt.Errorf("%w: the payload for APNs is %d bytes long%s; push type %s %s takes at most %d",
		push.ErrTooLarge, size, n.Payload.Counted(), n.Type, over, limit)
}

// Recipients is the kind, and of what, of the tokens that an audience of the notification has: its push type's,
// whatever topic it goes to.
func (*Platform) Recipients(n *push.Notification) (kind push.Kind, of string) {
	if n.Kind != push.KindNone {
		return n.Kind, n.KindOf
	}
	event := ""
	if n.Type == TypeLiveActivity {
		if document, err := push.ParseJSON(n.Payload.AppendTo(nil, 0)); err == nil {
			aps := document.Get(blockAPS)
			if event = textOf(aps, "event"); event == "start" {
				of = textOf(aps, "attributes-type")
			}
		}
	}
	return rulesOf(n.Type, event).kind, of
}

// Preview is the payload as a device gets it, with a badge of 1 where each device has its own.
func (*Platform) Preview(n *push.Notification) []byte { return n.Payload.AppendTo(nil, 1) }

// Token reads the hexadecimal device token that a client registers.
func (p *Platform) Token(given map[string]push.JSON) (push.Token, []byte, []push.Fault) {
	const at = "body.token"
	text, is := given["token"]
	switch {
	case !is || text.IsNull():
		return "", nil, []push.Fault{{Location: at, Message: "is missing: the device token in hexadecimal"}}
	case !text.IsString():
		return "", nil, []push.Fault{{Location: at, Message: "must be a string"}}
	}
	t, err := push.ParseToken(text.String())
	if err == nil {
		err = p.CheckToken(t)
	}
	if err != nil {
		return "", nil, []push.Fault{{Location: at, Message: err.Error()}}
	}
	return t, nil, nil
}

var errNotHex = errors.New("a device token of APNs is hexadecimal")

// CheckToken checks that the token is one of APNs.
func (*Platform) CheckToken(t push.Token) error {
	if t.Platform() != "" {
		return errNotHex
	}
	return nil
}

// textOf is the text of a member, empty where there is none.
func textOf(object push.JSON, name string) string {
	v := object.Get(name)
	if v == nil {
		return ""
	}
	return v.String()
}
