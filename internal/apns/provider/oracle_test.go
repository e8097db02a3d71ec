package provider

import (
	"github.com/lhspn/lhspn/internal/http2/http2test"

	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/lhspn/lhspn/internal/apns"
	"github.com/lhspn/lhspn/internal/apns/payload"
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/push/pushtest"
)

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

type seenRequest struct {
	Proto, Method, Host, Path, Body string
	Header                          http.Header
}

// TestSameAsNetHTTP sends the same notifications with the transport and with net/http's client to net/http's server,
// and compares what the server's handler sees.
func TestSameAsNetHTTP(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	seen := map[string][]seenRequest{}
	cfg := netHTTPServer(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		h := r.Header.Clone()
		for _, own := range []string{"User-Agent", "Accept-Encoding", "Content-Length", "X-By"} {
			h.Del(own)
		}
		by := "transport"
		if r.Header.Get("X-By") != "" {
			by = "net/http"
		}
		mu.Lock()
		seen[by+h.Get("apns-id")] = append(seen[by+h.Get("apns-id")], seenRequest{r.Proto, r.Method, r.Host, r.URL.Path, string(body), h})
		mu.Unlock()
		w.Header().Set("apns-id", h.Get("apns-id"))
	})
	expiration := time.Unix(1900000000, 0)
	notifications := []*push.Notification{
		testNotification,
		{ID: uuid.New(), Key: "com.example.app.voip", Type: payload.TypeVoIP, Priority: 10, Expiration: expiration,
			Payload: push.Payload{JSON: []byte(`{"aps":{"badge":}}`), BadgeAt: len(`{"aps":{"badge":`)}},
		{ID: uuid.New(), Key: "com.example.app", Type: payload.TypeBackground, Priority: 5, Expiration: expiration, CollapseID: "score é",
			Payload: push.Payload{JSON: []byte(`{"aps":{"content-available":1},"x":"` + strings.Repeat("y", 4000) + `"}`)}},
	}
	tr := newTester(t, cfg, nil)
	t.Cleanup(tr.stop)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: cfg.TLS.Clone(), ForceAttemptHTTP2: true}}
	t.Cleanup(client.CloseIdleConnections)
	keys := make([]string, 0, 60)
	// Several rounds, so that each notification goes by literal, by index and by template, with both lengths of token.
	for round := range 4 {
		for ni, n := range notifications {
			g := &push.Group{}
			for i := range 5 {
				token := pushtest.HexToken(100*round + 10*ni + i)
				if i == 4 {
					token += token
				}
				g.Deliveries = append(g.Deliveries, push.Delivery{Notification: n, Recipient: push.Recipient{Token: token, Badge: uint32(i * i * 1000)}})
			}
			tr.sendGroup(g)
			for i := range g.Deliveries {
				d := &g.Deliveries[i]
				id := apns.ID(n.ID, d.Token.Address()).String()
				keys = append(keys, id)
				req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+cfg.Address+"/3/device/"+d.Token.String(),
					strings.NewReader(string(n.Payload.AppendTo(nil, d.Badge))))
				if err != nil {
					t.Fatal(err)
				}
				for k, v := range map[string]string{
					"apns-id": id, "apns-topic": n.Key, "apns-push-type": string(n.Type), "apns-priority": priorityText(n.Priority),
					"apns-expiration": "0", "x-by": "net/http",
				} {
					req.Header.Set(k, v)
				}
				if !n.Expiration.IsZero() {
					req.Header.Set("apns-expiration", "1900000000")
				}
				if n.CollapseID != "" {
					req.Header.Set("apns-collapse-id", n.CollapseID)
				}
				resp, err := client.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
			}
			tr.Wait()
			tr.want(g, push.Accepted, nil)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	for _, id := range keys {
		if len(seen["transport"+id]) != 1 {
			t.Fatalf("%d requests with apns-id %s", len(seen["transport"+id]), id)
		}
		if diff := cmp.Diff(seen["net/http"+id], seen["transport"+id]); diff != "" {
			t.Fatalf("-net/http +transport:\n%s", diff)
		}
	}
}

// sinkServer is like the server of cfg, with its certificate, but answers as http2test.Sink does.
func sinkServer(tb testing.TB, cfg Config, streams uint32) Config {
	tb.Helper()
	s := httptest.NewUnstartedServer(nil)
	s.StartTLS()
	cert := s.TLS.Certificates
	s.Close()
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: cert, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS12})
	if err != nil {
		tb.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { http2test.Sink(nc, streams) })
		}
	})
	tb.Cleanup(func() {
		l.Close()
		wg.Wait()
	})
	cfg.Address = l.Addr().String()
	return cfg
}
