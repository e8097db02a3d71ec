package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lhspn/lhspn/internal/api"
	"github.com/lhspn/lhspn/internal/config"
	"github.com/lhspn/lhspn/internal/fcm"
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/simulator"
	"github.com/lhspn/lhspn/internal/simulator/fcmsim"
	"github.com/lhspn/lhspn/internal/simulator/webpushsim"
	"github.com/lhspn/lhspn/internal/tokens"
	"github.com/lhspn/lhspn/internal/webpush"
)

// devFolder is where dev mode keeps its database and the simulator's credentials.
const devFolder = "data"

// serveDev runs the service without a configuration: on loopback only, with SQLite, and with the simulator in place of
// the push services.
func serveDev(ctx context.Context, hup chan os.Signal, stdout, stderr io.Writer) error {
	cfg, err := config.Dev(os.Environ())
	if err != nil {
		return err
	}
	sim, err := simulate(&cfg.Apps[0])
	if err != nil {
		return err
	}
	if cfg.MasterKey, err = devMasterKey(); err != nil {
		return err
	}
	log, level := newLogger(cfg.Log, stderr)
	s, err := open(ctx, cfg, log)
	if err != nil {
		return err
	}
	s.reload = newReload("", cfg, s, level, hup)
	if err := registerDemo(ctx, s.tokens, &cfg.Apps[0], sim.WebPush()); err != nil {
		s.close()
		return fmt.Errorf("register the simulated devices: %w", err)
	}
	if err := addExamples(ctx, s, &cfg.Apps[0], sim); err != nil {
		s.close()
		return fmt.Errorf("add what the examples of /docs are about: %w", err)
	}
	kept := "MySQL" // as told by a variable
	if file, is := strings.CutPrefix(cfg.Database, "sqlite:"); is {
		kept = "SQLite in " + file
	}
	_, err = fmt.Fprintf(stdout, `LHSPN, dev mode: a simulator in place of Apple, Google and the push services of browsers, %s, this machine only.

  API         http://%s      (try it at /docs)
  API key     %s
  simulator   http://%s/     (what the devices would get)
  console     http://%s/console   (operator key %s)
  operators   http://%s/

Send a first notification, to the iPhone, the Android phone and the browser of the user %s:

  curl -H 'Authorization: Bearer %s' -H 'Content-Type: application/json' -d '{"to":{"users":["%s"]},"message":{"title":"Hello","body":"World"}}' http://%s/v1/notifications

`, kept, s.public.Addr(), config.DevKey, sim.PageAddr(), s.private.Addr(), config.DevOperatorKey, s.private.Addr(), demoUser, config.DevKey, demoUser, s.public.Addr())
	if err != nil {
		s.close()
		return err
	}
	// The simulator outlives the service, which has results to wait for when it stops.
	simulating, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var g errgroup.Group
	g.Go(func() error { return sim.Run(simulating) })
	err = s.run(ctx)
	stop()
	return errors.Join(err, g.Wait())
}

// simulate opens the simulator, and points an app at it with every platform.
func simulate(app *config.App) (*simulator.Simulator, error) {
	const free = "127.0.0.1:0"
	folder := filepath.Join(devFolder, "simulator")
	cfg := simulator.Config{
		Provider: free, Gateway: free, Feedback: free, Page: "127.0.0.1:8082", CredentialsDir: folder,
		Topic: app.APNs.Topic, Topics: []string{app.APNs.Topic}, VerifyProviderTokens: true,
		FCM: fcmsim.Config{Address: free},
		// Subscriptions have the port in them, and shall be good in the next run too.
		WebPush: webpushsim.Config{Address: "127.0.0.1:8083"},
	}
	quiet := slog.New(slog.DiscardHandler)
	sim, err := simulator.New(cfg, quiet)
	if errors.Is(err, syscall.EADDRINUSE) { // these two are the only fixed ports
		cfg.Page, cfg.WebPush.Address = free, free
		sim, err = simulator.New(cfg, quiet)
	}
	if err != nil {
		return nil, fmt.Errorf("simulator: %w", err)
	}
	simulatedAPNs(&app.APNs, sim, folder)
	ca := filepath.Join(folder, "ca.pem")
	app.FCM.Gateway, app.FCM.ServiceAccountFile, app.FCM.CAFile = sim.FCM().Addr(),
		filepath.Join(folder, "service-account.json"), ca
	web := &app.WebPush
	web.VAPIDKeyFile, web.Subject = filepath.Join(devFolder, "vapid.pem"), "mailto:dev@example.com"
	web.AllowedOrigins, web.CAFile = []string{sim.WebPush().Origin()}, ca
	return sim, makeVAPID(web.VAPIDKeyFile)
}

// devMasterKey is the key that apps which are added in dev mode are encrypted with: made once, beside the database.
func devMasterKey() (string, error) {
	file := filepath.Join(devFolder, "master.key")
	text, err := os.ReadFile(file) //nolint:gosec // it is in our own folder
	if err == nil {
		return strings.TrimSpace(string(text)), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read the master key: %w", err)
	}
	key := config.NewMasterKey()
	if err := os.WriteFile(file, []byte(key+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("write the master key: %w", err)
	}
	return key, nil
}

// makeVAPID makes a VAPID key, unless an earlier run has.
func makeVAPID(file string) error {
	if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
		return err //nolint:wrapcheck // it names the file
	}
	key, _, err := webpush.GenerateVAPID()
	if err != nil {
		return fmt.Errorf("make a VAPID key: %w", err)
	}
	if err := os.WriteFile(file, key, 0o600); err != nil {
		return fmt.Errorf("write the VAPID key: %w", err)
	}
	return nil
}

// simulatedAPNs points an app at the simulator of APNs, by either transport.
func simulatedAPNs(c *config.APNs, sim *simulator.Simulator, folder string) {
	in := func(name string) string { return filepath.Join(folder, name) }
	c.CAFile = in("ca.pem")
	if c.Transport == "binary" {
		c.Gateway, c.FeedbackAddress, c.CertificateFile = sim.GatewayAddr(), sim.FeedbackAddr(), in("client.pem")
		return
	}
	c.Gateway, c.KeyFile = sim.ProviderAddr(), in("AuthKey_"+simulator.ProviderKeyID+".p8")
	c.KeyID, c.TeamID = simulator.ProviderKeyID, simulator.TeamID
}

// demoUser has the simulated devices that dev mode registers, one of each platform.
const demoUser = "demo"

// registerDemo registers them. The browser subscribes anew each time: the simulator forgets it.
func registerDemo(ctx context.Context, store *tokens.Store, app *config.App, browsers *webpushsim.Simulator) error {
	origins, err := webpush.ParseOrigins(app.WebPush.AllowedOrigins)
	if err != nil {
		return err
	}
	vapid, err := webpush.LoadVAPID(app.WebPush.VAPIDKeyFile, app.WebPush.Subject)
	if err != nil {
		return err
	}
	platform := webpush.Platform{Origins: origins}
	platform.VAPID.Store(vapid)
	subscription, err := browsers.Subscribe(vapid.PublicKey(), webpushsim.NoFault)
	if err != nil {
		return err
	}
	text, err := json.Marshal(subscription)
	if err != nil {
		return err
	}
	browser, address, faults := platform.Token(map[string]push.JSON{"subscription": text})
	if len(faults) > 0 {
		return faults[0]
	}
	now := time.Now()
	devices := []push.Device{
		{Token: push.HexToken(bytes.Repeat([]byte{0xde, 0x30}, 16)), Environment: app.APNs.Environment},
		{Token: push.TextToken(fcm.Name, "demo-android-phone"), Environment: fcm.Route},
		{Token: browser, Address: address, Environment: webpush.Route},
	}
	for i := range devices {
		d := &devices[i]
		d.UserID, d.DeviceID = demoUser, demoUser+"-"+d.Token.PlatformName()
		d.LastUpdated, d.CreatedAt = now, now
	}
	return store.Import(ctx, app.Name, devices)
}

// addExamples has what the API's examples are about be there: a device token, and an app that was set by API with a key.
// What there is of it already, of an earlier run, stays as it is.
func addExamples(ctx context.Context, s *service, app *config.App, sim *simulator.Simulator) error {
	token, err := push.ParseToken(api.ExampleToken)
	if err != nil {
		return err
	}
	if _, err := s.tokens.Get(ctx, app.Name, token); errors.Is(err, push.ErrNotFound) {
		now := time.Now()
		err = s.tokens.Import(ctx, app.Name, []push.Device{{
			Token: token, Environment: app.APNs.Environment, Tags: []string{"beta"}, LastUpdated: now, CreatedAt: now,
		}})
		if err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	err = putExampleApp(ctx, s.operated, app.APNs.Topic, sim)
	if err == nil {
		err = addExampleKey(ctx, s.operated)
	}
	if err != nil { // it is being removed, or somebody has made something else of it
		s.log.Warn("the app that the examples of /docs are about cannot be set", "app", api.ExampleApp, "error", err)
	}
	return nil
}

// putExampleApp adds an app at the simulator, or has the one of an earlier run come to where the simulator is now.
func putExampleApp(ctx context.Context, o *operated, topic string, sim *simulator.Simulator) error {
	var at config.APNs
	simulatedAPNs(&at, sim, filepath.Join(devFolder, "simulator"))
	var files [2]string
	for i, file := range []string{at.KeyFile, at.CAFile} {
		text, err := os.ReadFile(file) //nolint:gosec // it is in our own folder
		if err != nil {
			return err //nolint:wrapcheck // it names the file
		}
		files[i] = base64.StdEncoding.EncodeToString(text)
	}
	entry := map[string]any{}
	apns := map[string]any{"topic": topic}
	shown, err := o.GetApp(ctx, api.ExampleApp)
	switch {
	case err == nil:
		if err := json.Unmarshal(shown, &entry); err != nil {
			return err
		}
		apns, _ = entry["apns"].(map[string]any)
		if apns["ca"] != files[1] { // it is at another gateway, which somebody has set
			return nil
		}
	case !errors.Is(err, push.ErrNotFound):
		return err
	}
	apns["gateway"], apns["key_id"], apns["team_id"] = at.Gateway, at.KeyID, at.TeamID
	apns["key"], apns["ca"] = files[0], files[1]
	entry["apns"] = apns
	body, err := json.Marshal(entry)
	if err == nil {
		_, _, err = o.PutApp(ctx, api.ExampleApp, body)
	}
	return err
}

// addExampleKey adds the app's key, unless it is there. Nobody has the key itself.
func addExampleKey(ctx context.Context, o *operated) error {
	keys, err := o.Keys(ctx, api.ExampleApp)
	if err != nil || slices.ContainsFunc(keys, func(k api.AppKey) bool { return k.Name == api.ExampleKey }) {
		return err
	}
	_, hash := o.NewKey(api.ScopeSend)
	_, err = o.AddKey(ctx, api.ExampleApp, api.Key{Name: api.ExampleKey, Scope: api.ScopeSend, Hash: hash})
	return err
}

// devKeys are the keys that everybody knows; none but in dev mode.
func devKeys(cfg *config.Config) []string {
	if !cfg.Dev {
		return nil
	}
	return []string{config.DevKey, config.DevOperatorKey}
}
