package http2

import (
	"crypto/tls"
	"crypto/x509"
	"log"

	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// connectProxy is a proxy that knows nothing but CONNECT, with password "pass" for "user".
func connectProxy(t *testing.T, status int, target string) (_ *url.URL, connects *atomic.Int32) {
	t.Helper()
	connects = new(atomic.Int32)
	var tunnels sync.WaitGroup
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		connects.Add(1)
		user, pass, ok := (&http.Request{Header: http.Header{"Authorization": r.Header["Proxy-Authorization"]}}).BasicAuth()
		if r.Method != http.MethodConnect || r.Host != "gateway.invalid:2197" || !ok || user != "user" || pass != "pass" {
			w.WriteHeader(http.StatusProxyAuthRequired)
			return
		}
		if status != http.StatusOK {
			w.WriteHeader(status)
			return
		}
		up, err := (&net.Dialer{}).DialContext(r.Context(), "tcp", target) // the proxy resolves the name, to where it likes
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		w.WriteHeader(http.StatusOK)
		down, buf, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		tunnels.Go(func() { _, _ = io.Copy(up, buf); up.Close() })
		tunnels.Go(func() { _, _ = io.Copy(down, up); down.Close() })
	}))
	t.Cleanup(func() { s.Close(); tunnels.Wait() })
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword("user", "pass")
	return u, connects
}

// netHTTPServer starts net/http's HTTP/2 server, which shares no code with the client but HPACK's Huffman table.
func netHTTPServer(tb testing.TB, handler http.HandlerFunc) Config {
	tb.Helper()
	s := httptest.NewUnstartedServer(handler)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.EnableHTTP2 = true
	s.StartTLS()
	tb.Cleanup(s.Close)
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	return Config{Address: s.Listener.Addr().String(), TLS: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}
}

func TestThroughProxy(t *testing.T) {
	t.Parallel()
	cfg := netHTTPServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Host != "gateway.invalid:2197" {
			t.Errorf("host %q", r.Host)
		}
	})
	var connects *atomic.Int32
	cfg.Proxy, connects = connectProxy(t, http.StatusOK, cfg.Address)
	cfg.Address = "gateway.invalid:2197"
	cfg.TLS.ServerName = "example.com" // what httptest's certificate is for
	tr := newTester(t, cfg, nil)
	t.Cleanup(tr.stop)
	g := tr.send(testNote, 0, 10)
	tr.wait()
	tr.want(g, Answered, 200)
	if connects.Load() != 1 {
		t.Errorf("%d CONNECTs", connects.Load())
	}
}

func TestProxyRefusals(t *testing.T) {
	t.Parallel()
	dial := new(net.Dialer).DialContext
	u, _ := connectProxy(t, http.StatusForbidden, "")
	wrong := *u
	wrong.User = url.UserPassword("user", "secret")
	socks := *u
	socks.Scheme = "socks5"
	for _, test := range []struct {
		proxy *url.URL
		want  string
	}{
		{u, "403"}, {&wrong, "407"}, {&socks, "scheme"}, {&url.URL{Scheme: "http", Host: "127.0.0.1:1"}, "refused"},
	} {
		nc, err := DialThroughProxy(t.Context(), dial, test.proxy, "gateway.invalid:2197")
		if err == nil {
			nc.Close()
		}
		if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "pass") || strings.Contains(err.Error(), "secret") {
			t.Errorf("%v, want %q, and no password", err, test.want)
		}
	}
}

// TestProxyInformsFirst: what comes before the answer (RFC 9110, 15.2) is passed over, but not for ever, and 101 is an
// answer of another kind.
func TestProxyInformsFirst(t *testing.T) {
	t.Parallel()
	const established = "HTTP/1.1 200 Connection established\r\n\r\n"
	for name, c := range map[string]struct {
		answer, want string // want: of the error
	}{
		"continue":   {"HTTP/1.1 100 Continue\r\n\r\n" + established, ""},
		"early":      {"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + established, ""},
		"refused":    {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 403 Forbidden\r\n\r\n", "403"},
		"nothing":    {"HTTP/1.1 100 Continue\r\n\r\n", "unexpected EOF"},
		"switched":   {"HTTP/1.1 101 Switching Protocols\r\n\r\n" + established, "101"},
		"no end":     {strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 1<<16), "CONNECT"},
		"and beyond": {"HTTP/1.1 100 Continue\r\n\r\n" + established + "x", "more than the answer"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, server := net.Pipe()
			var proxy sync.WaitGroup
			proxy.Go(func() { _, _ = io.Copy(io.Discard, server) })
			proxy.Go(func() { _, _ = io.WriteString(server, c.answer); server.Close() })
			nc, err := DialThroughProxy(t.Context(), func(context.Context, string, string) (net.Conn, error) { return client, nil },
				&url.URL{Scheme: "http", Host: "proxy"}, "gateway.invalid:2197")
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
			if err == nil {
				nc.Close()
			}
			client.Close()
			proxy.Wait()
		})
	}
}

// TestProxyThatHangs: the dial ends with its context.
func TestProxyThatHangs(t *testing.T) {
	t.Parallel()
	client, server := net.Pipe()
	defer server.Close()
	go func() { _, _ = io.Copy(io.Discard, server) }()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := DialThroughProxy(ctx, func(context.Context, string, string) (net.Conn, error) { return client, nil },
		&url.URL{Scheme: "http", Host: "proxy"}, "gateway.invalid:2197")
	if err == nil {
		t.Error("a tunnel through silence")
	}
}

// TestProxyHeaderBomb: of an answer without end only so much is read.
func TestProxyHeaderBomb(t *testing.T) {
	t.Parallel()
	client, server := net.Pipe()
	var sent atomic.Int64
	var bomb sync.WaitGroup
	bomb.Go(func() { _, _ = io.Copy(io.Discard, server) })
	bomb.Go(func() {
		defer server.Close()
		line := []byte("X-Bomb: " + strings.Repeat("x", 1<<10) + "\r\n")
		_, err := server.Write([]byte("HTTP/1.1 200 OK\r\n"))
		for err == nil && sent.Load() < 64<<20 {
			var n int
			n, err = server.Write(line)
			sent.Add(int64(n))
		}
	})
	_, err := DialThroughProxy(t.Context(), func(context.Context, string, string) (net.Conn, error) { return client, nil },
		&url.URL{Scheme: "http", Host: "proxy"}, "gateway.invalid:2197")
	client.Close()
	bomb.Wait()
	if err == nil || sent.Load() > 128<<10 {
		t.Errorf("%v after %d bytes", err, sent.Load())
	}
}
