package webpushsim

import (
	"bytes"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/lhspn/lhspn/internal/push"
)

const (
	pushPath = "/push/"
	authLen  = 16

	// An id is the fault, a part of the hash of the VAPID key, a random number, and a part of a MAC over those:
	// subscriptions need not be kept, however many there are.
	vapidLen  = 8
	randomLen = 8
	macLen    = 8
	idLen     = 2 + vapidLen + randomLen + macLen
)

// Subscription is what a browser's pushManager.subscribe gives, and its JSON what JSON.stringify makes of it.
type Subscription struct {
	Endpoint       string `json:"endpoint"`
	ExpirationTime *int64 `json:"expirationTime"`
	Keys           Keys   `json:"keys"`
}

// Keys are the keys of a subscription, in base64url without padding.
type Keys struct {
	P256dh string `json:"p256dh"` // a point of P-256, uncompressed
	Auth   string `json:"auth"`   // 16 bytes
}

// Token is the device token of the subscription.
func (s Subscription) Token() push.Token { return tokenOf(s.Endpoint) }

func tokenOf(endpoint string) push.Token {
	return push.TextToken(Platform, string(addressOf(endpoint)))
}

func addressOf(endpoint string) []byte {
	hash := sha256.Sum256([]byte(endpoint))
	return base64.RawURLEncoding.AppendEncode(nil, hash[:])
}

// subscription is what an id says.
type subscription struct {
	raw   [idLen]byte
	fault Fault
	vapid [vapidLen]byte
}

// browser is a subscription's secrets, as the browser knows them.
type browser struct {
	key  *ecdh.PrivateKey
	auth []byte
}

// Subscribe plays a browser: it makes a new subscription for the VAPID public key (an uncompressed point of P-256,
// base64url) whose messages meet with the fault.
func (s *Simulator) Subscribe(vapidPublicKey string, fault Fault) (Subscription, error) {
	vapid, err := parseKey(vapidPublicKey)
	if err != nil {
		return Subscription{}, fmt.Errorf("applicationServerKey: %w", err)
	}
	var raw [idLen]byte
	binary.BigEndian.PutUint16(raw[:], uint16(fault))
	hash := sha256.Sum256(vapid)
	copy(raw[2:], hash[:vapidLen])
	binary.BigEndian.PutUint64(raw[2+vapidLen:], rand.Uint64())
	copy(raw[idLen-macLen:], s.mac(raw[:idLen-macLen]))
	b, err := s.browser(&raw)
	if err != nil {
		return Subscription{}, err
	}
	encode := base64.RawURLEncoding.EncodeToString
	return Subscription{
		Endpoint: s.origin + pushPath + encode(raw[:]),
		Keys:     Keys{P256dh: encode(b.key.PublicKey().Bytes()), Auth: encode(b.auth)},
	}, nil
}

// Unsubscribe gives a subscription up, as a browser does whose user has withdrawn the permission: from now on it is
// gone.
func (s *Simulator) Unsubscribe(endpoint string) error {
	id, ok := strings.CutPrefix(endpoint, s.origin+pushPath)
	if !ok {
		return errors.New("not an endpoint of this service")
	}
	if _, err := s.find(id); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone[id] = struct{}{}
	return nil
}

func (s *Simulator) isGone(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, gone := s.gone[id]
	return gone
}

func (s *Simulator) mac(b []byte) []byte {
	mac := hmac.New(sha256.New, s.cfg.Seed)
	mac.Write(b)
	return mac.Sum(nil)[:macLen]
}

var errNoSubscription = errors.New("no such subscription")

// find is the subscription with the id.
func (s *Simulator) find(id string) (*subscription, error) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(id)
	if err != nil || len(raw) != idLen || !hmac.Equal(raw[idLen-macLen:], s.mac(raw[:idLen-macLen])) {
		return nil, errNoSubscription
	}
	return &subscription{raw: [idLen]byte(raw), fault: Fault(binary.BigEndian.Uint16(raw)),
		vapid: [vapidLen]byte(raw[2:])}, nil
}

// browser derives a browser's secrets from the id.
func (s *Simulator) browser(raw *[idLen]byte) (*browser, error) {
	b := &browser{}
	var err error
	if b.auth, err = hkdf.Key(sha256.New, s.cfg.Seed, raw[:], "auth", authLen); err != nil {
		return nil, fmt.Errorf("derive a subscription's secret: %w", err)
	}
	for try := 0; ; try++ {
		scalar, err := hkdf.Key(sha256.New, s.cfg.Seed, raw[:], fmt.Sprint("p256dh", try), 32)
		if err != nil {
			return nil, fmt.Errorf("derive a subscription's key: %w", err)
		}
		if b.key, err = ecdh.P256().NewPrivateKey(scalar); err == nil { // it is within the curve's order, nearly always
			return b, nil
		}
	}
}

// isFor reports whether the subscription was made with this VAPID key.
func (b *subscription) isFor(vapid []byte) bool {
	hash := sha256.Sum256(vapid)
	return bytes.Equal(b.vapid[:], hash[:vapidLen])
}

// parseKey reads a public key: an uncompressed point of P-256 in base64url.
func parseKey(text string) ([]byte, error) {
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(text, "="))
	if err != nil {
		return nil, errors.New("it is not base64url")
	}
	if len(b) != pointLen || b[0] != 4 {
		return nil, fmt.Errorf("it is an uncompressed point of %d bytes", pointLen)
	}
	if _, err := ecdh.P256().NewPublicKey(b); err != nil {
		return nil, errors.New("it is not a point of P-256")
	}
	return b, nil
}
