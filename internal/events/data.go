package events

import (
	"encoding/hex"
	"encoding/json"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/lhspn/lhspn/internal/push"
)

// The data of each type of event.

// Notification is the data of the events of a notification: what GET of it answers, without what is sent and to whom.
type Notification struct {
	ID          string            `json:"id"`
	Name        *string           `json:"name"`
	ServiceID   *string           `json:"apns_id,omitempty"`
	State       string            `json:"state"`
	Recipients  *int64            `json:"recipients"`
	Counts      Counts            `json:"counts"`
	ByPlatform  map[string]Counts `json:"by_platform"`
	CreatedAt   time.Time         `json:"created_at"`
	SendAt      time.Time         `json:"send_at"`
	FirstSentAt *time.Time        `json:"first_sent_at"`
	FinishedAt  *time.Time        `json:"finished_at"`
}

// Counts are the recipients by what became of them.
type Counts struct {
	Pending      int64 `json:"pending"`
	Accepted     int64 `json:"accepted"`
	Failed       int64 `json:"failed"`
	Unregistered int64 `json:"unregistered"`
	Expired      int64 `json:"expired"`
	Cancelled    int64 `json:"cancelled"`
}

// NotificationOf is the data of an event of the notification.
func NotificationOf(s *push.Status) Notification {
	n := Notification{
		ID: s.ID.String(), State: string(s.State), Counts: Counts(s.Counts),
		ByPlatform: make(map[string]Counts, len(s.ByPlatform)),
		CreatedAt:  s.CreatedAt.UTC(), SendAt: s.SendAt.UTC(),
		FirstSentAt: orNull(s.FirstSentAt), FinishedAt: orNull(s.FinishedAt),
	}
	for platform, counts := range s.ByPlatform {
		n.ByPlatform[platform] = Counts(counts)
	}
	if s.Notification != nil {
		n.Name = TextOrNull(s.Notification.Name)
		n.ServiceID = TextOrNull(s.Notification.ServiceIDText())
	}
	if s.Expanded {
		n.Recipients = &s.Recipients
	}
	return n
}

// appendNotification appends the JSON of NotificationOf: a reader gets it for each notification that is sent.
func appendNotification(b []byte, s *push.Status) []byte {
	b = append(append(b, `{"id":"`...), s.ID.String()...)
	b = append(b, `","name":`...)
	if s.Notification != nil && s.Notification.Name != "" {
		name, _ := json.Marshal(s.Notification.Name) // a text has a JSON form
		b = append(b, name...)
	} else {
		b = append(b, "null"...)
	}
	if s.Notification != nil && s.Notification.ServiceID != uuid.Nil {
		b = append(append(append(b, `,"apns_id":"`...), s.Notification.ServiceIDText()...), '"')
	}
	b = append(append(b, `,"state":"`...), s.State...)
	b = append(b, `","recipients":`...)
	if s.Expanded {
		b = strconv.AppendInt(b, s.Recipients, 10)
	} else {
		b = append(b, "null"...)
	}
	b = appendCounts(append(b, `,"counts":`...), s.Counts)
	b = append(b, `,"by_platform":{`...)
	var few [4]string // room on the stack
	platforms := few[:0]
	for platform := range s.ByPlatform {
		platforms = append(platforms, platform)
	}
	slices.Sort(platforms)
	for i, platform := range platforms {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(strconv.AppendQuote(b, platform), ':') // it is a plain word
		b = appendCounts(b, s.ByPlatform[platform])
	}
	b = appendTime(append(b, `},"created_at":`...), s.CreatedAt)
	b = appendTime(append(b, `,"send_at":`...), s.SendAt)
	b = appendTime(append(b, `,"first_sent_at":`...), s.FirstSentAt)
	b = appendTime(append(b, `,"finished_at":`...), s.FinishedAt)
	return append(b, '}')
}

func appendCounts(b []byte, c push.Counts) []byte {
	b = strconv.AppendInt(append(b, `{"pending":`...), c.Pending, 10)
	b = strconv.AppendInt(append(b, `,"accepted":`...), c.Accepted, 10)
	b = strconv.AppendInt(append(b, `,"failed":`...), c.Failed, 10)
	b = strconv.AppendInt(append(b, `,"unregistered":`...), c.Unregistered, 10)
	b = strconv.AppendInt(append(b, `,"expired":`...), c.Expired, 10)
	b = strconv.AppendInt(append(b, `,"cancelled":`...), c.Cancelled, 10)
	return append(b, '}')
}

func appendTime(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return append(b, "null"...)
	}
	return append(t.UTC().AppendFormat(append(b, '"'), time.RFC3339Nano), '"')
}

func orNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// Failures is the data of deliveries.failed.
type Failures struct {
	Notification string    `json:"notification_id"`
	Items        []Failure `json:"items"`
}

// MaxFailures is the number of recipients of one such event at the most.
const MaxFailures = 1000

// Failure is one recipient that was not accepted.
type Failure struct {
	Platform string    `json:"platform"`
	Token    string    `json:"token"`
	Reason   string    `json:"reason"`
	Status   uint16    `json:"status"`
	Attempts uint8     `json:"attempts"`
	At       time.Time `json:"at"`
	// ServiceID is the apns-id that it was sent under, and UniqueID what APNs called it, in the sandbox only.
	ServiceID *string `json:"apns_id"`
	UniqueID  *string `json:"apns_unique_id,omitempty"`
}

// FailureOf is the recipient in an event.
func FailureOf(f *push.Failure) Failure {
	return Failure{
		Platform: f.Token.PlatformName(), Token: f.Token.String(), Reason: f.Reason, Status: f.Status,
		Attempts: f.Attempts, At: f.At.UTC(), ServiceID: TextOrNull(f.ServiceID), UniqueID: TextOrNull(f.UniqueID),
	}
}

// TokenRemoved is the data of token.removed.
type TokenRemoved struct {
	Platform string  `json:"platform"`
	Token    string  `json:"token"`
	UserID   *string `json:"user_id"`
	// Reason says in a word why, and Source who said so, as in the list of feedback.
	Reason string `json:"reason"`
	Source string `json:"source"`
	// Timestamp is since when the token is dead, in Unix seconds, as in the list of feedback.
	Timestamp int64 `json:"timestamp"`
}

// TokenReplaced is the data of token.replaced: the device came with another one.
type TokenReplaced struct {
	Platform   string  `json:"platform"`
	Token      string  `json:"token"`
	ReplacedBy string  `json:"replaced_by"`
	UserID     *string `json:"user_id"`
	DeviceID   *string `json:"device_id"`
}

// Held is the data of app.held and app.resumed.
type Held struct {
	Route  string `json:"route"`
	Reason string `json:"reason"`
	Remedy string `json:"remedy"`
}

// Receipts is the data of the event of that name: what devices said that was not known before.
type Receipts struct {
	Notification string `json:"notification_id"`
	// Delivered and Opened are the notification's counts by then.
	Delivered int64     `json:"delivered"`
	Opened    int64     `json:"opened"`
	Items     []Receipt `json:"items"`
}

// MaxReceipts is the number of items of one such event at the most.
const MaxReceipts = 1000

// Receipt is what one device said: delivered or opened.
type Receipt struct {
	Recipient string `json:"recipient"`
	Event     string `json:"event"`
}

// ReceiptOf is the receipt in an event.
func ReceiptOf(recipient push.RecipientID, kind push.ReceiptKind) Receipt {
	return Receipt{hex.EncodeToString(recipient[:]), kind.String()}
}

// Unreadable is the data of events.unreadable.
type Unreadable struct {
	// Events is how many there are that cannot be read, and After the cursor before them.
	Events uint64 `json:"events"`
	After  string `json:"after"`
}

// TextOrNull is a text that may be missing.
func TextOrNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
