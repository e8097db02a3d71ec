package credentials

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

func TestProviderTokenForm(t *testing.T) {
	t.Parallel()
	p := testTokens(t)
	now := time.Unix(1700000000, 999)
	value, err := p.Authorization(now)
	if err != nil {
		t.Fatal(err)
	}
	token, ok := strings.CutPrefix(value, "bearer ")
	if !ok {
		t.Fatalf("%q", value)
	}
	claims := jwt.MapClaims{}
	parsed, err := jwt.NewParser(jwt.WithoutClaimsValidation()).ParseWithClaims(token, claims, func(*jwt.Token) (any, error) { return &p.key.PublicKey, nil })
	if err != nil {
		t.Fatal(err)
	}
	if parsed.Header["kid"] != "ABC123DEFG" || parsed.Header["alg"] != "ES256" || claims["iss"] != "DEF123GHIJ" {
		t.Errorf("%v %v", parsed.Header, claims)
	}
	parts := strings.Split(token, ".")
	if sig, err := base64.RawURLEncoding.DecodeString(parts[2]); err != nil || len(sig) != 64 {
		t.Errorf("the signature is not r and s, raw: %d bytes, %v", len(sig), err)
	}
	body, _ := base64.RawURLEncoding.DecodeString(parts[1])
	var raw struct{ Iat json.Number }
	if err := json.Unmarshal(body, &raw); err != nil || raw.Iat != "1700000000" {
		t.Errorf("iat %q is not in whole seconds: %v", raw.Iat, err)
	}
}

// TestProviderTokenRenewal asks every minute for hours, with a storm of ExpiredProviderToken in the second.
func TestProviderTokenRenewal(t *testing.T) {
	t.Parallel()
	p := testTokens(t)
	start := time.Unix(1700000000, 0)
	var last string
	var since time.Time
	issued := 0
	for now := start; now.Before(start.Add(5 * time.Hour)); now = now.Add(time.Minute) {
		storm := now.Sub(start) > time.Hour && now.Sub(start) < 2*time.Hour
		if storm {
			p.Renew(now)
		}
		value, err := p.Authorization(now)
		if err != nil {
			t.Fatal(err)
		}
		if value == last {
			if age := now.Sub(since); age >= time.Hour || storm && age >= 21*time.Minute {
				t.Fatalf("a token of age %v is in use", age)
			}
			continue
		}
		if age := now.Sub(since); last != "" && age < 20*time.Minute {
			t.Fatalf("a new token after %v", age)
		}
		last, since = value, now
		issued++
	}
	if issued < 7 || issued > 9 {
		t.Errorf("%d tokens in five hours", issued)
	}
}

func TestProviderTokenSharedByKey(t *testing.T) {
	t.Parallel()
	var pool ProviderTokenPool
	f := file(t, "AuthKey_ABC123DEFG.p8", []byte(pemKey(t, ecKey(t))))
	a, err := pool.Load("app", f, "ABC123DEFG", "DEF123GHIJ")
	if err != nil {
		t.Fatal(err)
	}
	b, err := pool.Load("app", f, "ABC123DEFG", "DEF123GHIJ")
	if err != nil {
		t.Fatal(err)
	}
	different := file(t, "another.p8", []byte(pemKey(t, ecKey(t))))
	if _, err := pool.Load("another", different, "ABC123DEFG", "DEF123GHIJ"); err == nil || !strings.Contains(err.Error(), "ABC123DEFG") {
		t.Errorf("two keys under one id: %v", err)
	}
	other, err := pool.Load("app", f, "ABC123DEFH", "DEF123GHIJ")
	if err != nil {
		t.Fatal(err)
	}
	if a != b || a == other {
		t.Error("one key, one set of tokens")
	}
	var wg sync.WaitGroup
	values := make([]string, 50)
	for i := range values {
		wg.Go(func() { values[i], _ = a.Authorization(time.Unix(1700000000, 0)) })
	}
	wg.Wait()
	for _, v := range values {
		if v != values[0] {
			t.Fatal("two tokens at once")
		}
	}
	if changed := a.SetKey(a.key); changed {
		t.Error("the same key is no change")
	}
	if changed := a.SetKey(ecKey(t)); !changed {
		t.Error("another key is a change")
	}
	if v, _ := a.Authorization(time.Unix(1700000001, 0)); v == values[0] {
		t.Error("a token of the old key after the key has changed")
	}
}

func TestLoadSigningKeyRefuses(t *testing.T) {
	t.Parallel()
	pkcs8 := func(key any) []byte {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	}
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	rsaKey, _ := rsa.GenerateKey(rand.Reader, 2048)
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	p256, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	sec1, _ := x509.MarshalECPrivateKey(p256)
	for _, test := range []struct {
		name string
		text []byte
		want string
	}{
		{"empty", nil, "not PEM"},
		{"der", []byte("\x30\x82\x01"), "not PEM"},
		{"certificate", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")}), `the PEM block is "CERTIFICATE"`},
		{"sec1", pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: sec1}), `"EC PRIVATE KEY"; what is expected is PKCS#8`},
		{"garbage", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")}), "not PKCS#8"},
		{"p384", pkcs8(p384), "the key's curve is P-384; what is expected is P-256"},
		{"rsa", pkcs8(rsaKey), "what is expected is an elliptic-curve key on P-256"},
		{"ed25519", pkcs8(ed), "what is expected is an elliptic-curve key on P-256"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			f := file(t, "key.p8", test.text)
			_, err := LoadSigningKey(f)
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), f) {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
	if _, err := LoadSigningKey("/does/not/exist.p8"); err == nil {
		t.Error("no file, no error")
	}
	if _, err := LoadSigningKey(file(t, "key.p8", pkcs8(p256))); err != nil {
		t.Error(err)
	}
	for _, id := range []string{"", "ABC", "abc123defg", "ABC123DEFGH", "ABC-123DEF", "ABC123DEFÄ"} {
		if _, err := NewProviderTokens(p256, id, "DEF123GHIJ"); err == nil || !strings.Contains(err.Error(), "key id") {
			t.Errorf("key id %q: %v", id, err)
		}
		if _, err := NewProviderTokens(p256, "ABC123DEFG", id); err == nil || !strings.Contains(err.Error(), "team id") {
			t.Errorf("team id %q: %v", id, err)
		}
	}
}
