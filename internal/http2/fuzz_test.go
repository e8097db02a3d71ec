package http2

import (
	"context"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/lhspn/lhspn/internal/memconn"
)

// Whatever a proxy answers to CONNECT, there is a tunnel or an error, and no byte of the answer is left for the tunnel.
func FuzzConnectAnswer(f *testing.F) {
	for _, seed := range []string{
		"HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "HTTP/1.1 407 No\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 2", strings.Repeat("x", proxyMaxAnswer+1),
	} {
		f.Add([]byte(seed))
	}
	proxy := &url.URL{Scheme: "http", Host: "proxy.invalid:3128"}
	f.Fuzz(func(t *testing.T, answer []byte) {
		client, server := memconn.Pipe(1 << 20)
		defer server.Close()
		dial := func(context.Context, string, string) (net.Conn, error) { return client, nil }
		if len(answer) > 1<<20 {
			return
		}
		if _, err := server.Write(answer); err != nil {
			t.Fatal(err)
		}
		_ = server.CloseWrite()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		tunnel, err := DialThroughProxy(ctx, dial, proxy, "gateway.invalid:2197")
		if (err == nil) != (tunnel != nil) {
			t.Fatalf("%v, %v", tunnel, err)
		}
		if err != nil {
			return
		}
		defer tunnel.Close()
		_ = tunnel.SetReadDeadline(time.Now().Add(10 * time.Second))
		if n, _ := tunnel.Read(make([]byte, 1)); n > 0 {
			t.Errorf("%q: what follows the answer is taken for the gateway's", answer)
		}
	})
}

// Whatever a peer asks for, it is asked again within the bound.
func FuzzRetryAfter(f *testing.F) {
	for _, seed := range []string{"", "0", "120", "-1", "99999999999999999999", "Tue, 14 Nov 2023 22:13:21 GMT", "Tue, 14 Nov 0000 22:13:21 GMT"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		if wait := RetryAfter(value, time.Unix(1_700_000_000, 0)); wait < 0 || wait > MaxRetryAfter {
			t.Errorf("%q is %v", value, wait)
		}
	})
}
