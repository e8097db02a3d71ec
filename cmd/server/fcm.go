package main

import (
	"crypto/tls"
	"fmt"
	"strings"

	"github.com/lhspn/lhspn/internal/apns/credentials"
	"github.com/lhspn/lhspn/internal/config"
	"github.com/lhspn/lhspn/internal/fcm"
	"github.com/lhspn/lhspn/internal/sender"
)

// fcmWay is an app's route to FCM.
type fcmWay struct {
	g   *gateways
	app string
	fcm *config.FCM

	following
}

func newFCMWay(g *gateways, app *config.App) *fcmWay {
	return &fcmWay{g: g, app: app.Name, fcm: &app.FCM}
}

// name is the gateway's, for messages.
func (w *fcmWay) name() string { return strings.TrimSuffix(w.fcm.Gateway, ":443") }

// open reads the credentials' file and makes the transport. It connects to nothing yet.
func (w *fcmWay) open() (sender.Transport, error) {
	c := w.fcm
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CAFile != "" {
		var err error
		if conf.RootCAs, err = credentials.LoadCAs(c.CAFile); err != nil {
			return nil, fmt.Errorf("app %s, fcm: %w", w.app, err)
		}
	}
	proxy, err := parseProxy(c.Proxy)
	if err != nil {
		return nil, fmt.Errorf("app %s, fcm: %w", w.app, err)
	}
	account, err := fcm.NewCredentials(fcm.CredentialsConfig{
		App: w.app, File: c.ServiceAccountFile, ProjectID: c.ProjectID, TokenURL: c.TokenURL, TLS: conf, Proxy: proxy,
	}, w.g.log)
	if err != nil {
		return nil, fmt.Errorf("app %s, fcm: %w", w.app, err)
	}
	if err := w.begin(func() (unfollow func()) {
		if c.ServiceAccountFile == "" {
			return nil
		}
		return w.g.watch.Follow(w.app, c.ServiceAccountFile, account.Reload, func() {})
	}); err != nil {
		return nil, err
	}
	return fcm.NewTransport(fcm.Config{
		App: w.app, Address: c.Gateway, Credentials: account, TLS: conf, Proxy: proxy, Connections: c.Connections,
		MaxRate: c.MaxRate, Share: w.g.share,
	}, w.g.log, w.g.fcmMetrics), nil
}

func (w *fcmWay) senderConfig(t sender.Transport) sender.RouteConfig {
	return sender.RouteConfig{
		Transport: t, Platform: fcm.Name, Kind: fcm.Name, Reasons: fcm.Reasons(), MaxRetries: retries(w.fcm.MaxRetries),
		QueueTarget: urgentWait, Answered: w.g.cores.Answered,
	}
}

// openFCM opens an app's route to FCM.
func (g *gateways) openFCM(app *config.App) *opened {
	w := newFCMWay(g, app)
	o := newOpened(app.Name, app.FCM, fcm.Platform{})
	o.add(g, fcm.Name, w, w.senderConfig)
	g.log.Info("route", "app", app.Name, "route", fcm.Name, "transport", fcm.Name, "gateway", app.FCM.Gateway)
	o.forget = func() { g.fcmMetrics.Forget(app.Name) }
	return o
}
