package push

import "crypto/sha256"

// Submission is one notification with those it goes to: Tokens, distinct and in the order in which they are sent, or an
// Audience.
type Submission struct {
	Notification *Notification
	Tokens       []Token
	Audience     *Audience
	// Routes are those that an Audience may be of. Of Tokens the first one of each platform counts: it is that of all
	// of the platform's tokens or, with ByToken, of those that are not registered for another one.
	Routes  []Route
	ByToken bool
	// RoutePlatforms names the platform of each of Routes. One that is not in it is of DefaultPlatform.
	RoutePlatforms map[Route]string
	// Empty says that the Audience has no member now: the notification is done when it is accepted.
	Empty bool
	// Only, where not nil, is the one member that the Audience has now: the notification goes to it, and is expanded.
	Only *Destination
}

// Destination is a device of an audience, with the route that it is registered for.
type Destination struct {
	Token Token
	Route Route
}

// PlatformOf is the platform that the route belongs to.
func (s *Submission) PlatformOf(route Route) string {
	if platform, named := s.RoutePlatforms[route]; named {
		return platform
	}
	return DefaultPlatform
}

// UsualRoute is the route of the platform's tokens that are registered for none, and whether there is one.
func (s *Submission) UsualRoute(platform string) (Route, bool) {
	for _, route := range s.Routes {
		if s.PlatformOf(route) == platform {
			return route, true
		}
	}
	return "", false
}

// Request is what is accepted together, all or none.
type Request struct {
	App         string
	Submissions []Submission
	// IdempotencyKey, where not empty, makes a repetition with the same Hash within 24 hours answer what the first
	// answered.
	IdempotencyKey string
	Hash           [sha256.Size]byte
	// Answer is kept with the key for those repetitions. The queue does not look into it.
	Answer []byte
}
