package listener

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/net/http2"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve serves over a bounded listener, and stops before the test ends.
func serve(t *testing.T, c Config, h http.Handler) *Listener {
	t.Helper()
	under, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := New(under, c)
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{
		Handler: Track(h), ConnContext: ConnContext, ReadHeaderTimeout: time.Minute, Protocols: &protocols,
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() {
		_ = server.Close()
		<-done
	})
	return l
}

func dial(t *testing.T, l *Listener) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// ask sends a request over the connection and reads the answer.
func ask(t *testing.T, c net.Conn) {
	t.Helper()
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
	answer, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal("no answer:", err)
	}
	_, _ = io.Copy(io.Discard, answer.Body)
	_ = answer.Body.Close()
}

// isClosed waits until the other side has closed the connection.
func isClosed(t *testing.T, c net.Conn) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := c.Read(make([]byte, 1)); err == nil || os.IsTimeout(err) {
		t.Errorf("it is open: %v", err)
	}
}

// However many connections are opened and say nothing, one more gets in, and those that are in use stay.
func TestIdleConnectionsKeepNobodyOut(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]Config{"in all": {Bounds: Bounds{Max: 5}}, "of an address": {Bounds: Bounds{PerAddress: 5}}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			closed := make(chan struct{}, 100)
			c.Closed = func() { closed <- struct{}{} }
			l := serve(t, c, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
			used := dial(t, l)
			ask(t, used)
			var silent []net.Conn
			for range 20 {
				silent = append(silent, dial(t, l))
			}
			for range 16 { // there is room for four of them beside the used one
				<-closed
			}
			for _, c := range silent[:16] {
				isClosed(t, c)
			}
			ask(t, used)
			ask(t, dial(t, l))
			l.mu.Lock()
			defer l.mu.Unlock()
			if len(l.conns) > 5 || l.all.in[fresh].Len()+l.all.in[idle].Len() > 5 {
				t.Errorf("%d connections, %d and %d listed", len(l.conns), l.all.in[fresh].Len(), l.all.in[idle].Len())
			}
		})
	}
}

// Those that come get their time for a request, too, where all others have had one and keep their connections.
func TestIdleConnectionsLeaveTimeToAsk(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]Config{"in all": {Bounds: Bounds{Max: 6}}, "of an address": {Bounds: Bounds{PerAddress: 6}}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := serve(t, c, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
			for range 6 {
				ask(t, dial(t, l))
			}
			awaitState(t, l, idle, 6)
			var come []net.Conn
			for range 3 {
				come = append(come, dial(t, l))
			}
			awaitState(t, l, fresh, 3)
			for _, c := range come {
				ask(t, c)
			}
		})
	}
}

// A connection whose request is being served is closed for no other.
func TestConnectionsThatServeStay(t *testing.T) {
	t.Parallel()
	begun, end := make(chan struct{}), make(chan struct{})
	l := serve(t, Config{Bounds: Bounds{Max: 2}}, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		begun <- struct{}{}
		<-end
	}))
	var serving []net.Conn
	for range 2 {
		c := dial(t, l)
		fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
		<-begun
		serving = append(serving, c)
	}
	isClosed(t, dial(t, l))
	close(end)
	for _, c := range serving {
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Error(err)
			continue
		}
		res.Body.Close()
	}
}

func TestClientBehindProxies(t *testing.T) {
	t.Parallel()
	proxies, err := ParseProxies([]string{"10.0.0.0/8", "::1"})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		remote    string
		forwarded []string
		want      string
	}{
		{"192.0.2.1:1", []string{"203.0.113.9"}, "192.0.2.1"}, // anybody can write that
		{"10.0.0.1:1", nil, "10.0.0.1"},
		{"10.0.0.1:1", []string{"203.0.113.9"}, "203.0.113.9"},
		{"10.0.0.1:1", []string{"1.1.1.1, 203.0.113.9, 10.9.9.9"}, "203.0.113.9"},
		{"10.0.0.1:1", []string{"1.1.1.1", "203.0.113.9:4711"}, "203.0.113.9"},
		{"10.0.0.1:1", []string{"1.1.1.1, nonsense"}, "10.0.0.1"},
		{"[::1]:1", []string{"[2001:db8::1]:99"}, "2001:db8::1"},
		{"[::ffff:10.0.0.1]:1", []string{"::ffff:203.0.113.9"}, "203.0.113.9"},
	} {
		r := &http.Request{RemoteAddr: c.remote, Header: http.Header{"X-Forwarded-For": c.forwarded}}
		if got := proxies.Client(r); got.String() != c.want {
			t.Errorf("%s, %q: %s, want %s", c.remote, c.forwarded, got, c.want)
		}
	}
	if _, err := ParseProxies([]string{"proxy.example.com"}); err == nil {
		t.Error("a name was taken")
	}
	for in, want := range map[string]string{"203.0.113.9": "203.0.113.9", "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::"} {
		if got := Prefix(netip.MustParseAddr(in)); got.String() != want {
			t.Errorf("%s counts as %s", in, got)
		}
	}
}

func TestLocalHost(t *testing.T) {
	t.Parallel()
	h := LocalHost(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), http.NotFoundHandler())
	for host, want := range map[string]int{
		"localhost": 200, "localhost:8080": 200, "127.0.0.1:8080": 200, "[::1]:8080": 200, "10.1.2.3": 200,
		"evil.example": 404, "evil.example:8080": 404, "127.0.0.1.evil.example": 404, "localhost.evil.example": 404,
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Host = host
		w := httptest.NewRecorder()
		if h.ServeHTTP(w, r); w.Code != want {
			t.Errorf("%s: %d", host, w.Code)
		}
	}
}

// pair writes a certificate for localhost and its key, and returns the certificate's number.
func pair(t *testing.T, certificate, key string, number int64) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(number), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{certificate: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCertificateFollowsItsFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certificate, key := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	log := &strings.Builder{}
	logger := slog.New(slog.NewTextHandler(log, nil))
	if _, err := LoadCertificate(certificate, key, logger); err == nil {
		t.Error("no file was taken")
	}
	pair(t, certificate, key, 1)
	c, err := LoadCertificate(certificate, key, logger)
	if err != nil {
		t.Fatal(err)
	}
	under, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := New(under, Config{Bounds: Bounds{Max: 10}})
	server := &http.Server{Handler: Track(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, tracked := r.Context().Value(connKey{}).(*conn)
		fmt.Fprintf(w, "%s %t", r.Proto, tracked && r.TLS != nil)
	})), ConnContext: ConnContext}
	done := make(chan error, 1)
	go func() { done <- server.Serve(NewTLS(l, c.TLS(), time.Minute, slog.New(slog.DiscardHandler))) }()
	defer func() {
		_ = server.Close()
		<-done
	}()
	get := func(h2 bool, most uint16) (number int64, body string, err error) {
		transport := &http.Transport{ForceAttemptHTTP2: h2, TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MaxVersion: most}}
		defer transport.CloseIdleConnections()
		req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "https://"+l.Addr().String(), nil)
		if err != nil {
			return 0, "", err
		}
		res, err := transport.RoundTrip(req)
		if err != nil {
			return 0, "", err
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		return res.TLS.PeerCertificates[0].SerialNumber.Int64(), string(b), err
	}
	for _, h2 := range []bool{false, true} {
		want := map[bool]string{false: "HTTP/1.1 true", true: "HTTP/2.0 true"}[h2]
		if n, body, err := get(h2, 0); err != nil || n != 1 || body != want {
			t.Errorf("%d, %q, %v", n, body, err)
		}
	}
	if _, _, err := get(false, tls.VersionTLS11); err == nil {
		t.Error("TLS 1.1 was spoken")
	}
	if err := os.WriteFile(certificate, []byte("half of it"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.look()
	c.look()
	if n, _, err := get(true, 0); err != nil || n != 1 || strings.Count(log.String(), "cannot be used") != 1 {
		t.Errorf("a broken file: %d, %v, %s", n, err, log)
	}
	pair(t, certificate, key, 2)
	c.look()
	if n, _, err := get(true, 0); err != nil || n != 2 {
		t.Errorf("after the change: %d, %v", n, err)
	}
}

// Requests whose bodies do not come keep nobody out; one that comes on stays.
func TestBodiesThatDoNotCome(t *testing.T) {
	t.Parallel()
	begun := make(chan struct{})
	l := serve(t, Config{Bounds: Bounds{Max: 3}}, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			return
		}
		begun <- struct{}{}
		read := make([]byte, progress)
		for _, err := io.ReadFull(r.Body, read); err == nil; _, err = io.ReadFull(r.Body, read) {
			begun <- struct{}{}
		}
	}))
	put := func() net.Conn {
		c := dial(t, l)
		fmt.Fprintf(c, "PUT / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\nx", 2*progress)
		<-begun
		return c
	}
	comes, slow, slower := put(), put(), put()
	fmt.Fprint(comes, strings.Repeat("x", progress-1))
	<-begun
	ask(t, dial(t, l))
	isClosed(t, slow)
	fmt.Fprint(comes, strings.Repeat("x", progress))
	<-begun
	if res, err := http.ReadResponse(bufio.NewReader(comes), nil); err != nil {
		t.Error("the one whose body comes:", err)
	} else {
		res.Body.Close()
	}
	_ = slower.Close()
}

// Clients that do not take their answers keep nobody out, whether the kernel takes no more of it or the window of HTTP/2
// is shut, and whether it is written or flushed.
func TestAnswersThatAreNotTaken(t *testing.T) {
	t.Parallel()
	answer := func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/large":
			_, _ = io.WriteString(w, strings.Repeat("x", 32<<20))
		case "/short":
			_, _ = io.WriteString(w, "x")
		case "/flushed":
			_, _ = io.WriteString(w, "x")
			_ = http.NewResponseController(w).Flush()
		}
	}
	begin := map[string]func(t *testing.T, l *Listener, path string){
		"http/1.1": func(t *testing.T, l *Listener, path string) {
			t.Helper()
			fmt.Fprintf(dial(t, l), "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", path)
		},
		"http/2": func(t *testing.T, l *Listener, path string) {
			t.Helper()
			p := newPeer(t, l)
			if err := p.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}); err != nil {
				t.Error(err)
			}
			p.open(path)
		},
	}
	for _, c := range []struct{ protocol, path string }{
		{"http/1.1", "/large"}, {"http/2", "/large"}, {"http/2", "/flushed"}, {"http/2", "/short"},
	} {
		t.Run(c.protocol+c.path, func(t *testing.T) {
			t.Parallel()
			l := serve(t, Config{Bounds: Bounds{Max: 3}}, http.HandlerFunc(answer))
			for range 3 {
				begin[c.protocol](t, l, c.path)
			}
			awaitState(t, l, waiting, 3)
			ask(t, dial(t, l))
			awaitState(t, l, waiting, 2)
			ask(t, dial(t, l)) // in place of the one that is idle now
			awaitState(t, l, waiting, 2)
		})
	}
}

// However many requests clients have over HTTP/2 whose answers they do not take, few are kept.
func TestManyAnswersThatAreNotTaken(t *testing.T) {
	t.Parallel()
	closed := make(chan struct{}, 100)
	l := serve(t, Config{Closed: func() { closed <- struct{}{} }}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "x")
	}))
	const each = 250 // what net/http allows
	for range mostWaits/each + 3 {
		p := newPeer(t, l)
		if err := p.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}); err != nil {
			t.Error(err)
		}
		for range each {
			p.open("/")
		}
	}
	<-closed
	l.mu.Lock()
	waits := l.waits
	l.mu.Unlock()
	if waits > mostWaits {
		t.Errorf("%d requests wait", waits)
	}
	ask(t, dial(t, l))
}

// A short answer over HTTP/2 comes as a whole, and one without a body too.
func TestShortAnswers(t *testing.T) {
	t.Parallel()
	l := serve(t, Config{}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/none" {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		_, _ = io.WriteString(w, "short")
	}))
	client := &http.Client{Transport: &http.Transport{Protocols: new(http.Protocols)}}
	client.Transport.(*http.Transport).Protocols.SetUnencryptedHTTP2(true)
	defer client.CloseIdleConnections()
	for path, want := range map[string]string{"/": "short", "/none": ""} {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			r, err := http.NewRequestWithContext(t.Context(), method, "http://"+l.Addr().String()+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			res, err := client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(res.Body)
			_ = res.Body.Close()
			if method == http.MethodGet && string(body) != want || res.ProtoMajor != 2 || err != nil {
				t.Errorf("%s %s: %q over %s, %v", method, path, body, res.Proto, err)
			}
		}
	}
}

// Who is refused is told so at once, whatever is still to come of the body.
func TestRefusalsDoNotWaitForBodies(t *testing.T) {
	t.Parallel()
	l := serve(t, Config{}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }))
	for _, head := range []string{
		"Content-Length: 8388608\r\n\r\nbody", "Content-Length: 8388608\r\nExpect: 100-continue\r\n\r\n", "Content-Length: 10\r\nExpect: 100-continue\r\n\r\n",
		"Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n",
	} {
		c := dial(t, l)
		_ = c.SetReadDeadline(time.Now().Add(time.Minute))
		fmt.Fprint(c, "PUT / HTTP/1.1\r\nHost: localhost\r\n"+head)
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatalf("%q: %v", head, err)
		}
		_ = res.Body.Close()
		if res.StatusCode != http.StatusUnauthorized || !res.Close {
			t.Errorf("%q: %s, close: %v", head, res.Status, res.Close)
		}
	}
}

// awaitState waits until so many connections are in the state.
func awaitState(t *testing.T, l *Listener, s state, want int) {
	t.Helper()
	got := -1
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); runtime.Gosched() {
		l.mu.Lock()
		got = l.all.in[s].Len()
		l.mu.Unlock()
		if got == want {
			return
		}
	}
	t.Fatalf("%d connections are in the state, not %d", got, want)
}

// Narrower bounds hold from the next connection on.
func TestSetBounds(t *testing.T) {
	t.Parallel()
	l := serve(t, Config{}, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	var silent []net.Conn
	for range 10 {
		c := dial(t, l)
		ask(t, c)
		silent = append(silent, c)
	}
	l.SetBounds(Bounds{Max: 8, PerAddress: 3})
	ask(t, dial(t, l))
	for _, c := range silent[:8] {
		isClosed(t, c)
	}
	ask(t, silent[9])
}

// Handshakes that do not come to their end keep nobody out, end with the listener, and what comes without TLS is told so.
func TestHandshakes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certificate, key := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	pair(t, certificate, key, 1)
	log := slog.New(slog.DiscardHandler)
	c, err := LoadCertificate(certificate, key, log)
	if err != nil {
		t.Fatal(err)
	}
	under, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := New(under, Config{Refusal: func(status int, why string) []byte {
		return fmt.Appendf(nil, "HTTP/1.1 %d x\r\nContent-Length: %d\r\n\r\n%s", status, len(why), why)
	}})
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: Track(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))}
	done := make(chan error, 1)
	go func() { done <- server.Serve(NewTLS(l, c.TLS(), time.Minute, log)) }()
	silent := dial(t, l)
	plain := dial(t, l)
	fmt.Fprint(plain, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
	res, err := http.ReadResponse(bufio.NewReader(plain), nil)
	if err != nil {
		t.Fatal(err)
	}
	if text, _ := io.ReadAll(res.Body); res.StatusCode != http.StatusBadRequest || !strings.Contains(string(text), "HTTPS") {
		t.Errorf("without TLS: %d %s", res.StatusCode, text)
	}
	res.Body.Close()
	secured := tls.Client(dial(t, l), &tls.Config{InsecureSkipVerify: true})
	ask(t, secured)
	fmt.Fprint(secured, "hello\r\n\r\n")
	if res, err = http.ReadResponse(bufio.NewReader(secured), nil); err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusBadRequest || res.Header.Get("Content-Type") != "" {
		t.Errorf("what is no request: %d %v", res.StatusCode, res.Header)
	}
	if err := server.Close(); err != nil {
		t.Error(err)
	}
	isClosed(t, silent)
	<-done
}

// deadlineConn notes the read deadlines that it is given.
type deadlineConn struct {
	net.Conn
	deadlines []time.Time
}

func (c *deadlineConn) SetReadDeadline(t time.Time) error {
	c.deadlines = append(c.deadlines, t)
	return nil
}

// Connections that came at once do not end at once, and none before its time; what ends a read now, or lifts a
// deadline, is passed on as it is.
func TestACrowdDoesNotEndAtOnce(t *testing.T) {
	t.Parallel()
	l := New(nil, Config{})
	now := time.Now()
	quarters := map[int]int{}
	for range 400 {
		under := &deadlineConn{}
		c := l.newConn(under, netip.MustParseAddr("192.0.2.1"))
		for _, deadline := range []time.Time{now.Add(time.Minute), now.Add(-time.Minute), {}} {
			if err := c.SetReadDeadline(deadline); err != nil {
				t.Fatal(err)
			}
		}
		got := under.deadlines
		later := got[0].Sub(now.Add(time.Minute))
		if later < 0 || later > 15*time.Second || !got[1].Equal(now.Add(-time.Minute)) || !got[2].IsZero() {
			t.Fatalf("the deadlines became %v", got)
		}
		quarters[int(later/(15*time.Second/4+1))]++
	}
	for i := range 4 {
		if quarters[i] < 40 {
			t.Errorf("in the quarters of the time after the minute there end %v of 400", quarters)
		}
	}
}
