package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/lhspn/lhspn/internal/apns/payload"
	"github.com/lhspn/lhspn/internal/config"
	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/fcm"
	"github.com/lhspn/lhspn/internal/push"
)

// doctorTimeout bounds what the database is asked.
const doctorTimeout = 30 * time.Second

// report prints findings and counts those to be mended.
type report struct {
	out          io.Writer
	faults, risk int
}

func (r *report) add(of string, f database.Finding) {
	word := "ok   "
	switch {
	case f.Fatal:
		word = "FAULT"
		r.faults++
	case f.Mend != "":
		word = "risk "
		r.risk++
	}
	text := f.What
	if f.Mend != "" {
		text += "\n        mend: " + strings.ReplaceAll(f.Mend, "\n", "\n        ")
	}
	_, _ = fmt.Fprintf(r.out, "%s  %s: %s\n", word, of, text) // what cannot be printed changes no finding
}

// doctor connects to the database and to the gateways of Apple and Google, and says what is to be mended. The error
// says that something is.
func doctor(ctx context.Context, file string, stdout io.Writer) error {
	cfg, err := load(file)
	if err != nil {
		return err
	}
	r := &report{out: stdout}
	if err := check(file, io.Discard); err != nil {
		r.add("configuration", database.Finding{What: "server check finds faults", Mend: err.Error(), Fatal: true})
	} else {
		r.add("configuration", database.Finding{What: "no fault found"})
	}
	r.database(ctx, cfg)
	for i := range cfg.Apps {
		r.app(ctx, &cfg.Apps[i])
	}
	r.stored(ctx, cfg)
	if r.faults > 0 {
		return fmt.Errorf("%s and %s to be mended", plural(r.faults, "fault"), plural(r.risk, "risk"))
	}
	_, err = fmt.Fprintf(stdout, "no fault found, %s\n", plural(r.risk, "risk"))
	return err
}

func (r *report) database(ctx context.Context, cfg *config.Config) {
	ctx, cancel := context.WithTimeout(ctx, doctorTimeout)
	defer cancel()
	if path, is := strings.CutPrefix(cfg.Database, "sqlite:"); is {
		if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
			r.add("database", database.Finding{What: path + " is not there",
				Mend: "nothing, where the service is new: serve makes it"})
			return
		}
	}
	fail := func(err error) {
		r.add("database", database.Finding{What: "it cannot be used: " + err.Error(),
			Mend: "the address, the user, the network, TLS", Fatal: true})
	}
	if err := checkAddress(cfg); err != nil {
		return // the configuration has that fault already
	}
	conf, err := databaseTLS(cfg)
	if err != nil {
		fail(err)
		return
	}
	db, err := database.Open(ctx, cfg.Database, database.Options{MaxConns: 2, TLS: conf})
	if errors.Is(err, database.ErrInUse) {
		r.add("database", database.Finding{What: "not looked at: another process has the SQLite file",
			Mend: "nothing, where that is the service; stop it to have the file looked at"})
		return
	}
	if err != nil {
		fail(err)
		return
	}
	defer db.Close() //nolint:errcheck // nothing is left to be saved
	asked := time.Now()
	if err := db.Ping(ctx); err != nil {
		fail(err)
		return
	}
	r.add("database", database.Finding{What: "reached within " + time.Since(asked).Round(time.Millisecond).String()})
	for _, f := range db.Examine(ctx, cfg.DatabaseConnections) {
		r.add("database", f)
	}
}

// stored tries the apps that operators have set, as those of the configuration.
func (r *report) stored(ctx context.Context, cfg *config.Config) {
	const of = "apps set by API"
	reading, cancel := context.WithTimeout(ctx, doctorTimeout)
	defer cancel()
	stored, err := storedApps(reading, cfg)
	if err != nil {
		r.add(of, database.Finding{What: "not tried, since they cannot be read: " + err.Error(),
			Mend: "the database, as said above; where the service is new: nothing, serve makes it"})
		return
	}
	for i := range stored {
		app, err := parseStored(&stored[i])
		if err != nil {
			r.add(of, database.Finding{What: "one cannot be used", Fatal: true,
				Mend: err.Error() + "\nmaster_key is the one it was set with, or it is set anew"})
			continue
		}
		r.app(ctx, app)
	}
}

// app sends one notification on each route, to a device token that nobody has: that the service calls it bad says that
// it knows the credentials.
func (r *report) app(ctx context.Context, app *config.App) {
	now := time.Now()
	if app.APNs.Given() {
		for _, route := range app.APNs.Routes() {
			n := &push.Notification{
				ID: uuid.Must(uuid.NewV7()), App: app.Name, Environment: route, Type: payload.TypeAlert, Key: app.APNs.Topic,
				Priority: 10,
				Payload:  push.Payload{JSON: []byte(`{"aps":{"alert":"server doctor"}}`)}, CreatedAt: now, SendAt: now,
			}
			log := new(errorLog)
			w := &way{g: newGateways(slog.New(log), prometheus.NewRegistry()), app: app, route: route, apns: app.APNs.Of(route)}
			r.gateway(ctx, "app "+app.Name+", "+string(route), w, push.HexToken(bytes.Repeat([]byte{0}, 32)), n, log)
		}
	}
	if app.FCM.Given() {
		log := new(errorLog)
		n, _, err := fcm.Platform{}.Compose(&push.Content{
			ID: uuid.Must(uuid.NewV7()), App: app.Name,
			Blocks:   map[string]push.JSON{"message": push.JSON(`{"body":"server doctor"}`)},
			Priority: 10, Expires: true, CreatedAt: now, SendAt: now,
		})
		if err == nil {
			w := newFCMWay(newGateways(slog.New(log), prometheus.NewRegistry()), app)
			r.gateway(ctx, "app "+app.Name+", fcm", w, push.TextToken(fcm.Name, "server-doctor-asks-for-nobody"), n, log)
		}
	}
	if app.WebPush.Given() {
		of := "app " + app.Name + ", webpush"
		w, err := newWebPushWay(newGateways(slog.New(slog.DiscardHandler), prometheus.NewRegistry()), app)
		if err == nil {
			_, err = w.open()
		}
		if err != nil {
			r.add(of, database.Finding{What: "the VAPID key cannot be used", Mend: err.Error(), Fatal: true})
			return
		}
		r.add(of, database.Finding{What: "the VAPID key can be used; which push services there are only subscriptions tell"})
	}
}

func (r *report) gateway(ctx context.Context, of string, w sendWay, token push.Token, n *push.Notification,
	log *errorLog) {
	started := time.Now()
	transport, err := w.open()
	if err != nil {
		r.add(of, database.Finding{What: "the credentials cannot be read", Mend: err.Error(), Fatal: true})
		return
	}
	result, err := sendOnce(ctx, transport, token, n)
	took := time.Since(started).Round(time.Millisecond)
	if err != nil {
		r.add(of, database.Finding{What: w.name() + ": " + err.Error(), Mend: "the network", Fatal: true})
		return
	}
	reason := ""
	if result.Reason != nil {
		reason = result.Reason.Text
	}
	switch result.Outcome {
	case push.Accepted, push.Failed, push.Unregistered:
		r.add(of, database.Finding{What: fmt.Sprintf("%s takes the credentials, and answers within %v, connecting "+
			"included (%s)", w.name(), took,
			strings.TrimSpace(result.Outcome.String()+" "+reason))})
	default:
		r.add(of, database.Finding{What: fmt.Sprintf("%s: %s (%s, status %d)%s", w.name(), reason, result.Outcome,
			result.Status, log.last()),
			Mend: strings.TrimPrefix(hint(token.PlatformName(), result), "\n"), Fatal: true})
	}
}
