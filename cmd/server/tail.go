package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/lhspn/lhspn/internal/events"
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/queue"
)

// tailing is what the command tail is asked for.
type tailing struct {
	app, after string
	types      []string
}

func tailCommand() *cobra.Command {
	var t tailing
	c := withConfig("tail", "print an app's events as they come, a line of JSON each",
		func(cmd *cobra.Command, file string) error {
			return tail(cmd.Context(), file, t, cmd.OutOrStdout(), cmd.ErrOrStderr())
		})
	c.Long = `Print an app's events as they come, a line of JSON each. It reads the database, so that it needs no API key and goes
on while the service is down; for events over HTTP see GET /v1/events. Without a configuration it is dev mode's.`
	c.Flags().StringVar(&t.app, "app", "", "the app, where there are several")
	c.Flags().StringVar(&t.after, "after", events.Latest, "an event's id, or next_cursor of GET /v1/events")
	c.Flags().StringSliceVar(&t.types, "types", nil, "only events of these types")
	return c
}

// tailPage is how many events are read at once, and tailPause what is waited where the database is away.
const (
	tailPage  = 100
	tailPause = time.Second
)

// tail prints the app's events until ctx ends. It reads the database beside the service, and changes nothing.
func tail(ctx context.Context, file string, t tailing, stdout, stderr io.Writer) error {
	cfg, err := loadOrDev(file)
	if err != nil {
		return err
	}
	app, err := findApp(ctx, cfg, t.app)
	if err != nil {
		return err
	}
	if !app.Events && len(app.Webhooks) == 0 {
		return fmt.Errorf("the app %s has no events: they are off in its configuration", app.Name)
	}
	var types []push.EventType
	for _, name := range t.types {
		if !slices.Contains(push.EventTypes(), push.EventType(name)) {
			return fmt.Errorf("--types: there is no type %q", name)
		}
		types = append(types, push.EventType(name))
	}
	db, err := openReader(ctx, cfg)
	if err != nil {
		return err
	}
	defer db.Close() //nolint:errcheck // it was read only
	feed := events.New(db, events.Config{
		OwnsJob: func(string) bool { return false }, Retention: cfg.Queue.Retention, Finished: queue.FinishedFrom(db),
	}, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return feed.Run(ctx) })
	g.Go(func() error { return follow(ctx, feed, app.Name, t.after, types, stdout, stderr) })
	if err := g.Wait(); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// follow prints events until ctx ends.
func follow(
	ctx context.Context, feed *events.Store, app, after string, types []push.EventType, stdout, stderr io.Writer,
) error {
	lines := json.NewEncoder(stdout)
	lines.SetEscapeHTML(false)
	for cursor := after; ; {
		changed := feed.Changed(app)
		items, next, err := feed.Read(ctx, app, cursor, types, tailPage)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, push.ErrNotFound):
			return errors.New("--after is no cursor of this app")
		case errors.Is(err, push.ErrGone):
			return errors.New("--after is older than the events that are kept")
		case err != nil:
			_, _ = fmt.Fprintln(stderr, "server:", strings.TrimSpace(err.Error()))
			changed = closedAfter(ctx, tailPause)
		}
		for _, e := range items {
			line := struct {
				ID   string          `json:"id"`
				Type push.EventType  `json:"type"`
				At   time.Time       `json:"at"`
				Data json.RawMessage `json:"data"`
			}{e.ID, e.Type, e.At.UTC(), e.Data}
			if err := lines.Encode(line); err != nil {
				return fmt.Errorf("print an event: %w", err)
			}
		}
		more := err == nil && next != cursor
		if err == nil {
			cursor = next
		}
		if more {
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// closedAfter is closed after the pause, or when ctx ends.
func closedAfter(ctx context.Context, pause time.Duration) <-chan struct{} {
	ctx, cancel := context.WithTimeout(ctx, pause)
	context.AfterFunc(ctx, cancel)
	return ctx.Done()
}
