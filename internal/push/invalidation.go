package push

import "time"

// Source says how we learnt that a token is dead.
type Source string

// The sources of invalidations.
const (
	SourceFeedback     Source = "feedback"     // the binary protocol's feedback service
	SourceUnregistered Source = "unregistered" // a 410 on HTTP/2
	SourceBadToken     Source = "bad_token"    // repeated answers that say "bad token"
)

// Invalidation is the news that a token has been dead since At. What becomes of it is decided later, by the scheduled
// job: a token that was registered again after At stays.
type Invalidation struct {
	App   string
	Token Token
	// Route and Kind are those of the notifications that were answered so, where that matters, and Route is empty where it does
	// not: a token that is registered for another one stays.
	Route  Route
	Kind   Kind
	At     time.Time
	Source Source
}

// CheckedInvalidation is an invalidation that the job has decided on.
type CheckedInvalidation struct {
	Invalidation
	// Removed is false where the token stayed (registered again after At) or was not there.
	Removed   bool
	CheckedAt time.Time
}
