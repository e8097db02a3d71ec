package webhooks

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/lhspn/lhspn/internal/push"
)

var event = push.Event{
	ID: "AAAAAAAAAAFfYb3mYI2Rbg", Type: push.EventFailures, At: time.Date(2030, 1, 1, 12, 0, 0, 123456000, time.FixedZone("", 3600)),
	Data: json.RawMessage(`{"notification_id":"<&>","items":[]}`),
}

func newTestClient(t *testing.T) *Client {
	t.Helper()
	c := NewClient("lhspn/test")
	t.Cleanup(c.close)
	return c
}

// at is an endpoint of the tests' own servers.
func at(url string) *Endpoint {
	e := endpoint()
	e.URL, e.Inner = url, true
	return &e
}

// Every secret signs, the specification's library verifies each of them, and the body is as the specification has it.
func TestRequest(t *testing.T) {
	t.Parallel()
	var got struct {
		header http.Header
		body   []byte
		path   string
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got.header, got.path = r.Header, r.URL.RequestURI()
		got.body, _ = io.ReadAll(r.Body)
	}))
	defer srv.Close()
	e := at(srv.URL + "/hooks?token=x")
	e.Secrets = append(e.Secrets, "whsec_ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4")
	a := newTestClient(t).Post(t.Context(), e, &event)
	if a.Class != Delivered || a.Status != 200 {
		t.Fatalf("%+v", a)
	}
	for _, secret := range e.Secrets {
		key, err := standardwebhooks.NewWebhook(secret)
		if err != nil {
			t.Fatal(err)
		}
		if err := key.Verify(got.body, got.header); err != nil {
			t.Errorf("%v: %v", err, got.header)
		}
		if err := key.Verify(append(got.body, ' '), got.header); err == nil {
			t.Error("another body is verified")
		}
	}
	if n := len(strings.Split(got.header.Get("webhook-signature"), " ")); n != 2 {
		t.Errorf("%d signatures", n)
	}
	const want = `{"id":"AAAAAAAAAAFfYb3mYI2Rbg","type":"deliveries.failed","timestamp":"2030-01-01T11:00:00.123456Z","data":{"notification_id":"<&>","items":[]}}`
	if string(got.body) != want {
		t.Errorf("the body is %s", got.body)
	}
	for name, want := range map[string]string{
		"Content-Type": "application/json", "User-Agent": "lhspn/test", "Webhook-Id": event.ID, "Idempotency-Key": "", "Authorization": "",
	} {
		if got.header.Get(name) != want {
			t.Errorf("%s is %q", name, got.header.Get(name))
		}
	}
	if got.path != "/hooks?token=x" {
		t.Errorf("it was posted to %s", got.path)
	}
}

// raw is a server that does with each connection what serve does.
func raw(t *testing.T, serve func(nc net.Conn, r *bufio.Reader)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer nc.Close()
				serve(nc, bufio.NewReader(nc))
			}()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return "http://" + l.Addr().String() + "/"
}

// readRequest takes a request with its body.
func readRequest(r *bufio.Reader) {
	if req, err := http.ReadRequest(r); err == nil {
		_, _ = io.Copy(io.Discard, req.Body)
	}
}

func says(text string) func(net.Conn, *bufio.Reader) {
	return func(nc net.Conn, r *bufio.Reader) {
		readRequest(r)
		_, _ = io.WriteString(nc, text)
	}
}

// flood writes the text again and again until nobody reads it any more.
func flood(first, again string, written *atomic.Int64) func(net.Conn, *bufio.Reader) {
	return func(nc net.Conn, r *bufio.Reader) {
		readRequest(r)
		_, err := io.WriteString(nc, first)
		for err == nil {
			var n int
			n, err = io.WriteString(nc, again)
			written.Add(int64(n))
		}
	}
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	var endlessBody, endlessHeader atomic.Int64
	var followed atomic.Bool
	target := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { followed.Store(true) }))
	t.Cleanup(target.Close)
	chunk := strings.Repeat("x", 16<<10)
	for name, c := range map[string]struct {
		serve  func(net.Conn, *bufio.Reader)
		class  Class
		status int
		asked  time.Duration
	}{
		"204":                     {says("HTTP/1.1 204 No Content\r\n\r\n"), Delivered, 204, 0},
		"299":                     {says("HTTP/1.1 299 Fine\r\nContent-Length: 0\r\n\r\n"), Delivered, 299, 0},
		"301":                     {says("HTTP/1.1 301 Moved\r\nLocation: " + target.URL + "\r\nContent-Length: 0\r\n\r\n"), Redirected, 301, 0},
		"307":                     {says("HTTP/1.1 307 Elsewhere\r\nLocation: " + target.URL + "\r\nContent-Length: 0\r\n\r\n"), Redirected, 307, 0},
		"400":                     {says("HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\nno"), Refused, 400, 0},
		"410":                     {says("HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n"), Gone, 410, 0},
		"429":                     {says("HTTP/1.1 429 Slow\r\nRetry-After: 17\r\nContent-Length: 0\r\n\r\n"), Throttled, 429, 17 * time.Second},
		"500":                     {says("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"), Failed, 500, 0},
		"503":                     {says("HTTP/1.0 503 Away\r\nRetry-After: 60\r\n\r\nback soon"), Failed, 503, time.Minute},
		"101":                     {says("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"), Malformed, 101, 0},
		"999":                     {says("HTTP/1.1 999 What\r\nContent-Length: 0\r\n\r\n"), Malformed, 999, 0},
		"garbage":                 {says("\x16\x03\x01 garbage\r\n\r\n"), Malformed, 0, 0},
		"not a status":            {says("HTTP/1.1 two hundred\r\n\r\n"), Malformed, 0, 0},
		"an endless header":       {flood("HTTP/1.1 200 OK\r\n", "X-Header: "+chunk+"\r\n", &endlessHeader), Malformed, 0, 0},
		"an endless body":         {flood("HTTP/1.1 200 OK\r\n\r\n", chunk, &endlessBody), Delivered, 200, 0},
		"a body cut short":        {says("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"), Delivered, 200, 0},
		"a failure cut short":     {says("HTTP/1.1 500 Oops\r\nTransfer-Encoding: chunked\r\n\r\nzz"), Failed, 500, 0},
		"closed at once":          {func(net.Conn, *bufio.Reader) {}, Closed, 0, 0},
		"closed after the header": {func(_ net.Conn, r *bufio.Reader) { _, _ = r.ReadString('\n') }, Closed, 0, 0},
		"closed in the answer":    {says("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n"), Closed, 0, 0},
		"closed in a line of it":  {says("HTTP/1.1 200 OK\r\nContent-"), Malformed, 0, 0},
		"closed in the status":    {says("HTTP/1."), Malformed, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newTestClient(t).Post(t.Context(), at(raw(t, c.serve)), &event)
			if a.Class != c.class || a.Status != c.status || a.RetryAfter != c.asked {
				t.Errorf("%+v, want %s and %d", a, c.class, c.status)
			}
		})
	}
	t.Cleanup(func() {
		// The rest is what fits into the buffers of two sockets.
		if n := endlessBody.Load(); n > 16<<20 {
			t.Errorf("%d bytes of an endless body were taken", n)
		}
		if n := endlessHeader.Load(); n > 16<<20 {
			t.Errorf("%d bytes of an endless header were taken", n)
		}
		if followed.Load() {
			t.Error("a redirect was followed")
		}
	})
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	c := newTestClient(t)
	if a := c.Post(t.Context(), at("http://"+address+"/"), &event); a.Class != Unreachable {
		t.Errorf("a closed port: %+v", a)
	}
	if a := c.Post(t.Context(), at("http://backend.invalid/"), &event); a.Class != Unreachable {
		t.Errorf("no such host: %+v", a)
	}
}

// Neither a private address nor plain http is for endpoints that the operator's file does not allow, whatever the
// environment says of proxies.
func TestForbidden(t *testing.T) {
	srv := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it was reached") }))
	defer srv.Close()
	t.Setenv("HTTPS_PROXY", srv.URL)
	c := newTestClient(t)
	for _, url := range []string{srv.URL, strings.Replace(srv.URL, "127.0.0.1", "localhost", 1), "http://backend.example.com/", "https://[::1]/", "https://169.254.169.254/latest"} {
		e := at(url)
		e.Inner = false
		if a := c.Post(t.Context(), e, &event); a.Class != Forbidden {
			t.Errorf("%s: %+v", url, a)
		}
	}
}

// certificate is a self-signed one for 127.0.0.1.
func certificate(t *testing.T, until time.Time) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "backend"}, NotBefore: until.Add(-24 * time.Hour), NotAfter: until,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

func TestCertificates(t *testing.T) {
	t.Parallel()
	good, authorities := certificate(t, time.Now().Add(time.Hour))
	expired, expiredAuthorities := certificate(t, time.Now().Add(-time.Hour))
	serve := func(c *tls.Config) string {
		srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusAccepted) }))
		srv.TLS = c
		srv.Config.ErrorLog = log.New(io.Discard, "", 0)
		srv.StartTLS()
		t.Cleanup(srv.Close)
		return srv.URL
	}
	for name, c := range map[string]struct {
		tls  *tls.Config
		pool *x509.CertPool
		url  func(string) string
		want Class
	}{
		"good":          {&tls.Config{Certificates: []tls.Certificate{good}}, authorities, nil, Delivered},
		"unknown":       {&tls.Config{Certificates: []tls.Certificate{good}}, nil, nil, TLS},
		"expired":       {&tls.Config{Certificates: []tls.Certificate{expired}}, expiredAuthorities, nil, TLS},
		"another name":  {&tls.Config{Certificates: []tls.Certificate{good}}, authorities, func(u string) string { return strings.Replace(u, "127.0.0.1", "localhost", 1) }, TLS},
		"TLS 1.1":       {&tls.Config{Certificates: []tls.Certificate{good}, MaxVersion: tls.VersionTLS11}, authorities, nil, TLS},
		"wants another": {&tls.Config{Certificates: []tls.Certificate{good}, ClientAuth: tls.RequireAnyClientCert, MaxVersion: tls.VersionTLS12}, authorities, nil, TLS},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := newTestClient(t)
			client.SetAuthorities(c.pool)
			url := serve(c.tls)
			if c.url != nil {
				url = c.url(url)
			}
			if a := client.Post(t.Context(), at(url), &event); a.Class != c.want {
				t.Errorf("%+v", a)
			}
		})
	}
	plain := raw(t, says("HTTP/1.1 200 OK\r\n\r\n"))
	if a := newTestClient(t).Post(t.Context(), at(strings.Replace(plain, "http:", "https:", 1)), &event); a.Class != TLS {
		t.Errorf("plain http behind https: %+v", a)
	}
}

// One connection carries the requests of healthy receivers, one that was closed meanwhile costs no failure, and nothing
// is kept of those that go on and on.
func TestConnections(t *testing.T) {
	t.Parallel()
	var opened atomic.Int64
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		fmt.Fprintln(w, "thank you")
	}))
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			opened.Add(1)
		}
	}
	srv.Start()
	defer srv.Close()
	c := newTestClient(t)
	for range 20 {
		if a := c.Post(t.Context(), at(srv.URL), &event); a.Class != Delivered {
			t.Fatalf("%+v", a)
		}
	}
	if n := opened.Load(); n > 5 { // on a busy machine net/http gives one up now and then
		t.Errorf("%d connections for 20 requests", n)
	}
	srv.CloseClientConnections()
	if a := c.Post(t.Context(), at(srv.URL), &event); a.Class != Delivered {
		t.Errorf("over a connection that was closed: %+v", a)
	}
}

// Whoever waits is told when it ends; and an answer's body has less time than the answer.
func TestTimeouts(t *testing.T) {
	t.Parallel()
	hold := make(chan struct{})
	defer close(hold)
	url := raw(t, func(nc net.Conn, r *bufio.Reader) {
		readRequest(r)
		<-hold
	})
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	c := newTestClient(t)
	if a := c.Post(ctx, at(url), &event); a.Class != Stopped {
		t.Errorf("%+v", a)
	}
	c.answerTimeout = 50 * time.Millisecond
	if a := c.Post(t.Context(), at(url), &event); a.Class != Timeout {
		t.Errorf("%+v", a)
	}
	c.answerTimeout, c.bodyTimeout = time.Hour, 50*time.Millisecond
	slow := raw(t, func(nc net.Conn, r *bufio.Reader) {
		readRequest(r)
		_, _ = io.WriteString(nc, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
		<-hold
	})
	if a := c.Post(t.Context(), at(slow), &event); a.Class != Delivered {
		t.Errorf("%+v", a)
	}
}
