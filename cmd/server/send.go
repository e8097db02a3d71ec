package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"

	"github.com/lhspn/lhspn/internal/api"
	"github.com/lhspn/lhspn/internal/apns"
	"github.com/lhspn/lhspn/internal/apns/payload"
	"github.com/lhspn/lhspn/internal/config"
	"github.com/lhspn/lhspn/internal/fcm"
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/quota"
	"github.com/lhspn/lhspn/internal/sender"
	"github.com/lhspn/lhspn/internal/tokens"
	"github.com/lhspn/lhspn/internal/webpush"
)

// sendTimeout bounds the one try.
const sendTimeout = 45 * time.Second

func sendCommand() *cobra.Command {
	var m message
	c := withConfig("send", "send one notification straight to its service, and print the verdict",
		func(cmd *cobra.Command, file string) error { return send(cmd.Context(), file, m, cmd.OutOrStdout()) })
	c.Long = `Send one notification straight to the service that the token is of, past the queue, and print the verdict.

Its content is --alert, or --payload: on APNs the whole of the payload, as {"aps": {...}}, on FCM the message without
its target, in browsers any JSON. On APNs it may also be an alert of the app's own texts: --loc-key with --loc-arg,
--action-loc-key and --launch-image.`
	m.flags(c.Flags())
	_ = c.MarkFlagRequired("token") // it is there
	return c
}

// send sends one notification straight to its service, past the queue, and prints the verdict: what an operator does
// first with new credentials. It reads the database only for an app that was set by API and for a browser's token.
func send(ctx context.Context, file string, m message, stdout io.Writer) error {
	cfg, err := load(file)
	if err != nil {
		return err
	}
	app, err := findApp(ctx, cfg, m.app)
	if err != nil {
		return err
	}
	token, err := push.ParseToken(m.token)
	if err != nil {
		return fmt.Errorf("--token: %w", err)
	}
	log := new(errorLog)
	g := newGateways(slog.New(log), prometheus.NewRegistry())
	w, n, err := m.way(g, app, token, time.Now())
	if err != nil {
		return err
	}
	if token.PlatformName() == webpush.Name { // the token alone does not say where to
		db, err := openReader(ctx, cfg)
		if err != nil {
			return err
		}
		defer db.Close() //nolint:errcheck // only read
		reg := prometheus.NewRegistry()
		g.registry = tokens.New(db, quota.New(db, quota.Config{}, slog.New(log), reg), reg)
	}
	transport, err := w.open()
	if err != nil {
		return err
	}

	r, err := sendOnce(ctx, transport, token, n)
	if err != nil {
		return err
	}
	if r.Outcome == push.Accepted {
		_, err = fmt.Fprintf(stdout, "accepted by %s\n", w.name())
		return err
	}
	why := ""
	if r.Outcome == push.NotSent || token.PlatformName() != push.DefaultPlatform {
		why = log.last()
	}
	return fmt.Errorf("not accepted by %s: %s (%s, status %d)%s%s", w.name(), r.Reason, r.Outcome, r.Status, why,
		hint(token.PlatformName(), r))
}

// sendOnce runs the transport for one notification to one device.
func sendOnce(ctx context.Context, transport sender.Transport, token push.Token, n *push.Notification) (push.Result,
	error) {
	done := make(chan struct{})
	group := &push.Group{
		Done:       func(*push.Group) { close(done) },
		Deliveries: []push.Delivery{{Recipient: push.Recipient{Token: token}, Notification: n}},
	}
	running, stop := context.WithTimeout(ctx, sendTimeout)
	defer stop()
	var run errgroup.Group
	run.Go(func() error { return transport.Run(running) })
	if err := transport.Send(running, group); err != nil {
		stop()
		return push.Result{}, errors.Join(err, run.Wait())
	}
	_ = transport.Drain(running) // when it ends early, so does Run, which finishes the group
	stop()
	if err := run.Wait(); err != nil {
		return push.Result{}, err
	}
	<-done
	return group.Deliveries[0].Result, nil
}

// sendWay is a route to send one notification by.
type sendWay interface {
	opener
	// name is the service's, for messages.
	name() string
}

// way is the route to the token's platform, and the notification as it is sent there.
func (m *message) way(g *gateways, app *config.App, token push.Token, now time.Time) (sendWay, *push.Notification,
	error) {
	if m.payloadText != "" {
		if err := m.checkPayload(); err != nil {
			return nil, nil, err
		}
	}
	platform := token.PlatformName()
	given := map[string]bool{push.DefaultPlatform: app.APNs.Given(), fcm.Name: app.FCM.Given(),
		webpush.Name: app.WebPush.Given()}
	if !given[platform] {
		return nil, nil, fmt.Errorf("--token is of %s, for which app %s has no settings", platform, app.Name)
	}
	if err := m.checkOptions(platform); err != nil {
		return nil, nil, err
	}
	switch platform {
	case fcm.Name:
		n, err := m.compose(app, fcm.Platform{}, token, now)
		return newFCMWay(g, app), n, err
	case webpush.Name:
		w, err := newWebPushWay(g, app)
		if err != nil {
			return nil, nil, err
		}
		n, err := m.compose(app, &w.platform, token, now)
		return w, n, err
	}
	route, err := m.route(app)
	if err != nil {
		return nil, nil, err
	}
	if m.payloadText != "" {
		n, err := m.composeAPNs(app, route, now)
		return &way{g: g, app: app, route: route, apns: app.APNs.Of(route)}, n, err
	}
	text, err := m.payload()
	if err != nil {
		return nil, nil, err
	}
	return &way{g: g, app: app, route: route, apns: app.APNs.Of(route)}, &push.Notification{
		ID: uuid.Must(uuid.NewV7()), App: app.Name, Environment: route,
		Type: payload.TypeAlert, Key: app.APNs.Topic, Priority: 10,
		Expiration: now.Add(time.Hour), Payload: push.Payload{JSON: text}, CreatedAt: now, SendAt: now,
	}, nil
}

// checkOptions refuses those that would have no effect.
func (m *message) checkOptions(platform string) error {
	const apnsOnly = "--%s is for APNs, and --token is of %s"
	switch {
	case m.environment != "" && platform != push.DefaultPlatform:
		return fmt.Errorf(apnsOnly, "environment", platform)
	case m.pushType != "" && platform != push.DefaultPlatform:
		return fmt.Errorf(apnsOnly, "push-type", platform)
	case m.pushType != "" && m.payloadText == "":
		return errors.New("--push-type goes with --payload JSON: --alert and --loc-key are sent as push type alert")
	}
	return nil
}

// compose makes a platform's notification of the alert's text.
func (m *message) compose(app *config.App, p api.Platform, token push.Token, now time.Time) (*push.Notification,
	error) {
	if err := p.CheckToken(token); err != nil {
		return nil, fmt.Errorf("--token: %w", err)
	}
	if m.payloadText != "" {
		return m.composePayload(app, p, now)
	}
	if m.body == "" || m.locKey != "" || m.launchImage != "" || m.actionLocKey != nil || len(m.locArgs) > 0 {
		return nil, fmt.Errorf("--alert TEXT or --payload JSON is what can be sent over %s; the other options are for APNs",
			p.Name())
	}
	text, err := json.Marshal(map[string]string{"title": app.Name, "body": m.body})
	if err != nil {
		return nil, err
	}
	n, faults, err := p.Compose(&push.Content{
		ID: uuid.Must(uuid.NewV7()), App: app.Name, Blocks: map[string]push.JSON{"message": text}, Priority: 10,
		Expires:    true,
		Expiration: now.Add(time.Hour), CreatedAt: now, SendAt: now,
	})
	for _, f := range faults {
		err = errors.Join(err, f)
	}
	return n, err
}

// message is what the send command sends, and where.
type message struct {
	app, token, environment   string
	payloadText, pushType     string
	body, locKey, launchImage string
	locArgs                   []string
	actionLocKey              *string // nil where it is not given
}

func (m *message) flags(flags *pflag.FlagSet) {
	flags.StringVar(&m.app, "app", "", "the app, where there are several")
	flags.StringVar(&m.token, "token", "", "the device token, in its written form")
	flags.StringVar(&m.environment, "environment", "", "of APNs: production or sandbox; else the app's own")
	flags.StringVar(&m.body, "alert", "", "the alert's text")
	flags.StringVar(&m.payloadText, "payload", "",
		"the payload as JSON, or @ and the name of its file, in place of --alert")
	flags.StringVar(&m.pushType, "push-type", "", "of APNs, with --payload; else what the payload says")
	flags.StringVar(&m.locKey, "loc-key", "", "the key of a text that the app has, in place of --alert")
	flags.StringArrayVar(&m.locArgs, "loc-arg", nil, "fills a place of that text; once for each")
	flags.Func("action-loc-key", "the key of the second button's title",
		func(key string) error { m.actionLocKey = &key; return nil })
	flags.StringVar(&m.launchImage, "launch-image", "", "the image that the app shows while it starts")
}

func (m *message) route(app *config.App) (push.Route, error) {
	switch route := push.Route(m.environment); route {
	case "":
		return app.APNs.Environment, nil
	case push.Production, push.Sandbox:
		return route, nil
	}
	return "", fmt.Errorf("--environment must be production or sandbox, not %q", m.environment)
}

func (m *message) payload() ([]byte, error) {
	if m.body == "" && m.locKey == "" {
		return nil, errors.New("--alert TEXT is missing, or --loc-key KEY or --payload JSON in its place")
	}
	if m.body != "" && m.locKey != "" {
		return nil, errors.New("--alert and --loc-key are both given: the text is either yours or the app's")
	}
	alert := payload.MakeAlert(m.body, m.actionLocKey, m.locKey, m.locArgs, m.launchImage)
	return json.Marshal(map[string]any{"aps": map[string]any{"alert": alert}})
}

// errorLog is a log of which only the last error is kept, or a service's own words: where a transport gets no
// connection, or a service explains itself, only the log says why.
type errorLog struct{ text atomic.Pointer[string] }

// last is the error as what follows a message, empty where there was none.
func (l *errorLog) last() string {
	if text := l.text.Load(); text != nil {
		return ": " + *text
	}
	return ""
}

// Enabled implements slog.Handler.
func (l *errorLog) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }

// Handle implements slog.Handler.
func (l *errorLog) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if err, ok := a.Value.Any().(error); ok {
			text := err.Error()
			l.text.Store(&text)
		}
		if text := a.Value.String(); a.Key == "says" || a.Key == "detail" {
			l.text.Store(&text)
		}
		return true
	})
	return nil
}

// WithAttrs implements slog.Handler.
func (l *errorLog) WithAttrs([]slog.Attr) slog.Handler { return l }

// WithGroup implements slog.Handler.
func (l *errorLog) WithGroup(string) slog.Handler { return l }

// hint says what an operator can do about it.
func hint(platform string, r push.Result) string {
	switch {
	case platform == push.DefaultPlatform:
		return hintOfAPNs(r)
	case r.Reason != nil && r.Reason.Remedy != "":
		return "\nWhat mends it: " + r.Reason.Remedy + "."
	case r.Outcome == push.Unregistered && platform == fcm.Name:
		return "\nThe app is no longer on that device, has a new token, or was idle for 270 days."
	case r.Outcome == push.Unregistered:
		return "\nThe browser has unsubscribed, or its subscription has expired."
	case r.Outcome == push.Retry:
		return "\nThe service does not take it now: try again later."
	case r.Outcome == push.NotSent:
		return "\nThe service could not be reached, or it closed the connection: check the network, proxy and ca_file."
	}
	return ""
}

func hintOfAPNs(r push.Result) string {
	switch {
	case r.BadToken():
		return "\nThe token is of another app or of the other environment: compare topic and environment with the build " +
			"that registered it."
	case r.Reason == apns.TooManyProviderTokenUpdates:
		return "\nAPNs takes a new provider token of a key every 20 minutes at the most, and each of these tries makes " +
			"one: wait, and try again."
	case r.Reason == apns.ExpiredProviderToken:
		return "\nThe provider token was made just now: check this machine's clock."
	case r.Outcome == push.NotSent && r.Status != 0:
		return "\nAPNs answered, but it did not take the notification on this connection: try again."
	case r.Outcome == push.Unregistered:
		return "\nThe app is no longer on that device since " + r.Timestamp().Format(time.RFC3339) + "."
	case r.Outcome == push.Blocked:
		return "\nThe credentials or the topic are wrong for this environment: check key_id, team_id, topic and environment."
	case r.Outcome == push.NotSent:
		return "\nThe gateway could not be reached, or it closed the connection: " +
			"check the network, the proxy, ca_file, and the certificate's environment."
	}
	return ""
}
