package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/lhspn/lhspn/internal/config"
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/sender"
	"github.com/lhspn/lhspn/internal/simulator"
)

// One environment of an app that is away, or refused, takes nothing from the other one.
func TestOneRouteNeverStopsAnother(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ transport, sandbox string }{
		{"binary", ""}, {"binary", "closes"}, {"binary", "breaks off"}, {"binary", "status 1"}, {"binary", "status 10"}, {"http2", ""},
		{"http2", `403 {"reason":"BadEnvironmentKeyIdInToken"}`},
		{"http2", `403 {"reason":"BadCertificateEnvironment"}`},
		{"http2", `400 {"reason":"TopicDisallowed"}`},
	} {
		t.Run(c.transport+" "+c.sandbox, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, c.transport, "sqlite:"+filepath.Join(t.TempDir(), "lhspn.db"))
			gateway := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				status, body, _ := strings.Cut(c.sandbox, " ")
				code, _ := strconv.Atoi(status)
				w.WriteHeader(code)
				_, _ = io.WriteString(w, body)
			}))
			gateway.EnableHTTP2 = true
			gateway.StartTLS()
			t.Cleanup(gateway.Close)
			address := gateway.Listener.Addr().String()
			switch {
			case c.sandbox == "":
				gateway.Close() // nobody listens there
			case c.transport == "binary":
				address = refusingBinaryGateway(t, c.sandbox, gateway.TLS.Certificates)
			}
			ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: gateway.Certificate().Raw})
			if err := os.WriteFile(filepath.Join(r.dir, "sandbox.pem"), ca, 0o600); err != nil {
				t.Fatal(err)
			}
			text, err := os.ReadFile(r.file)
			if err != nil {
				t.Fatal(err)
			}
			own := fmt.Sprintf("ca_file: certs/ca.pem, sandbox: {gateway: %q, ca_file: sandbox.pem}, ", address)
			text = bytes.Replace(text, []byte("ca_file: certs/ca.pem, "), []byte(own), 1)
			if err := os.WriteFile(r.file, text, 0o600); err != nil {
				t.Fatal(err)
			}
			r.start()
			r.call("PUT", "/v1/tokens/"+token(9999), `{"environment": "sandbox", "user_id": "u"}`, 201)
			waiting := []any{
				r.call("POST", "/v1/notifications", `{"to": {"tokens": ["`+token(9998)+`"], "environment": "sandbox"}, "aps": {"alert": "x"}}`, 202)["id"],
				r.call("POST", "/v1/notifications", `{"to": {"tokens": ["`+token(9999)+`"]}, "aps": {"alert": "x"}}`, 202)["id"],
				r.call("POST", "/v1/notifications", `{"to": {"users": ["u"]}, "aps": {"alert": "x"}}`, 202)["id"],
			}
			r.until("the sandbox route is paused", func() bool {
				return regexp.MustCompile(`lhspn_sender_app_paused\{app="hedgehog",cause="\w+",route="sandbox"\} 1`).MatchString(r.metrics())
			})
			began := time.Now()
			for i := range 6 {
				tokens := make([]string, 100)
				for j := range tokens {
					tokens[j] = strconv.Quote(token(100*i + j))
				}
				id := r.call("POST", "/v1/notifications", `{"to": {"tokens": [`+strings.Join(tokens, ",")+`]}, "aps": {"alert": "x"}}`, 202)["id"]
				if counts := r.done(id.(string))["counts"].(map[string]any); counts["accepted"] != 100.0 {
					t.Errorf("production: %v", counts)
				}
			}
			if took := time.Since(began); took > 30*time.Second {
				t.Errorf("600 notifications to production took %v", took)
			}
			for _, id := range waiting { // and nothing of the sandbox is lost, or went to production
				if s := r.call("GET", "/v1/notifications/"+id.(string), "", 200); s["state"] == "done" {
					t.Errorf("a notification to the sandbox: %v", s)
				}
			}
		})
	}
}

// refusingBinaryGateway takes connections, and then closes them at once, breaks them off once something was written, or
// answers whatever comes first with a status.
func refusingBinaryGateway(t *testing.T, how string, certificates []tls.Certificate) (address string) {
	t.Helper()
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: certificates, MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	t.Cleanup(func() {
		_ = ln.Close()
		serving.Wait()
	})
	serve := func(c *tls.Conn) {
		defer c.Close()
		if c.Handshake() != nil || how == "closes" {
			return
		}
		head := make([]byte, 5) // command and identifier
		if _, err := io.ReadFull(c, head); err != nil || how == "breaks off" {
			return
		}
		status, _ := strconv.Atoi(strings.TrimPrefix(how, "status "))
		_, _ = c.Write(append([]byte{8, byte(status)}, head[1:]...))
		_ = c.CloseWrite()
		_, _ = io.Copy(io.Discard, c)
	}
	serving.Go(func() {
		for c, err := ln.Accept(); err == nil; c, err = ln.Accept() {
			serving.Go(func() { serve(c.(*tls.Conn)) })
		}
	})
	return ln.Addr().String()
}

// An app whose credentials cannot be used waits until they can, and holds up no other.
func TestUnusableCredentialsHoldOneAppOnly(t *testing.T) {
	t.Parallel()
	p8 := "AuthKey_" + simulator.ProviderKeyID + ".p8"
	key := "key_file: other, key_id: " + simulator.ProviderKeyID + ", team_id: " + simulator.TeamID
	for name, c := range map[string]struct {
		settings      string
		broken, right string // what is in the file called other, at first and then; empty for no file, a name in certs otherwise
	}{
		"not a key":        {key, "ca.pem", p8},
		"no key":           {key, "", p8},
		"no certificate":   {"certificate_file: other", "", "client.pem"},
		"expired":          {"certificate_file: other", "expired.pem", "client.pem"},
		"no password file": {"certificate_file: certs/client.p12, certificate_password_file: other", "", "password"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testUnusableCredentials(t, c.settings, c.broken, c.right)
		})
	}
}

// testUnusableCredentials has a second app, whose credentials need a file that is broken at first.
func testUnusableCredentials(t *testing.T, settings, broken, right string) {
	t.Helper()
	r := newRig(t, "http2", "sqlite:"+filepath.Join(t.TempDir(), "lhspn.db"))
	text, err := os.ReadFile(r.file)
	if err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(r.dir, "other")
	writeExpired(t, filepath.Join(r.dir, "certs", "expired.pem"))
	put := func(name string) {
		content := []byte(simulator.P12Password + "\n")
		if name != "password" {
			if content, err = os.ReadFile(filepath.Join(r.dir, "certs", name)); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(other, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if broken != "" {
		put(broken)
	}
	const otherKey = "lhspn_other_key_of_the_tests"
	text = fmt.Appendf(text, `  - name: third
    fcm: {service_account_file: certs/ca.pem, project_id: third}
    webpush: {vapid_key_file: certs/ca.pem, subject: "mailto:a@example.com"}
    keys: [{name: third, scope: admin, sha256: %064d}]
  - name: other
    apns: {topic: %s, gateway: %q, ca_file: certs/ca.pem, %s}
    keys: [{name: other, scope: admin, sha256: %s}]
`, 3, simulator.DefaultTopic, r.sim.ProviderAddr(), settings, config.HashKey(otherKey))
	if err := os.WriteFile(r.file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	r.start()
	if err := check(r.file, io.Discard); err == nil || !strings.Contains(err.Error(), other) {
		t.Errorf("server check: %v", err)
	}
	id := r.call("POST", "/v1/notifications", `{"to": {"tokens": ["`+token(1)+`"]}, "aps": {"alert": "x"}}`, 202)["id"].(string)
	if counts := r.done(id)["counts"].(map[string]any); counts["accepted"] != 1.0 {
		t.Errorf("the other app: %v", counts)
	}
	const metric = `lhspn_credentials_unusable{app="other",route="production"} `
	if m := r.metrics(); !strings.Contains(m, metric+"1") {
		t.Error("no metric says that the credentials cannot be used")
	}
	for _, route := range []string{"fcm", "webpush"} { // and those of other platforms, likewise
		if !strings.Contains(r.metrics(), `lhspn_credentials_unusable{app="third",route="`+route+`"} 1`) {
			t.Errorf("no metric says that those of %s cannot be used", route)
		}
	}
	put(right)
	r.until("the repaired credentials are taken up without a notification", func() bool {
		return strings.Contains(r.metrics(), metric+"0")
	})
	r.apiKey = otherKey
	id = r.call("POST", "/v1/notifications", `{"to": {"tokens": ["`+token(2)+`"]}, "aps": {"alert": "x"}}`, 202)["id"].(string)
	if counts := r.done(id)["counts"].(map[string]any); counts["accepted"] != 1.0 {
		t.Errorf("the repaired app: %v", counts)
	}
}

// writeExpired writes a client certificate that was good until yesterday, with its key.
func writeExpired(t *testing.T, file string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "push"},
		NotBefore: time.Now().AddDate(-1, 0, 0), NotAfter: time.Now().AddDate(0, 0, -1),
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})...)
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// refusing is a route whose credentials cannot be read.
type refusing struct{}

func (refusing) open() (sender.Transport, error) { return nil, errors.New("no PEM") }
func (refusing) close()                          {}

// Settings that are only tried, and refused, do not hide that what is in force cannot be used.
func TestTriedSettingsChangeNoMetric(t *testing.T) {
	t.Parallel()
	g := newGateways(slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	inForce := g.unusable.WithLabelValues("fox", "production")
	inForce.Set(1)
	o := newOpened("fox", nil, nil)
	o.add(g, push.Production, refusing{}, func(t sender.Transport) sender.RouteConfig { return sender.RouteConfig{Transport: t} })
	if n := testutil.ToFloat64(inForce); n != 1 || o.err == nil {
		t.Errorf("the metric is %v, and the fault %v", n, o.err)
	}
}
