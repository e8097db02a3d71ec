package fcmsim

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var certificate = func() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}()

func clientTLS(protocols ...string) *tls.Config {
	pool := x509.NewCertPool()
	cert, _ := x509.ParseCertificate(certificate.Certificate[0])
	pool.AddCert(cert)
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12, NextProtos: protocols}
}

// start runs a simulator until the test ends.
func start(tb testing.TB, cfg Config) *Simulator {
	tb.Helper()
	cfg.Address = "127.0.0.1:0"
	s, err := New(cfg, certificate, slog.New(slog.DiscardHandler))
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	tb.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			tb.Errorf("Run: %v", err)
		}
	})
	return s
}

// client is net/http's client, the oracle that our HTTP has to satisfy.
type client struct {
	*http.Client
	t      *testing.T
	s      *Simulator
	bearer string
}

func newClient(t *testing.T, s *Simulator, http2 bool) *client {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: clientTLS(), ForceAttemptHTTP2: http2}
	t.Cleanup(transport.CloseIdleConnections)
	c := &client{Client: &http.Client{Transport: transport, Timeout: 20 * time.Second}, t: t, s: s}
	status, body := c.grant(nil)
	if status != 200 {
		t.Fatalf("access token: %d %s", status, body)
	}
	c.bearer = body["access_token"].(string)
	return c
}

// assertion is a service account's JWT, made by another library from the file that the simulator gives out.
func assertion(t *testing.T, s *Simulator, mutate func(*jwt.Token)) string {
	t.Helper()
	var file map[string]string
	if err := json.Unmarshal(s.ServiceAccount(), &file); err != nil {
		t.Fatal(err)
	}
	key, err := jwt.ParseRSAPrivateKeyFromPEM([]byte(file["private_key"]))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	token := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims{
		"iss": file["client_email"], "scope": "https://www.googleapis.com/auth/firebase.messaging", "aud": file["token_uri"],
		"iat": now.Unix(), "exp": now.Add(time.Hour).Unix(),
	})
	token.Header["kid"] = file["private_key_id"]
	if mutate != nil {
		mutate(token)
	}
	text, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func (c *client) grant(mutate func(*jwt.Token)) (int, map[string]any) {
	c.t.Helper()
	return c.post("/token", "application/x-www-form-urlencoded",
		url.Values{"grant_type": {jwtBearer}, "assertion": {assertion(c.t, c.s, mutate)}}.Encode())
}

func (c *client) post(path, contentType, body string) (int, map[string]any) {
	c.t.Helper()
	resp, text := c.try("POST", path, contentType, body)
	var parsed map[string]any
	if err := json.Unmarshal(text, &parsed); err != nil {
		c.t.Fatalf("%s: %s", resp.Status, text)
	}
	return resp.StatusCode, parsed
}

// response is what an http.Response says beside its body, which has been read.
type response struct {
	StatusCode int
	Status     string
	Header     http.Header
}

func (c *client) do(method, path, contentType, body string) (response, []byte, error) {
	return c.doUntil(c.t.Context(), method, path, contentType, body)
}

func (c *client) doUntil(ctx context.Context, method, path, contentType, body string) (response, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.s.URL()+path, strings.NewReader(body))
	if err != nil {
		return response{}, nil, err
	}
	req.Header.Set("Content-Type", contentType)
	if c.bearer != "" {
		req.Header.Set("Authorization", "Bearer "+c.bearer)
	}
	resp, err := c.Do(req)
	if err != nil {
		return response{}, nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return response{resp.StatusCode, resp.Status, resp.Header}, text, err
}

func (c *client) try(method, path, contentType, body string) (response, []byte) {
	c.t.Helper()
	resp, text, err := c.do(method, path, contentType, body)
	if err != nil {
		c.t.Fatal(err)
	}
	return resp, text
}

const sendPath = "/v1/projects/" + ProjectID + "/messages:send"

// send sends a request to send, and returns the status and the parsed error or the name.
func (c *client) send(body string) reply {
	c.t.Helper()
	resp, text := c.try("POST", sendPath, "application/json", body)
	return parseReply(c.t, resp, text)
}

// reply is an answer, taken apart.
type reply struct {
	HTTP                             int
	Name, Status, Message, ErrorCode string
	Field, Info, Quota, RetryAfter   string
	HTML                             bool
}

func parseReply(t *testing.T, resp response, text []byte) reply {
	t.Helper()
	r := reply{HTTP: resp.StatusCode, RetryAfter: resp.Header.Get("Retry-After")}
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") {
		r.HTML = bytes.Contains(text, []byte("<html"))
		return r
	}
	var parsed struct {
		Name  string
		Error struct {
			Code            int
			Status, Message string
			Details         []struct {
				Type            string `json:"@type"`
				ErrorCode       string
				Reason          string
				FieldViolations []struct{ Field, Description string }
				Violations      []struct{ Subject string }
			}
		}
	}
	if err := json.Unmarshal(text, &parsed); err != nil {
		t.Fatalf("%s: %s", resp.Status, text)
	}
	if parsed.Error.Code != 0 && parsed.Error.Code != resp.StatusCode {
		t.Errorf("the body says %d, the status %d", parsed.Error.Code, resp.StatusCode)
	}
	r.Name, r.Status, r.Message = parsed.Name, parsed.Error.Status, parsed.Error.Message
	for _, d := range parsed.Error.Details {
		switch d.Type {
		case "type.googleapis.com/google.firebase.fcm.v1.FcmError":
			r.ErrorCode = d.ErrorCode
		case "type.googleapis.com/google.rpc.BadRequest":
			r.Field = d.FieldViolations[0].Field
		case "type.googleapis.com/google.rpc.ErrorInfo":
			r.Info = d.Reason
		case "type.googleapis.com/google.rpc.QuotaFailure":
			r.Quota = d.Violations[0].Subject
		}
	}
	return r
}

func toToken(token string) string {
	return fmt.Sprintf(`{"message":{"token":%q,"notification":{"title":"Hello"}}}`, token)
}
