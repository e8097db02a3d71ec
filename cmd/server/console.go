package main

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/lhspn/lhspn/internal/api"
	"github.com/lhspn/lhspn/internal/config"
	"github.com/lhspn/lhspn/internal/console"
	"github.com/lhspn/lhspn/internal/events"
	"github.com/lhspn/lhspn/internal/fcm"
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/queue"
	"github.com/lhspn/lhspn/internal/tokens"
	"github.com/lhspn/lhspn/internal/webpush"
)

// newConsole makes the operators' page; nil where the configuration has none.
func newConsole(s *service, shown prometheus.Gatherer) (*console.Console, error) {
	if s.cfg.Console == "off" {
		return nil, nil
	}
	values := &shownMetrics{from: shown}
	return console.New(console.Config{
		Operators: s.api, Apps: consoleApps{s.operated, s.live, values}, Notifications: consoleQueue{s.queue, s.api},
		Tokens: consoleTokens{s.tokens, s.queue, s.events}, Sending: consoleSending{s.sender, values},
		Feedback: consoleFeedback{s.queue, values}, Replicas: consoleReplicas{s.queue}, Ready: s.ready, Explain: explain,
		Log: s.log, Client: s.proxies.Client, Version: version, API: apiURL(s.public.Addr(), s.certificate != nil),
		ReadFreely: isPrivate(s.private.Addr()),
	})
}

// isPrivate reports whether only this machine or a private network reaches the address. The unspecified one is every
// address there is.
func isPrivate(a net.Addr) bool {
	at, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return false
	}
	ip := at.Addr().Unmap()
	return ip.IsLoopback() || ip.IsPrivate() || ip.IsLinkLocalUnicast()
}

// apiURL is how examples name the API.
func apiURL(a net.Addr, encrypted bool) string {
	scheme := "http://"
	if encrypted {
		scheme = "https://"
	}
	return scheme + a.String()
}

// explain is what the API would say of the error.
func explain(err error) console.Problem {
	p := api.ProblemOf(err)
	shown := console.Problem{Status: p.Status, Text: cmp.Or(p.Detail, p.Title)}
	for _, f := range p.Errors {
		shown.Faults = append(shown.Faults, push.Fault{Location: f.Location, Message: f.Message})
	}
	return shown
}

// consoleApps is the apps as the console asks for them.
type consoleApps struct {
	*operated
	live  *live
	shown *shownMetrics
}

// Names implements console.Apps.
func (a consoleApps) Names() []console.App {
	a.mu.Lock()
	all := make([]console.App, 0, len(a.file)+len(a.stored))
	for i := range a.file {
		all = append(all, console.App{Name: a.file[i].Name, FromFile: true})
	}
	for i := range a.stored {
		all = append(all, console.App{Name: a.stored[i].Name, Deleting: a.stored[i].Deleting})
	}
	a.mu.Unlock()
	// The file's goes before one of the same name.
	slices.SortStableFunc(all, func(a, b console.App) int { return strings.Compare(a.Name, b.Name) })
	return slices.CompactFunc(all, func(a, b console.App) bool { return a.Name == b.Name })
}

// Problems implements console.Apps.
func (a consoleApps) Problems(app string) []string {
	a.live.mu.Lock()
	defer a.live.mu.Unlock()
	of := a.live.apps[app]
	if of == nil {
		return nil
	}
	return slices.Sorted(maps.Values(of.refused))
}

// Webhooks implements console.Apps.
func (a consoleApps) Webhooks(app string) (all []console.Webhook) {
	g := a.shown.read()
	for key, seconds := range g.sums {
		if key.app != app || key.name != undeliveredMetric {
			continue
		}
		disabled := gaugeKey{disabledMetric, app, "", key.of}
		all = append(all, console.Webhook{
			Endpoint: key.of, Undelivered: time.Duration(seconds * float64(time.Second)).Truncate(time.Second),
			Disabled: g.sums[disabled] > 0,
		})
	}
	slices.SortFunc(all, func(a, b console.Webhook) int { return strings.Compare(a.Endpoint, b.Endpoint) })
	return all
}

// NewWebhookSecret implements console.Apps.
func (consoleApps) NewWebhookSecret() string { return config.NewWebhookSecret() }

// Entry implements console.Apps.
func (a consoleApps) Entry(ctx context.Context, app string) (json.RawMessage, error) {
	return a.GetApp(ctx, app)
}

// Put implements console.Apps.
func (a consoleApps) Put(ctx context.Context, app string, entry push.JSON) (created bool, err error) {
	_, created, err = a.PutApp(ctx, app, entry)
	return created, err
}

// Delete implements console.Apps.
func (a consoleApps) Delete(ctx context.Context, app string) error { return a.DeleteApp(ctx, app) }

// AddKey implements console.Apps.
func (a consoleApps) AddKey(ctx context.Context, app string, key console.Key) (string, error) {
	of := api.Key{Name: key.Name, Scope: api.Scope(key.Scope), Rate: key.Rate, ExpiresAt: key.ExpiresAt}
	if err := api.CheckKeyName(key.Name); err != nil {
		return "", err
	}
	text, hash := a.NewKey(of.Scope)
	of.Hash = hash
	_, err := a.operated.AddKey(ctx, app, of)
	if errors.Is(err, push.ErrConflict) {
		err = api.Explain(err, "The app has a key of this name; or the app is of the configuration file.")
	}
	return text, err
}

// consoleQueue is the queue as the console asks for it.
type consoleQueue struct {
	*queue.Queue
	api *api.API
}

// countedFailures is how many failures of a notification are counted by reason at the most.
const countedFailures = 100_000

// CountFailures implements console.Notifications.
func (q consoleQueue) CountFailures(ctx context.Context, id uuid.UUID) ([]console.ReasonCount, bool, error) {
	counts, complete, err := q.Queue.CountFailures(ctx, id, countedFailures)
	all := make([]console.ReasonCount, len(counts))
	for i, c := range counts {
		all[i] = console.ReasonCount(c)
	}
	return all, complete, err
}

// Cancel implements console.Notifications.
func (q consoleQueue) Cancel(ctx context.Context, app string, id uuid.UUID) (push.Status, error) {
	s, err := q.Queue.Cancel(ctx, app, id)
	if errors.Is(err, push.ErrConflict) {
		err = api.Explain(err, "The notification is done: there is nothing left to cancel.")
	}
	return s, err
}

// Submit implements console.Notifications.
func (q consoleQueue) Submit(ctx context.Context, app string, body []byte) (uuid.UUID, error) {
	return q.api.Submit(ctx, app, body)
}

// consoleTokens is the registry and what is remembered of device tokens.
type consoleTokens struct {
	registry *tokens.Store
	queue    *queue.Queue
	events   *events.Store
}

// Get implements console.Tokens.
func (t consoleTokens) Get(ctx context.Context, app string, token push.Token) (push.Device, error) {
	return t.registry.Get(ctx, app, token)
}

// How much of the events a look for one device token reads.
const (
	searchedEventRows = 5000
	searchedEvents    = 20
	searchEvents      = 1500 * time.Millisecond
)

// History implements console.Tokens.
func (t consoleTokens) History(ctx context.Context, app string, token push.Token) (console.History, error) {
	h, err := t.queue.TokenHistory(ctx, app, token)
	if err != nil {
		return console.History{}, err
	}
	shown := console.History{Invalidations: h.Invalidations}
	for _, b := range h.Bad {
		shown.Bad = append(shown.Bad, console.BadAnswers{Route: b.Route, Answers: b.Answers, FirstAt: b.FirstAt,
			LastAt: b.LastAt})
	}
	for _, f := range h.Failures {
		shown.Failures = append(shown.Failures, console.TokenFailure(f))
	}
	looking, cancel := context.WithTimeout(ctx, searchEvents)
	defer cancel()
	shown.Events, shown.EventsSince, err = t.events.About(looking, app, token, searchedEventRows, searchedEvents)
	if looking.Err() != nil && ctx.Err() == nil {
		err = nil // what else is known is shown without them
	}
	return shown, err
}

// Read implements console.Tokens: each reading that makes a device token is one.
func (consoleTokens) Read(written string) (all []push.Token) {
	add := func(t push.Token, err error) {
		if err == nil && t.Valid() && !slices.Contains(all, t) {
			all = append(all, t)
		}
	}
	text := strings.TrimSpace(written)
	if strings.HasPrefix(text, "{") { // a subscription, as JSON.stringify gives it
		var s webpush.Subscription
		if json.Unmarshal([]byte(text), &s) == nil && s.Endpoint != "" {
			add(s.Token(), nil)
		}
		return all
	}
	text = strings.Trim(text, `"'`)
	if strings.HasPrefix(text, "https://") {
		add((&webpush.Subscription{Endpoint: text}).Token(), nil)
		return all
	}
	// The description of NSData, and what a terminal has broken into lines.
	joined := strings.Join(strings.Fields(strings.NewReplacer("<", " ", ">", " ").Replace(text)), "")
	t, err := push.ParseToken(joined)
	add(t, err)
	if err != nil {
		t, err := push.ParseToken(strings.ToLower(joined))
		add(t, err)
	}
	for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.RawURLEncoding} {
		b, err := encoding.DecodeString(joined)
		if err == nil && len(b) >= push.MinHexTokenLen && len(b) <= push.MaxHexTokenLen && len(all) == 0 {
			add(push.HexToken(b), nil)
		}
	}
	if t := push.TextToken(webpush.Name, joined); webpush.CheckToken(t) == nil {
		add(t, nil)
	}
	// A registration token may be anything, and begin with what looks like a platform.
	if known := []string{push.DefaultPlatform, fcm.Name, webpush.Name}; !slices.ContainsFunc(all,
		func(t push.Token) bool { return slices.Contains(known, t.PlatformName()) }) {
		add(fcm.Token(joined))
	}
	return all
}

// consoleMetrics are those that the console shows. All others, of which there may be very many, are not gathered for
// it.
var consoleMetrics = []string{
	"lhspn_apns_connections", "lhspn_fcm_connections", "lhspn_webpush_connections", "lhspn_apns_gateway_down",
	"lhspn_fcm_gateway_down", "lhspn_credentials_unusable", "lhspn_feedback_last_success_timestamp_seconds",
	"lhspn_feedback_bad_token_guard", "lhspn_feedback_unregistered_guard", undeliveredMetric, disabledMetric,
}

const (
	undeliveredMetric = "lhspn_webhooks_oldest_undelivered_seconds"
	disabledMetric    = "lhspn_webhooks_disabled"
)

// consoleFeedback is the passes of the feedback job.
type consoleFeedback struct {
	queue *queue.Queue
	shown *shownMetrics
}

// listedInvalidations is how many of the newest are shown.
const listedInvalidations = 20

// Passes implements console.Feedback.
func (f consoleFeedback) Passes(ctx context.Context, app string) (p console.Passes, err error) {
	p.Checked, p.Pending, err = f.queue.LastInvalidations(ctx, app, 100)
	p.Checked = p.Checked[:min(len(p.Checked), listedInvalidations)]
	g := f.shown.read()
	if at := g.sums[gaugeKey{name: "lhspn_feedback_last_success_timestamp_seconds", app: app}]; at > 0 {
		p.LastSuccess = time.Unix(int64(at), 0)
	}
	for key, on := range g.sums {
		bad := key.name == "lhspn_feedback_bad_token_guard"
		if on > 0 && key.app == app && (bad || key.name == "lhspn_feedback_unregistered_guard") {
			p.Guards = append(p.Guards, console.Guard{Platform: key.of, Bad: bad})
		}
	}
	slices.SortFunc(p.Guards, func(a, b console.Guard) int { return strings.Compare(a.Platform, b.Platform) })
	return p, err
}

// consoleReplicas is who shares the database.
type consoleReplicas struct{ queue *queue.Queue }

// Replicas implements console.Replicas.
func (r consoleReplicas) Replicas(ctx context.Context) ([]console.Replica, []uint8, error) {
	list, free, err := r.queue.Replicas(ctx)
	all := make([]console.Replica, len(list))
	for i, one := range list {
		all[i] = console.Replica(one)
	}
	return all, free, err
}

// withConsole serves the console beside the operators' other endpoints.
func withConsole(ops http.Handler, c *console.Console) http.Handler {
	mux := http.NewServeMux()
	mux.Handle(console.Path, c)
	mux.Handle(console.Path+"/", c)
	mux.Handle("/", ops)
	return mux
}

func (s *service) runConsole(ctx context.Context) error {
	if s.console == nil {
		<-ctx.Done()
		return nil
	}
	return s.console.Run(ctx)
}
