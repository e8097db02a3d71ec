package api

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"
)

// UserTokenKey is a key that an app's backend signs its users' proofs with.
type UserTokenKey struct {
	ID        string // the kid that a proof must have, where it has one; empty: any
	Algorithm string // HS256, ES256, RS256 or EdDSA
	Key       any    // []byte for HS256, else the public key
}

// UserTokens checks the JWTs by which an app's backend proves who a user is.
type UserTokens struct {
	keys   atomic.Pointer[[]UserTokenKey]
	maxAge time.Duration
	parser *jwt.Parser
}

// proofLeeway is by how much the clock of the app's backend may differ from ours.
const proofLeeway = time.Minute

// The algorithms and what must be true of their keys. The algorithm belongs to the key and not to the token, so that no
// public key can be passed off as a shared secret.
const (
	algHS256 = "HS256"
	algES256 = "ES256"
	algRS256 = "RS256"
	algEdDSA = "EdDSA"
)

// NewUserTokens checks the keys. issuer and audience may be empty; else a proof must name them. maxAge is how long a
// proof may be good, from its iat or, without one, from now; 0: as long as its exp says.
func NewUserTokens(keys []UserTokenKey, issuer, audience string, maxAge time.Duration) (*UserTokens, error) {
	options := []jwt.ParserOption{
		jwt.WithValidMethods([]string{algHS256, algES256, algRS256, algEdDSA}), jwt.WithIssuedAt(),
		jwt.WithExpirationRequired(), jwt.WithLeeway(proofLeeway),
	}
	if issuer != "" {
		options = append(options, jwt.WithIssuer(issuer))
	}
	if audience != "" {
		options = append(options, jwt.WithAudience(audience))
	}
	u := &UserTokens{maxAge: maxAge, parser: jwt.NewParser(options...)}
	return u, u.Replace(keys)
}

// Replace puts other keys in the place of those that proofs are checked with; wrong ones leave the old ones.
func (u *UserTokens) Replace(keys []UserTokenKey) error {
	if len(keys) == 0 {
		return errors.New("there is no key")
	}
	for i, k := range keys {
		if err := checkUserTokenKey(k); err != nil {
			return fmt.Errorf("key %d: %w", i+1, err)
		}
	}
	u.keys.Store(&keys)
	return nil
}

func checkUserTokenKey(k UserTokenKey) error {
	const shortestSecret, shortestRSA = 32, 2048
	switch key := k.Key.(type) {
	case []byte:
		if k.Algorithm != algHS256 {
			return fmt.Errorf("a shared secret is for %s, not %s", algHS256, k.Algorithm)
		}
		if len(key) < shortestSecret {
			return fmt.Errorf("a shared secret must have at least %d bytes", shortestSecret)
		}
	case *ecdsa.PublicKey:
		if k.Algorithm != algES256 || key.Curve != elliptic.P256() {
			return fmt.Errorf("an elliptic curve's key must be of P-256 and is for %s, not %s", algES256, k.Algorithm)
		}
	case *rsa.PublicKey:
		if k.Algorithm != algRS256 {
			return fmt.Errorf("an RSA key is for %s, not %s", algRS256, k.Algorithm)
		}
		if key.N.BitLen() < shortestRSA {
			return fmt.Errorf("an RSA key must have at least %d bits", shortestRSA)
		}
	case ed25519.PublicKey:
		if k.Algorithm != algEdDSA {
			return fmt.Errorf("an Ed25519 key is for %s, not %s", algEdDSA, k.Algorithm)
		}
	default:
		return fmt.Errorf("a %T is no key for user tokens", k.Key)
	}
	return nil
}

// errCritical is for a proof whose header has crit: what it names must be understood (RFC 7515, 4.1.11), and no
// such extension is here. The JWT library leaves that to us.
var errCritical = errors.New("crit")

// verifyHeader is Verify for the values of X-User-Token.
func (u *UserTokens) verifyHeader(values []string) (user string, err error) {
	switch len(values) {
	case 0:
		return "", errMissing
	case 1:
		return u.Verify(values[0])
	}
	return "", errors.New("it is given more than once")
}

var errMissing = errors.New("it is missing")

// Verify returns the proof's subject. Its errors are for the caller to read.
func (u *UserTokens) Verify(proof string) (user string, err error) {
	if proof == "" {
		return "", errMissing
	}
	claims := jwt.MapClaims{} // not a struct, whose fields encoding/json would take from names of any case
	_, err = u.parser.ParseWithClaims(proof, claims, u.keysFor)
	if err == nil && areTimes(claims) {
		return u.subject(claims)
	}
	exp, expires := claims["exp"]
	switch {
	case errors.Is(err, errCritical):
		err = errors.New("its crit asks for an extension that is not known here")
	case errors.Is(err, jwt.ErrTokenMalformed):
		err = errors.New("it is not a JWT")
	case errors.Is(err, jwt.ErrTokenUnverifiable), errors.Is(err, jwt.ErrTokenSignatureInvalid):
		err = errors.New("none of the configured keys has signed it")
	case !expires:
		err = errors.New("it has no exp")
	case !areTimes(claims):
		err = errClaimType
	case errors.Is(err, jwt.ErrTokenExpired), exp == 0.0: // which the library takes for none
		err = errors.New("it has expired")
	case errors.Is(err, jwt.ErrTokenNotValidYet), errors.Is(err, jwt.ErrTokenUsedBeforeIssued):
		err = errors.New("it is not valid yet")
	case errors.Is(err, jwt.ErrTokenInvalidIssuer), errors.Is(err, jwt.ErrTokenInvalidAudience),
		errors.Is(err, jwt.ErrTokenRequiredClaimMissing):
		err = errors.New("it is of another issuer or for another audience")
	default:
		err = errClaimType
	}
	return "", err
}

var errClaimType = errors.New("one of its claims is not of the type that RFC 7519 has for it")

// lastSecond is that of the year 9999.
const lastSecond = 253_402_300_799

// areTimes reports whether those claims that are times can be: the library would take one that is too large for one
// long ago.
func areTimes(claims jwt.MapClaims) bool {
	for _, name := range []string{"exp", "nbf", "iat"} {
		value, there := claims[name]
		if at, is := value.(float64); there && (!is || math.Abs(at) > lastSecond) {
			return false
		}
	}
	return true
}

// keysFor are the keys that may have signed the proof.
func (u *UserTokens) keysFor(t *jwt.Token) (any, error) {
	if _, given := t.Header["crit"]; given {
		return nil, errCritical
	}
	kid, isText := t.Header["kid"].(string)
	if t.Header["kid"] != nil && !isText {
		return nil, jwt.ErrTokenUnverifiable
	}
	var set jwt.VerificationKeySet
	for _, k := range *u.keys.Load() {
		if k.Algorithm == t.Method.Alg() && (kid == "" || k.ID == "" || k.ID == kid) {
			set.Keys = append(set.Keys, k.Key)
		}
	}
	if len(set.Keys) == 0 {
		return nil, jwt.ErrTokenUnverifiable
	}
	return set, nil
}

// subject is the user that the claims, which are valid, name.
func (u *UserTokens) subject(claims jwt.MapClaims) (string, error) {
	user, err := claims.GetSubject()
	if err != nil || user == "" {
		return "", errors.New("it has no sub")
	}
	if u.maxAge == 0 {
		return user, nil
	}
	expires, err := claims.GetExpirationTime()
	if err != nil {
		return "", err
	}
	since := time.Now()
	if issued, is := claims["iat"].(float64); is { // 0 too, which the library takes for none
		since = time.Unix(int64(issued), 0)
	}
	if expires.Sub(since) > u.maxAge+proofLeeway {
		return "", fmt.Errorf("it is good for longer than %s", u.maxAge)
	}
	return user, nil
}

// ParsePublicKey reads the PEM file of a public key or a certificate, and tells the algorithm it is for.
func ParsePublicKey(file []byte) (UserTokenKey, error) {
	block, _ := pem.Decode(bytes.TrimPrefix(file, byteOrderMark))
	if block == nil {
		return UserTokenKey{}, errors.New("not a PEM file")
	}
	var key crypto.PublicKey
	var err error
	switch block.Type {
	case "CERTIFICATE":
		var cert *x509.Certificate
		if cert, err = x509.ParseCertificate(block.Bytes); err == nil {
			key = cert.PublicKey
		}
	case "RSA PUBLIC KEY":
		key, err = x509.ParsePKCS1PublicKey(block.Bytes)
	case "PUBLIC KEY":
		key, err = x509.ParsePKIXPublicKey(block.Bytes)
	default:
		return UserTokenKey{}, fmt.Errorf("a PEM block %q is no public key", block.Type)
	}
	if err != nil {
		return UserTokenKey{}, fmt.Errorf("parse the public key: %w", err)
	}
	return userTokenKey("", key)
}

// ParseJWKS reads a JWK set and leaves out what is not for signatures, and keys of kinds that are not for user tokens,
// as RFC 7517 asks for: an identity provider's set may hold others.
func ParseJWKS(file []byte) ([]UserTokenKey, error) {
	var set jwkset.JWKSMarshal
	if err := json.Unmarshal(bytes.TrimPrefix(file, byteOrderMark), &set); err != nil {
		return nil, fmt.Errorf("parse the JWK set: %w", err)
	}
	var keys []UserTokenKey
	errs := []error{errors.New("the JWK set has no key for signatures with HS256, ES256, RS256 or EdDSA")}
	for i, jwk := range set.Keys {
		if jwk.USE == jwkset.UseEnc {
			continue
		}
		key, err := parseJWK(jwk)
		if err != nil {
			errs = append(errs, fmt.Errorf("key %d (%q): %w", i+1, jwk.KID, err))
			continue
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, errors.Join(errs...)
	}
	return keys, nil
}

func parseJWK(marshalled jwkset.JWKMarshal) (UserTokenKey, error) {
	jwk, err := jwkset.NewJWKFromMarshal(marshalled, jwkset.JWKMarshalOptions{Private: true}, jwkset.JWKValidateOptions{})
	if err != nil {
		return UserTokenKey{}, err
	}
	key, err := userTokenKey(marshalled.KID, jwk.Key())
	if err == nil && marshalled.ALG != "" && marshalled.ALG.String() != key.Algorithm {
		err = fmt.Errorf("it is for %s, not %s", marshalled.ALG, key.Algorithm)
	}
	return key, err
}

func userTokenKey(id string, key any) (UserTokenKey, error) {
	k := UserTokenKey{ID: id, Key: key}
	switch private := key.(type) { // a set with private keys does as well; only the public part is kept
	case *ecdsa.PrivateKey:
		k.Key = &private.PublicKey
	case *rsa.PrivateKey:
		k.Key = &private.PublicKey
	case ed25519.PrivateKey:
		k.Key = private.Public()
	}
	switch k.Key.(type) {
	case []byte:
		k.Algorithm = algHS256
	case *ecdsa.PublicKey:
		k.Algorithm = algES256
	case *rsa.PublicKey:
		k.Algorithm = algRS256
	case ed25519.PublicKey:
		k.Algorithm = algEdDSA
	}
	return k, checkUserTokenKey(k)
}
