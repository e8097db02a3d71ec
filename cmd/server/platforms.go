package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	"github.com/lhspn/lhspn/internal/api"
	"github.com/lhspn/lhspn/internal/apns/payload"
	"github.com/lhspn/lhspn/internal/config"
	"github.com/lhspn/lhspn/internal/fcm"
	"github.com/lhspn/lhspn/internal/feedback"
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/queue"
	"github.com/lhspn/lhspn/internal/sender"
)

// openRoutes are the routes of every app on every platform, with what the other parts of the service must know of them.
type openRoutes struct {
	routes    map[queue.Outlet]sender.RouteConfig
	feedback  map[string]feedback.Source // by app; nil for one without
	platforms map[string][]api.Platform  // by app
	errs      []error
}

// add opens a route. Of one whose credentials cannot be used it makes a transport that waits until they can.
func (o *openRoutes) add(g *gateways, app string, route push.Route, way opener, settings func(sender.Transport) sender.RouteConfig) {
	transport, err := way.open()
	if err != nil {
		o.errs = append(o.errs, err)
		transport = &unusable{opener: way, app: app, route: route, g: g, err: err}
	}
	o.routes[queue.Outlet{App: app, Route: route}] = settings(transport)
}

// openAll reads the credentials of every route and makes its transport. It connects to nothing yet. The error says what
// is wrong with which credentials; the routes are all there nevertheless.
func (g *gateways) openAll(cfg *config.Config) (*openRoutes, error) {
	all := &openRoutes{
		routes: map[queue.Outlet]sender.RouteConfig{}, feedback: map[string]feedback.Source{}, platforms: map[string][]api.Platform{},
	}
	for i := range cfg.Apps {
		app := &cfg.Apps[i]
		all.feedback[app.Name] = nil
		var platforms []api.Platform
		if app.APNs.Given() {
			g.openAPNs(app, all)
			platforms = append(platforms, &payload.Platform{
				Topic: app.APNs.Topic, Environments: app.APNs.Routes(), Binary: app.APNs.Transport == "binary",
			})
		}
		if app.FCM.Given() {
			g.openFCM(app, all)
			platforms = append(platforms, fcm.Platform{})
		}
		if app.WebPush.Given() {
			platforms = append(platforms, g.openWebPush(app, all))
		}
		all.platforms[app.Name] = platforms
	}
	return all, errors.Join(all.errs...)
}

// retries gives a 0 of the configuration its meaning, where to the sender it stands for the default.
func retries(most int) int {
	if most == 0 {
		return -1
	}
	return most
}

// parseProxy reads a proxy's URL; nil for none. Its error does not quote it, for it may hold a password.
func parseProxy(text string) (*url.URL, error) {
	if text == "" {
		return nil, nil
	}
	u, err := url.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("the proxy is not a URL")
	}
	return u, nil
}

// Addresses implements webpush.Subscriptions.
func (g *gateways) Addresses(ctx context.Context, app string, tokens []push.Token) (map[push.Token][]byte, error) {
	return g.registry.Addresses(ctx, app, tokens)
}

// share is this replica's part of the work, by the shards that it owns. Without a queue, as for the command send, it is
// all.
func (g *gateways) share() float64 {
	if g.queue == nil {
		return 1
	}
	return float64(len(g.queue.Owned())) / queue.Shards
}
