package http2

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

// proxyMaxAnswer bounds the head of a proxy's answer to CONNECT, which would else be read whatever its length.
const proxyMaxAnswer = 64 << 10

// DialThroughProxy opens a tunnel to address by HTTP CONNECT (RFC 9110, 9.3.6). The proxy resolves the name. The
// proxy's URL has the scheme http, or https for TLS to the proxy itself, and may carry user and password.
func DialThroughProxy(ctx context.Context, dial func(context.Context, string, string) (net.Conn, error),
	proxy *url.URL, address string,
) (net.Conn, error) {
	port := ProxyPort(proxy)
	if port == "" {
		return nil, fmt.Errorf("proxy %s: the scheme is http or https", proxy.Redacted())
	}
	nc, err := dial(ctx, "tcp", net.JoinHostPort(proxy.Hostname(), port))
	if err != nil {
		return nil, fmt.Errorf("proxy %s: %w", proxy.Redacted(), err)
	}
	stop := context.AfterFunc(ctx, func() { _ = nc.SetDeadline(time.Unix(1, 0)) })
	tunnel, err := connectThrough(ctx, nc, proxy, address)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("proxy %s: %w", proxy.Redacted(), err)
	}
	return tunnel, nil
}

// ProxyPort is the port of a proxy of scheme http or https; empty for another.
func ProxyPort(proxy *url.URL) string {
	switch {
	case proxy.Scheme != "http" && proxy.Scheme != "https":
		return ""
	case proxy.Port() != "":
		return proxy.Port()
	case proxy.Scheme == "https":
		return "443"
	}
	return "80"
}

func connectThrough(ctx context.Context, nc net.Conn, proxy *url.URL, address string) (net.Conn, error) {
	if proxy.Scheme == "https" {
		tc := tls.Client(nc, &tls.Config{ServerName: proxy.Hostname(), MinVersion: tls.VersionTLS12})
		if err := tc.HandshakeContext(ctx); err != nil {
			return nil, fmt.Errorf("TLS handshake: %w", err)
		}
		nc = tc
	}
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: address}, Host: address, Header: http.Header{}}
	if u := proxy.User; u != nil {
		password, _ := u.Password()
		req.Header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(u.Username()+":"+password)))
	}
	if err := req.Write(nc); err != nil {
		return nil, fmt.Errorf("write CONNECT: %w", err)
	}
	br := bufio.NewReader(io.LimitReader(nc, proxyMaxAnswer))
	resp, err := readConnectAnswer(br, req) //nolint:bodyclose // it has no body: what follows is the tunnel
	if err != nil {
		return nil, fmt.Errorf("read the answer to CONNECT: %w", err)
	}
	if resp.StatusCode/100 != 2 {
		return nil, fmt.Errorf("CONNECT %s: %s", address, resp.Status)
	}
	if br.Buffered() > 0 {
		// In TLS the client speaks first.
		return nil, errors.New("the proxy sent more than the answer to CONNECT")
	}
	return nc, nil
}

// readConnectAnswer passes over what only informs (1xx), but for 101, which nobody asked for.
func readConnectAnswer(br *bufio.Reader, req *http.Request) (*http.Response, error) {
	for {
		resp, err := http.ReadResponse(br, req)
		if err != nil || resp.StatusCode/100 != 1 || resp.StatusCode == http.StatusSwitchingProtocols {
			return resp, err
		}
	}
}
