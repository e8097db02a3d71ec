// Package provider is the transport to APNs over its HTTP/2 provider API: groups of deliveries become requests, and
// each answer the result of one delivery. The connections are internal/http2's.
package provider

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/lhspn/lhspn/internal/apns"
	"github.com/lhspn/lhspn/internal/apns/credentials"
	"github.com/lhspn/lhspn/internal/http2"
	"github.com/lhspn/lhspn/internal/push"
)

// Config says where and how the notifications of one route of an app go out. What is left zero is as http2.Config has
// it.
type Config struct {
	App     string
	Route   push.Route // of its notifications, for log and metrics
	Address string     // host:port
	// TLS holds the roots and, in GetClientCertificate or Certificates, the client certificate if that is how the app
	// authenticates.
	TLS *tls.Config
	// Tokens makes the provider tokens; nil with a client certificate.
	Tokens      *credentials.ProviderTokens
	Connections int // at most
	MaxStreams  int // requests in flight on one connection, whatever the gateway allows
	// MaxInFlight bounds the deliveries that are taken and not finished. Send waits when it is reached.
	MaxInFlight int
	Proxy       *url.URL // an HTTP CONNECT proxy; nil for none

	StreamTimeout time.Duration // for the answer to one request
	BackoffMin    time.Duration // between connections that failed
	BackoffMax    time.Duration

	// Dial opens the connection below TLS; nil for net.Dialer's.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Transport sends the notifications of one route of an app.
type Transport struct {
	client  *http2.Client
	tokens  *credentials.ProviderTokens
	log     *slog.Logger
	metrics *apns.ProviderMetrics
	// proven says that something was accepted with these credentials; see doubt.
	proven atomic.Bool
}

// New returns the transport. It starts nothing: Run does.
func New(cfg Config, log *slog.Logger, m *apns.Metrics) *Transport {
	t := &Transport{
		tokens:  cfg.Tokens,
		log:     log.With("app", cfg.App, "route", cfg.Route, "transport", "http2"),
		metrics: m.Provider(cfg.App, string(cfg.Route), cfg.Address, reasons()),
	}
	t.client = http2.New(http2.Config{
		Address: cfg.Address, TLS: cfg.TLS, Proxy: cfg.Proxy, Dial: cfg.Dial, Fields: fields[:], AnswerFields: answerFields,
		Connections: cfg.Connections, MaxStreams: cfg.MaxStreams, MaxInFlight: cfg.MaxInFlight,
		// APNs allows one stream until it has accepted a provider token on the connection.
		OneUntilAccepted: cfg.Tokens != nil,
		StreamTimeout:    cfg.StreamTimeout, BackoffMin: cfg.BackoffMin, BackoffMax: cfg.BackoffMax,
		Metrics: t.metrics.Client,
	}, t.log)
	return t
}

// Run sends until ctx ends. Then it closes all connections, gives back what is unfinished as not sent, and returns when
// nothing of it runs any more.
func (t *Transport) Run(ctx context.Context) error { return t.client.Run(ctx) }

// Send takes a group over, whose Done is then called when all of its deliveries have results. It waits while
// MaxInFlight deliveries are under way. An error means that the group was not taken.
func (t *Transport) Send(ctx context.Context, g *push.Group) error {
	b := batches.Get().(*batch)
	b.t, b.group = t, g
	err := t.client.Send(ctx, b)
	if err != nil {
		b.release()
	}
	return err
}

// Recall gives back as cancelled what of a notification is on no connection yet.
func (t *Transport) Recall(notification uuid.UUID) {
	t.client.Recall(func(r http2.Requests, i int) bool {
		return r.(*batch).group.Deliveries[i].Recall(notification)
	})
}

// Drain refuses further groups and returns when all that were taken are done, or with ctx's error.
func (t *Transport) Drain(ctx context.Context) error { return t.client.Drain(ctx) }

// Reconnect replaces every connection by a new one, without losing what is in flight. It is for new credentials, which
// a connection takes up only when it is opened.
func (t *Transport) Reconnect() {
	t.proven.Store(false)
	t.client.Reconnect()
}

// doubt is the outcome of an answer that may be about the app's configuration, or about this one notification. Before
// anything was accepted with these credentials it is the configuration. Afterwards it counts as "later", as an error of
// the service does: the sender pauses the route where (nearly) all are answered so, and no other is held up where one
// notification is, however many recipients it has.
func (t *Transport) doubt() push.Outcome {
	if t.proven.Load() {
		return push.Retry
	}
	return push.Blocked
}

// accepted notes that APNs accepted a notification.
func (t *Transport) accepted() {
	if !t.proven.Load() {
		t.proven.Store(true)
	}
}
