package push

import (
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
)

// Limits of a device token. One of hexadecimal digits is 32 to 100 bytes long, one in another written form up to 1,024
// characters, its platform's name included.
const (
	MinHexTokenLen = 32
	MaxHexTokenLen = 100
	MaxTokenLen    = 1024
	maxPlatformLen = 12
)

// Token is a device token: an opaque address on a platform. It compares, keys a map, and can share the memory of the
// batch it was decoded from.
//
// Each has one written form (String): "name:address", with the platform's name and printable text, or only hexadecimal
// digits, which are of the one platform that has no name there. What a Token holds, and what is stored, is the written
// form of the first kind and the bare bytes of the second, so that those cost half. Bytes that happen to look like the
// first kind have "hex:" before them.
type Token string

const hexPlatform = "hex"

// HexToken is the token of the platform whose tokens are bare bytes.
func HexToken[T string | []byte](address T) Token {
	if prefixLen(string(address)) > 0 {
		return Token(hexPlatform + ":" + string(address))
	}
	return Token(address)
}

// TextToken is the token of the named platform (lower-case letters) with the address in printable ASCII.
func TextToken(platform, address string) Token { return Token(platform + ":" + address) }

// ParseToken reads a token from its written form. Whether the platform exists, and takes such an address, is its own to
// say.
func ParseToken(s string) (Token, error) {
	if n := prefixLen(s); n > 0 && s[:n-1] != hexPlatform {
		return parseText(s, n)
	}
	if len(s)%2 != 0 {
		return "", fmt.Errorf("a hexadecimal device token has an even number of digits, not %d", len(s))
	}
	if n := len(s) / 2; n < MinHexTokenLen || n > MaxHexTokenLen {
		return "", fmt.Errorf("a hexadecimal device token is %d to %d bytes long (%d to %d digits), not %d digits",
			MinHexTokenLen, MaxHexTokenLen, 2*MinHexTokenLen, 2*MaxHexTokenLen, len(s))
	}
	b, err := hex.DecodeString(s)
	if err != nil {
		return "", errors.New("a device token is hexadecimal (0-9, a-f), or begins with its platform's name and a colon")
	}
	return HexToken(b), nil
}

func parseText(s string, prefix int) (Token, error) {
	switch {
	case len(s) == prefix:
		return "", errors.New("a device token has an address after the colon")
	case len(s) > MaxTokenLen:
		return "", fmt.Errorf("a device token has at most %d characters, not %d", MaxTokenLen, len(s))
	}
	for i := prefix; i < len(s); i++ {
		if s[i] <= ' ' || s[i] > '~' {
			return "", errors.New("a device token is printable ASCII without spaces")
		}
	}
	return Token(s), nil
}

// prefixLen is the length of the platform's name that s begins with, and its colon; 0 where it begins with none.
func prefixLen(s string) int {
	for i := 0; i < len(s) && i <= maxPlatformLen; i++ {
		switch c := s[i]; {
		case c == ':':
			if i > 0 {
				return i + 1
			}
			return 0
		case c < 'a' || c > 'z':
			return 0
		}
	}
	return 0
}

// Valid reports whether the token has an address within the limits. One that a service told us of may be shorter than
// one that ParseToken takes.
func (t Token) Valid() bool {
	longest := MaxHexTokenLen
	if t.Platform() != "" {
		longest = MaxTokenLen - prefixLen(string(t))
	}
	n := len(t.Address())
	return n > 0 && n <= longest
}

// Platform is the name of the platform in the written form; empty for that of hexadecimal tokens.
func (t Token) Platform() string {
	n := prefixLen(string(t))
	if n == 0 || t[:n-1] == hexPlatform {
		return ""
	}
	return string(t[:n-1])
}

// PlatformName is Platform, with the name also for hexadecimal tokens.
func (t Token) PlatformName() string {
	if name := t.Platform(); name != "" {
		return name
	}
	return DefaultPlatform
}

// Prefix is what a Token's bytes begin with where Platform is not empty: the platform's name and a colon.
func Prefix(token []byte) []byte {
	if len(token) == 0 || token[0] < 'a' || token[0] > 'z' { // as most are
		return nil
	}
	return prefix(token)
}

func prefix(token []byte) []byte {
	n := prefixLen(string(token[:min(len(token), maxPlatformLen+1)]))
	if string(token[:n]) == hexPlatform+":" {
		return nil
	}
	return token[:n]
}

// Address is what the platform's service knows the device by: the bare bytes, or the text after the platform's name.
func (t Token) Address() string { return string(t[prefixLen(string(t)):]) }

// String is the written form. Not for logs: see Short.
func (t Token) String() string { return string(t.AppendText(nil)) }

// AppendText appends the written form.
func (t Token) AppendText(dst []byte) []byte {
	if t.Platform() != "" {
		return append(dst, t...)
	}
	return hex.AppendEncode(dst, []byte(t.Address()))
}

// Short is the form for logs: enough to find a token again, too little to send to it.
func (t Token) Short() string {
	const shown = 8
	text := t.String()
	n := prefixLen(text)
	if len(text) < n+shown {
		return text[:n] + "…"
	}
	return text[:n+shown] + "…"
}

// LogValue keeps whole tokens out of logs.
func (t Token) LogValue() slog.Value { return slog.StringValue(t.Short()) }

// MarshalText is the written form, for JSON.
func (t Token) MarshalText() ([]byte, error) { return t.AppendText(nil), nil }

// UnmarshalText is ParseToken.
func (t *Token) UnmarshalText(b []byte) error {
	v, err := ParseToken(string(b))
	if err != nil {
		return err
	}
	*t = v
	return nil
}
