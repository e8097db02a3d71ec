package push

import (
	"encoding/json"
	"time"
)

// Event is one result that an app's backend is told.
type Event struct {
	// ID names the event, and as a cursor the place after it.
	ID   string
	Type EventType
	// At is when the transaction ran that made it true.
	At   time.Time
	Data json.RawMessage
}

// EventType says what an event tells. It is a closed enum.
type EventType string

// The types of event.
const (
	EventSending       EventType = "notification.sending"   // the first of several recipients was sent to
	EventDone          EventType = "notification.done"      // every recipient has its outcome
	EventCancelled     EventType = "notification.cancelled" // so has, of a cancelled one, whoever was still to be sent to
	EventFailures      EventType = "deliveries.failed"      // recipients that were not accepted
	EventTokenRemoved  EventType = "token.removed"
	EventTokenReplaced EventType = "token.replaced"
	EventHeld          EventType = "app.held" // a route sends nothing until its configuration is mended
	EventResumed       EventType = "app.resumed"
	EventReceipts      EventType = "receipts" // what devices said of notifications
	// EventUnreadable is in place of events that this program cannot read, as those of a later one, whatever types are
	// asked for.
	EventUnreadable EventType = "events.unreadable"
)

// EventTypes are all of them.
func EventTypes() []EventType {
	return []EventType{EventSending, EventDone, EventCancelled, EventFailures, EventTokenRemoved, EventTokenReplaced,
		EventHeld, EventResumed, EventReceipts, EventUnreadable}
}
