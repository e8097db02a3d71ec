// Command http2 measures sending over APNs' HTTP/2 provider API: our transport against sideshow/apns2 and npm
// @parse/node-apn, with h2load as the limit of the wire, to the simulator, to nghttpd and to a net/http server.
//
//	http2 [flags]            the benchmark; prints tables
//	http2 -client [flags]    our client alone, which the benchmark starts as a process of its own
//	http2 -serve [flags]     a net/http server that answers 200, likewise
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/lhspn/lhspn/bench/internal/measure"
	"github.com/lhspn/lhspn/bench/internal/program"
	"github.com/lhspn/lhspn/bench/internal/rig"
	"github.com/lhspn/lhspn/internal/simulator"
)

type options struct {
	program.Options
	serve bool
}

// tokens is the number of different device tokens: as few as nghttpd can have files for.
const tokens = 1000

// streams is what every server allows.
const streams = 1000

func main() {
	o := options{Options: program.Options{Warmup: 10_000, Count: 100_000, Connections: 1, NPM: "bench/npm", Runs: 3}}
	o.Flags("notifications")
	o.BaseFlag()
	flag.BoolVar(&o.serve, "serve", false, "be the net/http server")
	program.Main("http2", 10*time.Minute, func(ctx context.Context) error {
		switch {
		case o.Client:
			return client(ctx, o)
		case o.serve:
			return serve(ctx, o)
		}
		return benchmark(ctx, o)
	})
}

// send has a client send count notifications to the address, over so many connections.
type send func(ctx context.Context, address string, connections, count int) (measure.Report, error)

// contender is one client under test.
type contender struct {
	name string
	// count is what it sends in one to two seconds on two cores.
	count int
	// far is whether it takes part where every answer is late.
	far bool
	run send
}

func (o options) scaled(count int) int { return max(int(float64(count)*o.Scale), 2*streams) }

func benchmark(ctx context.Context, o options) error {
	dir, discard, err := rig.TempDir()
	if err != nil {
		return err
	}
	defer discard()
	sim, err := rig.StartSimulator(ctx, o.Bin, dir, "--record", "totals", "--streams", strconv.Itoa(streams))
	if err != nil {
		return err
	}
	defer sim.Stop(5 * time.Second)
	contenders, err := contenders(o, sim, dir)
	if err != nil {
		return err
	}
	documents := make(map[string]string, tokens)
	for i := range tokens { // an empty file for each token makes it answer 200 with an empty body, as APNs does
		documents["3/device/"+rig.Token(i).String()] = ""
	}
	nghttpd, stop, err := rig.StartNGHTTPD(ctx, dir, sim, streams, documents)
	if err != nil {
		return err
	}
	defer stop()
	standard, err := rig.FreeAddress()
	if err != nil {
		return err
	}
	stopStandard, err := rig.StartServe(ctx, "net/http", standard, sim.Credentials)
	if err != nil {
		return err
	}
	defer stopStandard()
	servers := []server{{"simulator", sim.Provider}, {"nghttpd", nghttpd}, {"net/http", standard}}
	servers = slices.DeleteFunc(servers, func(s server) bool { return s.address == "" }) // nghttpd may not be installed
	for _, server := range servers {
		for _, connections := range []int{1, 4} {
			if err := rates(ctx, o, contenders, server, connections); err != nil {
				return err
			}
		}
	}
	if err := roundTrip(ctx, o, contenders, sim); err != nil {
		return err
	}
	if o.Base != "" {
		return nil
	}
	return faulty(ctx, o, contenders[0], dir)
}

// server is one of the servers that the clients send to.
type server struct{ name, address string }

// rates compares the clients at one server and number of connections.
func rates(ctx context.Context, o options, contenders []contender, to server, connections int) error {
	var runs measure.Comparison
	for range o.Runs {
		for _, c := range contenders {
			report, err := one(ctx, c, to.address, connections, o.scaled(c.count))
			if err != nil {
				return fmt.Errorf("%s to %s: %w", c.name, to.name, err)
			}
			if report.Failed != 0 {
				return fmt.Errorf("%s to %s: %d of %d notifications failed", c.name, to.name, report.Failed, report.Count)
			}
			runs.Add(c.name, report)
		}
	}
	fmt.Printf("### HTTP/2 to %s, %d connection(s) of %d streams, median of %d interleaved runs\n\n", to.name, connections,
		streams, o.Runs)
	runs.Write(os.Stdout, "notifications")
	return nil
}

func one(ctx context.Context, c contender, address string, connections, count int) (measure.Report, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 60*time.Second, fmt.Errorf("%s took longer than 60 s", c.name))
	defer cancel()
	return c.run(ctx, address, connections, count)
}

// roundTrip lets every answer take 20 ms: what then limits a client is how many streams it keeps under way.
func roundTrip(ctx context.Context, o options, contenders []contender, sim *rig.Simulator) error {
	const rtt = 20 * time.Millisecond
	if err := sim.SetFaults(ctx, simulator.Faults{Latency: rtt}); err != nil {
		return err
	}
	fmt.Printf("### HTTP/2 to the simulator, every answer %v late\n\n", rtt)
	t := measure.Table{Columns: []string{"client", "connections", "notifications/s", "of streams ÷ round trip"}}
	for _, connections := range []int{1, 4} {
		limit := float64(connections*streams) / rtt.Seconds()
		for _, c := range contenders {
			if !c.far {
				continue
			}
			count := o.scaled(min(int(2*limit), c.count))
			report, err := one(ctx, c, sim.Provider, connections, count)
			if err != nil {
				return fmt.Errorf("%s with a round trip of %v: %w", c.name, rtt, err)
			}
			t.Row(c.name, connections, report.Rate(), fmt.Sprintf("%.0f %%", 100*report.Rate()/limit))
		}
	}
	t.Write(os.Stdout)
	return sim.SetFaults(ctx, simulator.Faults{})
}

// faulty compares our rate with faults to the one without, and checks that nothing was lost or accepted twice. The
// simulator keeps every apns-id for that, in both runs.
func faulty(ctx context.Context, o options, ours contender, dir string) error {
	dir = filepath.Join(dir, "faulty")
	sim, err := rig.StartSimulator(ctx, o.Bin, dir, "--record", "totals", "--streams", strconv.Itoa(streams),
		"--track-ids")
	if err != nil {
		return err
	}
	defer sim.Stop(5 * time.Second)
	credentials := sim.Credentials
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	fmt.Print("### HTTP/2 with faults: 1 % 410, 1 % 503, GOAWAY every 10,000 requests; one connection\n\n")
	t := measure.Table{Columns: []string{
		"", "notifications/s", "accepted", "unregistered", "sent again", "accepted twice", "lost"}}
	rate := map[bool][]float64{}
	count := o.scaled(ours.count) / 2
	for range o.Runs {
		for _, faults := range []bool{false, true} {
			f := simulator.Faults{}
			if faults {
				f = simulator.Faults{UnregisteredPercent: 1, ServiceUnavailablePercent: 1, GoAwayEvery: 10_000}
			}
			if err := sim.SetFaults(ctx, f); err != nil {
				return err
			}
			if err := sim.Reset(ctx); err != nil {
				return err
			}
			report, err := oursAt(ctx, self, credentials, sim.Provider, 1, count)
			if err != nil {
				return fmt.Errorf("with faults %t: %w", faults, err)
			}
			stats, err := sim.Stats(ctx)
			if err != nil {
				return err
			}
			rate[faults] = append(rate[faults], report.Rate())
			unregistered := report.Outcomes["unregistered"]
			accepted := report.Count - report.Failed
			// The warm-up has its own accepted and unregistered ones, so the sum over both is compared.
			lost := int64(report.Count+report.Warmup) - int64(stats.Accepted-stats.IDsRepeated) -
				int64(stats.Verdicts["Unregistered"])
			label := "clean"
			if faults {
				label = "with faults"
			}
			t.Row(label, report.Rate(), accepted, unregistered, report.Resent, stats.IDsRepeated, lost)
			if stats.IDsRepeated != 0 || lost != 0 || report.Failed != unregistered {
				t.Write(os.Stdout)
				return errors.New("notifications were lost, accepted twice or failed")
			}
		}
	}
	t.Write(os.Stdout)
	fmt.Printf("Median with faults over median without: %.0f %%.\n\n",
		100*measure.Median(rate[true])/measure.Median(rate[false]))
	return nil
}
