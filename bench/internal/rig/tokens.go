package rig

import (
	"encoding/binary"

	"github.com/lhspn/lhspn/internal/push"
)

// Token is the i-th of the device tokens that all clients here send to: distinct, their heads spread evenly over the
// whole range as those of Apple's are, and the same in every run and every language.
func Token(i int) push.Token {
	var raw [push.MinHexTokenLen]byte
	binary.BigEndian.PutUint32(raw[:], uint32(i+1)*0x9e3779b1)
	for k := 4; k < 28; k++ {
		raw[k] = raw[k&3] + byte(37*k)
	}
	binary.BigEndian.PutUint32(raw[28:], uint32(i))
	return push.HexToken(raw[:])
}

// AppendToken appends the i-th token in hexadecimal.
func AppendToken(dst []byte, i int) []byte { return Token(i).AppendText(dst) }

// Alert is the text of 100 bytes that every client under test sends, and Payload the document around it.
const (
	Alert   = "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"
	Payload = `{"aps":{"alert":"` + Alert + `"}}`
)
