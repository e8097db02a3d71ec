package credentials

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/lhspn/lhspn/internal/inline"
)

// APNs refuses a provider token that is older than an hour, and a new one within twenty minutes of the last.
const (
	providerTokenLife  = 50 * time.Minute
	providerTokenPause = 20 * time.Minute
)

// ProviderTokens makes the provider tokens of one signing key. All apps that use the key share one of these, for APNs
// counts new tokens by key: see ProviderTokenPool.
type ProviderTokens struct {
	keyID, teamID string
	current       atomic.Pointer[providerToken]

	mu  sync.Mutex // guards the change of current, and key
	key *ecdsa.PrivateKey
}

type providerToken struct {
	authorization string // the header's value
	issued        time.Time
	issuedUnix    int64
}

// age is by whichever clock has gone on further, the wall clock's whole seconds counting: while a machine is suspended
// its monotonic one stops, and APNs' does not. It is asked for with every notification.
func (t *providerToken) age(now time.Time) time.Duration {
	return max(now.Sub(t.issued), time.Duration(now.Unix()-t.issuedUnix)*time.Second)
}

// NewProviderTokens checks the ids, which are those the developer account shows for the key and the team.
func NewProviderTokens(key *ecdsa.PrivateKey, keyID, teamID string) (*ProviderTokens, error) {
	if err := checkAppleID("key id", keyID); err != nil {
		return nil, err
	}
	if err := checkAppleID("team id", teamID); err != nil {
		return nil, err
	}
	return &ProviderTokens{key: key, keyID: keyID, teamID: teamID}, nil
}

// checkAppleID checks the form that Apple gives key and team ids.
func checkAppleID(what, id string) error {
	ok := len(id) == 10
	for i := 0; i < len(id); i++ {
		ok = ok && (id[i] >= 'A' && id[i] <= 'Z' || id[i] >= '0' && id[i] <= '9')
	}
	if !ok {
		return fmt.Errorf("the %s is 10 characters A-Z and 0-9, as in ABC123DEFG; not %q", what, id)
	}
	return nil
}

// LoadSigningKey reads a key as the developer account gives it out: AuthKey_….p8, PKCS#8 in PEM.
func LoadSigningKey(file string) (*ecdsa.PrivateKey, error) {
	text, err := inline.Read(file)
	if err != nil {
		return nil, fmt.Errorf("read the signing key: %w", err)
	}
	key, err := parseSigningKey(text)
	if err != nil {
		return nil, fmt.Errorf("signing key %s: %w", inline.Name(file), err)
	}
	return key, nil
}

func parseSigningKey(text []byte) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode(normalPEM(text))
	if block == nil {
		return nil, errors.New("not PEM; what is expected is the .p8 file as downloaded, with the line -----BEGIN PRIVATE " +
			"KEY----- (a byte-order mark, indentation and line ends written as \\n do no harm)")
	}
	if block.Type != "PRIVATE KEY" {
		return nil, fmt.Errorf("the PEM block is %q; what is expected is PKCS#8, \"PRIVATE KEY\"", block.Type)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("not PKCS#8: %w", err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("the key is %T; what is expected is an elliptic-curve key on P-256", parsed)
	}
	if key.Curve != elliptic.P256() {
		return nil, fmt.Errorf("the key's curve is %s; what is expected is P-256", key.Curve.Params().Name)
	}
	return key, nil
}

// SetKey replaces the signing key, as after its file has changed, and reports whether it is another. The same key again
// changes nothing.
func (p *ProviderTokens) SetKey(key *ecdsa.PrivateKey) (changed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.key.Equal(key) {
		return false
	}
	p.key = key
	p.current.Store(nil)
	return true
}

func (p *ProviderTokens) signingKey() *ecdsa.PrivateKey {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.key
}

// Authorization is the value of the authorization header.
func (p *ProviderTokens) Authorization(now time.Time) (string, error) {
	if t := p.current.Load(); t != nil && t.age(now) < providerTokenLife {
		return t.authorization, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if t := p.current.Load(); t != nil && t.age(now) < providerTokenLife {
		return t.authorization, nil
	}
	return p.sign(now)
}

// Renew makes a new token because APNs called the present one expired, unless that is too new to be replaced: then the
// clocks differ, and more tokens would only get TooManyProviderTokenUpdates.
func (p *ProviderTokens) Renew(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t := p.current.Load(); t != nil && t.age(now) >= providerTokenPause {
		p.current.Store(nil)
	}
}

// sign makes a token and keeps it. mu is held.
func (p *ProviderTokens) sign(now time.Time) (string, error) {
	t := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{"iss": p.teamID, "iat": now.Unix()})
	t.Header["kid"] = p.keyID
	signed, err := t.SignedString(p.key)
	if err != nil {
		return "", fmt.Errorf("sign the provider token: %w", err)
	}
	next := &providerToken{authorization: "bearer " + signed, issued: now, issuedUnix: now.Unix()}
	p.current.Store(next)
	return next.authorization, nil
}

// ProviderTokenPool gives all apps with the same key the same ProviderTokens. The zero value is ready.
type ProviderTokenPool struct {
	mu   sync.Mutex // guards what follows
	keys map[[2]string]*pooledKey
}

// pooledKey stays when nobody uses it any more: a new provider token too soon after the last is refused.
type pooledKey struct {
	tokens *ProviderTokens
	users  map[string]int // apps
}

// Load reads the key file and returns the key's ProviderTokens, which the app uses until Release. Where the key is
// known already, its tokens go on. A different key under the same ids takes its place unless another app uses that.
func (p *ProviderTokenPool) Load(app, file, keyID, teamID string) (*ProviderTokens, error) {
	key, err := LoadSigningKey(file)
	if err != nil {
		return nil, err
	}
	tokens, err := NewProviderTokens(key, keyID, teamID)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	id := [2]string{teamID, keyID}
	known := p.keys[id]
	switch {
	case known == nil:
		known = &pooledKey{tokens: tokens, users: map[string]int{}}
	case known.tokens.signingKey().Equal(key):
	case len(known.users) > 1 || len(known.users) == 1 && known.users[app] == 0:
		return nil, fmt.Errorf("signing key %s: another app has a different key under key_id %s: an id is of one key",
			inline.Name(file), keyID)
	default:
		known = &pooledKey{tokens: tokens, users: map[string]int{}}
	}
	if p.keys == nil {
		p.keys = map[[2]string]*pooledKey{}
	}
	p.keys[id] = known
	known.users[app]++
	return known.tokens, nil
}

// Release says that the app does not use them any more, as often as it has loaded them.
func (p *ProviderTokenPool) Release(app string, tokens *ProviderTokens) {
	p.mu.Lock()
	defer p.mu.Unlock()
	known := p.keys[[2]string{tokens.teamID, tokens.keyID}]
	if known == nil || known.tokens != tokens {
		return // another key has taken the place
	}
	if known.users[app]--; known.users[app] <= 0 {
		delete(known.users, app)
	}
}
