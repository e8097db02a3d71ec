package push

import (
	"time"

	"github.com/google/uuid"
)

// State is how far a notification is.
type State string

// The states.
const (
	StateScheduled State = "scheduled" // its send_at has not come
	StateQueued    State = "queued"
	StateSending   State = "sending"
	StateDone      State = "done"
	StateCancelled State = "cancelled"
)

// Counts says what became of a notification's recipients. They always add up to the recipients known so far.
type Counts struct {
	Pending, Accepted, Failed, Unregistered, Expired, Cancelled int64
}

// Status is how far a notification is, with its counts.
type Status struct {
	ID    uuid.UUID
	State State
	// Recipients is the number of those known so far; it is final when Expanded.
	Recipients int64
	Expanded   bool
	Counts     Counts
	// ByPlatform has the counts of each platform that the notification is for; together they are Counts.
	ByPlatform map[string]Counts
	CreatedAt  time.Time
	SendAt     time.Time
	// FirstSentAt and FinishedAt are zero until then.
	FirstSentAt, FinishedAt time.Time
	// Receipts are what devices said; nil where they were not asked to.
	Receipts *ReceiptCounts
	// Notification is what is sent, as far as people are shown it: ID, App, Name, and the Payload of each platform.
	Notification *Notification
	// Audience is whom it is for; nil where that is explicit tokens, which are not kept.
	Audience *Audience
}

// Failure is one recipient that was not accepted.
type Failure struct {
	Token Token
	// Reason is a Reason's text as it was stored.
	Reason string
	// Status is the HTTP status, or the status byte of the binary protocol; 0 where there was no answer.
	Status   uint16
	Attempts uint8
	At       time.Time
	// ServiceID is what we call the delivery towards the service, UniqueID what the service calls it; each may be empty.
	ServiceID, UniqueID string
}

// MaxUniqueID is the length in bytes of the longest UniqueID that is kept.
const MaxUniqueID = 64

// RecipientStatus is what became of one recipient of a notification.
type RecipientStatus struct {
	Outcome Outcome // Pending until it has a final one
	// Receipts is what the device said; meaningless where the notification asked for none.
	Receipts      ReceiptKind
	WantsReceipts bool
	// Failure has what is known: all of it of one that was not accepted; else the token, the names, and perhaps when.
	Failure
}
