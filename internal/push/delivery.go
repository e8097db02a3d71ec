package push

import (
	"time"

	"github.com/google/uuid"
)

// Recipient is one device that a notification goes to.
type Recipient struct {
	Token Token
	// Badge is the number spliced into the payload; meaningless where the payload has no place for one.
	Badge uint32
	// Attempts counts the sends that the service has answered with "try again". What never reached it does not count.
	Attempts uint8
}

// Delivery is one notification on its way to one recipient, with the result once there is one.
type Delivery struct {
	Notification *Notification
	Recipient
	Result Result
}

// Recalled is the result of what a transport took back before it was sent.
var Recalled = Result{Outcome: Cancelled, Reason: CancelledReason}

// Recall takes the delivery back if it is of the notification.
func (d *Delivery) Recall(notification uuid.UUID) bool {
	if d.Notification.ID != notification {
		return false
	}
	d.Result = Recalled
	return true
}

// Group is the unit that is handed to a transport: deliveries of one app, of one or of many notifications. The
// transport owns it from Send until it calls Done.
type Group struct {
	Deliveries []Delivery
	// Progress, where it is set, is called by a transport whose deliveries end at very different times, when so many more
	// of them have their results, but not all. It must not block.
	Progress func(g *Group, n int)
	// Done is called exactly once, when every delivery has its result, from any goroutine. It must not block.
	Done func(*Group)
}

// Outcome says what became of a delivery, and thereby what is done with it next. It is a closed enum.
type Outcome uint8

// The outcomes. All but Expired and Cancelled, which are the queue's own, come from a transport.
const (
	Pending      Outcome = iota // no result yet
	Accepted                    // the service took it
	Failed                      // the service refused it for good
	Unregistered                // the token is dead since Result.DeadAt
	Retry                       // the service answered "try again": to be sent again, which counts as an attempt
	// it did not reach the service, or nothing says that it did: to be sent again, which does not count
	NotSent
	// the service refuses the route or the key, not the notification: sent again once that is mended
	Blocked
	Expired   // its expiration passed before it could be sent
	Cancelled // cancelled before it was sent
)

var outcomeNames = [...]string{
	"pending", "accepted", "failed", "unregistered", "retry", "not_sent", "blocked", "expired", "cancelled",
}

// String is the name used in metrics and logs.
func (o Outcome) String() string { return outcomeNames[o] }

// Final reports whether nothing more is done with the delivery.
func (o Outcome) Final() bool {
	return o == Accepted || o == Failed || o == Unregistered || o == Expired || o == Cancelled
}

// Result is the verdict on one delivery. It is data, not an error. There is one for each recipient in memory, so its
// small fields are together: 40 bytes.
type Result struct {
	Outcome Outcome
	// GaveUp says that it failed because its attempts were used up, and not because the service refused it for good.
	GaveUp bool
	// Status is the HTTP status, or the status byte of the binary protocol; 0 where there was no answer.
	Status uint16
	// Identifier is the binary protocol's identifier of the failed frame, for the log.
	Identifier uint32
	Reason     *Reason
	// DeadAt is when the service found the token dead, in Unix microseconds; only with Unregistered. See Timestamp.
	DeadAt int64
	// RetryAfter is how long the service asks to wait before more is sent to what the reason's class names: this device
	// token, the key, or the route. 0 means that it did not say. Where the key or the route has to wait, no attempt is
	// used up. Longer than an hour is not waited before asking again.
	RetryAfter time.Duration
	// UniqueID is what the service itself calls the delivery, where it says so; nil otherwise, and of nearly all.
	UniqueID *string
}

// Timestamp is DeadAt as a time, the zero time where the service gave none.
func (r Result) Timestamp() time.Time {
	if r.DeadAt == 0 {
		return time.Time{}
	}
	return time.UnixMicro(r.DeadAt).UTC()
}

// BadToken reports whether the service refused the delivery for good as one of a wrong token, or of another route or
// key. Such an answer removes nothing by itself: a wrong gateway in the configuration gives it for every token there
// is. One that "try again" was answered until its attempts were used up is not bad: the service was busy, or failing.
func (r Result) BadToken() bool { return r.Outcome == Failed && r.Reason.Is(ClassToken) && !r.GaveUp }
