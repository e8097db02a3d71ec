package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/lhspn/lhspn/internal/apps"
	"github.com/lhspn/lhspn/internal/config"
	"github.com/lhspn/lhspn/internal/database"
)

// findApp is the app of the name, or where none is given the one that there is: of the configuration, or of the
// database where operators may set some.
func findApp(ctx context.Context, cfg *config.Config, given string) (*config.App, error) {
	if i := slices.IndexFunc(cfg.Apps, func(a config.App) bool { return a.Name == given }); i >= 0 {
		return &cfg.Apps[i], nil
	}
	stored, err := storedApps(ctx, cfg)
	if err != nil {
		return nil, err
	}
	name := given
	if name == "" {
		if name, err = onlyApp(cfg.Apps, stored); err != nil {
			return nil, err
		}
	}
	if i := slices.IndexFunc(stored, func(a apps.App) bool { return a.Name == name }); i >= 0 {
		return parseStored(&stored[i])
	}
	if given != "" {
		return nil, fmt.Errorf("--app: there is no app %q", given)
	}
	return &cfg.Apps[0], nil
}

// onlyApp is the name of the one app there is.
func onlyApp(file []config.App, stored []apps.App) (string, error) {
	var names []string
	for i := range file {
		names = append(names, file[i].Name)
	}
	for i := range stored {
		names = append(names, stored[i].Name)
	}
	if len(names) == 1 {
		return names[0], nil
	}
	return "", fmt.Errorf("--app NAME is missing; the apps are: %s", cmp.Or(strings.Join(names, ", "), "none"))
}

// storedApps are those of the database that operators have set, but for what is being deleted, or is not in force
// because the configuration has an app of the name.
func storedApps(ctx context.Context, cfg *config.Config) ([]apps.App, error) {
	if len(cfg.OperatorKeys) == 0 {
		return nil, nil
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
	return slices.DeleteFunc(stored, func(s apps.App) bool {
		return s.Deleting || slices.ContainsFunc(cfg.Apps, func(a config.App) bool { return a.Name == s.Name })
	}), err
}

func parseStored(s *apps.App) (*config.App, error) {
	if s.Err != nil {
		return nil, fmt.Errorf("the app %s: %w", s.Name, s.Err)
	}
	app, faults := config.ParseApp(s.Name, s.Entry)
	if len(faults) > 0 {
		return nil, fmt.Errorf("the app %s: %w", s.Name, faults)
	}
	return &app, nil
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

// loadOrDev is the configuration of the file, or dev mode's without one.
func loadOrDev(file string) (*config.Config, error) {
	if file == "" {
		return config.Dev(os.Environ())
	}
	return config.Load(file, os.Environ())
}
