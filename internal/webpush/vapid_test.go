package webpush

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const subject = "mailto:push@example.com"

// writeKey writes a key file.
func writeKey(tb testing.TB, content string) string {
	tb.Helper()
	file := filepath.Join(tb.TempDir(), "vapid.pem")
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		tb.Fatal(err)
	}
	return file
}

func newVAPID(tb testing.TB) *VAPID {
	tb.Helper()
	content, public, err := GenerateVAPID()
	if err != nil {
		tb.Fatal(err)
	}
	v, err := LoadVAPID(writeKey(tb, string(content)), subject)
	if err != nil {
		tb.Fatal(err)
	}
	if v.PublicKey() != public {
		tb.Fatalf("the public key is %s, and was to be %s", v.PublicKey(), public)
	}
	return v
}

func pemOf(tb testing.TB, kind string, der []byte, err error) string {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func TestVAPIDKeyForms(t *testing.T) {
	t.Parallel()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, _ := private.PublicKey.Bytes()
	number, _ := private.Bytes()
	pkcs8, err8 := x509.MarshalPKCS8PrivateKey(private)
	sec1, err1 := x509.MarshalECPrivateKey(private)
	parameters := "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
	for name, content := range map[string]string{
		"PKCS#8":          pemOf(t, "PRIVATE KEY", pkcs8, err8),
		"SEC1":            pemOf(t, "EC PRIVATE KEY", sec1, err1),
		"openssl ecparam": parameters + pemOf(t, "EC PRIVATE KEY", sec1, err1),
		"npm web-push":    base64.RawURLEncoding.EncodeToString(number) + "\n",
		"with a mark":     "\xef\xbb\xbf" + pemOf(t, "PRIVATE KEY", pkcs8, err8),
	} {
		v, err := LoadVAPID(writeKey(t, content), subject)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if want := base64.RawURLEncoding.EncodeToString(point); v.PublicKey() != want {
			t.Errorf("%s: the public key is %s, not %s", name, v.PublicKey(), want)
		}
	}
}

func TestVAPIDKeyFaults(t *testing.T) {
	t.Parallel()
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	p384PKCS8, err := x509.MarshalPKCS8PrivateKey(p384)
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	edPKCS8, errEd := x509.MarshalPKCS8PrivateKey(ed)
	rsaKey, _ := rsa.GenerateKey(rand.Reader, 1024)
	public, errPublic := x509.MarshalPKIXPublicKey(&p384.PublicKey)
	for name, test := range map[string]struct{ content, want string }{
		"P-384":         {pemOf(t, "PRIVATE KEY", p384PKCS8, err), "its curve is P-384"},
		"Ed25519":       {pemOf(t, "PRIVATE KEY", edPKCS8, errEd), "another kind"},
		"RSA":           {pemOf(t, "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaKey), nil), `"RSA PRIVATE KEY"`},
		"public":        {pemOf(t, "PUBLIC KEY", public, errPublic), "the private one is wanted"},
		"encrypted":     {pemOf(t, "ENCRYPTED PRIVATE KEY", []byte{1}, nil), "openssl pkey"},
		"garbage":       {pemOf(t, "PRIVATE KEY", []byte{1, 2, 3}, nil), "cannot be read"},
		"cut":           {"-----BEGIN PRIVATE KEY-----\nMIGH", "damaged"},
		"empty":         {"", "0 bytes"},
		"words":         {"not a key!", "neither PEM nor base64url"},
		"too short":     {"AAAA", "3 bytes"},
		"zero":          {strings.Repeat("A", 43), "no private key of P-256"},
		"its public":    {exampleP256DH, "65 bytes"},
		"parameters":    {"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n", "damaged"},
		"a certificate": {pemOf(t, "CERTIFICATE", []byte{1}, nil), `"CERTIFICATE"`},
	} {
		_, err := LoadVAPID(writeKey(t, test.content), subject)
		if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "server keygen --vapid") {
			t.Errorf("%s: %v; want %q, and what to do", name, err, test.want)
		}
	}
	if _, err := LoadVAPID(filepath.Join(t.TempDir(), "absent.pem"), subject); err == nil {
		t.Error("an absent file is taken")
	}
}

func TestSubject(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"mailto:push@example.com", "https://example.com", "https://example.com/contact?x=1"} {
		if err := CheckSubject(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{
		"", "push@example.com", "mailto:", "mailto:push", "mailto:push@localhost", "mailto: <push@example.com>", "mailto:@example.com",
		"http://example.com", "https://", "https://localhost", "tel:+123", "https://1.2.3.4", "example.com", "mailto://push@example.com",
	} {
		err := CheckSubject(bad)
		if err == nil || !strings.Contains(err.Error(), "mailto:push@example.com or https://") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestVAPIDReload(t *testing.T) {
	t.Parallel()
	v := newVAPID(t)
	first := v.PublicKey()
	if changed, err := v.Reload(); changed || err != nil {
		t.Errorf("the same file: %t, %v", changed, err)
	}
	now := time.Now()
	auth, err := v.sign("https://push.example.com", now)
	if err != nil || !auth.fresh(v, now) {
		t.Fatalf("a new token is not fresh, %v", err)
	}

	if err := os.WriteFile(v.file, []byte("half a fi"), 0o600); err != nil {
		t.Fatal(err)
	}
	if changed, err := v.Reload(); changed || err == nil || v.PublicKey() != first {
		t.Errorf("a damaged file: %t, %v, key %s", changed, err, v.PublicKey())
	}
	content, second, _ := GenerateVAPID()
	if err := os.WriteFile(v.file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if changed, err := v.Reload(); !changed || err != nil || v.PublicKey() != second {
		t.Errorf("another file: %t, %v, key %s", changed, err, v.PublicKey())
	}
	if auth.fresh(v, now) {
		t.Error("a token of the old key counts as fresh")
	}
}

func TestVAPIDToken(t *testing.T) {
	t.Parallel()
	v := newVAPID(t)
	now := time.Now()
	auth, err := v.sign("https://push.example.com:8443", now)
	if err != nil {
		t.Fatal(err)
	}
	token, key, ok := strings.Cut(strings.TrimPrefix(auth.header, "vapid t="), ", k=")
	if !ok || key != v.PublicKey() {
		t.Fatalf("the header is %s", auth.header)
	}
	public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), decode64(t, key))
	if err != nil {
		t.Fatal(err)
	}
	var claims jwt.MapClaims
	parsed, err := jwt.ParseWithClaims(token, &claims, func(*jwt.Token) (any, error) { return public, nil }, jwt.WithValidMethods([]string{"ES256"}))
	if err != nil {
		t.Fatal(err)
	}
	if parsed.Header["typ"] != "JWT" || len(parsed.Header) != 2 {
		t.Errorf("the JWT's header is %v", parsed.Header)
	}
	exp, _ := claims.GetExpirationTime()
	if claims["aud"] != "https://push.example.com:8443" || claims["sub"] != subject || len(claims) != 3 || exp.Unix() != now.Add(12*time.Hour).Unix() {
		t.Errorf("the claims are %v", claims)
	}
	if auth.fresh(v, now.Add(6*time.Hour)) || !auth.fresh(v, now.Add(6*time.Hour-time.Second)) {
		t.Error("it is renewed at another time than when half of its life is over")
	}
	if auth.fresh(v, now.Add(7*time.Hour).Round(0)) {
		t.Error("after the machine was suspended it counts as fresh")
	}
}

func FuzzVAPIDKey(f *testing.F) {
	content, _, _ := GenerateVAPID()
	f.Add(content)
	f.Add([]byte(strings.Repeat("A", 43)))
	f.Fuzz(func(t *testing.T, b []byte) {
		key, err := parseVAPIDKey(b)
		if err == nil && key.Curve != elliptic.P256() {
			t.Fatalf("a key of %s is taken", key.Curve.Params().Name)
		}
	})
}
