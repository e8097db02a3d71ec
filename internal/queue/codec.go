package queue

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/google/uuid"

	"github.com/lhspn/lhspn/internal/push"
)

// A batch's body is a version byte and then, for a Ready or Badges batch, each recipient: twice the token's length
// (uvarint), one more where badge (uvarint) and attempts (one byte) follow the token; or, for an Audience batch, the
// cursor's token; or, for a Singles batch, what it names.
const bodyVersion = 1

var errBody = errors.New("malformed batch body")

func appendRecipients(dst []byte, recipients []push.Recipient) []byte {
	dst = append(dst, bodyVersion)
	for i := range recipients {
		r := &recipients[i]
		size := uint64(len(r.Token)) << 1
		if r.Badge == 0 && r.Attempts == 0 {
			dst = binary.AppendUvarint(dst, size)
			dst = append(dst, r.Token...)
			continue
		}
		dst = binary.AppendUvarint(dst, size|1)
		dst = append(dst, r.Token...)
		dst = binary.AppendUvarint(dst, uint64(r.Badge))
		dst = append(dst, r.Attempts)
	}
	return dst
}

// decodeRecipients reads n recipients. All their tokens share the memory of one copy of body.
func decodeRecipients(body []byte, n int) ([]push.Recipient, error) {
	if len(body) == 0 || body[0] != bodyVersion {
		return nil, fmt.Errorf("%w: unknown version", errBody)
	}
	if n < 0 || n > len(body) {
		return nil, fmt.Errorf("%w: %d recipients in %d bytes", errBody, n, len(body))
	}
	text := string(body)
	recipients := make([]push.Recipient, n)
	at := 1
	for i := range recipients {
		length, width := binary.Uvarint(body[at:])
		if width <= 0 {
			return nil, fmt.Errorf("%w: ends after %d of %d recipients", errBody, i, n)
		}
		size, extra := int(length>>1), length&1 != 0
		at += width
		if size < 0 || size > len(text)-at {
			return nil, fmt.Errorf("%w: ends within a token", errBody)
		}
		r := &recipients[i]
		r.Token = push.Token(text[at : at+size])
		at += size
		if !extra {
			continue
		}
		badge, width := binary.Uvarint(body[at:])
		if width <= 0 || badge > math.MaxUint32 || at+width >= len(text) {
			return nil, fmt.Errorf("%w: ends within a recipient", errBody)
		}
		r.Badge, r.Attempts = uint32(badge), text[at+width] // checked just above
		at += width + 1
	}
	if at != len(text) {
		return nil, fmt.Errorf("%w: %d bytes too many", errBody, len(text)-at)
	}
	return recipients, nil
}

// body encodes what the batch's row has.
func (b *Batch) body() []byte {
	switch b.Kind {
	case Audience:
		return append([]byte{bodyVersion}, b.Cursor.After...)
	case Singles:
		return appendNamed(make([]byte, 0, 1+len(b.singles)*namedSize), b.singles)
	case Ready, Badges, Unreadable: // which is never written
	}
	size := 1
	for i := range b.Recipients {
		size += len(b.Recipients[i].Token) + 7
	}
	return appendRecipients(make([]byte, 0, size), b.Recipients)
}

func (b *Batch) setBody(body []byte, n int) error {
	var err error
	switch b.Kind {
	case Singles:
		b.singles, err = decodeNamed(body, b.Shard)
		return err
	case Ready, Badges:
		b.Recipients, err = decodeRecipients(body, n)
		return err
	case Audience:
		if len(body) == 0 || body[0] != bodyVersion || len(body) > 1+push.MaxTokenLen {
			return errBody
		}
		b.Cursor.After = push.Token(body[1:])
		return nil
	case Unreadable: // no row says so
	}
	return fmt.Errorf("%w: unknown kind %d", errBody, b.Kind)
}

// namedSize is the length of what names one notification: its id, and when it is due.
const namedSize = len(uuid.UUID{}) + 8

func appendNamed(dst []byte, keys []Key) []byte {
	dst = append(dst, bodyVersion)
	for i := range keys {
		dst = append(dst, keys[i].Notification[:]...)
		dst = binary.BigEndian.AppendUint64(dst, uint64(keys[i].DueAt))
	}
	return dst
}

func decodeNamed(body []byte, shard uint8) ([]Key, error) {
	if len(body) == 0 || body[0] != bodyVersion || (len(body)-1)%namedSize != 0 || len(body) > 1+namedSize*entrySize {
		return nil, errBody
	}
	keys := make([]Key, 0, len(body)/namedSize)
	for rest := body[1:]; len(rest) > 0; rest = rest[namedSize:] {
		due := int64(binary.BigEndian.Uint64(rest[len(uuid.UUID{}):])) // as it was written
		keys = append(keys, singleKey(shard, due, uuid.UUID(rest[:len(uuid.UUID{})])))
	}
	return keys, nil
}

// recipient encodes what the row of a notification to one device has: the length of the route (one byte), the
// route, and the recipient as in a batch's body.
func (b *Batch) recipient() []byte {
	dst := make([]byte, 0, 1+len(b.Route)+len(b.Recipients[0].Token)+8)
	dst = append(dst, byte(len(b.Route))) // of at most 16 bytes
	dst = append(dst, b.Route...)
	return appendRecipients(dst, b.Recipients)
}

func (b *Batch) setRecipient(column []byte) error {
	if len(column) == 0 || int(column[0]) >= len(column) {
		return errBody
	}
	body := column[1+column[0]:]
	b.Route = push.Route(column[1 : 1+column[0]])
	var err error
	b.Recipients, err = decodeRecipients(body, 1)
	return err
}
