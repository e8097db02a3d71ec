package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"

	"github.com/lhspn/lhspn/internal/apns/credentials"
	"github.com/lhspn/lhspn/internal/config"
	"github.com/lhspn/lhspn/internal/database"
)

// openDatabase opens the database and brings its schema up to date.
func openDatabase(ctx context.Context, cfg *config.Config, log *slog.Logger) (*database.DB, error) {
	return openDatabaseTelling(ctx, cfg, log, func(int, int) {})
}

// openDatabaseTelling is openDatabase that tells how many steps of the migration are done.
func openDatabaseTelling(
	ctx context.Context, cfg *config.Config, log *slog.Logger, tell func(done, all int),
) (*database.DB, error) {
	conf, err := databaseTLS(cfg)
	if err != nil {
		return nil, err
	}
	db, err := database.Open(ctx, cfg.Database, database.Options{MaxConns: cfg.DatabaseConnections, TLS: conf})
	if err != nil {
		return nil, fmt.Errorf("database: %w", err)
	}
	if err := db.Ping(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("database: %w", err), db.Close())
	}
	if err := db.CheckServer(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("database: %w", err), db.Close())
	}
	if err := database.MigrateTelling(ctx, db, log, tell); err != nil {
		return nil, errors.Join(fmt.Errorf("database: %w", err), db.Close())
	}
	return db, nil
}

// databaseTLS is how MySQL is spoken to; nil where nothing is set for it.
func databaseTLS(cfg *config.Config) (*tls.Config, error) {
	if cfg.DatabaseCAFile == "" && cfg.DatabaseCertificateFile == "" && cfg.DatabaseKeyFile == "" {
		return nil, nil
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if cfg.DatabaseCAFile != "" {
		var err error
		if conf.RootCAs, err = credentials.LoadCAs(cfg.DatabaseCAFile); err != nil {
			return nil, fmt.Errorf("database_ca_file: %w", err)
		}
	}
	if cfg.DatabaseCertificateFile != "" || cfg.DatabaseKeyFile != "" {
		pair, err := tls.LoadX509KeyPair(cfg.DatabaseCertificateFile, cfg.DatabaseKeyFile)
		if err != nil {
			return nil, fmt.Errorf("database_certificate_file and database_key_file: %w", err)
		}
		conf.Certificates = []tls.Certificate{pair}
	}
	return conf, nil
}
