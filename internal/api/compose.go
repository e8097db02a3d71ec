package api

import (
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/lhspn/lhspn/internal/push"
)

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

// compose has each platform make its notification of the content. Several may find the same fault in what is common to
// them.
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
		rd.fault(at+"."+rd.firstBlock(platforms),
			"is missing, and so is message: there is nothing to send"+rd.toWhom(platforms))
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

// firstBlock is the name of the object that the first of the platforms, or else of the app's, has of its own.
func (rd *accepting) firstBlock(platforms []Platform) string {
	p := slices.Concat(platforms, rd.app.Platforms)[0]
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

// checkRecipients sets by which routes the recipients are reached, and checks that the notification is for the
// platforms of all that are named.
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
		if n.ServiceID != uuid.Nil && (len(s.Tokens) != 1 || s.Tokens[0].PlatformName() != p.Name()) {
			rd.fault(at+".apns_id", "is for a notification to one device token of "+p.Name()+", in to.tokens")
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
			rd.fault(at+".to.tokens["+strconv.Itoa(first.index)+"]",
				"is a device token of "+first.name+", for which the notification has no content")
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
