package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sync/errgroup"

	"github.com/lhspn/lhspn/internal/config"
	"github.com/lhspn/lhspn/internal/simulator"
)

// devFolder is where dev mode keeps its database and the simulator's credentials.
const devFolder = "data"

// serveDev runs the service without a configuration: on loopback only, with SQLite, and with the simulator in place of APNs.
func serveDev(ctx context.Context, stdout, stderr io.Writer) error {
	cfg, err := config.Dev(os.Environ())
	if err != nil {
		return err
	}
	simCfg := simulator.Config{
		Provider: "127.0.0.1:0", Gateway: "127.0.0.1:0", Feedback: "127.0.0.1:0", Page: "127.0.0.1:8082",
		CredentialsDir: filepath.Join(devFolder, "simulator"), Topic: cfg.Apps[0].APNs.Topic, Topics: []string{cfg.Apps[0].APNs.Topic}, VerifyProviderTokens: true,
	}
	quiet := slog.New(slog.DiscardHandler)
	sim, err := simulator.New(simCfg, quiet)
	if errors.Is(err, syscall.EADDRINUSE) { // the page's is the only fixed port
		simCfg.Page = "127.0.0.1:0"
		sim, err = simulator.New(simCfg, quiet)
	}
	if err != nil {
		return fmt.Errorf("simulator: %w", err)
	}
	simulated(&cfg.Apps[0].APNs, sim)
	s, err := open(ctx, cfg, newLogger(cfg.Log, stderr))
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, `LHSPN, dev mode: an APNs simulator in place of Apple, SQLite in ./%s, this machine only.

  API         http://%s      (try it at /docs)
  API key     %s
  simulator   http://%s/     (what the devices would get)
  operators   http://%s/metrics

Send a first notification:

  curl -H 'Authorization: Bearer %s' -H 'Content-Type: application/json' -d '{"to":{"tokens":["%064x"]},"aps":{"alert":"Hello"}}' http://%s/v1/notifications

`, devFolder, s.public.Addr(), config.DevKey, sim.PageAddr(), s.private.Addr(), config.DevKey, 0xc0ffee, s.public.Addr())
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

// simulated points an app at the simulator, by either transport.
func simulated(c *config.APNs, sim *simulator.Simulator) {
	in := func(name string) string { return filepath.Join(devFolder, "simulator", name) }
	c.CAFile = in("ca.pem")
	if c.Transport == "binary" {
		c.Gateway, c.FeedbackAddress, c.CertificateFile = sim.GatewayAddr(), sim.FeedbackAddr(), in("client.pem")
		return
	}
	c.Gateway, c.KeyFile = sim.ProviderAddr(), in("AuthKey_"+simulator.ProviderKeyID+".p8")
	c.KeyID, c.TeamID = simulator.ProviderKeyID, simulator.TeamID
}
