package webhooks

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/lhspn/lhspn/internal/http2"
	"github.com/lhspn/lhspn/internal/netguard"
	"github.com/lhspn/lhspn/internal/push"
)

// What a receiver may take: the time of a request in all, and of what follows the header of its answer; and the bytes
// of an answer's header and of its body. Whatever is beyond them costs the connection.
const (
	answerTimeout = 20 * time.Second
	bodyTimeout   = 2 * time.Second
	maxHeader     = 64 << 10
	maxBody       = 64 << 10
)

const (
	dialTimeout = 10 * time.Second
	idleTimeout = 90 * time.Second
	maxIdle     = 2 * slots
)

// poster is Client, as the workers use it.
type poster interface {
	Post(ctx context.Context, e *Endpoint, event *push.Event) Answer
	SetAuthorities(pool *x509.CertPool)
	close()
}

// Client posts events. It follows no redirect and uses no proxy, and keeps connections open for the next event.
type Client struct {
	userAgent                  string
	answerTimeout, bodyTimeout time.Duration
	public                     *http.Transport

	mu          sync.Mutex // guards what follows
	inner       *http.Transport
	authorities *x509.CertPool
}

// NewClient returns a client that opens no connection yet.
func NewClient(userAgent string) *Client {
	return &Client{
		userAgent: userAgent, answerTimeout: answerTimeout, bodyTimeout: bodyTimeout,
		public: newTransport(false, nil), inner: newTransport(true, nil),
	}
}

// newTransport speaks HTTP/1.1 only: a connection that fails concerns the one request on it, and is gone.
func newTransport(inner bool, authorities *x509.CertPool) *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	dialer := netguard.Dialer(inner)
	dialer.Timeout = dialTimeout
	return &http.Transport{
		Protocols:              protocols,
		Proxy:                  nil, // not that of the environment either: it would dial unguarded
		DialContext:            dialer.DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: authorities},
		TLSHandshakeTimeout:    dialTimeout,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxHeader,
		MaxIdleConns:           maxIdle,
		IdleConnTimeout:        idleTimeout,
		MaxIdleConnsPerHost:    maxInFlight,
	}
}

// SetAuthorities has the certificates of endpoints with Inner be of these authorities; nil: of the system's.
func (c *Client) SetAuthorities(pool *x509.CertPool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if pool == nil && c.authorities == nil || pool != nil && c.authorities != nil && pool.Equal(c.authorities) {
		return
	}
	former := c.inner
	c.authorities, c.inner = pool, newTransport(true, pool)
	former.CloseIdleConnections()
}

func (c *Client) transportOf(e *Endpoint) *http.Transport {
	if !e.Inner {
		return c.public
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.inner
}

// close closes the connections that are not in use.
func (c *Client) close() {
	c.public.CloseIdleConnections()
	c.transportOf(&Endpoint{Inner: true}).CloseIdleConnections()
}

// Post posts the event to the endpoint. Where ctx ends the class of the answer is Stopped.
func (c *Client) Post(ctx context.Context, e *Endpoint, event *push.Event) Answer {
	began := time.Now()
	if !e.Inner && !strings.HasPrefix(e.URL, "https://") {
		return Answer{Class: Forbidden, Detail: "plain http is not allowed"}
	}
	timed, cancel := context.WithTimeout(ctx, c.answerTimeout)
	defer cancel()
	req, err := c.request(timed, e, event, began)
	if err != nil {
		return Answer{Class: Refused, Detail: err.Error()} // the settings were checked, so this is not to be
	}
	resp, err := c.transportOf(e).RoundTrip(req)
	took := time.Since(began)
	if err != nil {
		if ctx.Err() != nil {
			return Answer{Class: Stopped, Took: took}
		}
		a := classifyError(err)
		a.Took = took
		return a
	}
	// The status says all. The rest is read so that the connection can be used again, and only if it comes soon.
	end := time.AfterFunc(c.bodyTimeout, cancel)
	_, _ = http2.ReadBody(resp, maxBody)
	_ = resp.Body.Close()
	end.Stop()
	a := Answer{Class: classify(resp.StatusCode), Status: resp.StatusCode, Took: took}
	if a.Class != Delivered {
		a.RetryAfter = http2.RetryAfter([]byte(resp.Header.Get("Retry-After")), time.Now())
		a.Detail = "answered " + strconv.Itoa(resp.StatusCode)
	}
	return a
}

// body is a request's, in the shape that the specification suggests, with the event's id beside it.
type body struct {
	ID        string          `json:"id"`
	Type      push.EventType  `json:"type"`
	Timestamp time.Time       `json:"timestamp"`
	Data      json.RawMessage `json:"data"`
}

func (c *Client) request(ctx context.Context, e *Endpoint, event *push.Event, now time.Time) (*http.Request, error) {
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(body{event.ID, event.Type, event.At.UTC(), event.Data}); err != nil {
		return nil, fmt.Errorf("encode an event: %w", err)
	}
	payload := bytes.TrimRight(text.Bytes(), "\n")
	signatures := make([]string, len(e.Secrets))
	for i, secret := range e.Secrets {
		key, err := standardwebhooks.NewWebhook(secret)
		if err != nil {
			return nil, fmt.Errorf("a secret of a webhook: %w", err)
		}
		if signatures[i], err = key.Sign(event.ID, now, payload); err != nil {
			return nil, fmt.Errorf("sign an event: %w", err)
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.URL, bytes.NewReader(payload))
	if err != nil {
		return nil, fmt.Errorf("a webhook's URL cannot be used")
	}
	h := req.Header
	h.Set("Content-Type", "application/json")
	h.Set("User-Agent", c.userAgent)
	h.Set(standardwebhooks.HeaderWebhookID, event.ID)
	h.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(now.Unix(), 10))
	h.Set(standardwebhooks.HeaderWebhookSignature, strings.Join(signatures, " "))
	// Not sent: it tells net/http that a request over a connection that the receiver was just closing may be sent again.
	h["Idempotency-Key"] = []string{}
	return req, nil
}
