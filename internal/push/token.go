package push

import (
	"encoding/hex"
	"fmt"
	"log/slog"
)

// Limits of a device token, in bytes. Apple documents tokens as of variable length, 32 bytes in practice and up to 100.
const (
	MinTokenLen = 32
	MaxTokenLen = 100
)

// Token is a device token as its raw bytes. A string, so that it compares, keys a map, and can share the memory of the
// batch it was decoded from. Its text form is lower-case hexadecimal.
type Token string

// ParseToken reads a token from hexadecimal of either case: 64 to 200 digits.
func ParseToken(s string) (Token, error) {
	if len(s)%2 != 0 {
		return "", fmt.Errorf("a device token is hexadecimal and so has an even number of digits, not %d", len(s))
	}
	if n := len(s) / 2; n < MinTokenLen || n > MaxTokenLen {
		return "", fmt.Errorf("a device token is %d to %d bytes long (%d to %d hexadecimal digits), not %d digits",
			MinTokenLen, MaxTokenLen, 2*MinTokenLen, 2*MaxTokenLen, len(s))
	}
	b, err := hex.DecodeString(s)
	if err != nil {
		return "", fmt.Errorf("a device token is hexadecimal: 0-9, a-f")
	}
	return Token(b), nil
}

// String is the token in lower-case hexadecimal. Not for logs: see Short.
func (t Token) String() string { return hex.EncodeToString([]byte(t)) }

// AppendHex appends the token in lower-case hexadecimal.
func (t Token) AppendHex(dst []byte) []byte {
	const digits = "0123456789abcdef"
	for i := 0; i < len(t); i++ {
		dst = append(dst, digits[t[i]>>4], digits[t[i]&15])
	}
	return dst
}

// Short is the form for logs: enough to find a token again, too little to send to it.
func (t Token) Short() string {
	if len(t) < 4 {
		return "…"
	}
	return hex.EncodeToString([]byte(t[:4])) + "…"
}

// LogValue keeps whole tokens out of logs.
func (t Token) LogValue() slog.Value { return slog.StringValue(t.Short()) }

// MarshalText is the hexadecimal form, for JSON.
func (t Token) MarshalText() ([]byte, error) { return t.AppendHex(nil), nil }

// UnmarshalText is ParseToken.
func (t *Token) UnmarshalText(b []byte) error {
	v, err := ParseToken(string(b))
	if err != nil {
		return err
	}
	*t = v
	return nil
}
