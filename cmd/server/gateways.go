package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lhspn/lhspn/internal/apns"
	"github.com/lhspn/lhspn/internal/apns/binary"
	"github.com/lhspn/lhspn/internal/apns/credentials"
	"github.com/lhspn/lhspn/internal/apns/payload"
	"github.com/lhspn/lhspn/internal/apns/provider"
	"github.com/lhspn/lhspn/internal/config"
	"github.com/lhspn/lhspn/internal/fcm"
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/queue"
	"github.com/lhspn/lhspn/internal/sender"
	"github.com/lhspn/lhspn/internal/tokens"
	"github.com/lhspn/lhspn/internal/webpush"
)

// Apple's hosts for the HTTP/2 provider API. Port 443; 2197 serves the same where a firewall wants it apart.
var appleGateways = map[push.Route]string{
	push.Production: "api.push.apple.com:443",
	push.Sandbox:    "api.sandbox.push.apple.com:443",
}

// urgentWait is how long an urgent notification may wait behind bulk ones inside the HTTP/2 transport.
const urgentWait = 50 * time.Millisecond

// binaryWindows is how many windows a connection of the binary transport can fill: one that waits to be written, one
// that is written, and one on the connection before it, which drains.
const binaryWindows = 3

// gateways makes the transports of apps from the configuration, and has their credentials followed.
type gateways struct {
	log         *slog.Logger
	metrics     *apns.Metrics
	credentials *credentials.Metrics
	watch       *credentials.Watch
	tokens      credentials.ProviderTokenPool // apps with the same key share its provider tokens
	unusable    *prometheus.GaugeVec

	fcmMetrics     *fcm.Metrics
	webPushMetrics *webpush.Metrics
	cores          *webpush.Cores // of which encryption leaves the routes to phones what they need
	// registry has the addresses of subscriptions, and queue says how much of the work is this replica's. Both are set
	// before anything is sent.
	registry *tokens.Store
	queue    *queue.Queue

	mu sync.Mutex // guards what follows: credentials that could not be used at the start are read later
	// users are the ways with the same key or certificate, with what they do about a new one: it is new for all of them.
	users map[any]map[*way]func()
}

func newGateways(log *slog.Logger, reg prometheus.Registerer) *gateways {
	reads := credentials.NewMetrics(reg)
	unusable := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: "lhspn", Name: "credentials_unusable",
		Help: "1 while the route's notifications wait because its credentials cannot be used.",
	}, []string{"app", "route"})
	reg.MustRegister(unusable)
	return &gateways{
		log: log, metrics: apns.NewMetrics(reg), credentials: reads, watch: credentials.NewWatch(log, reads),
		fcmMetrics: fcm.NewMetrics(reg), webPushMetrics: webpush.NewMetrics(reg), cores: webpush.NewCores(),
		users: map[any]map[*way]func(){}, unusable: unusable,
	}
}

// openAPNs reads the credentials of an app's routes to APNs and makes their transports, and its feedback source.
func (g *gateways) openAPNs(app *config.App) *opened {
	o := newOpened(app.Name, app.APNs, &payload.Platform{
		Topic: app.APNs.Topic, Environments: app.APNs.Routes(), Binary: app.APNs.Transport == "binary",
	})
	var feedbacks feedbackSources
	certificates := map[string]*credentials.CertificateFile{}
	for _, route := range app.APNs.Routes() {
		w := &way{g: g, app: app, route: route, apns: app.APNs.Of(route), certificates: certificates}
		if w.apns.FeedbackAddress != "" && !feedbacks.has(w) {
			feedbacks = append(feedbacks, w)
		}
		o.add(g, route, w, w.senderConfig)
		g.log.Info("route", "app", app.Name, "route", route, "transport", w.apns.Transport, "gateway", w.gateway())
	}
	if len(feedbacks) > 0 {
		o.feedback = feedbacks
	}
	o.forget = func() {
		g.metrics.Forget(app.Name)
		g.credentials.Forget(app.Name)
	}
	return o
}

// way is one route of one app, with the settings that hold for it.
type way struct {
	g     *gateways
	app   *config.App
	route push.Route
	apns  config.APNs
	// certificates are those of the app's routes to APNs, by their files: both may have the same.
	certificates map[string]*credentials.CertificateFile
	access

	unfollow func() // nil where nothing is followed
	closed   bool
}

// open reads the route's credentials, makes its transport, and has the credentials followed. It connects to nothing
// yet.
func (w *way) open() (sender.Transport, error) {
	w.g.mu.Lock()
	defer w.g.mu.Unlock()
	if w.closed {
		return nil, errClosed
	}
	if err := w.read(); err != nil {
		return nil, err
	}
	t, err := w.transport()
	if err == nil {
		w.follow(t)
	}
	return t, err
}

// close implements opener.
func (w *way) close() {
	g := w.g
	g.mu.Lock()
	defer g.mu.Unlock()
	w.closed = true
	if w.unfollow != nil {
		w.unfollow()
	}
	if w.tokens != nil {
		g.tokens.Release(w.app.Name, w.tokens)
	}
	for _, credential := range []any{w.certificate, w.tokens} {
		if delete(g.users[credential], w); len(g.users[credential]) == 0 {
			delete(g.users, credential)
		}
	}
}

func (w *way) senderConfig(t sender.Transport) sender.RouteConfig {
	c := sender.RouteConfig{
		Transport: t, Kind: w.apns.Transport, Reasons: apns.Reasons(), MaxRetries: retries(w.apns.MaxRetries),
		MaxRate: w.apns.MaxRate, Answered: w.g.cores.Answered,
	}
	if w.apns.Transport == "http2" {
		c.QueueTarget = urgentWait
	} else {
		c.InFlight = binaryWindows * w.apns.Connections * w.apns.Window
	}
	return c
}

// access is how a route proves to APNs who it is, and by what it knows APNs.
type access struct {
	tls         *tls.Config
	tokens      *credentials.ProviderTokens  // nil with a client certificate
	certificate *credentials.CertificateFile // nil with a key
}

// read reads the route's credentials. Its errors name the file and what was expected, and no secret.
func (w *way) read() (err error) {
	c := &w.apns
	w.tls = &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CAFile != "" {
		if w.tls.RootCAs, err = credentials.LoadCAs(c.CAFile); err != nil {
			return fmt.Errorf("app %s, %s: %w", w.app.Name, w.route, err)
		}
	}
	if c.KeyFile != "" {
		w.tokens, err = w.g.tokens.Load(w.app.Name, c.KeyFile, c.KeyID, c.TeamID)
	} else if w.certificate, err = w.loadCertificate(); err == nil {
		w.tls.GetClientCertificate = w.certificate.GetClientCertificate
	}
	if err != nil {
		return fmt.Errorf("app %s, %s: %w", w.app.Name, w.route, err)
	}
	return nil
}

// loadCertificate loads the certificate file once, also where both environments use it.
func (w *way) loadCertificate() (*credentials.CertificateFile, error) {
	c := &w.apns
	if f := w.certificates[c.CertificateFile]; f != nil {
		return f, nil
	}
	password, err := config.ReadSecret(c.CertificatePassword)
	if err != nil {
		return nil, fmt.Errorf("certificate_password_file: %w", err)
	}
	f, err := credentials.LoadCertificateFile(w.app.Name, c.CertificateFile, password, w.g.credentials)
	if err == nil && w.certificates != nil {
		w.certificates[c.CertificateFile] = f
	}
	return f, err
}

// follow has the route's transport take up new credentials when their file changes. A connection keeps the ones that it
// was opened with, and so does a TLS session that a later one resumes; the binary transport opens new ones all the
// time.
func (w *way) follow(t sender.Transport) {
	g := w.g
	changed := func() {}
	switch t := t.(type) {
	case interface{ Reconnect() }:
		changed = t.Reconnect
	case interface{ ForgetSessions() }:
		changed = t.ForgetSessions
	}
	var credential any = w.certificate
	if w.tokens != nil {
		credential = w.tokens
	}
	if g.users[credential] == nil {
		g.users[credential] = map[*way]func(){}
	}
	g.users[credential][w] = changed
	all := func() {
		g.mu.Lock()
		users := slices.Collect(maps.Values(g.users[credential]))
		g.mu.Unlock()
		for _, changed := range users {
			changed()
		}
	}
	switch {
	case w.tokens != nil:
		w.unfollow = g.watch.SigningKey(w.app.Name, w.apns.KeyFile, w.tokens, all)
	case len(g.users[credential]) == 1: // else it is followed already, by the app's other route
		w.unfollow = g.watch.Certificate(w.certificate, all)
	}
}

// transport makes the route's transport. It connects to nothing yet.
func (w *way) transport() (sender.Transport, error) {
	c, g := &w.apns, w.g
	if c.Transport == "binary" {
		statuses := make([]uint8, 0, len(c.RetryStatuses))
		for _, s := range c.RetryStatuses {
			statuses = append(statuses, uint8(s)) // the configuration checks that it is 0 to 255
		}
		return binary.New(binary.Config{
			App: w.app.Name, Route: w.route, Address: w.gateway(), TLS: w.tls, Connections: c.Connections, Window: c.Window,
			RetryStatuses: statuses, ConfirmAfter: c.ConfirmAfter, EndAfter: c.EndAfter, IdleClose: c.IdleClose,
		}, g.log, g.metrics), nil
	}
	proxy, err := parseProxy(c.Proxy)
	if err != nil {
		return nil, fmt.Errorf("app %s: %w", w.app.Name, err)
	}
	return provider.New(provider.Config{
		App: w.app.Name, Route: w.route, Address: w.gateway(), TLS: w.tls, Tokens: w.tokens, Connections: c.Connections,
		Proxy: proxy,
	}, g.log, g.metrics), nil
}

// name is the gateway's, for messages: without the port that goes without saying.
func (w *way) name() string { return strings.TrimSuffix(w.gateway(), ":443") }

// gateway is the address of the route's gateway: a configured one, or Apple's.
func (w *way) gateway() string {
	if w.apns.Gateway != "" {
		return w.apns.Gateway
	}
	return appleGateways[w.route]
}

// readFeedback reads the route's feedback service, with the credentials that it has by now.
func (w *way) readFeedback(ctx context.Context, f func(at time.Time, token push.Token) error) error {
	w.g.mu.Lock()
	conf, usable := w.tls, w.certificate != nil
	w.g.mu.Unlock()
	if !usable {
		return fmt.Errorf("app %s, %s: its credentials cannot be used", w.app.Name, w.route)
	}
	return (&binary.Feedback{Address: w.apns.FeedbackAddress, TLS: conf}).Read(ctx, f)
}

// feedbackSources are an app's routes with a feedback service, one for each address, read one after the other. Over
// HTTP/2 there is none: the answers tell of dead tokens.
type feedbackSources []*way

func (s feedbackSources) has(w *way) bool {
	return slices.ContainsFunc(s, func(o *way) bool { return o.apns.FeedbackAddress == w.apns.FeedbackAddress })
}

// Read implements feedback.Source. One that cannot be read does not keep the others from being read.
func (s feedbackSources) Read(ctx context.Context, f func(at time.Time, token push.Token) error) error {
	var errs []error
	for _, source := range s {
		errs = append(errs, source.readFeedback(ctx, f))
	}
	return errors.Join(errs...)
}
