package webpushsim

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"net/url"
	"strings"
	"time"
)

const (
	vapidScheme = "vapid"
	maxVAPID    = 24 * time.Hour // RFC 8292, 2
)

// vapid is an authorization header that was looked at: the key in it, and why it is refused, nil where it is good until
// expires.
type vapid struct {
	key     []byte
	refused *failure
	expires time.Time
}

// parseVAPID checks an authorization header (RFC 8292) for an origin.
func parseVAPID(header, origin string, now time.Time) vapid {
	scheme, rest, _ := strings.Cut(header, " ")
	if header == "" || !strings.EqualFold(scheme, vapidScheme) {
		return vapid{refused: &failNoVAPID}
	}
	var token, key string
	for part := range strings.SplitSeq(rest, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch strings.ToLower(name) {
		case "t":
			token = strings.Trim(value, `"`)
		case "k":
			key = strings.Trim(value, `"`)
		}
	}
	if token == "" || key == "" {
		return vapid{refused: &failAuthorization}
	}
	v := vapid{}
	var err error
	if v.key, err = parseKey(key); err != nil {
		return vapid{refused: &failVAPIDKey}
	}
	v.expires, v.refused = parseToken(token, v.key, origin, now)
	return v
}

// parseToken checks the JWT of an authorization header.
func parseToken(token string, key []byte, origin string, now time.Time) (expires time.Time, refused *failure) {
	parts := strings.Split(token, ".")
	var head struct{ Alg string }
	var claims struct {
		Aud, Sub string
		Exp      float64
	}
	if len(parts) != 3 || !decodePart(parts[0], &head) || !decodePart(parts[1], &claims) || head.Alg != "ES256" {
		return expires, &failJWT
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil || len(signature) != 64 {
		return expires, &failJWT
	}
	public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), key)
	if err != nil {
		return expires, &failVAPIDKey
	}
	hash := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	if !ecdsa.Verify(public, hash[:], new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])) {
		return expires, &failJWT
	}
	expires = time.Unix(int64(claims.Exp), 0)
	if claims.Aud != origin || !isSubject(claims.Sub) || claims.Exp <= 0 || expires.Before(now) ||
		expires.Sub(now) > maxVAPID {
		return expires, &failJWT
	}
	return expires, nil
}

// isSubject tells a contact: the RFC makes it optional, Apple and Mozilla do not.
func isSubject(sub string) bool {
	if address, ok := strings.CutPrefix(sub, "mailto:"); ok {
		return strings.Contains(address, "@")
	}
	u, err := url.Parse(sub)
	return err == nil && u.Scheme == "https" && u.Host != ""
}

func decodePart(part string, into any) bool {
	b, err := base64.RawURLEncoding.DecodeString(part)
	return err == nil && json.Unmarshal(b, into) == nil
}
