package main

import (
	"context"
	"crypto/x509"
	"fmt"
	"maps"
	"slices"

	"github.com/lhspn/lhspn/internal/apns/credentials"
	"github.com/lhspn/lhspn/internal/config"
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/webhooks"
)

// userAgent is how the service calls itself.
func userAgent() string { return "lhspn/" + version }

// authoritiesOf are those that the certificates of allowed origins may be of; nil: the system's.
func authoritiesOf(w *config.Webhooks) (*x509.CertPool, error) {
	if w.CAFile == "" {
		return nil, nil
	}
	return credentials.LoadCAsBesideSystem(w.CAFile)
}

// allow has this hold for all webhooks when the apps are set the next time. An error leaves all of it as it was.
func (l *live) allow(w *config.Webhooks) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	pool, err := authoritiesOf(w)
	if err != nil {
		return fmt.Errorf("webhooks.ca_file: %w", err)
	}
	l.allowed, l.authorities = *w, pool
	return nil
}

// startWebhooks takes the first webhooks.
func (l *live) startWebhooks(ctx context.Context, w *config.Webhooks) error {
	if err := l.allow(w); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.setWebhooks(ctx)
}

// setWebhooks has the apps' webhooks be in force. mu is held. push.ErrUnavailable: it is to be tried again.
func (l *live) setWebhooks(ctx context.Context) error {
	var all []webhooks.Endpoint
	for _, name := range slices.Sorted(maps.Keys(l.apps)) {
		all = append(all, endpointsOf(&l.apps[name].settings, &l.allowed)...)
	}
	return l.webhooks.SetEndpoints(ctx, all, l.authorities)
}

// endpointsOf are an app's webhooks as they are sent to.
func endpointsOf(app *config.App, allowed *config.Webhooks) (all []webhooks.Endpoint) {
	for i := range app.Webhooks {
		hook := &app.Webhooks[i]
		e := webhooks.Endpoint{
			App: app.Name, URL: hook.URL, Secrets: hook.Secrets(), InFlight: hook.InFlight, Inner: allowed.Allows(hook.URL),
		}
		for _, name := range hook.Types {
			e.Types = append(e.Types, push.EventType(name))
		}
		all = append(all, e)
	}
	return all
}
