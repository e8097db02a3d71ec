// Command fcm measures sending over FCM HTTP v1: our transport against Google's firebase.google.com/go and npm
// fcm-v1-http2, to the simulator and to nghttpd, on one connection of 100 streams, which is what Google's front end
// allows.
//
//	fcm [flags]            the benchmark; prints tables
//	fcm -client [flags]    our client alone, which the benchmark starts as a process of its own
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/lhspn/lhspn/bench/internal/measure"
	"github.com/lhspn/lhspn/bench/internal/program"
	"github.com/lhspn/lhspn/bench/internal/rig"
	"github.com/lhspn/lhspn/internal/simulator/fcmsim"
)

type options struct {
	program.Options
	redirect string
}

// tokens is the number of different device tokens.
const tokens = 1000

// streams is what every server allows on a connection.
const streams = 100

func main() {
	o := options{Options: program.Options{Warmup: 1000, Count: 10_000, Connections: 1, NPM: "bench/npm", Runs: 3}}
	o.Flags("messages")
	flag.StringVar(&o.redirect, "redirect", "interop/fcm/node/redirect.js",
		"what leads npm clients from Google's hosts to ours")
	program.Main("fcm", 5*time.Minute, func(ctx context.Context) error {
		if o.Client {
			return client(ctx, o)
		}
		return benchmark(ctx, o)
	})
}

// contender is one client under test.
type contender struct {
	name, program string
	args          []string
	// count is what it sends in one to three seconds on two cores.
	count int
}

type server struct{ name, address string }

func benchmark(ctx context.Context, o options) error {
	dir, discard, err := rig.TempDir()
	if err != nil {
		return err
	}
	defer discard()
	sim, err := rig.StartSimulator(ctx, o.Bin, dir, "--record", "totals", "--host",
		"fcm.googleapis.com,oauth2.googleapis.com,www.googleapis.com")
	if err != nil {
		return err
	}
	defer sim.Stop(5 * time.Second)
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	script, err := filepath.Abs(filepath.Join(o.NPM, "fcm-v1-http2.js"))
	if err != nil {
		return fmt.Errorf("find the npm driver: %w", err)
	}
	redirect, err := filepath.Abs(o.redirect)
	if err != nil {
		return fmt.Errorf("find the npm driver: %w", err)
	}
	contenders := []contender{
		{"ours", self, []string{"-client"}, 500_000},
		{"firebase.google.com/go SendEach", filepath.Join(o.Bin, "fcm-firebase"), nil, 10_000},
		{"npm fcm-v1-http2", "node", []string{"-r", redirect, script}, 10_000},
	}
	servers := []server{{"the simulator", sim.FCM}}
	nghttpd, stop, err := rig.StartNGHTTPD(ctx, dir, sim, streams, map[string]string{
		"v1/projects/" + fcmsim.ProjectID + "/messages:send": `{"name": "projects/` + fcmsim.ProjectID +
			`/messages/0:1500415314455276%31bd1c9631bd1c96"}`,
	})
	if err != nil {
		return err
	}
	defer stop()
	if nghttpd != "" {
		servers = append(servers, server{"nghttpd", nghttpd})
	}
	for _, s := range servers {
		if err := rates(ctx, o, contenders, sim, s); err != nil {
			return err
		}
	}
	return roundTrip(ctx, o, contenders, sim)
}

// one runs a client. Access tokens are always the simulator's.
func one(ctx context.Context, c contender, sim *rig.Simulator, to server, count int) (measure.Report, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 60*time.Second, fmt.Errorf("%s took longer than 60 s", c.name))
	defer cancel()
	ca := filepath.Join(sim.Credentials, "ca.pem")
	report, err := rig.Client(ctx, rig.Spec{
		Name: c.name, Program: c.program, Env: []string{"SSL_CERT_FILE=" + ca, "NODE_EXTRA_CA_CERTS=" + ca,
			"SIM_FCM=" + to.address, "SIM_TOKEN=" + sim.FCM},
		Args: slices.Concat(c.args, rig.ClientArgs(to.address, sim.Credentials, count), []string{"-connections", "1"}),
	}, nil)
	if err != nil {
		return report, fmt.Errorf("%s to %s: %w", c.name, to.name, err)
	}
	if report.Failed > 0 {
		return report, fmt.Errorf("%s to %s: %d of %d messages failed", c.name, to.name, report.Failed, report.Count)
	}
	return report, nil
}

func (o options) scaled(count int) int { return max(int(float64(count)*o.Scale), 1000) }

// rates compares the clients at one server.
func rates(ctx context.Context, o options, contenders []contender, sim *rig.Simulator, to server) error {
	var runs measure.Comparison
	for range o.Runs {
		for _, c := range contenders {
			report, err := one(ctx, c, sim, to, o.scaled(c.count))
			if err != nil {
				return err
			}
			runs.Add(c.name, report)
		}
	}
	fmt.Printf("### FCM to %s, one connection of %d streams, median of %d interleaved runs\n\n", to.name, streams, o.Runs)
	runs.Write(os.Stdout, "messages")
	return nil
}

// roundTrip lets every answer take 20 ms: what then limits a client is how many streams it keeps under way.
func roundTrip(ctx context.Context, o options, contenders []contender, sim *rig.Simulator) error {
	const rtt = 20 * time.Millisecond
	if err := sim.SetFCMFaults(ctx, fcmsim.Faults{Latency: rtt}); err != nil {
		return err
	}
	limit := streams / rtt.Seconds()
	fmt.Printf("### FCM to the simulator, every answer %v late, one connection of %d streams\n\n", rtt, streams)
	t := measure.Table{Columns: []string{"client", "messages/s", "of streams ÷ round trip"}}
	for _, c := range contenders {
		report, err := one(ctx, c, sim, server{"the simulator", sim.FCM}, o.scaled(min(int(3*limit), c.count)))
		if err != nil {
			return err
		}
		t.Row(c.name, report.Rate(), fmt.Sprintf("%.0f %%", 100*report.Rate()/limit))
	}
	t.Write(os.Stdout)
	return nil
}
