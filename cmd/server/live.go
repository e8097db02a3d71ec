package main

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"sync"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/lhspn/lhspn/internal/api"
	"github.com/lhspn/lhspn/internal/apns"
	"github.com/lhspn/lhspn/internal/config"
	"github.com/lhspn/lhspn/internal/feedback"
	"github.com/lhspn/lhspn/internal/inline"
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/queue"
	"github.com/lhspn/lhspn/internal/quota"
	"github.com/lhspn/lhspn/internal/sender"
	"github.com/lhspn/lhspn/internal/webhooks"
)

// live has the apps that are in force. It makes of an app's settings what the API, the sender and the feedback job must
// know, and when settings change it changes only what they concern: the rest goes on undisturbed.
type live struct {
	g        *gateways
	log      *slog.Logger
	refusals *prometheus.GaugeVec
	expiry   *prometheus.GaugeVec
	// The parts that are told of apps. They are set before start.
	api      *api.API
	sender   *sender.Sender
	feedback *feedback.Job
	webhooks *webhooks.Sender
	counters *quota.Counters

	silent sync.Map // by name, the apps whose events are not kept: asked for each transaction
	named  sync.Map // by name, the apps whose deliveries to APNs have an id there

	mu        sync.Mutex // guards what follows
	apps      map[string]*liveApp
	operators []api.Key
	// allowed is what holds for all webhooks, and authorities what is in its ca_file.
	allowed     config.Webhooks
	authorities *x509.CertPool
}

// liveApp is one app in force.
type liveApp struct {
	settings config.App
	open     map[string]*opened // by platform
	proofs   *api.UserTokens
	digest   [sha256.Size]byte // of what proofs were read from
	// refused says what of the settings cannot be used, while the former ones stay, by what it concerns.
	refused map[string]string
}

func newLive(g *gateways, log *slog.Logger, reg prometheus.Registerer) *live {
	l := &live{g: g, log: log, apps: map[string]*liveApp{}, refusals: prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: "lhspn", Name: "app_settings_refused",
		Help: "1 while an app's new settings, or the files that they name, cannot be used, and the former ones stay in " +
			"force.",
	}, []string{"app"})}
	l.expiry = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: "lhspn", Name: "api_key_expiry_timestamp_seconds",
		Help: "When an API key expires, of those that do. app is empty for operators' keys.",
	}, []string{"app", "key"})
	reg.MustRegister(l.refusals, l.expiry)
	return l
}

// wantsEvents reports whether the app's events are kept.
func (l *live) wantsEvents(app string) bool {
	_, silent := l.silent.Load(app)
	return !silent
}

// serviceID is what the delivery of an app is called towards its service: the apns-id, over HTTP/2.
func (l *live) serviceID(app string, notification uuid.UUID, t push.Token) string {
	if _, named := l.named.Load(app); !named || t.Platform() != "" {
		return ""
	}
	return apns.ID(notification, t.Address()).String()
}

// setExpiry tells when keys expire. mu is held.
func (l *live) setExpiry() {
	l.expiry.Reset()
	for _, k := range l.operators {
		if !k.ExpiresAt.IsZero() {
			l.expiry.WithLabelValues("", k.Name).Set(float64(k.ExpiresAt.Unix()))
		}
	}
	for name, a := range l.apps {
		for _, k := range a.settings.Keys {
			if !k.ExpiresAt.IsZero() {
				l.expiry.WithLabelValues(name, k.Name).Set(float64(k.ExpiresAt.Unix()))
			}
		}
	}
}

// setQuotas has the apps' limits be in force. mu is held.
func (l *live) setQuotas() {
	if l.counters == nil { // the settings are only tried
		return
	}
	limits := map[string]quota.Limits{}
	for name, a := range l.apps {
		q := &a.settings.Quotas
		limits[name] = quota.Limits{
			quota.Tokens: q.MaxTokens, quota.Waiting: q.MaxWaiting, quota.Scheduled: q.MaxScheduled,
			quota.Keys: q.MaxIdempotencyKeys,
		}
	}
	l.counters.SetApps(limits)
}

// change is what is to be done so that the apps' new settings are in force.
type change struct {
	routes  map[queue.Outlet]*sender.RouteConfig // that are new, or in the place of others
	gone    map[queue.Outlet]*sender.RouteConfig // all nil
	closing []*opened
	forget  []func()
}

// prepare opens what is new of the apps' settings. What cannot be used leaves what there was in force; where there was
// nothing, a route waits for good credentials, and an app is without proofs. The errors say so too.
func (l *live) prepare(apps []config.App) (*change, error) {
	c := &change{routes: map[queue.Outlet]*sender.RouteConfig{}, gone: map[queue.Outlet]*sender.RouteConfig{}}
	var errs []error
	named := map[string]bool{}
	for i := range apps {
		app := &apps[i]
		named[app.Name] = true
		a := l.apps[app.Name]
		if a == nil {
			a = &liveApp{open: map[string]*opened{}, refused: map[string]string{}}
			l.apps[app.Name] = a
			l.refusals.WithLabelValues(app.Name)
		}
		a.settings = *app
		if app.Events || len(app.Webhooks) > 0 {
			l.silent.Delete(app.Name)
		} else {
			l.silent.Store(app.Name, true)
		}
		if app.APNs.Given() && app.APNs.Transport == "http2" {
			l.named.Store(app.Name, true)
		} else {
			l.named.Delete(app.Name)
		}
		errs = append(errs, l.preparePlatforms(c, a), l.prepareProofs(a))
		l.refusals.WithLabelValues(app.Name).Set(float64(min(1, len(a.refused))))
	}
	for name, a := range l.apps {
		if named[name] {
			continue
		}
		for _, o := range a.open {
			c.remove(o)
		}
		delete(l.apps, name)
		c.forget = append(c.forget, func() { l.refusals.DeleteLabelValues(name) })
		l.log.Info("app is gone: it takes no requests, and nothing is sent for it", "app", name)
	}
	return c, errors.Join(errs...)
}

func (l *live) preparePlatforms(c *change, a *liveApp) error {
	var errs []error
	wanted := l.g.platformsOf(&a.settings)
	for _, p := range wanted {
		old := a.open[p.name]
		authorities, _ := digestFiles("", p.authorities) // why one cannot be read opening tells
		if old != nil && old.authorities == authorities && reflect.DeepEqual(old.settings, p.settings) {
			l.accept(a, p.name)
			continue
		}
		next := p.open()
		next.authorities = authorities
		if next.err != nil {
			errs = append(errs, next.err)
		}
		if old != nil && next.err != nil {
			next.close()
			l.refuse(a, p.name, next.err)
			continue
		}
		l.accept(a, p.name)
		a.open[p.name] = next
		for route, settings := range next.routes {
			c.routes[queue.Outlet{App: next.app, Route: route}] = &settings
			if next.err == nil {
				l.g.unusable.WithLabelValues(next.app, string(route)).Set(0)
			}
		}
		if old != nil {
			c.closing = append(c.closing, old)
		}
	}
	for name, o := range a.open {
		if !slices.ContainsFunc(wanted, func(p platformOpener) bool { return p.name == name }) {
			c.remove(o)
			delete(a.open, name)
			l.accept(a, name)
		}
	}
	return errors.Join(errs...)
}

// remove has all of a platform's routes taken away.
func (c *change) remove(o *opened) {
	for route := range o.routes {
		c.gone[queue.Outlet{App: o.app, Route: route}] = nil
	}
	c.closing = append(c.closing, o)
	c.forget = append(c.forget, o.forget)
}

// refuse notes, and logs once, that the former settings stay.
func (l *live) refuse(a *liveApp, what string, err error) {
	if a.refused[what] != err.Error() {
		a.refused[what] = err.Error()
		l.log.Error("an app's new settings cannot be used; the former ones stay in force", "app", a.settings.Name, "error",
			err)
	}
}

func (l *live) accept(a *liveApp, what string) {
	if a.refused[what] != "" {
		delete(a.refused, what)
		l.log.Info("an app's settings can be used", "app", a.settings.Name)
	}
}

// prepareProofs reads what users' proofs are checked with, where the settings or the files have changed.
func (l *live) prepareProofs(a *liveApp) error {
	const what = "user_tokens"
	digest, err := digestProofs(&a.settings.UserTokens)
	if err == nil && digest == a.digest {
		l.accept(a, what)
		return nil
	}
	var proofs *api.UserTokens
	if err == nil {
		proofs, err = userTokens(&a.settings.UserTokens)
	}
	if err != nil {
		err = fmt.Errorf("app %s: user_tokens: %w", a.settings.Name, err)
		l.refuse(a, what, err)
		return err
	}
	l.accept(a, what)
	if a.proofs != nil {
		l.log.Info("keys of user tokens reloaded", "app", a.settings.Name)
	}
	a.proofs, a.digest = proofs, digest
	return nil
}

// digestProofs tells settings, and contents of their files, from others.
func digestProofs(c *config.UserTokens) (digest [sha256.Size]byte, err error) {
	return digestFiles(fmt.Sprint(*c), proofFiles(c))
}

// digestFiles tells a text, and contents of files, from others.
func digestFiles(text string, files []string) (digest [sha256.Size]byte, err error) {
	h := sha256.New()
	_, _ = fmt.Fprintf(h, "%q", text) // a hash takes everything
	for _, file := range files {
		content, err := inline.Read(file)
		if err != nil {
			return digest, err
		}
		_, _ = fmt.Fprintf(h, "%q", content)
	}
	h.Sum(digest[:0])
	return digest, nil
}

func proofFiles(c *config.UserTokens) (files []string) {
	if c.JWKSFile != "" {
		files = append(files, c.JWKSFile)
	}
	for _, k := range c.Keys {
		if k.PublicKeyFile != "" {
			files = append(files, k.PublicKeyFile)
		}
	}
	return files
}

// start takes the first apps. The routes are for the sender, which is made with them, and sources for the feedback job.
func (l *live) start(apps []config.App, operators []config.OperatorKey) (routes map[queue.Outlet]sender.RouteConfig,
	err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.operators = operatorKeys(operators)
	c, err := l.prepare(apps)
	l.setQuotas()
	l.setExpiry()
	routes = map[queue.Outlet]sender.RouteConfig{}
	for outlet, settings := range c.routes {
		routes[outlet] = *settings
	}
	return routes, err
}

// set has these apps be in force, and no others. Apps whose settings are as before, and what they have under way,
// notice nothing. push.ErrUnavailable: where new webhooks begin is not kept yet, so it is to be called again.
func (l *live) set(apps []config.App, operators []config.OperatorKey) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.operators = operatorKeys(operators)
	c, err := l.prepare(apps)
	// What is new is there before it is asked for, and nothing is asked for any more of what goes.
	l.setQuotas()
	l.setExpiry()
	err = errors.Join(err, l.setWebhooks(context.Background()), l.sender.SetRoutes(c.routes),
		l.api.SetApps(l.apiApps(), l.operators), l.sender.SetRoutes(c.gone))
	l.feedback.SetApps(l.sources())
	for _, o := range c.closing {
		o.close()
	}
	for _, forget := range c.forget {
		forget()
	}
	for outlet := range c.gone {
		l.g.unusable.DeleteLabelValues(outlet.App, string(outlet.Route))
	}
	return err
}

// sources are the apps' feedback services.
func (l *live) sources() map[string]feedback.Source {
	sources := map[string]feedback.Source{}
	for name, a := range l.apps {
		sources[name] = nil
		for _, o := range a.open {
			if o.feedback != nil {
				sources[name] = o.feedback
			}
		}
	}
	return sources
}

// apiApps is what the API must know of the apps.
func (l *live) apiApps() []api.App {
	var apps []api.App
	for _, name := range slices.Sorted(maps.Keys(l.apps)) {
		a := l.apps[name]
		app := api.App{Name: name, UserTokens: a.proofs, RegisterTags: a.settings.RegisterTags}
		for _, p := range l.g.platformsOf(&a.settings) {
			if o := a.open[p.name]; o != nil {
				app.Platforms = append(app.Platforms, o.platform)
			}
		}
		for _, k := range a.settings.Keys {
			app.Keys = append(app.Keys, apiKey(k))
		}
		apps = append(apps, app)
	}
	return apps
}

func apiKey(k config.Key) api.Key {
	return api.Key{Name: k.Name, Scope: api.Scope(k.Scope), Hash: k.SHA256, Rate: k.Rate, ExpiresAt: k.ExpiresAt}
}

func operatorKeys(keys []config.OperatorKey) (all []api.Key) {
	for _, k := range keys {
		all = append(all, api.Key{Name: k.Name, Scope: api.ScopeOperator, Hash: k.SHA256, ExpiresAt: k.ExpiresAt})
	}
	return all
}

// files are those that the apps in force name, whose change may be news.
func (l *live) files() (files []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.allowed.CAFile != "" {
		files = append(files, l.allowed.CAFile)
	}
	for _, a := range l.apps {
		files = append(files, proofFiles(&a.settings.UserTokens)...)
		for _, p := range l.g.platformsOf(&a.settings) {
			files = append(files, p.authorities...)
		}
	}
	return slices.DeleteFunc(files, inline.Is) // what was given by API, which a watch would have in the log
}
