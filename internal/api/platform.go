package api

import (
	"slices"
	"strings"

	"github.com/lhspn/lhspn/internal/push"
)

// Platform is one platform as an app has it: what of tokens and notifications is its own. It may also have the methods
// of the interfaces below.
type Platform interface {
	// Name is what the API calls it, and what the written form of its device tokens begins with; push.DefaultPlatform's
	// tokens are the hexadecimal ones.
	Name() string
	// Routes are the app's ways out there, the one of tokens that are registered without any first.
	Routes() []push.Route
	// Compose makes the platform's notification of the content: nil without faults where the content has nothing for
	// it. The faults' locations begin with "body". The error is, or wraps, push.ErrTooLarge, and says by how much.
	Compose(c *push.Content) (*push.Notification, []push.Fault, error)
	// Preview is the payload as a device would get it, with a badge of 1 where each has its own.
	Preview(n *push.Notification) []byte
	// Token makes the device token, and the address that goes with it, of what a client registers: given has the
	// members of the body by their names, token and subscription.
	Token(given map[string]push.JSON) (push.Token, []byte, []push.Fault)
	// CheckToken says what is wrong with a device token of this platform's written form.
	CheckToken(t push.Token) error
}

// Blocks is a Platform that names the objects in a notification that are its own. One without has one of its own name.
type Blocks interface{ Blocks() []string }

// Fields is a Platform that has texts of its own in a notification. They go into headers.
type Fields interface{ Fields() []string }

// Kinds is a Platform with tokens of several kinds.
type Kinds interface {
	Kinds() []push.TokenKind
	// Recipients is the kind, and of what, of the tokens that an audience of the notification has.
	Recipients(n *push.Notification) (kind push.Kind, of string)
}

// platform is nil where the app has none of that name.
func (a *App) platform(name string) Platform {
	for _, p := range a.Platforms {
		if p.Name() == name {
			return p
		}
	}
	return nil
}

// platformNames lists the app's platforms, for a message.
func (a *App) platformNames() string {
	names := make([]string, len(a.Platforms))
	for i, p := range a.Platforms {
		names[i] = p.Name()
	}
	return strings.Join(names, ", ")
}

// routeNames lists the routes, for a message.
func routeNames(platforms []Platform) string {
	names := ""
	for _, p := range platforms {
		for _, r := range p.Routes() {
			names += ", " + string(r)
		}
	}
	return strings.TrimPrefix(names, ", ")
}

func (a *App) hasRoute(route push.Route) bool {
	return slices.ContainsFunc(a.Platforms, func(p Platform) bool { return slices.Contains(p.Routes(), route) })
}

// The objects of a notification that are every platform's.
const (
	blockMessage = "message"
	blockData    = "data"
)

func isBlock(p Platform, name string) bool {
	if own, has := p.(Blocks); has {
		return slices.Contains(own.Blocks(), name)
	}
	return p.Name() == name
}

// hasBlock reports whether a notification of the app may have an object of that name.
func (a *App) hasBlock(name string) bool {
	return name == blockData || name == blockMessage ||
		slices.ContainsFunc(a.Platforms, func(p Platform) bool { return isBlock(p, name) })
}

// hasField reports whether a notification of the app may have a text of that name.
func (a *App) hasField(name string) bool {
	for _, p := range a.Platforms {
		if own, has := p.(Fields); has && slices.Contains(own.Fields(), name) {
			return true
		}
	}
	return false
}

// tokenKinds are the kinds of token that the app's platforms have.
func (a *App) tokenKinds() []push.TokenKind {
	for _, p := range a.Platforms {
		if own, has := p.(Kinds); has {
			return own.Kinds()
		}
	}
	return nil
}
