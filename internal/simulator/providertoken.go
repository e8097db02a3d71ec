package simulator

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"strings"
	"sync"
	"time"
)

const (
	providerTokenLife = time.Hour
	maxCachedTokens   = 1000
)

// providerToken is a provider token that has been looked at. It is immutable.
type providerToken struct {
	reason   Reason // why it is refused; ReasonNone where it is good until it expires
	key      string // key id
	team     string
	issuedAt time.Time
}

// tokenCache remembers the provider tokens there were, since verifying a signature for each request would take longer
// than all else.
type tokenCache struct {
	mu     sync.Mutex
	known  map[string]*providerToken
	newest map[string]time.Time // by key id: when a token was first accepted
}

// lookUp checks a token the first time and remembers the verdict. A token that is refused for coming too early is not
// remembered: later it may be good.
func (c *tokenCache) lookUp(text string, key *ecdsa.PublicKey, keyID string, interval time.Duration,
	now time.Time) *providerToken {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t, ok := c.known[text]; ok {
		return t
	}
	t := parseProviderToken(text, key, keyID, now)
	if t.reason == ReasonNone {
		if last, ok := c.newest[t.key]; ok && now.Sub(last) < interval {
			return &providerToken{reason: ReasonTooManyProviderTokenUpdates}
		}
		if c.newest == nil {
			c.newest = map[string]time.Time{}
		}
		c.newest[t.key] = now
	}
	if c.known == nil || len(c.known) >= maxCachedTokens {
		c.known = map[string]*providerToken{}
	}
	c.known[text] = t
	return t
}

// parseProviderToken checks form, age and, with a key, signature. With a key id the token must name that key.
func parseProviderToken(text string, key *ecdsa.PublicKey, keyID string, now time.Time) *providerToken {
	invalid := &providerToken{reason: ReasonInvalidProviderToken}
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return invalid
	}
	var head struct{ Alg, Kid string }
	var claims struct {
		Iss string
		Iat float64
	}
	if !decodePart(parts[0], &head) || !decodePart(parts[1], &claims) || head.Alg != "ES256" ||
		head.Kid == "" || claims.Iss == "" || claims.Iat <= 0 {
		return invalid
	}
	if keyID != "" && (head.Kid != keyID || claims.Iss != TeamID) {
		return invalid
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil || len(signature) == 0 {
		return invalid
	}
	if key != nil && !verifySignature(key, parts[0]+"."+parts[1], signature) {
		return invalid
	}
	issuedAt := time.Unix(int64(claims.Iat), 0)
	if issuedAt.Sub(now) > providerTokenLife {
		return invalid // in milliseconds, most likely
	}
	return &providerToken{key: head.Kid, team: claims.Iss, issuedAt: issuedAt}
}

func decodePart(part string, into any) bool {
	b, err := base64.RawURLEncoding.DecodeString(part)
	return err == nil && json.Unmarshal(b, into) == nil
}

// verifySignature takes the form that JWT prescribes, r and s side by side, and like APNs the ASN.1 form as well.
func verifySignature(key *ecdsa.PublicKey, signed string, signature []byte) bool {
	hash := sha256.Sum256([]byte(signed))
	if len(signature) == 64 {
		r, s := new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])
		if ecdsa.Verify(key, hash[:], r, s) {
			return true
		}
	}
	return ecdsa.VerifyASN1(key, hash[:], signature)
}

// expired reports whether a good token is too old.
func (t *providerToken) expired(now time.Time) bool { return now.Sub(t.issuedAt) > providerTokenLife }
