package webpushsim

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	certificate = makeCertificate()
	vapidKey    = makeKey()
	otherKey    = makeKey()
	encode      = base64.RawURLEncoding.EncodeToString
)

func makeKey() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
}

// public is a key in the form of VAPID.
func public(key *ecdsa.PrivateKey) string {
	k, err := key.PublicKey.ECDH()
	if err != nil {
		panic(err)
	}
	return encode(k.Bytes())
}

func makeCertificate() tls.Certificate {
	key := makeKey()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// start runs a simulator until the test ends.
func start(t *testing.T, cfg Config) *Simulator {
	t.Helper()
	cfg.Address = "127.0.0.1:0"
	s, err := New(cfg, certificate, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return s
}

func subscribe(t *testing.T, s *Simulator, fault Fault) Subscription {
	t.Helper()
	sub, err := s.Subscribe(public(vapidKey), fault)
	if err != nil {
		t.Fatal(err)
	}
	return sub
}

// encrypt is RFC 8291 once more, for a sender; change may spoil the parts before they are put together.
func encrypt(t *testing.T, sub Subscription, plain string, change func(head, record []byte) ([]byte, []byte)) []byte {
	t.Helper()
	point, err := base64.RawURLEncoding.DecodeString(sub.Keys.P256dh)
	must(t, err)
	auth, err := base64.RawURLEncoding.DecodeString(sub.Keys.Auth)
	must(t, err)
	browser, err := ecdh.P256().NewPublicKey(point)
	must(t, err)
	own, err := ecdh.P256().GenerateKey(rand.Reader)
	must(t, err)
	secret, err := own.ECDH(browser)
	must(t, err)
	salt := make([]byte, 16)
	_, _ = rand.Read(salt)
	derive := func(secret, salt []byte, info string, n int) []byte {
		key, err := hkdf.Key(sha256.New, secret, salt, info, n)
		must(t, err)
		return key
	}
	ikm := derive(secret, auth, "WebPush: info\x00"+string(point)+string(own.PublicKey().Bytes()), 32)
	block, err := aes.NewCipher(derive(ikm, salt, "Content-Encoding: aes128gcm\x00", 16))
	must(t, err)
	gcm, err := cipher.NewGCM(block)
	must(t, err)
	record := gcm.Seal(nil, derive(ikm, salt, "Content-Encoding: nonce\x00", 12), []byte(plain), nil)
	head := append(binary.BigEndian.AppendUint32(salt, 4096), 65)
	head = append(head, own.PublicKey().Bytes()...)
	if change != nil {
		head, record = change(head, record)
	}
	return append(head, record...)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// vapidHeader is an authorization header, made by another library.
func vapidHeader(t *testing.T, s *Simulator, key *ecdsa.PrivateKey, mutate func(*jwt.Token)) string {
	t.Helper()
	token := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{
		"aud": s.Origin(), "sub": "mailto:push@example.com", "exp": time.Now().Add(12 * time.Hour).Unix(),
	})
	if mutate != nil {
		mutate(token)
	}
	text, err := token.SignedString(key)
	must(t, err)
	return "vapid t=" + text + ", k=" + public(key)
}

type client struct {
	*http.Client
	t *testing.T
	s *Simulator
}

func newClient(t *testing.T, s *Simulator, http2 bool) *client {
	t.Helper()
	pool := x509.NewCertPool()
	cert, err := x509.ParseCertificate(certificate.Certificate[0])
	must(t, err)
	pool.AddCert(cert)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: http2}
	t.Cleanup(transport.CloseIdleConnections)
	noRedirects := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &client{Client: &http.Client{Transport: transport, Timeout: 20 * time.Second, CheckRedirect: noRedirects}, t: t, s: s}
}

// response is what an http.Response says, its body included.
type response struct {
	StatusCode int
	Header     http.Header
	Body       string
	Proto      string
}

// request makes a good request of a message; mutate may spoil it.
func (c *client) request(sub Subscription, body []byte, mutate func(http.Header)) *http.Request {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), http.MethodPost, sub.Endpoint, strings.NewReader(string(body)))
	must(c.t, err)
	req.Header.Set("TTL", "60")
	req.Header.Set("Content-Encoding", "aes128gcm")
	req.Header.Set("Authorization", vapidHeader(c.t, c.s, vapidKey, nil))
	if mutate != nil {
		mutate(req.Header)
	}
	return req
}

func (c *client) try(req *http.Request) (response, error) {
	resp, err := c.Do(req)
	if err != nil {
		return response{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return response{resp.StatusCode, resp.Header, string(b), resp.Proto}, err
}

func (c *client) do(req *http.Request) response {
	c.t.Helper()
	r, err := c.try(req)
	must(c.t, err)
	return r
}

// send sends a good message.
func (c *client) send(sub Subscription, plain string, mutate func(http.Header)) response {
	c.t.Helper()
	return c.do(c.request(sub, encrypt(c.t, sub, plain+"\x02\x00\x00", nil), mutate))
}

func set(name, value string) func(http.Header) {
	return func(h http.Header) {
		if value == "" {
			h.Del(name)
		} else {
			h.Set(name, value)
		}
	}
}
