// Package console is the operators' page: what is sent and what waits, the routes, notifications, device tokens, apps,
// the removal of dead tokens, and the replicas; and, with an operator's key, the acts on them.
//
// It is one page, made by html/template, of which htmx fetches single sections anew and uPlot draws the plots. It loads
// nothing from anywhere else. It holds no SQL and no state but who has signed in and a few minutes of rates; the stores
// are reached through the interfaces of stores.go, whose values are those of internal/push, and it imports nothing else
// of ours. Nothing that somebody else wrote gets into the page but through html/template's escaping.
package console

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"time"
)

// Path is where the console is.
const Path = "/console"

// Config is what the console is made of.
type Config struct {
	Operators     Operators
	Apps          Apps
	Notifications Notifications
	Tokens        Tokens
	Sending       Sending
	Feedback      Feedback
	Replicas      Replicas
	// Ready says why the service is not ready; nil when it is.
	Ready func(context.Context) error
	// Explain says what an error is to people; one of our own is told as such, and logged.
	Explain func(error) Problem
	Log     *slog.Logger
	// Client is the address that a request comes from.
	Client func(*http.Request) netip.Addr
	// Version is shown, and API is the address that the examples name.
	Version, API string
	// ReadFreely has the console shown to who has no key: the listener is for operators only.
	ReadFreely bool
}

// Console is the handler of Path and what is under it.
type Console struct {
	Config
	sessions *sessions
	refs     refs
	rates    *rates
	mux      *http.ServeMux
	handler  http.Handler
	now      func() time.Time
}

// New makes the handler and starts nothing: see Run.
func New(c Config) (*Console, error) {
	if c.Operators == nil || c.Apps == nil || c.Notifications == nil || c.Tokens == nil || c.Sending == nil ||
		c.Feedback == nil || c.Replicas == nil || c.Ready == nil || c.Explain == nil || c.Log == nil {
		return nil, errors.New("console: a part of the configuration is missing")
	}
	refs, err := newRefs()
	if err != nil {
		return nil, err
	}
	k := &Console{
		Config: c, sessions: newSessions(), refs: refs, rates: newRates(), mux: http.NewServeMux(), now: time.Now,
	}
	k.route()
	// Browsers say with each request where it comes from: what another site has somebody post is refused.
	protection := http.NewCrossOriginProtection()
	protection.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "This request comes from another site's page. Open the console itself.", http.StatusForbidden)
	}))
	k.handler = protection.Handler(k.mux)
	return k, nil
}

// Run takes samples of what is sent until ctx ends.
func (k *Console) Run(ctx context.Context) error {
	ticker := time.NewTicker(sampleEvery)
	defer ticker.Stop()
	for {
		k.rates.add(k.now(), k.Sending.Routes(false))
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// policy lets the page load from its own origin only, and nothing that is in its text be run or applied.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// ServeHTTP serves what is under Path.
func (k *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	// Not no-referrer: with that browsers do not say of a form where it comes from.
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	k.handler.ServeHTTP(w, r)
}

func (k *Console) route() {
	k.mux.HandleFunc("GET "+Path, k.reading(k.servePage))
	k.mux.HandleFunc("GET "+Path+"/{$}", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, Path, http.StatusSeeOther)
	})
	k.mux.HandleFunc("GET "+Path+"/{section}", k.reading(k.serveSection))
	k.mux.HandleFunc("GET "+Path+"/live.json", k.reading(k.serveLive))
	k.mux.HandleFunc("GET "+Path+"/static/{version}/{name}", serveStatic)
	k.mux.HandleFunc("POST "+Path+"/sign-in", k.signIn)
	k.mux.HandleFunc("POST "+Path+"/sign-out", k.acting("", k.signOut))
	k.mux.HandleFunc("POST "+Path+"/look-up", k.reading(k.lookUp))
	k.mux.HandleFunc("POST "+Path+"/test-push", k.acting("test push", k.testPush))
	k.mux.HandleFunc("POST "+Path+"/cancel", k.acting("cancel notification", k.cancel))
	k.mux.HandleFunc("POST "+Path+"/app", k.acting("put app", k.putFields))
	k.mux.HandleFunc("POST "+Path+"/app-json", k.acting("put app", k.putJSON))
	k.mux.HandleFunc("POST "+Path+"/delete-app", k.acting("delete app", k.deleteApp))
	k.mux.HandleFunc("POST "+Path+"/add-key", k.acting("add key", k.addKey))
	k.mux.HandleFunc("POST "+Path+"/revoke-key", k.acting("revoke key", k.revokeKey))
	k.mux.HandleFunc("POST "+Path+"/add-webhook", k.acting("add webhook", k.addWebhook))
	k.mux.HandleFunc("POST "+Path+"/remove-webhook", k.acting("remove webhook", k.removeWebhook))
}
