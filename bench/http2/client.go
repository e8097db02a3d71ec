package main

import (
	"context"
	"crypto/tls"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lhspn/lhspn/bench/internal/drive"
	"github.com/lhspn/lhspn/internal/apns"
	"github.com/lhspn/lhspn/internal/apns/credentials"
	"github.com/lhspn/lhspn/internal/apns/provider"
	"github.com/lhspn/lhspn/internal/simulator"
)

// client is our transport, driven as the sender drives it.
func client(ctx context.Context, o options) error {
	key, err := credentials.LoadSigningKey(filepath.Join(o.Credentials, "AuthKey_"+simulator.ProviderKeyID+".p8"))
	if err != nil {
		return err
	}
	keys, err := credentials.NewProviderTokens(key, simulator.ProviderKeyID, simulator.TeamID)
	if err != nil {
		return err
	}
	roots, err := credentials.LoadCAs(filepath.Join(o.Credentials, "ca.pem"))
	if err != nil {
		return err
	}
	const groupSize, perConnection = 1000, 16_384 // the latter is what the transport takes for each connection by default
	transport := provider.New(provider.Config{
		App: "bench", Address: o.Address, Connections: o.Connections, MaxInFlight: perConnection * o.Connections,
		TLS: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, Tokens: keys,
	}, slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
		apns.NewMetrics(prometheus.NewRegistry()))
	report, err := drive.Run(ctx, transport, drive.Options{
		Warmup: o.Warmup, Count: o.Count, Tokens: tokens, Settle: true,
		Groups: perConnection*o.Connections/groupSize + 16, GroupSize: groupSize,
	})
	if err != nil {
		return err
	}
	return report.Write(os.Stdout)
}
