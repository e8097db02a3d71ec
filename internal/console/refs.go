package console

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/lhspn/lhspn/internal/push"
)

// refs stand for device tokens in the page and in its addresses: whoever reads over a shoulder, or a browser's history,
// must not be able to send to one. They are good for this process only.
type refs struct{ aead cipher.AEAD }

func newRefs() (refs, error) {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // it cannot fail
	block, err := aes.NewCipher(key)
	if err != nil {
		return refs{}, fmt.Errorf("console: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return refs{}, fmt.Errorf("console: %w", err)
	}
	return refs{aead}, nil
}

// of is the reference to the tokens.
func (r refs) of(tokens ...push.Token) string {
	texts := make([]string, len(tokens))
	for i, t := range tokens {
		texts[i] = t.String()
	}
	//nolint:gosec // no nonce is given: the AEAD makes a random one each time
	sealed := r.aead.Seal(nil, nil, []byte(strings.Join(texts, "\n")), nil)
	return base64.RawURLEncoding.EncodeToString(sealed)
}

var errRef = errors.New("the link is of before the service was started, or of another replica: look the token up again")

func (r refs) tokens(ref string) ([]push.Token, error) {
	sealed, err := base64.RawURLEncoding.DecodeString(ref)
	if err != nil {
		return nil, errRef
	}
	text, err := r.aead.Open(nil, nil, sealed, nil)
	if err != nil {
		return nil, errRef
	}
	var all []push.Token
	for line := range strings.SplitSeq(string(text), "\n") {
		t, err := push.ParseToken(line)
		if err != nil {
			return nil, errRef
		}
		all = append(all, t)
	}
	return all, nil
}
