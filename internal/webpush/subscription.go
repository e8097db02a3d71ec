package webpush

import (
	"bytes"
	"crypto/ecdh"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/lhspn/lhspn/internal/push"
)

// Name is the platform's name, with which the written form of its device tokens begins.
const Name = "webpush"

// The limits of a subscription, in bytes.
const (
	MaxEndpoint  = 2048
	publicKeyLen = 65 // an uncompressed point of P-256
	authLen      = 16
)

// Subscription is what a browser gives to have messages sent to it. The endpoint is a capability: who has it and the
// keys can send, so none of it is for logs.
type Subscription struct {
	Endpoint string
	// P256DH is the browser's public key, an uncompressed point of P-256; Auth the secret shared with it (RFC 8291,
	// 3.2).
	P256DH [publicKeyLen]byte
	Auth   [authLen]byte
	// VAPID is the public key that it was made with, as VAPID.PublicKey gives it; empty where nobody says. Browsers do
	// not, but an export does.
	VAPID string
}

// Token is the device token of a subscription: the hash of its endpoint, for that is too long and too secret to be
// written in paths and logs.
func (s *Subscription) Token() push.Token {
	hash := sha256.Sum256([]byte(s.Endpoint))
	return push.TextToken(Name, base64.RawURLEncoding.EncodeToString(hash[:]))
}

// Address is what is stored with the device token, to be read by this package alone. vapidKey is the public key that
// the subscription was made with, as VAPID.PublicKey gives it; empty where nobody knows.
func (s *Subscription) Address(vapidKey string) []byte {
	b := make([]byte, 0, len(s.Endpoint)+len(vapidKey)+200)
	b = append(b, beforeEndpoint...)
	b = append(b, s.Endpoint...) // has no character that JSON escapes: splitEndpoint
	b = append(b, beforeKey...)
	b = base64.RawURLEncoding.AppendEncode(b, s.P256DH[:])
	b = append(b, beforeAuth...)
	b = base64.RawURLEncoding.AppendEncode(b, s.Auth[:])
	b = append(b, beforeVAPID...)
	b = append(b, vapidKey...)
	return append(b, afterVAPID...)
}

// What stands around the parts of a stored Address. It is JSON, for whoever looks into the database.
const (
	beforeEndpoint = `{"endpoint":"`
	beforeKey      = `","p256dh":"`
	beforeAuth     = `","auth":"`
	beforeVAPID    = `","vapid":"`
	afterVAPID     = `"}`
)

// CheckToken reports what is wrong with the address of a device token of this platform, which is what follows
// "webpush:".
func CheckToken(t push.Token) error {
	hash, err := base64.RawURLEncoding.Strict().DecodeString(t.Address())
	if t.Platform() != Name || err != nil || len(hash) != sha256.Size {
		return errors.New("a webpush device token is \"webpush:\" and the base64url of the SHA-256 of the endpoint, 43 " +
			"characters")
	}
	return nil
}

// ParseSubscription reads what JSON.stringify(subscription) gives in a browser. at is where it is in the request,
// for the faults.
func ParseSubscription(v push.JSON, at string, origins *Origins, now time.Time) (Subscription, []push.Fault) {
	p := parser{at: at, origins: origins, now: now}
	s := p.subscription(v)
	return s, p.faults
}

// JSON is the subscription as a browser gives it, and the VAPID key beside.
func (s *Subscription) JSON() []byte {
	b := append([]byte(`{"endpoint":"`), s.Endpoint...)
	b = append(b, `","expirationTime":null,"keys":{"p256dh":"`...)
	b = base64.RawURLEncoding.AppendEncode(b, s.P256DH[:])
	b = append(b, `","auth":"`...)
	b = base64.RawURLEncoding.AppendEncode(b, s.Auth[:])
	b = append(b, `"}`...)
	if s.VAPID != "" {
		b = append(append(append(b, `,"vapid":"`...), s.VAPID...), '"')
	}
	return append(b, '}')
}

// parser gathers the faults of a subscription.
type parser struct {
	at      string
	origins *Origins
	now     time.Time
	faults  []push.Fault
}

func (p *parser) fault(member, message string) {
	p.faults = append(p.faults, push.Fault{Location: p.at + member, Message: message})
}

func (p *parser) subscription(v push.JSON) (s Subscription) {
	if v == nil || !v.IsObject() {
		p.fault("", "must be an object, as JSON.stringify(subscription) gives it")
		return s
	}
	if duplicates := v.DuplicateKeys(p.at); len(duplicates) > 0 {
		p.faults = duplicates
		return s
	}
	var endpoint, expiration, keys, vapid push.JSON
	for key, value := range v.Members() {
		switch key.String() {
		case "endpoint":
			endpoint = value
		case "expirationTime":
			expiration = value
		case "keys":
			keys = value
		case "vapid":
			vapid = value
		} // others pass: browsers add some
	}
	p.endpoint(endpoint, &s)
	p.expiration(expiration)
	p.keys(keys, &s)
	var key [publicKeyLen]byte
	if vapid != nil && p.bytes(".vapid", vapid, key[:], "the VAPID public key") {
		s.VAPID = base64.RawURLEncoding.EncodeToString(key[:])
	}
	return s
}

func (p *parser) endpoint(v push.JSON, s *Subscription) {
	switch {
	case v == nil:
		p.fault(".endpoint", "is missing")
		return
	case !v.IsString():
		p.fault(".endpoint", "must be a string")
		return
	}
	if s.Endpoint = v.String(); len(s.Endpoint) > MaxEndpoint {
		p.fault(".endpoint", fmt.Sprintf("must have at most %d characters, not %d", MaxEndpoint, len(s.Endpoint)))
		return
	}
	if _, _, err := p.origins.find(s.Endpoint); err != nil {
		p.fault(".endpoint", err.Error())
	}
}

// expiration is null, or when the subscription ends, in milliseconds.
func (p *parser) expiration(v push.JSON) {
	if v == nil || v.IsNull() {
		return
	}
	ms, ok := v.Float()
	switch {
	case !ok || ms < 0:
		p.fault(".expirationTime", "must be null or a number: Unix milliseconds")
	case ms <= float64(p.now.UnixMilli()):
		p.fault(".expirationTime", "has passed: subscribe again")
	}
}

func (p *parser) keys(v push.JSON, s *Subscription) {
	switch {
	case v == nil:
		p.fault(".keys", "is missing")
		return
	case !v.IsObject():
		p.fault(".keys", "must be an object with p256dh and auth")
		return
	}
	var public, auth push.JSON
	for key, value := range v.Members() {
		switch key.String() {
		case "p256dh":
			public = value
		case "auth":
			auth = value
		}
	}
	if p.bytes(".keys.p256dh", public, s.P256DH[:], "an uncompressed point of P-256") {
		if _, err := ecdh.P256().NewPublicKey(s.P256DH[:]); err != nil {
			p.fault(".keys.p256dh", "is no point of the curve P-256, uncompressed")
		}
	}
	p.bytes(".keys.auth", auth, s.Auth[:], "the shared secret")
}

// bytes decodes base64 of either alphabet, padded or not: browsers give base64url without padding, libraries all of
// them.
func (p *parser) bytes(member string, v push.JSON, dst []byte, what string) bool {
	switch {
	case v == nil:
		p.fault(member, "is missing")
		return false
	case !v.IsString():
		p.fault(member, "must be a string")
		return false
	}
	text := strings.TrimRight(v.String(), "=")
	if len(text) > 2*publicKeyLen {
		p.fault(member, fmt.Sprintf("must be %s: %d bytes in base64url", what, len(dst)))
		return false
	}
	text = strings.NewReplacer("+", "-", "/", "_").Replace(text)
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	switch {
	case err != nil || strings.ContainsAny(text, "\r\n"): // which encoding/base64 skips
		p.fault(member, "must be base64url")
	case len(b) != len(dst):
		p.fault(member, fmt.Sprintf("must be %s: %d bytes in base64url, not %d", what, len(dst), len(b)))
	default:
		copy(dst, b)
		return true
	}
	return false
}

// address is a stored Address taken apart, as far as it goes without an allocation. endpoint and vapid share its
// memory.
type address struct {
	endpoint, vapid []byte
	p256dh          [publicKeyLen]byte
	auth            [authLen]byte
}

var errAddress = errors.New("the stored address is none of Web Push")

// parse reads what Subscription.Address made, and nothing else: it is done for every message.
func (a *address) parse(b []byte) error {
	rest, ok := bytes.CutPrefix(b, []byte(beforeEndpoint))
	endpoint, rest, ok1 := bytes.Cut(rest, []byte(beforeKey))
	key, rest, ok2 := bytes.Cut(rest, []byte(beforeAuth))
	auth, rest, ok3 := bytes.Cut(rest, []byte(beforeVAPID))
	vapid, end := bytes.CutSuffix(rest, []byte(afterVAPID))
	*a = address{endpoint: endpoint, vapid: vapid}
	if !ok || !ok1 || !ok2 || !ok3 || !end || len(endpoint) == 0 ||
		!decodeExactly(a.p256dh[:], key) || !decodeExactly(a.auth[:], auth) {
		return errAddress
	}
	return nil
}

// decodeExactly reports whether text is the base64url of as many bytes as dst has, which it then has.
func decodeExactly(dst, text []byte) bool {
	if base64.RawURLEncoding.DecodedLen(len(text)) != len(dst) {
		return false
	}
	n, err := base64.RawURLEncoding.Decode(dst, text)
	return err == nil && n == len(dst)
}

// ParseAddress reads an Address back.
func ParseAddress(b []byte) (Subscription, error) {
	var a address
	if err := a.parse(b); err != nil {
		return Subscription{}, err
	}
	return Subscription{Endpoint: string(a.endpoint), P256DH: a.p256dh, Auth: a.auth, VAPID: string(a.vapid)}, nil
}
