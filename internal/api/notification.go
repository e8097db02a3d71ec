package api

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/lhspn/lhspn/internal/push"
)

// The limits of a notification.
const (
	maxTokens      = 10000
	maxUsers       = 10000
	maxCollapseID  = 64
	maxField       = 255
	maxBatch       = 1000
	maxIdempotency = 255
	maxDelay       = 30 * 24 * time.Hour
)

// latestExpiration is the last second that the expiration's 32 bits can name.
var latestExpiration = time.Unix(1<<32-1, 0).UTC()

// accepting reads notifications for one app at one time.
type accepting struct {
	reader
	app     *App
	now     time.Time
	content push.Content // of the notification that is being read
	to      recipients
}

var acceptings = sync.Pool{New: func() any { return new(accepting) }}

// newAccepting is to be released when the request is answered.
func newAccepting(app *App) *accepting {
	rd := acceptings.Get().(*accepting) // nothing else is put there
	rd.app, rd.now = app, now()
	return rd
}

// release leaves nothing behind but the room of the maps.
func (rd *accepting) release() {
	rd.begin()
	rd.reader, rd.app = reader{}, nil
	acceptings.Put(rd)
}

// begin begins another notification.
func (rd *accepting) begin() {
	blocks, fields := rd.content.Blocks, rd.content.Fields
	clear(blocks)
	clear(fields)
	rd.content, rd.to = push.Content{CreatedAt: rd.now, SendAt: rd.now, Blocks: blocks, Fields: fields}, recipients{}
}

// members are those of a notification that are read when all of them are known.
type members struct {
	to, platforms, priority, expiresAt, sendAt push.JSON
	noObject                                   bool // a block is none, which has its fault
}

// readNotification reads one notification at at, which begins with body. The error is push.ErrTooLarge; faults are in
// the reader.
func (rd *accepting) readNotification(at string, body push.JSON) (push.Submission, error) {
	if !body.IsObject() {
		rd.fault(at, "must be an object")
		return push.Submission{}, nil
	}
	before := len(rd.faults)
	rd.begin()
	c, to := &rd.content, &rd.to
	c.App = rd.app.Name
	m := rd.readMembers(at, body, c)
	var s push.Submission
	rd.readTo(at+".to", m.to, &s, to)
	rd.readPriority(at, m.priority, c)
	rd.readTimes(at, &m, c)
	platforms := rd.readPlatforms(at, m.platforms, to.environment)
	if tooLarge := tooLong(at, c); tooLarge != nil {
		if len(rd.faults) > before {
			return push.Submission{}, nil
		}
		return push.Submission{}, tooLarge
	}
	beforeMessage := len(rd.faults)
	rd.checkMessage(at, c)
	var err error
	if c.ID, err = uuid.NewV7(); err != nil {
		return s, fmt.Errorf("make an id: %w", err)
	}
	if m.noObject || len(rd.faults) > beforeMessage { // the platforms take apart only what is right so far
		return s, nil
	}
	tooLarge := rd.compose(at, c, platforms, &s)
	if len(rd.faults) > before {
		return s, nil
	}
	if tooLarge != nil {
		return s, tooLarge
	}
	rd.checkRecipients(at, &s, platforms, m.platforms != nil, to)
	return s, nil
}

// longestBlock is more bytes than any push service takes.
const longestBlock = 64 << 10

// tooLong refuses what is too large for every platform before any takes it apart: half a million members take seconds.
func tooLong(at string, c *push.Content) error {
	var long []string
	for name, v := range c.Blocks {
		if len(v) > longestBlock {
			long = append(long, name)
		}
	}
	slices.Sort(long)
	for _, name := range long {
		v := c.Blocks[name]
		if n := v.CompactLen(); n > longestBlock {
			return explain(push.ErrTooLarge, "%s.%s is %d bytes long, which is more than any push service takes.", at, name, n)
		}
	}
	return nil
}

// readMembers goes through the notification's members once.
func (rd *accepting) readMembers(at string, body push.JSON, c *push.Content) (m members) {
	rd.object(at, body, func(name string, v push.JSON) bool {
		field := func() string { return at + "." + name }
		given := !v.IsNull() // null is as good as left out
		keep := func(into *push.JSON) {
			if given {
				*into = v
			}
		}
		switch name {
		case "to":
			m.to = v
		case "platforms":
			keep(&m.platforms)
		case "badge_increment":
			if given {
				c.BadgeIncrement = rd.uint32(field(), v, 0)
			}
		case "name":
			if given {
				var wrong string
				if c.Name, wrong = readText(v, maxField); wrong != "" {
					rd.fault(field(), wrong)
				}
			}
		case "priority":
			keep(&m.priority)
		case "expires_at":
			keep(&m.expiresAt)
		case "collapse_id":
			if given {
				c.CollapseID = rd.headerText(field(), v, maxCollapseID)
			}
		case "replace":
			if given && !v.IsBool() {
				rd.fault(field(), "must be true or false")
			}
			c.Replace = given && string(v) == "true"
		case "receipts":
			if given && !v.IsBool() {
				rd.fault(field(), "must be true or false")
			}
			c.Receipts = given && string(v) == "true"
		case "send_at":
			keep(&m.sendAt)
		case "rate":
			if given {
				c.Rate = rd.uint32(field(), v, 1)
			}
		default:
			switch {
			case rd.app.hasBlock(name):
				switch {
				case !given:
				case v.IsObject():
					put(&c.Blocks, name, v)
				default:
					rd.fault(field(), "must be an object")
					m.noObject = true
				}
			case rd.app.hasField(name):
				if given {
					rd.readField(field(), name, v, c)
				}
			case slices.Contains(notificationFields, name):
				if given {
					rd.fault(field(), otherPlatform)
				}
			default:
				return false
			}
		}
		return true
	})
	return m
}

// readField reads a text that is one platform's own. One that is wrong has its fault, and the platform need not say so
// too.
func (rd *accepting) readField(at, name string, v push.JSON, c *push.Content) {
	before := len(rd.faults)
	if text := rd.headerText(at, v, maxField); len(rd.faults) == before {
		put(&c.Fields, name, text)
	}
}

func put[K comparable, V any](m *map[K]V, name K, v V) {
	if *m == nil {
		*m = make(map[K]V, 4)
	}
	(*m)[name] = v
}

// checkMessage checks the message, which no platform need check again.
func (rd *accepting) checkMessage(at string, c *push.Content) {
	if message := c.Blocks[blockMessage]; message != nil {
		_, faults := push.ParseMessage(message, c.BadgeIncrement > 0)
		rd.add(at, faults)
	}
}

func (rd *accepting) readPriority(at string, v push.JSON, c *push.Content) {
	if v == nil {
		return
	}
	p, ok := v.Uint(10)
	if !ok || p != 10 && p != 5 && p != 1 {
		rd.fault(at+".priority", "must be 10, 5 or 1")
		return
	}
	c.Priority = uint8(p)
}

func (rd *accepting) readTimes(at string, m *members, c *push.Content) {
	if m.sendAt != nil {
		t, ok := readTime(m.sendAt)
		switch {
		case !ok:
			rd.fault(at+".send_at", "must be a time as in RFC 3339, like 2030-01-01T00:00:00Z")
		case t.Before(rd.now):
			rd.fault(at+".send_at", "must not be in the past")
		case t.After(rd.now.Add(maxDelay)):
			rd.fault(at+".send_at", "must be at most 30 days ahead")
		default:
			c.SendAt = t
		}
	}
	c.Expires = m.expiresAt != nil
	if !c.Expires || m.expiresAt.Is("0") { // the zero time
		return
	}
	t, ok := readTime(m.expiresAt)
	switch {
	case !ok:
		rd.fault(at+".expires_at", `must be a time as in RFC 3339, like 2030-01-01T00:00:00Z, or "0"`)
	case !t.After(c.SendAt):
		rd.fault(at+".expires_at", `must be later than now and than send_at; "0" means now or never`)
	case t.After(latestExpiration):
		rd.fault(at+".expires_at", "must not be later than "+latestExpiration.Format(time.RFC3339))
	default:
		c.Expiration = t
	}
}

// readTime reads RFC 3339 to the microsecond, which is what the databases keep.
func readTime(v push.JSON) (time.Time, bool) {
	if !v.IsString() {
		return time.Time{}, false
	}
	return push.ParseTime(v.String())
}

// headerText is a text that goes to a service in a header.
func (rd *reader) headerText(at string, v push.JSON, limit int) string {
	s, wrong := readText(v, limit)
	if wrong != "" {
		rd.fault(at, wrong)
	}
	if s != strings.Trim(s, " ") { // HTTP/2 has no such field value (RFC 9113, 8.2.1)
		rd.fault(at, "must not begin or end with a space")
		return ""
	}
	return s
}
