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
	// Route and Kind are those of the notifications that were answered so, and Route is empty where it is not known: a
	// token that is registered for another route stays, and so does one of another kind that was called bad.
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

// PlatformSet selects device tokens by their platform: those of Names, where the app has the platforms of All. Without
// Names it selects every token.
type PlatformSet struct {
	Names, All []string
	// Except leaves out what was said over these routes. The empty one stands for what was said over an unknown one.
	Except []Route
}

// AnswerShare is what the recent answers to one route's sends say of its platform's device tokens.
type AnswerShare struct {
	Platform string
	Route    Route
	// Bad is the share of answers that called a token bad among the Answers of about a day, or where that is worse of
	// the last two hours.
	Bad     float64
	Answers int
	// Unsure says that nearly all of the answers called tokens bad, and too few tokens were accepted since the process
	// began to tell tokens that somebody has invented from a wrong configuration. Bad is 0 then.
	Unsure bool
	// Unregistered is the largest share of answers that called a token unregistered that was seen at a time in the last
	// hour or two. It is little where such answers are few, or believable by themselves.
	Unregistered float64
	// Told is how many answers called a token unregistered since the process began.
	Told int
}

// Wave is what one replica's AnswerShare of a route comes to: so many answers call tokens bad, or else unregistered,
// that it cannot be true.
type Wave struct {
	Route Route
	Bad   bool
}

// OtherWave is a wave of another replica. Gone says that this is no more: its wave is over, and nobody has seen to what
// it was told.
type OtherWave struct {
	Wave
	Replica string
	Gone    bool
}
