package fcm

import (
	"fmt"

	"github.com/lhspn/lhspn/internal/push"
)

// Token is the device token for what an app has from its SDK: a registration token (from onNewToken) or a Firebase
// installation id (from onRegistered). Both are opaque; only what no transport could carry is refused.
func Token(address string) (push.Token, error) {
	const longest = push.MaxTokenLen - len(Name+":")
	switch {
	case address == "":
		return "", fmt.Errorf("the registration token is empty")
	case len(address) > longest:
		return "", fmt.Errorf("a registration token has at most %d characters, not %d", longest, len(address))
	}
	for i := range len(address) {
		if address[i] <= ' ' || address[i] > '~' {
			return "", fmt.Errorf("a registration token is printable ASCII without spaces; character %d is not", i+1)
		}
	}
	return push.TextToken(Name, address), nil
}

// ParseToken is Token for the written form, "fcm:" and the address.
func ParseToken(written string) (push.Token, error) {
	t, err := push.ParseToken(written)
	if err != nil {
		return "", err
	}
	if t.Platform() != Name {
		return "", fmt.Errorf("a device token of FCM begins with %q", Name+":")
	}
	return Token(t.Address())
}

// fidLen is the length of a Firebase installation id: 17 random bytes of which the first has the bits 0111 in front, in
// base64url, cut to 22 characters (firebase-js-sdk, packages/installations/src/helpers/generate-fid.ts).
const fidLen = 22

// isFID tells an installation id from a registration token by its form, ^[cdef][\w-]{21}$. Registration tokens are far
// longer.
func isFID(address string) bool {
	if len(address) != fidLen || address[0] < 'c' || address[0] > 'f' {
		return false
	}
	for i := range fidLen {
		c := address[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

// appendTarget appends the member of the message that names the device, and a comma.
func appendTarget(dst []byte, address string) []byte {
	if isFID(address) {
		dst = append(dst, `"fid":"`...)
	} else {
		dst = append(dst, `"token":"`...)
	}
	for i := range len(address) { // printable ASCII: nothing else needs an escape
		if c := address[i]; c == '"' || c == '\\' {
			dst = append(dst, '\\')
		}
		dst = append(dst, address[i])
	}
	return append(dst, `",`...)
}
