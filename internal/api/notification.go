package api

import (
	"fmt"
	"slices"
	"strconv"
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
}

// readNotification reads one notification at at, which begins with body. The error is push.ErrTooLarge; faults are in the reader.
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
	wrong := rd.checkBlocks(at, c)
	var err error
	if c.ID, err = uuid.NewV7(); err != nil {
		return s, fmt.Errorf("make an id: %w", err)
	}
	if wrong {
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
		case "send_at":
			keep(&m.sendAt)
		case "rate":
			if given {
				c.Rate = rd.uint32(field(), v, 1)
			}
		default:
			switch {
			case rd.app.hasBlock(name):
				if given {
					put(&c.Blocks, name, v)
				}
			case rd.app.hasField(name):
				if given {
					put(&c.Fields, name, rd.headerText(field(), v, maxField))
				}
			case slices.Contains(notificationFields, name):
				rd.fault(field(), otherPlatform)
			default:
				return false
			}
		}
		return true
	})
	return m
}

func put[K comparable, V any](m *map[K]V, name K, v V) {
	if *m == nil {
		*m = make(map[K]V, 4)
	}
	(*m)[name] = v
}

// checkBlocks checks what no platform need check again, and reports whether something is wrong.
func (rd *accepting) checkBlocks(at string, c *push.Content) bool {
	before := len(rd.faults)
	for name, v := range c.Blocks {
		if !v.IsObject() {
			rd.fault(at+"."+name, "must be an object")
		}
	}
	if len(rd.faults) > before {
		slices.SortFunc(rd.faults[before:], func(a, b push.Fault) int { return strings.Compare(a.Location, b.Location) })
		return true
	}
	if message := c.Blocks[blockMessage]; message != nil {
		_, faults := push.ParseMessage(message, c.BadgeIncrement > 0)
		rd.add(at, faults)
	}
	return len(rd.faults) > before
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
	t, err := time.Parse(time.RFC3339, v.String())
	return t.UTC().Truncate(time.Microsecond), err == nil
}

// readPlatforms lists the platforms that the notification may be for: those named, or all of the app's; and with an
// environment those that have it.
func (rd *accepting) readPlatforms(at string, v push.JSON, environment push.Route) []Platform {
	list, before := rd.app.Platforms, len(rd.faults)
	if v != nil {
		at += ".platforms"
		list = nil
		for i, name := range rd.texts(at, v, 1, 100, maxField) {
			p := rd.app.platform(name)
			switch {
			case name == "": // it has its fault
			case p == nil:
				rd.fault(at+"["+strconv.Itoa(i)+"]", "must be one of the app's platforms: "+rd.app.platformNames())
			case !slices.Contains(list, p):
				list = append(list, p)
			}
		}
	}
	if len(rd.faults) > before { // then what is for any of them is checked
		list = rd.app.Platforms
	}
	if environment == "" {
		return list
	}
	var there []Platform
	for _, p := range list {
		if slices.Contains(p.Routes(), environment) {
			there = append(there, p)
		}
	}
	return there
}

// compose has each platform make its notification of the content. Several may find the same fault in what is common to them.
func (rd *accepting) compose(at string, c *push.Content, platforms []Platform, s *push.Submission) (tooLarge error) {
	before := len(rd.faults)
	for _, p := range platforms {
		n, faults, err := p.Compose(c)
		for _, f := range faults {
			if f.TooLarge && tooLarge == nil {
				tooLarge = explain(push.ErrTooLarge, "%s: %s.", f.Location, f.Message)
			}
		}
		if err != nil && tooLarge == nil {
			tooLarge = explain(err, "%s.", capital(strings.TrimPrefix(err.Error(), push.ErrTooLarge.Error()+": ")))
		}
		rd.add(at, faults)
		switch {
		case n == nil:
		case s.Notification == nil:
			s.Notification = n
		default:
			s.Notification.Others = append(s.Notification.Others, n)
		}
	}
	if s.Notification == nil && tooLarge == nil && len(rd.faults) == before {
		rd.fault(at+"."+rd.firstBlock(), "is missing, and so is message: there is nothing to send"+rd.toWhom(platforms))
	}
	return tooLarge
}

// add adds faults whose locations begin with body, each once.
func (rd *accepting) add(at string, faults []push.Fault) {
	for _, f := range faults {
		f.Location = at + strings.TrimPrefix(f.Location, "body")
		if !f.TooLarge && !slices.Contains(rd.faults, f) && !rd.full() {
			rd.faults = append(rd.faults, f)
		}
	}
}

// firstBlock is the name of the object that the app's first platform has of its own.
func (rd *accepting) firstBlock() string {
	p := rd.app.Platforms[0]
	if own, has := p.(Blocks); has {
		return own.Blocks()[0]
	}
	return p.Name()
}

// toWhom says which platforms there was nothing to send to, where those are not all of the app's.
func (rd *accepting) toWhom(platforms []Platform) string {
	if len(platforms) == len(rd.app.Platforms) {
		return ""
	}
	names := make([]string, len(platforms))
	for i, p := range platforms {
		names[i] = p.Name()
	}
	if len(names) == 0 {
		return " to a platform that has this environment"
	}
	return " to " + strings.Join(names, ", ")
}

// checkRecipients sets by which routes the recipients are reached, and checks that the notification is for the platforms of
// all that are named.
func (rd *accepting) checkRecipients(at string, s *push.Submission, platforms []Platform, named bool, to *recipients) {
	for _, p := range platforms {
		n := s.Notification.For(p.Name())
		if n == nil {
			if named {
				rd.fault(at+".platforms", "has "+p.Name()+", for which the notification has no content")
			}
			continue
		}
		routes := p.Routes()
		if to.environment != "" {
			routes = []push.Route{to.environment}
		}
		n.Environment = routes[0]
		if s.Routes = append(s.Routes, routes...); p.Name() != push.DefaultPlatform {
			for _, route := range routes {
				put(&s.RoutePlatforms, route, p.Name())
			}
		}
		if kinds, has := p.(Kinds); has && s.Audience != nil {
			s.Audience.Kind, s.Audience.KindOf = kinds.Recipients(n)
		}
	}
	s.ByToken = to.environment == ""
	if s.Audience != nil {
		s.Audience.Environment = to.environment
		s.Audience.Platforms = platformsOf(s.Notification)
	}
	for _, first := range to.platforms {
		if s.Notification.For(first.name) == nil {
			rd.fault(at+".to.tokens["+strconv.Itoa(first.index)+"]", "is a device token of "+first.name+", for which the notification has no content")
		}
	}
}

// platformsOf names the platforms that the notification is for; none where that is only the default one.
func platformsOf(n *push.Notification) []string {
	if n.Others == nil && n.PlatformName() == push.DefaultPlatform {
		return nil
	}
	names := []string{n.PlatformName()}
	for _, other := range n.Others {
		names = append(names, other.PlatformName())
	}
	return names
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
