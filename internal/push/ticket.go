package push

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"math/bits"

	"github.com/google/uuid"
)

// A ticket is what a device shows to say that it got a notification: the notification's id, whose recipient it is, and
// an HMAC of both, in base64url.
const (
	ticketMAC  = 16
	ticketSize = len(uuid.UUID{}) + len(RecipientID{}) + ticketMAC
	// TicketLen is a ticket's length in characters.
	TicketLen = (ticketSize*8 + 5) / 6
	// TicketMember is the name of the member that it is in a payload.
	TicketMember = "lhspn"
)

// TicketTaken is what is wrong with a member of that name where a ticket is asked for.
const TicketTaken = "is not allowed together with receipts: the ticket has this name"

// RecipientID stands for a recipient in tickets, and in what is kept of them: the first bytes of the SHA-256 of its
// device token's written form.
type RecipientID [8]byte

// RecipientIDOf is that of the token.
func RecipientIDOf(t Token) (id RecipientID) {
	var written [MaxTokenLen]byte
	sum := sha256.Sum256(t.AppendText(written[:0]))
	copy(id[:], sum[:])
	return id
}

// Tickets makes and checks tickets with one key.
type Tickets struct {
	// The key as HMAC-SHA256 (RFC 2104) puts it before the inner and the outer text. Written out, an HMAC allocates
	// nothing.
	inner, outer [sha256.BlockSize]byte
}

// NewTickets returns those of a key.
func NewTickets(key [sha256.Size]byte) *Tickets {
	t := new(Tickets)
	copy(t.inner[:], key[:])
	copy(t.outer[:], key[:])
	for i := range t.inner {
		t.inner[i] ^= 0x36
		t.outer[i] ^= 0x5c
	}
	return t
}

// mac is the truncated HMAC of what is in a ticket before it.
func (t *Tickets) mac(of []byte) (mac [ticketMAC]byte) {
	var inner [sha256.BlockSize + ticketSize - ticketMAC]byte
	copy(inner[copy(inner[:], t.inner[:]):], of)
	sum := sha256.Sum256(inner[:])
	var outer [sha256.BlockSize + sha256.Size]byte
	copy(outer[copy(outer[:], t.outer[:]):], sum[:])
	sum = sha256.Sum256(outer[:])
	copy(mac[:], sum[:])
	return mac
}

// Append appends the ticket of a notification's recipient: TicketLen characters. A nil Tickets appends as many dashes.
func (t *Tickets) Append(dst []byte, notification uuid.UUID, token Token) []byte {
	if t == nil {
		for range TicketLen {
			dst = append(dst, '-')
		}
		return dst
	}
	var raw [ticketSize]byte
	n := copy(raw[:], notification[:])
	recipient := RecipientIDOf(token)
	n += copy(raw[n:], recipient[:])
	mac := t.mac(raw[:n])
	copy(raw[n:], mac[:])
	return base64.RawURLEncoding.AppendEncode(dst, raw[:])
}

// Open says whose ticket it is; false where it is none of this key's.
func (t *Tickets) Open(ticket string) (notification uuid.UUID, recipient RecipientID, ok bool) {
	if len(ticket) != TicketLen {
		return notification, recipient, false
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(ticket)
	if err != nil || len(raw) != ticketSize {
		return notification, recipient, false
	}
	signed := raw[:ticketSize-ticketMAC]
	mac := t.mac(signed)
	if !hmac.Equal(mac[:], raw[len(signed):]) {
		return notification, recipient, false
	}
	copy(recipient[:], signed[copy(notification[:], signed):])
	return notification, recipient, true
}

// ReceiptKind is what a device says of a notification. It is a bit of a set of them.
type ReceiptKind uint8

// The kinds.
const (
	Delivered ReceiptKind = 1 << iota // the device got it
	Opened                            // somebody opened it
)

// Receipt is what a device said of a notification.
type Receipt struct {
	Notification uuid.UUID
	Recipient    RecipientID
	Kind         ReceiptKind
}

// ReceiptCounts are the recipients of a notification by what their devices said.
type ReceiptCounts struct {
	Delivered, Opened int64
}

// Count is how many kinds there are in the set.
func (k ReceiptKind) Count() int { return bits.OnesCount8(uint8(k)) }

// String is the name in the API.
func (k ReceiptKind) String() string {
	if k == Opened {
		return "opened"
	}
	return "delivered"
}
