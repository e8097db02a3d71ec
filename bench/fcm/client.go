package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/lhspn/lhspn/bench/internal/drive"
	"github.com/lhspn/lhspn/bench/internal/rig"
	"github.com/lhspn/lhspn/internal/apns/credentials"
	"github.com/lhspn/lhspn/internal/fcm"
	"github.com/lhspn/lhspn/internal/push"
)

// client is our transport, driven as the sender drives it. The rate of the project is not what is measured, and off.
func client(ctx context.Context, o options) error {
	roots, err := credentials.LoadCAs(filepath.Join(o.Credentials, "ca.pem"))
	if err != nil {
		return err
	}
	conf := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	account, err := fcm.NewCredentials(fcm.CredentialsConfig{
		App: "bench", File: filepath.Join(o.Credentials, "service-account.json"), TLS: conf,
	}, log)
	if err != nil {
		return err
	}
	const groupSize, inFlight = 500, 4000
	transport := fcm.NewTransport(fcm.Config{
		App: "bench", Address: o.Address, Credentials: account, TLS: conf, Connections: o.Connections, MaxRate: -1,
		MaxInFlight: inFlight,
	}, log, fcm.NewMetrics(prometheus.NewRegistry()))
	if _, faults := compose(time.Now()); len(faults) > 0 {
		return errors.New(faults[0].Error())
	}
	report, err := drive.Run(ctx, transport, drive.Options{
		Warmup: o.Warmup, Count: o.Count, Tokens: tokens, Settle: true, Groups: inFlight / groupSize, GroupSize: groupSize,
		Token: func(i int) push.Token { return push.TextToken(fcm.Name, fmt.Sprintf("bench%04d:APA91b%0134d", i, i)) },
		Notification: func(now time.Time) *push.Notification {
			n, _ := compose(now)
			return n
		},
	})
	if err != nil {
		return err
	}
	return report.Write(os.Stdout)
}

func compose(now time.Time) (*push.Notification, []push.Fault) {
	return fcm.Compose(&push.Content{
		ID: uuid.Must(uuid.NewV7()), App: "bench", CreatedAt: now, SendAt: now,
		Blocks: map[string]push.JSON{"message": push.JSON(`{"body":"` + rig.Alert + `"}`)},
	})
}
