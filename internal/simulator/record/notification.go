// Package record keeps what a simulator received: sums, counts by device token, and the last notifications.
package record

import (
	"strconv"
	"time"

	"github.com/lhspn/lhspn/internal/push"
)

// Transport names the protocol that a notification came by.
type Transport string

// The protocols: the two of APNs, FCM's HTTP v1, and Web Push.
const (
	Binary  Transport = "binary"
	HTTP2   Transport = "http2"
	FCM     Transport = "fcm"
	WebPush Transport = "webpush"
)

// Level says how much is kept of what was received. Whatever is kept costs time, and a benchmark wants none of it.
type Level uint8

// The levels.
const (
	All      Level = iota // the last notifications, counts per token, totals
	PerToken              // counts per token, totals
	Sums                  // totals
)

// Notification is one notification as it was received.
type Notification struct {
	Time      time.Time  `json:"time"`
	Transport Transport  `json:"transport"`
	Token     push.Token `json:"token"`
	Topic     string     `json:"topic,omitempty"` // of APNs, or Web Push's own
	Payload   string     `json:"payload"`
	// "accepted", the service's reason, or what was done to the connection
	Verdict    string `json:"verdict"`
	Identifier uint32 `json:"identifier,omitempty"` // binary
	APNsID     string `json:"apns_id,omitempty"`    // provider API
	MessageID  string `json:"message_id,omitempty"` // what FCM and Web Push call the accepted message
	PushType   string `json:"push_type,omitempty"`
	CollapseID string `json:"collapse_id,omitempty"`
	Urgency    string `json:"urgency,omitempty"` // Web Push
	Priority   uint8  `json:"priority,omitempty"`
	Expiration uint32 `json:"expiration"`    // APNs, Unix seconds
	TTL        uint32 `json:"ttl,omitempty"` // Web Push, seconds
}

// Counts is what one token received.
type Counts struct {
	Received uint32 `json:"received"`
	Accepted uint32 `json:"accepted"`
}

// Totals are the sums over everything since the start, or since the last Reset.
type Totals struct {
	Received    uint64 `json:"received"`
	Accepted    uint64 `json:"accepted"`
	Connections uint64 `json:"connections"`
	// Verdicts counts the notifications by verdict, the accepted ones too.
	Verdicts map[string]uint64 `json:"verdicts"`
	// TokensAccepted counts the tokens with an accepted notification, TokensRepeated those with more than one; 0 at
	// Sums.
	TokensAccepted uint64 `json:"tokens_accepted"`
	TokensRepeated uint64 `json:"tokens_repeated"`
	// IDsRepeated counts the notifications accepted under an apns-id that had been accepted before; 0 unless they are
	// tracked.
	IDsRepeated uint64 `json:"ids_repeated"`
}

// Verdict is what became of a notification: Accepted, one of those below, or a reason of the service, by its number.
type Verdict uint8

// The verdicts that no reason stands for. Reasons are below them.
const (
	Accepted      Verdict = 0
	Dropped       Verdict = 200
	ConnReset     Verdict = 201
	NeverAnswered Verdict = 202
	StreamRefused Verdict = 203
	StreamReset   Verdict = 204

	verdicts = 256
)

// text is the verdict's name; the service's own are named by reason.
func (v Verdict) text(reason func(Verdict) string) string {
	switch v {
	case Accepted:
		return "accepted"
	case Dropped:
		return "connection closed"
	case ConnReset:
		return "connection reset"
	case NeverAnswered:
		return "never answered"
	case StreamRefused:
		return "stream refused"
	case StreamReset:
		return "stream reset"
	}
	if reason == nil {
		return strconv.Itoa(int(v))
	}
	return reason(v)
}

// Incoming is a notification on its way to the record. Its slices belong to the connection; the recorder copies what it
// keeps.
type Incoming struct {
	Transport  Transport
	Token      []byte // the address: push.Token without its platform
	Topic      string
	Payload    []byte
	ID         []byte // the apns-id, or what the service calls the message
	PushType   string
	Urgency    string
	CollapseID []byte
	Identifier uint32
	Expiration uint32
	TTL        uint32
	Priority   uint8
}

// Tally is what one connection has counted and not yet reported: the totals are touched once a read, not once a
// notification.
type Tally [verdicts]uint32
