package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/lhspn/lhspn/internal/config"
	"github.com/lhspn/lhspn/internal/database"
)

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
