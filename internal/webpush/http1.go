package webpush

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/lhspn/lhspn/internal/http2"
)

// http1Connections is how many connections a push service gets that does not offer HTTP/2, with one request at a time
// on each.
const http1Connections = 8

// http1For is when such a service is asked for HTTP/2 again: it may have been one server of many, or a proxy before it.
const http1For = 10 * time.Minute

// newHTTP1 returns the client for a service that offers no HTTP/2: the standard library's, by its round tripper alone,
// which follows no redirects. The environment's proxies are not used: they would dial what the guard has not seen.
func (p *peer) newHTTP1(cfg *Config) *http.Transport {
	c := p.tls(cfg)
	c.NextProtos = []string{"http/1.1"}
	return &http.Transport{
		DialContext: p.dial, TLSClientConfig: c, TLSHandshakeTimeout: p.limits.dial, MaxConnsPerHost: http1Connections,
		MaxIdleConnsPerHost: http1Connections, IdleConnTimeout: time.Minute, ResponseHeaderTimeout: p.limits.answer,
		MaxResponseHeaderBytes: 16 << 10, DisableCompression: true,
	}
}

// post sends a message by HTTP/1.1, and waits for the answer.
func (m *message) post(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, m.peer.limits.dial+m.peer.limits.answer)
	defer cancel()
	if err := m.exchange(ctx); err != nil {
		m.outcome = http2.NotSent
		if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() {
			m.outcome = http2.NoAnswer
		}
	}
	m.t.ended(m)
}

func (m *message) exchange(ctx context.Context) error {
	u, err := url.Parse(string(m.address.endpoint))
	if err != nil {
		return err
	}
	n := m.delivery().Notification
	header := http.Header{
		"Authorization": {m.auth.header}, "Ttl": {strconv.FormatUint(ttl(n, time.Now()), 10)},
		"Content-Encoding": {contentEncoding},
		"Content-Type":     {contentType}, "Urgency": {urgency(n.Priority)}, "User-Agent": {""},
	}
	if n.CollapseID != "" {
		header["Topic"] = []string{n.CollapseID}
	}
	request := (&http.Request{
		Method: http.MethodPost, URL: u, Host: u.Host, Header: header, Body: io.NopCloser(bytes.NewReader(m.body)),
		ContentLength: int64(len(m.body)), ProtoMajor: 1, ProtoMinor: 1,
	}).WithContext(ctx)
	response, err := m.peer.oneByOne.RoundTrip(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, _ := http2.ReadBody(response, maxBody) // one that breaks off takes nothing from the status
	field := func(name string) []byte { return []byte(response.Header.Get(name)) }
	m.judge(&answer{
		status: response.StatusCode, body: body, contentType: field("Content-Type"), retryAfter: field("Retry-After"),
		wnsStatus: field("X-Wns-Status"), at: time.Now(),
	})
	return nil
}
