package apns

import (
	"encoding/binary"

	"github.com/cespare/xxhash/v2"
	"github.com/google/uuid"

	"github.com/lhspn/lhspn/internal/push"
)

// ID is the apns-id of the notification for one token, by its address. It is derived, not stored, so that every resend carries the
// same one, after a crash too.
func ID(notification uuid.UUID, address string) uuid.UUID {
	var seed [16 + push.MaxHexTokenLen]byte
	n := copy(seed[:], notification[:])
	n += copy(seed[n:], address)
	hi := xxhash.Sum64(seed[:n])
	seed[0] ^= 0xff
	lo := xxhash.Sum64(seed[:n])
	var id uuid.UUID
	binary.BigEndian.PutUint64(id[:8], hi)
	binary.BigEndian.PutUint64(id[8:], lo)
	id[6] = id[6]&0x0f | 0x80 // version 8: vendor-defined (RFC 9562)
	id[8] = id[8]&0x3f | 0x80 // variant
	return id
}
