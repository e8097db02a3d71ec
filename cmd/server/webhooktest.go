package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

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
	c.Flags().StringVar(&app, "app", "", "the app, where there are several")
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
