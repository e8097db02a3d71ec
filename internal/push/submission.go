package push

import "crypto/sha256"

// Submission is one notification with those it goes to: Tokens, distinct and in the order in which they are sent, or an
// Audience.
type Submission struct {
	Notification *Notification
	Tokens       []Token
	Audience     *Audience
	// Routes are those that an Audience may be of. Of Tokens the first counts: it is that of all of them or, with ByToken,
	// of those that are not registered for another one.
	Routes  []Route
	ByToken bool
	// Empty says that the Audience has no member now: the notification is done when it is accepted.
	Empty bool
}

// Request is what is accepted together, all or none.
type Request struct {
	App         string
	Submissions []Submission
	// IdempotencyKey, where not empty, makes a repetition with the same Hash within 24 hours answer what the first answered.
	IdempotencyKey string
	Hash           [sha256.Size]byte
	// Answer is kept with the key for those repetitions. The queue does not look into it.
	Answer []byte
}
