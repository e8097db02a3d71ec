package apns

import (
	"encoding/binary"

	"github.com/cespare/xxhash/v2"
	"github.com/google/uuid"

	"github.com/lhspn/lhspn/internal/push"
)

// ID is the apns-id of the notification for one token, by its address. It is derived, not stored, so that every resend
// carries the same one, after a crash too.
func ID(notification uuid.UUID, address string) uuid.UUID {
	const usual = 32 // bytes of nearly every address; a small array is worth its branch
	if len(address) == usual {
		var seed [16 + usual]byte
		copy(seed[:16], notification[:])
		copy(seed[16:], address)
		return hashed(seed[:])
	}
	var seed [16 + push.MaxHexTokenLen]byte
	n := copy(seed[:], notification[:])
	n += copy(seed[n:], address)
	return hashed(seed[:n])
}

func hashed(seed []byte) uuid.UUID {
	hi := xxhash.Sum64(seed)
	// A single byte written before the hash reads eight would stall it.
	binary.LittleEndian.PutUint64(seed, binary.LittleEndian.Uint64(seed)^0xff)
	lo := xxhash.Sum64(seed)
	var id uuid.UUID
	binary.BigEndian.PutUint64(id[:8], hi&^0xf000|0x8000) // version 8: vendor-defined (RFC 9562)
	binary.BigEndian.PutUint64(id[8:], lo&^(3<<62)|1<<63) // variant
	return id
}
