package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"sync"

	"github.com/lhspn/lhspn/internal/api"
	"github.com/lhspn/lhspn/internal/config"
	"github.com/lhspn/lhspn/internal/fcm"
	"github.com/lhspn/lhspn/internal/feedback"
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/queue"
	"github.com/lhspn/lhspn/internal/sender"
	"github.com/lhspn/lhspn/internal/webpush"
)

// opened is what an app has open on one platform: its routes with their transports, and what the other parts of the
// service must know of it. Nothing is connected yet.
type opened struct {
	app      string
	settings any // of the configuration; what is opened with equal ones, and the same authorities, is the same
	// authorities tells what was in the files of certificates' authorities from something else.
	authorities [sha256.Size]byte
	platform    api.Platform
	routes      map[push.Route]sender.RouteConfig
	feedback    feedback.Source // nil for none
	openers     []opener
	forget      func() // removes what is shown of the app on this platform
	err         error  // what is wrong with the credentials; the routes are there nevertheless, and wait for good ones
}

func newOpened(app string, settings any, platform api.Platform) *opened {
	return &opened{app: app, settings: settings, platform: platform, routes: map[push.Route]sender.RouteConfig{}}
}

// add opens a route. Of one whose credentials cannot be used it makes a transport that waits until they can.
func (o *opened) add(g *gateways, route push.Route, way opener, settings func(sender.Transport) sender.RouteConfig) {
	g.unusable.WithLabelValues(o.app, string(route)) // it is there from the start; who comes into force sets it
	o.openers = append(o.openers, way)
	transport, err := way.open()
	if err != nil {
		o.err = errors.Join(o.err, err)
		transport = &unusable{opener: way, app: o.app, route: route, g: g, err: err}
	}
	o.routes[route] = settings(transport)
}

// close has the credentials not be followed any more. The transports are the sender's to end.
func (o *opened) close() {
	for _, way := range o.openers {
		way.close()
	}
}

// platformNames are the names of all platforms, also of those that an app does not have, or has no more.
var platformNames = []string{push.DefaultPlatform, fcm.Name, webpush.Name}

// platformsOf are the platforms that an app has, with how each is opened, by its settings.
func (g *gateways) platformsOf(app *config.App) []platformOpener {
	var all []platformOpener
	if app.APNs.Given() {
		var authorities []string
		for _, route := range app.APNs.Routes() {
			authorities = append(authorities, app.APNs.Of(route).CAFile)
		}
		all = append(all, platformOpener{push.DefaultPlatform, app.APNs, given(authorities...),
			func() *opened { return g.openAPNs(app) }})
	}
	if app.FCM.Given() {
		all = append(all, platformOpener{fcm.Name, app.FCM, given(app.FCM.CAFile),
			func() *opened { return g.openFCM(app) }})
	}
	if app.WebPush.Given() {
		all = append(all, platformOpener{webpush.Name, app.WebPush, given(app.WebPush.CAFile),
			func() *opened { return g.openWebPush(app) }})
	}
	return all
}

// given are those of the files that are given.
func given(files ...string) []string {
	return slices.DeleteFunc(files, func(file string) bool { return file == "" })
}

type platformOpener struct {
	name        string
	settings    any
	authorities []string // files
	open        func() *opened
}

// errClosed is for a route that is gone by the time that its credentials are read again.
var errClosed = errors.New("the route is gone")

// following is the file of credentials that a route has followed until it is closed.
type following struct {
	mu       sync.Mutex // guards what follows
	unfollow func()     // nil where there is none
	closed   bool
}

// begin calls follow, which may return nil, unless the route is closed.
func (f *following) begin(follow func() (unfollow func())) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return errClosed
	}
	f.unfollow = follow()
	return nil
}

// close implements opener.
func (f *following) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	if f.unfollow != nil {
		f.unfollow()
	}
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
