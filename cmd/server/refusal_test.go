package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What cannot be read as a request, and what no route is for, is answered as every error is.
func TestRefusals(t *testing.T) {
	t.Parallel()
	t.Run("HTTP", func(t *testing.T) {
		t.Parallel()
		testRefusals(t, "", new(net.Dialer).DialContext)
	})
	t.Run("HTTPS", func(t *testing.T) {
		t.Parallel()
		tlsDialer := &tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}
		testRefusals(t, "tls_certificate_file: certs/server.pem\ntls_key_file: certs/server.pem\n", tlsDialer.DialContext)
	})
}

func testRefusals(t *testing.T, settings string, dial dialer) {
	t.Helper()
	r := newRig(t, "http2", "sqlite:"+filepath.Join(t.TempDir(), "lhspn.db"))
	text, err := os.ReadFile(r.file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(r.file, append([]byte(settings), text...), 0o600); err != nil {
		t.Fatal(err)
	}
	r.start()
	r.refusesOfOps(t)
	const host = "Host: localhost\r\n"
	authorized := host + "Authorization: Bearer " + testKey + "\r\n"
	for request, want := range map[string]struct {
		status int
		slug   string
	}{
		"hello\r\n\r\n":                                                                                         {400, "malformed-request"},
		"GET / HTTP/1.1\r\n\r\n":                                                                                {400, "malformed-request"},
		"GET /v1/tokens HTTP/1.1\r\nHost: a b\r\n\r\n":                                                          {400, "malformed-request"},
		"GET /v1/tokens HTTP/1.1\r\n" + host + "A B: c\r\n\r\n":                                                 {400, "malformed-request"},
		"GET /%zz HTTP/1.1\r\n" + host + "\r\n":                                                                 {400, "malformed-request"},
		"GET / HTTP/1.1\r\n" + host + "X: " + strings.Repeat("x", 64<<10):                                       {431, "header-too-large"},
		"GET / HTTP/7.3\r\n" + host + "\r\n":                                                                    {505, "http-version"},
		"POST /v1/tokens HTTP/1.1\r\n" + host + "Transfer-Encoding: gzip\r\n\r\n":                               {501, "not-implemented"},
		"POST /v1/tokens HTTP/1.1\r\n" + authorized + "Content-Length: x\r\n\r\n":                               {400, "malformed-request"},
		"POST /v1/tokens HTTP/1.1\r\n" + host + "Expect: x\r\nContent-Length: 0\r\n\r\n":                        {417, "expectation-failed"},
		"GET / HTTP/1.1\r\n" + host + "\r\n":                                                                    {404, "no-such-path"},
		"GET * HTTP/1.1\r\n" + host + "\r\n":                                                                    {404, "no-such-path"},
		"FOO /v1/tokens HTTP/1.1\r\n" + host + "\r\n":                                                           {405, "method-not-allowed"},
		"TRACE /v1/tokens HTTP/1.1\r\n" + host + "\r\n":                                                         {405, "method-not-allowed"},
		"CONNECT localhost:1 HTTP/1.1\r\n" + host + "\r\n":                                                      {404, "no-such-path"},
		"POST /v1/tokens HTTP/1.1\r\n" + authorized + "Content-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}": {415, "unsupported-media-type"},
		"POST /v1/tokens HTTP/1.1\r\n" + authorized + "Content-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: 99999999\r\n\r\n": {413, "too-large"},
	} {
		res := answerTo(t, dial, r.api, request)
		if res == nil {
			continue
		}
		var problem struct {
			Type   string
			Status int
		}
		err := json.NewDecoder(res.Body).Decode(&problem)
		_ = res.Body.Close()
		if err != nil || res.StatusCode != want.status || problem.Status != want.status || problem.Type != "urn:lhspn:problem:"+want.slug ||
			res.Header.Get("Content-Type") != "application/problem+json" || res.Header.Get("X-Request-Id") == "" {
			t.Errorf("%.60q: %d %+v %v %v", request, res.StatusCode, problem, res.Header, err)
		}
	}
}

// refusesOfOps has the operators' listener answer what is no request as the other does.
func (r *rig) refusesOfOps(t *testing.T) {
	t.Helper()
	for request, want := range map[string]int{
		"hello\r\n\r\n": 400, "GET / HTTP/7.3\r\nHost: localhost\r\n\r\n": 505,
		"POST /metrics HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\n":  501,
		"GET /metrics HTTP/1.1\r\nHost: localhost\r\nX: " + strings.Repeat("x", 64<<10): 431,
	} {
		res := answerTo(t, new(net.Dialer).DialContext, r.ops, request)
		if res == nil {
			continue
		}
		_ = res.Body.Close()
		if h := res.Header; res.StatusCode != want || h.Get("Content-Type") != "application/problem+json" || h.Get("X-Request-Id") == "" {
			t.Errorf("%.60q of the operators' listener: %d %v", request, res.StatusCode, h)
		}
	}
}

type dialer func(ctx context.Context, network, address string) (net.Conn, error)

// answerTo sends what may be no request, and reads the answer; nil where there is none, which is a fault.
func answerTo(t *testing.T, dial dialer, url, request string) *http.Response {
	t.Helper()
	c, err := dial(t.Context(), "tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	go func() { _, _ = c.Write([]byte(request)) }() // the answer may come before its end
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Errorf("%.60q: %v", request, err)
		return nil
	}
	return res
}
