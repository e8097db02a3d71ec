package queue

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/lhspn/lhspn/internal/push"
)

// A batch's body is a version byte and then, for a Ready or Badges batch, each recipient: twice the token's length
// (uvarint), one more where badge (uvarint) and attempts (one byte) follow the token; or, for an Audience batch, the
// cursor's token.
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

// body encodes what stands in the batch's row.
func (b *Batch) body() []byte {
	if b.Kind == Audience {
		return append([]byte{bodyVersion}, b.Cursor.After...)
	}
	size := 1
	for i := range b.Recipients {
		size += len(b.Recipients[i].Token) + 7
	}
	return appendRecipients(make([]byte, 0, size), b.Recipients)
}

func (b *Batch) setBody(body []byte, n int) error {
	if b.Kind != Audience {
		var err error
		b.Recipients, err = decodeRecipients(body, n)
		return err
	}
	if len(body) == 0 || body[0] != bodyVersion || len(body) > 1+push.MaxTokenLen {
		return errBody
	}
	b.Cursor.After = push.Token(body[1:])
	return nil
}
