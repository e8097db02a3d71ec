package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lhspn/lhspn/internal/apns"
	"github.com/lhspn/lhspn/internal/config"
	"github.com/lhspn/lhspn/internal/feedback"
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/sender"
)

// Apple's hosts for the HTTP/2 provider API. Port 443; 2197 serves the same where a firewall wants it apart.
var appleGateways = map[push.Route]string{
	push.Production: "api.push.apple.com:443",
	push.Sandbox:    "api.sandbox.push.apple.com:443",
}

// urgentWait is how long an urgent notification may wait behind bulk ones inside the HTTP/2 transport.
const urgentWait = 50 * time.Millisecond

// binaryWindows is how many windows a connection of the binary transport can fill: one that waits to be written, one that
// is written, and one on the connection before it, which drains.
const binaryWindows = 3

// gateways makes the transports of apps from the configuration, and has their credentials followed.
type gateways struct {
	log         *slog.Logger
	metrics     *apns.Metrics
	credentials *apns.CredentialMetrics
	watch       *apns.CredentialWatch
	tokens      apns.ProviderTokenPool // apps with the same key share its provider tokens
	// users are those apps' transports: a new key is new for all of them.
	users map[*apns.ProviderTokens][]func()
}

func newGateways(log *slog.Logger, reg prometheus.Registerer) *gateways {
	credentials := apns.NewCredentialMetrics(reg)
	return &gateways{
		log: log, metrics: apns.NewMetrics(reg), credentials: credentials, watch: apns.NewCredentialWatch(log, credentials),
		users: map[*apns.ProviderTokens][]func(){},
	}
}

// openAll reads every app's credentials and makes its transport and feedback source.
func (g *gateways) openAll(cfg *config.Config) (map[string]sender.AppConfig, map[string]feedback.Source, error) {
	apps := map[string]sender.AppConfig{}
	sources := map[string]feedback.Source{}
	var errs []error
	for i := range cfg.Apps {
		app := &cfg.Apps[i]
		access, err := g.open(app)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		transport, err := g.transport(app, access)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		g.follow(app, access, transport)
		c := sender.AppConfig{Transport: transport, Kind: app.APNs.Transport, Reasons: apns.Reasons(), MaxRetries: app.APNs.MaxRetries, MaxRate: app.APNs.MaxRate}
		if app.APNs.MaxRetries == 0 {
			c.MaxRetries = -1 // where 0 stands for the default
		}
		if app.APNs.Transport == "http2" {
			c.QueueTarget = urgentWait
		} else {
			c.InFlight = binaryWindows * app.APNs.Connections * app.APNs.Window
		}
		apps[app.Name] = c
		sources[app.Name] = feedbackSource(app, access)
		g.log.Info("app", "app", app.Name, "transport", app.APNs.Transport, "gateway", gatewayName(app), "keys", len(app.Keys))
	}
	return apps, sources, errors.Join(errs...)
}

// access is how an app proves to APNs who it is, and by what it knows APNs.
type access struct {
	tls         *tls.Config
	tokens      *apns.ProviderTokens  // nil with a client certificate
	certificate *apns.CertificateFile // nil with a key
}

// open reads an app's credentials. Its errors name the file and what was expected, and no secret.
func (g *gateways) open(app *config.App) (a access, err error) {
	c := &app.APNs
	a.tls = &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CAFile != "" {
		if a.tls.RootCAs, err = apns.LoadCAs(c.CAFile); err != nil {
			return a, fmt.Errorf("app %s: %w", app.Name, err)
		}
	}
	if c.KeyFile != "" {
		a.tokens, err = g.tokens.Load(c.KeyFile, c.KeyID, c.TeamID)
	} else if a.certificate, err = apns.LoadCertificateFile(app.Name, c.CertificateFile, c.CertificatePassword, g.credentials); err == nil {
		a.tls.GetClientCertificate = a.certificate.GetClientCertificate
	}
	if err != nil {
		return a, fmt.Errorf("app %s: %w", app.Name, err)
	}
	return a, nil
}

// follow has the app's transport take up new credentials when their file changes. A connection keeps the ones that it was
// opened with; the binary transport opens new ones all the time.
func (g *gateways) follow(app *config.App, a access, t sender.Transport) {
	changed := func() {}
	if r, ok := t.(interface{ Reconnect() }); ok {
		changed = r.Reconnect
	}
	if a.tokens != nil {
		g.users[a.tokens] = append(g.users[a.tokens], changed)
		g.watch.SigningKey(app.Name, app.APNs.KeyFile, a.tokens, func() {
			for _, reconnect := range g.users[a.tokens] {
				reconnect()
			}
		})
	} else {
		g.watch.Certificate(a.certificate, changed)
	}
}

// transport makes the app's transport. It connects to nothing yet.
func (g *gateways) transport(app *config.App, a access) (sender.Transport, error) {
	c := &app.APNs
	if c.Transport == "binary" {
		statuses := make([]uint8, 0, len(c.RetryStatuses))
		for _, s := range c.RetryStatuses {
			statuses = append(statuses, uint8(s)) // the configuration checks that it is 0 to 255
		}
		return apns.NewBinary(apns.BinaryConfig{
			App: app.Name, Address: c.Gateway, TLS: a.tls, Connections: c.Connections, Window: c.Window,
			RetryStatuses: statuses, ConfirmAfter: c.ConfirmAfter, EndAfter: c.EndAfter, IdleClose: c.IdleClose,
		}, g.log, g.metrics), nil
	}
	var proxy *url.URL
	if c.Proxy != "" {
		var err error
		if proxy, err = url.Parse(c.Proxy); err != nil {
			return nil, fmt.Errorf("app %s: the proxy is not a URL", app.Name) // not the error: it quotes the password
		}
	}
	to := func(address string) *apns.HTTP2 {
		return apns.NewHTTP2(apns.HTTP2Config{
			App: app.Name, Address: address, TLS: a.tls, Tokens: a.tokens, Connections: c.Connections, Proxy: proxy,
		}, g.log, g.metrics)
	}
	if c.Gateway != "" {
		return to(c.Gateway), nil
	}
	return apns.NewEnvironments(to(appleGateways[push.Production]), to(appleGateways[push.Sandbox])), nil
}

// feedbackSource is the app's feedback service, nil where it has none: over HTTP/2 the answers tell of dead tokens.
func feedbackSource(app *config.App, a access) feedback.Source {
	if app.APNs.FeedbackAddress == "" {
		return nil
	}
	return &apns.Feedback{Address: app.APNs.FeedbackAddress, TLS: a.tls}
}

// gatewayName is for the log. Of Apple's two it is that of the app's own environment.
func gatewayName(app *config.App) string {
	if app.APNs.Gateway != "" {
		return app.APNs.Gateway
	}
	host, _, _ := net.SplitHostPort(appleGateways[app.APNs.Environment])
	return host
}
