package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/lhspn/lhspn/internal/config"
	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/webhooks"
)

// eventTest is the type of what webhook-test sends. The feed has none of it.
const eventTest push.EventType = "webhook.test"

func webhookTestCommand() *cobra.Command {
	var app string
	c := withConfig("webhook-test", "send one event to each webhook of an app, and print what came of it",
		func(cmd *cobra.Command, file string) error {
			return webhookTest(cmd.Context(), file, app, cmd.OutOrStdout())
		})
	c.Flags().StringVar(&app, "app", "", "the app, where the configuration has several")
	return c
}

// webhookTest sends one event to each webhook of the app, once, beside the service, and prints what came of it. Without
// a configuration the app is dev mode's.
func webhookTest(ctx context.Context, file, given string, stdout io.Writer) error {
	cfg, err := loadOrDev(file)
	if err != nil {
		return err
	}
	app, err := findApp(ctx, cfg, given)
	if err != nil {
		return err
	}
	endpoints := endpointsOf(app, &cfg.Webhooks)
	if len(endpoints) == 0 {
		return fmt.Errorf("the app %s has no webhooks", app.Name)
	}
	authorities, err := authoritiesOf(&cfg.Webhooks)
	if err != nil {
		return cfg.At("webhooks.ca_file", err)
	}
	data, err := json.Marshal(map[string]string{"app": app.Name})
	if err != nil {
		return fmt.Errorf("encode the event: %w", err)
	}
	client := webhooks.NewClient(userAgent())
	client.SetAuthorities(authorities)
	failed := 0
	for i := range endpoints {
		event := push.Event{ID: "test_" + uuid.NewString(), Type: eventTest, At: time.Now(), Data: data}
		a := client.Post(ctx, &endpoints[i], &event)
		line := fmt.Sprintf("webhooks[%d] %s: %s", i, endpoints[i].Origin(), a.Class)
		if a.Class == webhooks.Delivered {
			line += fmt.Sprintf(" (%d) in %v", a.Status, a.Took.Round(time.Millisecond))
		} else {
			line += ": " + a.Detail
			failed++
		}
		if _, err := fmt.Fprintln(stdout, line); err != nil {
			return err
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d webhooks did not take it", failed, len(endpoints))
	}
	return nil
}

// loadOrDev is the configuration of the file, or dev mode's without one.
func loadOrDev(file string) (*config.Config, error) {
	if file == "" {
		return config.Dev(os.Environ())
	}
	return config.Load(file, os.Environ())
}

// nameApp is the name of the one app there is where none is given. With operators' keys there may be more than the
// configuration's.
func nameApp(cfg *config.Config, given string) (string, error) {
	if given != "" {
		return given, nil
	}
	if len(cfg.Apps) == 1 && len(cfg.OperatorKeys) == 0 {
		return cfg.Apps[0].Name, nil
	}
	names := make([]string, len(cfg.Apps))
	for i := range cfg.Apps {
		names[i] = cfg.Apps[i].Name
	}
	return "", fmt.Errorf("--app NAME is missing; the configuration has %s", cmp.Or(strings.Join(names, ", "), "none"))
}

// findApp is the app of the configuration, or of the database where operators may set some. Where none is given it is
// nameApp's.
func findApp(ctx context.Context, cfg *config.Config, given string) (*config.App, error) {
	name, err := nameApp(cfg, given)
	if err != nil {
		return nil, err
	}
	none := fmt.Errorf("--app: there is no app %q", name)
	if i := slices.IndexFunc(cfg.Apps, func(a config.App) bool { return a.Name == name }); i >= 0 {
		return &cfg.Apps[i], nil
	}
	if len(cfg.OperatorKeys) == 0 {
		return nil, none
	}
	db, err := openReader(ctx, cfg)
	if err != nil {
		return nil, err
	}
	defer db.Close() //nolint:errcheck // it was read only
	store, err := storeOf(cfg, db)
	if err != nil {
		return nil, err
	}
	stored, _, err := store.All(ctx)
	if err != nil {
		return nil, err
	}
	for i := range stored {
		switch s := &stored[i]; {
		case s.Name != name || s.Deleting:
		case s.Err != nil:
			return nil, fmt.Errorf("the app %s: %w", name, s.Err)
		default:
			app, faults := config.ParseApp(name, s.Entry)
			if len(faults) > 0 {
				return nil, fmt.Errorf("the app %s: %w", name, faults)
			}
			return &app, nil
		}
	}
	return nil, none
}

// openReader opens the database for reading, beside the service.
func openReader(ctx context.Context, cfg *config.Config) (*database.DB, error) {
	if err := checkAddress(cfg); err != nil {
		return nil, err
	}
	conf, err := databaseTLS(cfg)
	if err != nil {
		return nil, err
	}
	db, err := database.Open(ctx, cfg.Database, database.Options{MaxConns: 2, TLS: conf, ReadOnly: true})
	if err != nil {
		return nil, fmt.Errorf("database: %w", err)
	}
	return db, nil
}
