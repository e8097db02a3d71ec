package webpush

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/lhspn/lhspn/internal/inline"
)

// A VAPID token may be valid for 24 hours (RFC 8292, 2), and Apple wants none renewed within the hour. So one lives for
// 12 hours, and is renewed when half of them are over.
const (
	vapidLife  = 12 * time.Hour
	vapidRenew = 6 * time.Hour
	vapidPause = time.Hour
)

// VAPID is an app's application server key, with which push services know that messages come from where the
// subscription was made for. It follows its file: Reload.
type VAPID struct {
	file, subject string
	key           atomic.Pointer[vapidKey]
}

type vapidKey struct {
	private *ecdsa.PrivateKey
	public  string // as PublicKey gives it
}

// LoadVAPID reads the key file: PEM with a P-256 key, as PKCS#8 or SEC1, or the private key that `web-push
// generate-vapid-keys` prints. subject is whom a push service can turn to: a mailto: or https: URI.
func LoadVAPID(file, subject string) (*VAPID, error) {
	if err := CheckSubject(subject); err != nil {
		return nil, err
	}
	key, err := loadVAPIDKey(file)
	if err != nil {
		return nil, err
	}
	v := &VAPID{file: file, subject: subject}
	v.key.Store(key)
	return v, nil
}

// Reload reads the file again and reports whether it holds another key. With an error the present key stays.
func (v *VAPID) Reload() (changed bool, err error) {
	key, err := loadVAPIDKey(v.file)
	if err != nil {
		return false, err
	}
	if key.private.Equal(v.key.Load().private) {
		return false, nil
	}
	v.key.Store(key)
	return true, nil
}

// PublicKey is the applicationServerKey that browsers subscribe with: base64url of the uncompressed point.
func (v *VAPID) PublicKey() string { return v.key.Load().public }

// CheckSubject reports what is wrong with a subject (RFC 8292, 2.1). RFC 8292 has it optional; Apple and Mozilla
// require it, and Apple refuses local names.
func CheckSubject(subject string) error {
	const want = "the subject is how a push service reaches you: mailto:push@example.com or https://example.com/contact"
	u, err := url.Parse(subject)
	switch {
	case subject == "":
		return errors.New("there is no subject; " + want)
	case err != nil, strings.ContainsAny(subject, " <>\"\\") || u.Fragment != "":
		return fmt.Errorf("%q is no URI; %s", subject, want)
	case u.Scheme == "mailto":
		local, domain, _ := strings.Cut(u.Opaque, "@")
		if local == "" || !strings.Contains(domain, ".") || checkHostName(domain) != nil {
			return fmt.Errorf("%q has no address of the internet; %s", subject, want)
		}
	case u.Scheme == "https":
		if checkHostName(u.Hostname()) != nil || !strings.Contains(u.Hostname(), ".") {
			return fmt.Errorf("%q has no host of the internet; %s", subject, want)
		}
	default:
		return fmt.Errorf("%q is neither mailto: nor https:; %s", subject, want)
	}
	return nil
}

// mendVAPID is what to do about a key file that cannot be used.
const mendVAPID = "`server keygen --vapid` makes one, but browsers that subscribed with another key must subscribe " +
	"again"

func loadVAPIDKey(file string) (*vapidKey, error) {
	text, err := inline.Read(file)
	if err != nil {
		return nil, fmt.Errorf("read the VAPID key: %w", err)
	}
	private, err := parseVAPIDKey(text)
	if err != nil {
		return nil, fmt.Errorf("VAPID key %s: %w; %s", inline.Name(file), err, mendVAPID)
	}
	return newVAPIDKey(private)
}

func newVAPIDKey(private *ecdsa.PrivateKey) (*vapidKey, error) {
	public, err := private.PublicKey.Bytes()
	if err != nil {
		return nil, fmt.Errorf("VAPID key: %w", err)
	}
	return &vapidKey{private: private, public: base64.RawURLEncoding.EncodeToString(public)}, nil
}

func parseVAPIDKey(text []byte) (*ecdsa.PrivateKey, error) {
	text = bytes.TrimSpace(bytes.TrimPrefix(text, []byte("\xef\xbb\xbf")))
	if !bytes.Contains(text, []byte("-----BEGIN")) {
		return parseRawKey(text)
	}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		var key any
		var err error
		switch block.Type {
		case "EC PARAMETERS": // openssl ecparam -genkey writes them first
			continue
		case "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "PUBLIC KEY":
			return nil, errors.New("it is the public key; the private one is wanted")
		case "ENCRYPTED PRIVATE KEY":
			return nil, errors.New("it is encrypted; openssl pkey -in old.pem -out vapid.pem decrypts it")
		default:
			return nil, fmt.Errorf("the PEM block is %q; a P-256 key is \"PRIVATE KEY\" or \"EC PRIVATE KEY\"", block.Type)
		}
		if err != nil {
			return nil, fmt.Errorf("the PEM block %q cannot be read: %w", block.Type, err)
		}
		private, ok := key.(*ecdsa.PrivateKey)
		if !ok {
			return nil, fmt.Errorf("it is of another kind (%T) than elliptic-curve P-256", key)
		}
		if private.Curve != elliptic.P256() {
			return nil, fmt.Errorf("its curve is %s, not P-256", private.Curve.Params().Name)
		}
		return private, nil
	}
	return nil, errors.New("the PEM block is damaged")
}

// parseRawKey reads the form of the web-push command: the number alone, in base64url.
func parseRawKey(text []byte) (*ecdsa.PrivateKey, error) {
	number, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(string(text), "="))
	if err != nil {
		return nil, errors.New("it is neither PEM nor base64url")
	}
	if len(number) != 32 {
		return nil, fmt.Errorf("it is %d bytes in base64url; a private key of P-256 has 32", len(number))
	}
	private, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), number)
	if err != nil {
		return nil, errors.New("the number is no private key of P-256")
	}
	return private, nil
}

// GenerateVAPID makes a key: the content of a key file, and the public key for browsers.
func GenerateVAPID() (file []byte, publicKey string, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, "", fmt.Errorf("make a VAPID key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, "", fmt.Errorf("write the VAPID key: %w", err)
	}
	key, err := newVAPIDKey(private)
	if err != nil {
		return nil, "", err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), key.public, nil
}

// authorization is the authorization header for one origin.
type authorization struct {
	header string
	key    *vapidKey
	issued time.Time
}

// fresh reports whether it may be used: the key is still the app's, and half of its life is not over. The age is by
// whichever clock has gone on further: while a machine is suspended its monotonic one stands still, and the service's
// does not.
func (a *authorization) fresh(v *VAPID, now time.Time) bool {
	return a != nil && a.key == v.key.Load() && a.age(now) < vapidRenew
}

func (a *authorization) age(now time.Time) time.Duration {
	return max(now.Sub(a.issued), now.Round(0).Sub(a.issued.Round(0)))
}

// sign makes the header for an origin, as RFC 6454 writes it (RFC 8292, 2 and 3).
func (v *VAPID) sign(origin string, now time.Time) (*authorization, error) {
	key := v.key.Load()
	token, err := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{
		"aud": origin, "exp": now.Add(vapidLife).Unix(), "sub": v.subject,
	}).SignedString(key.private)
	if err != nil {
		return nil, fmt.Errorf("sign the VAPID token: %w", err)
	}
	return &authorization{header: "vapid t=" + token + ", k=" + key.public, key: key, issued: now}, nil
}
