// Command binary measures sending over Apple's binary protocol: our transport against the clients of that time, all to
// the same simulator process in the same run.
//
//	binary [flags]           the benchmark; prints a table
//	binary -client [flags]   our client alone, which the benchmark starts as a process of its own
package main

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lhspn/lhspn/bench/internal/drive"
	"github.com/lhspn/lhspn/bench/internal/measure"
	"github.com/lhspn/lhspn/bench/internal/program"
	"github.com/lhspn/lhspn/bench/internal/rig"
	"github.com/lhspn/lhspn/internal/apns"
	"github.com/lhspn/lhspn/internal/apns/binary"
	"github.com/lhspn/lhspn/internal/apns/credentials"
)

type options struct {
	program.Options
	window int
}

func main() {
	o := options{Options: program.Options{Warmup: 10_000, Count: 100_000, Connections: 1, NPM: "bench/npm", Runs: 5}}
	o.Flags("notifications")
	o.BaseFlag()
	flag.IntVar(&o.window, "window", 0,
		"with -client: unconfirmed notifications on a connection; 0 is the service's default")
	program.Main("binary", 10*time.Minute, func(ctx context.Context) error {
		if o.Client {
			return client(ctx, o)
		}
		return benchmark(ctx, o)
	})
}

func client(ctx context.Context, o options) error {
	pair := filepath.Join(o.Credentials, "client.pem")
	certificate, err := tls.LoadX509KeyPair(pair, pair)
	if err != nil {
		return fmt.Errorf("read the client certificate: %w", err)
	}
	roots, err := credentials.LoadCAs(filepath.Join(o.Credentials, "ca.pem"))
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	transport := binary.New(binary.Config{
		App: "bench", Address: o.Address, Connections: o.Connections, Window: o.window,
		TLS: &tls.Config{Certificates: []tls.Certificate{certificate}, RootCAs: roots, MinVersion: tls.VersionTLS12},
	}, log, apns.NewMetrics(prometheus.NewRegistry()))
	const groupSize = 1000
	// As much as the transport can hold, written and waiting, and a little to settle meanwhile.
	window := o.window
	if window == 0 {
		window = binary.DefaultWindow
	}
	report, err := drive.Run(ctx, transport, drive.Options{
		Warmup: o.Warmup, Count: o.Count, Tokens: 100_000, Groups: 4*window*o.Connections/groupSize + 16,
		GroupSize: groupSize,
	})
	if err != nil {
		return err
	}
	return report.Write(os.Stdout)
}

// contender is one client under test.
type contender struct {
	name    string
	program string
	args    []string
	env     []string
	// count is what it sends in about two seconds on two cores.
	count int
}

func benchmark(ctx context.Context, o options) error {
	dir, discard, err := rig.TempDir()
	if err != nil {
		return err
	}
	defer discard()
	sim, err := rig.StartSimulator(ctx, o.Bin, dir, "--record", "totals")
	if err != nil {
		return err
	}
	defer sim.Stop(5 * time.Second)

	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	npm, err := filepath.Abs(filepath.Join(o.NPM, "apn.js"))
	if err != nil {
		return fmt.Errorf("find the npm driver: %w", err)
	}
	// The peers have no option for a CA.
	trust := []string{"SSL_CERT_FILE=" + filepath.Join(sim.Credentials, "ca.pem")}
	ours := func(name, program string) []contender {
		return []contender{
			{name: name, program: program, args: []string{"-client"}, count: 3_000_000},
			{name: name + ", window 262,144", program: program, args: []string{"-client", "-window", "262144"},
				count: 3_000_000},
		}
	}
	others := []contender{
		{name: "joekarl/go-libapns", program: filepath.Join(o.Bin, "libapns"), env: trust, count: 200_000},
		{name: "anachronistic/apns, codec, kept connection", program: filepath.Join(o.Bin, "anachronistic"), env: trust,
			count: 100_000},
		{name: "npm apn@1.7.8", program: "node", args: []string{"--no-deprecation", npm}, count: 100_000},
	}
	if o.Base != "" {
		others = ours("base", filepath.Join(o.Base, "binary"))
	}
	var runs measure.Comparison
	for range o.Runs {
		for _, c := range append(ours("ours", self), others...) {
			report, err := one(ctx, o, sim, c)
			if err != nil {
				return err
			}
			runs.Add(c.name, report)
		}
	}
	fmt.Printf("### Binary protocol: one connection, TLS, alert of 100 bytes, median of %d interleaved runs\n\n", o.Runs)
	runs.Write(os.Stdout, "notifications")
	fmt.Println("Each run ends when the simulator has counted the last notification; " +
		"ours ends when every one of them has its evidence as well.")
	fmt.Println()
	return nil
}

// one makes one run of one client. It ends when the simulator has received everything, whatever the client thinks.
func one(ctx context.Context, o options, sim *rig.Simulator, c contender) (measure.Report, error) {
	if err := sim.Reset(ctx); err != nil {
		return measure.Report{}, err
	}
	count := max(int(float64(c.count)*o.Scale), 1000)
	ctx, cancel := context.WithTimeoutCause(ctx, 90*time.Second, fmt.Errorf("%s took longer than 90 s", c.name))
	defer cancel()
	// The simulator is watched while the client works: its clock is the one that counts.
	received := make(chan time.Time, 1)
	failed := make(chan error, 1)
	go func() {
		at, err := sim.Received(ctx, uint64(count/10+count)) // the warm-up as well
		failed <- err
		received <- at
	}()
	report, err := rig.Client(ctx, rig.Spec{
		Name: c.name, Program: c.program, Env: c.env,
		Args: slices.Concat(c.args, rig.ClientArgs(sim.Gateway, sim.Credentials, count)),
	}, func(_ context.Context, report measure.Report) error {
		if report.Failed != 0 {
			return fmt.Errorf("%d notifications failed", report.Failed)
		}
		return <-failed
	})
	if err != nil {
		return report, err
	}
	report.Seconds = float64((<-received).UnixNano()-report.StartedAt) / 1e9
	return report, nil
}
