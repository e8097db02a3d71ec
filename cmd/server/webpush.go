package main

import (
	"crypto/x509"
	"fmt"

	"github.com/lhspn/lhspn/internal/apns/credentials"
	"github.com/lhspn/lhspn/internal/config"
	"github.com/lhspn/lhspn/internal/sender"
	"github.com/lhspn/lhspn/internal/webpush"
)

// webPushWay is an app's route to browsers.
type webPushWay struct {
	g        *gateways
	app      string
	webpush  *config.WebPush
	platform webpush.Platform

	following
}

// openWebPush opens an app's route to browsers.
func (g *gateways) openWebPush(app *config.App) *opened {
	w, err := newWebPushWay(g, app)
	o := newOpened(app.Name, app.WebPush, &w.platform)
	o.err = err
	o.add(g, webpush.Name, w, w.senderConfig)
	g.log.Info("route", "app", app.Name, "route", webpush.Name, "transport", webpush.Name)
	o.forget = func() { g.webPushMetrics.Forget(app.Name) }
	return o
}

// newWebPushWay returns the way also with an error: then to the push services of the known browsers only.
func newWebPushWay(g *gateways, app *config.App) (*webPushWay, error) {
	w := &webPushWay{g: g, app: app.Name, webpush: &app.WebPush}
	var err error
	if w.platform.Origins, err = webpush.ParseOrigins(app.WebPush.AllowedOrigins); err != nil {
		w.platform.Origins, _ = webpush.ParseOrigins(nil) // which cannot fail
		return w, fmt.Errorf("app %s, webpush: allowed_origins: %w", app.Name, err)
	}
	return w, nil
}

// name is for messages.
func (w *webPushWay) name() string { return "the push service" }

// open reads the VAPID key and makes the transport. It connects to nothing yet.
func (w *webPushWay) open() (sender.Transport, error) {
	c := w.webpush
	var roots *x509.CertPool
	if c.CAFile != "" {
		var err error
		if roots, err = credentials.LoadCAsBesideSystem(c.CAFile); err != nil {
			return nil, fmt.Errorf("app %s, webpush: %w", w.app, err)
		}
	}
	vapid, err := webpush.LoadVAPID(c.VAPIDKeyFile, c.Subject)
	if err != nil {
		return nil, fmt.Errorf("app %s, webpush: %w", w.app, err)
	}
	if err := w.begin(func() (unfollow func()) {
		w.platform.VAPID.Store(vapid)
		return w.g.watch.Follow(w.app, c.VAPIDKeyFile, vapid.Reload, func() {})
	}); err != nil {
		return nil, err
	}
	return webpush.New(webpush.Config{
		App: w.app, Route: webpush.Name, VAPID: vapid, Origins: w.platform.Origins, Subscriptions: w.g, RootCAs: roots,
		Connections: c.Connections, Cores: w.g.cores,
	}, w.g.log, w.g.webPushMetrics), nil
}

func (w *webPushWay) senderConfig(t sender.Transport) sender.RouteConfig {
	return sender.RouteConfig{
		Transport: t, Platform: webpush.Name, Kind: webpush.Name, Reasons: webpush.Reasons(),
		MaxRetries: retries(w.webpush.MaxRetries),
		MaxRate:    w.webpush.MaxRate, QueueTarget: urgentWait, InFlight: webpush.MaxInFlight, ManyServices: true,
	}
}
