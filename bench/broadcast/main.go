// Command broadcast measures a notification to every registered token, on MariaDB, over HTTP/2 to the simulator: how
// long until everyone has it and until it is done, how much memory the service takes, and how long a notification to a
// single token takes meanwhile.
//
// MariaDB needs scripts/testdb around it. The simulator runs within this process, which looks for each single
// notification every millisecond; it, the service and MariaDB share the machine.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lhspn/lhspn/bench/internal/measure"
	"github.com/lhspn/lhspn/bench/internal/program"
	"github.com/lhspn/lhspn/bench/internal/rig"
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/simulator"
)

type options struct {
	bin       string
	base      string
	only      string
	engine    string
	transport string
	sizes     string
	mixed     int
	told      int
	runs      int
	probes    int
	every     time.Duration
}

func main() {
	var o options
	flag.StringVar(&o.bin, "bin", "bench/bin", "the built programs")
	flag.StringVar(&o.base, "base", "", "the built programs of another commit, which are run in turns with those of bin")
	flag.StringVar(&o.only, "only", "", "plain, badges or both: only these, without notifications to one token meanwhile")
	flag.StringVar(&o.engine, "engine", "mysql", "mysql or sqlite")
	flag.StringVar(&o.transport, "transport", "http2", "http2 or binary")
	flag.StringVar(&o.sizes, "sizes", "100000,1000000", "registered tokens, growing")
	flag.IntVar(&o.mixed, "mixed", 0, "measure one message to so many devices of three platforms instead")
	flag.IntVar(&o.told, "told", 0,
		"measure a broadcast to so many devices, of which some are refused, with a reader of events and a slow webhook")
	flag.IntVar(&o.runs, "runs", 3, "broadcasts of each kind and size")
	flag.IntVar(&o.probes, "probes", 50, "notifications to one token without a broadcast")
	flag.DurationVar(&o.every, "every", 100*time.Millisecond, "time between notifications to one token")
	program.Main("broadcast", 10*time.Minute, func(ctx context.Context) error {
		if o.mixed > 0 {
			return mixed(ctx, o)
		}
		if o.told > 0 {
			return told(ctx, o)
		}
		return benchmark(ctx, o)
	})
}

// bench is one service with its registry.
type bench struct {
	options
	label  string
	server *rig.Server
	sim    *simulator.Simulator
	// database is the process id of MariaDB, 0 on SQLite.
	database int
	// probe numbers the single tokens; they are not registered, so that no broadcast reaches them.
	probe int
	// sent counts them since the last Reset of the simulator.
	sent atomic.Int64
}

// kind is a kind of broadcast.
type kind struct {
	label, extra string
	probed       bool
}

func (o *options) kinds() []kind {
	all := []kind{
		{label: "plain"},
		{label: "badge_increment", extra: `,"badge_increment":1`},
		{label: "plain, with one-token pushes", probed: true},
		{label: "badge_increment, with one-token pushes", extra: `,"badge_increment":1`, probed: true},
	}
	switch o.only {
	case "plain":
		return all[:1]
	case "badges":
		return all[1:2]
	case "both":
		return all[:2]
	}
	return all
}

func benchmark(ctx context.Context, o options) (err error) {
	dir, discard, err := rig.TempDir()
	if err != nil {
		return err
	}
	defer discard()
	sim, credentials, stop, err := rig.RunSimulator(ctx, dir, simulator.Config{Record: simulator.RecordCounts})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	var benches []*bench
	database := 0
	if o.engine == "mysql" {
		if database, err = rig.DatabasePID(ctx); err != nil {
			return err
		}
	}
	for _, bin := range []string{o.base, o.bin} {
		if bin == "" {
			continue
		}
		config := rig.ServerConfig{
			Bin: bin, Dir: dir, Name: fmt.Sprint("server", len(benches)),
			Transport: o.transport, Gateway: sim.ProviderAddr(), Credentials: credentials,
		}
		if o.transport == "binary" {
			config.Gateway = sim.GatewayAddr()
		}
		var remove func()
		if config.Database, remove, err = rig.NewDatabase(ctx, o.engine, dir); err != nil {
			return err
		}
		defer remove()
		server, err := rig.StartServer(ctx, config)
		if err != nil {
			return err
		}
		defer server.Stop(20 * time.Second)
		benches = append(benches, &bench{options: o, label: bin, server: server, sim: sim, database: database})
	}

	broadcasts := measure.Table{Columns: []string{
		"programs", "tokens", "", "received by all", "done", "recipients/s", "RSS before", "RSS peak", "server CPU each",
		"MariaDB", "simulator"}}
	probes := measure.Table{Columns: []string{"one token, every " + o.every.String(), "pushes", "p50", "p99", "max"}}
	row := func(label string, h *measure.Histogram) {
		if h.Count() > 0 {
			probes.Row(label, h.Count(), h.Quantile(.5), h.Quantile(.99), h.Max())
		}
	}
	idle, err := benches[len(benches)-1].idle(ctx)
	if err != nil {
		return err
	}
	row("no broadcast", idle)

	registered := 0
	for text := range strings.SplitSeq(o.sizes, ",") {
		size, err := strconv.Atoi(text)
		if err != nil || size < registered {
			return fmt.Errorf("sizes are numbers that grow, not %q", o.sizes)
		}
		for _, b := range benches {
			if err := b.register(ctx, registered, size); err != nil {
				return err
			}
		}
		registered = size
		for _, kind := range o.kinds() {
			runs, latencies := make([][]timing, len(benches)), make([]measure.Histogram, len(benches))
			for range o.runs {
				for i, b := range benches {
					one, err := b.broadcast(ctx, size, kind, &latencies[i])
					if err != nil {
						return fmt.Errorf("broadcast to %d, %s: %w", size, kind.label, err)
					}
					runs[i] = append(runs[i], one)
				}
			}
			for i, b := range benches {
				summarize(&broadcasts, b.label, size, kind.label, runs[i])
				row(fmt.Sprintf("%s tokens, %s", measure.Cell(size), strings.TrimSuffix(kind.label, ", with one-token pushes")),
					&latencies[i])
			}
		}
	}
	fmt.Printf("### Broadcast: %s, %s, simulator and load on the same cores; median of %d\n\n", o.engine, o.transport,
		o.runs)
	broadcasts.Write(os.Stdout)
	fmt.Print("### From POST to the simulator\n\n")
	probes.Write(os.Stdout)
	return nil
}

// idle takes the time of notifications to one token while there is no broadcast.
func (b *bench) idle(ctx context.Context) (*measure.Histogram, error) {
	h := new(measure.Histogram)
	limited, cancel := context.WithTimeout(ctx, time.Duration(b.probes)*b.every)
	defer cancel()
	return h, b.push(ctx, limited.Done(), h)
}

// register registers the tokens from first on, up to size of them.
func (b *bench) register(ctx context.Context, first, size int) error {
	if size == first {
		return nil
	}
	begin := time.Now()
	err := b.server.Import(ctx, size-first, func(dst []byte, i int) []byte { return rig.AppendToken(dst, first+i) })
	if err != nil {
		return err
	}
	fmt.Printf("%s: imported %s tokens in %s: %s a second.\n\n", b.label, measure.Cell(size-first),
		measure.Cell(time.Since(begin)), measure.Cell(float64(size-first)/time.Since(begin).Seconds()))
	return nil
}

func summarize(table *measure.Table, bin string, size int, label string, runs []timing) {
	median := func(f func(timing) float64) float64 { return measure.MedianOf(runs, f) }
	received := median(func(t timing) float64 { return t.received.Seconds() })
	each := func(f func(timing) float64) string { return fmt.Sprintf("%.2f µs", 1e6*median(f)/float64(size)) }
	table.Row(bin, size, label, seconds(received), seconds(median(func(t timing) float64 { return t.done.Seconds() })),
		float64(size)/received, measure.MiB(int64(median(func(t timing) float64 { return float64(t.before) }))),
		measure.MiB(int64(median(func(t timing) float64 { return float64(t.peak) }))),
		each(func(t timing) float64 { return t.cpu }), each(func(t timing) float64 { return t.database }),
		each(func(t timing) float64 { return t.simulator }))
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// timing is one broadcast.
type timing struct {
	received, done time.Duration // since the POST was begun
	before, peak   int64
	// cpu is the service's, database MariaDB's, and simulator that of this process.
	cpu, database, simulator float64
}

// cpu is what the service, MariaDB and this process have used so far, in seconds.
func (b *bench) cpu() [3]float64 {
	used := [3]float64{measure.CPUSeconds(b.server.PID()), 0, measure.Self().CPU().Seconds()}
	if b.database != 0 {
		used[1] = measure.CPUSeconds(b.database)
	}
	return used
}

// broadcast sends to everyone, and where the kind says so single tokens meanwhile.
func (b *bench) broadcast(ctx context.Context, size int, kind kind, latency *measure.Histogram) (timing, error) {
	var t timing
	ctx, cancel := context.WithTimeoutCause(ctx, 3*time.Minute, errors.New("not done after 3 min"))
	defer cancel()
	b.sim.Reset()
	b.sent.Store(0)
	pid := b.server.PID()
	if err := measure.ResetPeak(pid); err != nil {
		return t, err
	}
	t.before = measure.Peak(pid)
	cpu := b.cpu()
	begin := time.Now()
	n, err := b.server.Post(ctx, []byte(`{"to":{"all":true},"aps":{"alert":"`+rig.Alert+`"}`+kind.extra+`}`), "")
	if err != nil {
		return t, err
	}
	over := make(chan struct{})
	var wait sync.WaitGroup
	var probing error
	if kind.probed {
		wait.Go(func() {
			if probing = b.push(ctx, over, latency); probing != nil {
				cancel()
			}
		})
	}
	err = rig.Poll(ctx, time.Millisecond, "wait until everyone has received it", func() (bool, error) {
		// However many of the single tokens have arrived, at the most all of them have.
		return int64(b.sim.Totals().TokensAccepted) >= int64(size)+b.sent.Load(), nil
	})
	t.received = time.Since(begin)
	var state rig.Notification
	if err == nil {
		state, err = b.server.Done(ctx, n.ID)
	}
	t.done = time.Since(begin)
	close(over)
	wait.Wait()
	if err := errors.Join(probing, err); err != nil {
		return t, err
	}
	now := b.cpu()
	t.peak = measure.Peak(pid)
	t.cpu, t.database, t.simulator = now[0]-cpu[0], now[1]-cpu[1], now[2]-cpu[2]
	if state.Recipients == nil || *state.Recipients != int64(size) || state.Counts.Accepted != int64(size) {
		return t, fmt.Errorf("%d recipients expected, all accepted; it says %v with %+v", size, state.Recipients,
			state.Counts)
	}
	return t, nil
}

// push posts a notification to one token every so often, until over, and takes the time until the simulator has it.
func (b *bench) push(ctx context.Context, over <-chan struct{}, latency *measure.Histogram) error {
	tick := time.NewTicker(b.every)
	defer tick.Stop()
	var wait sync.WaitGroup
	defer wait.Wait()
	var mu sync.Mutex // guards latency and failed
	var failed error
	for {
		token := b.nextProbe()
		wait.Go(func() {
			took, err := b.single(ctx, token)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed = err
				return
			}
			latency.Add(took)
		})
		select {
		case <-over:
			wait.Wait()
			return failed
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

func (b *bench) nextProbe() push.Token {
	b.probe++
	b.sent.Add(1)
	return rig.Token(1<<31 + b.probe)
}

// single posts to one token and waits until it has arrived.
func (b *bench) single(ctx context.Context, token push.Token) (time.Duration, error) {
	begin := time.Now()
	_, err := b.server.Post(ctx, []byte(`{"to":{"tokens":["`+token.String()+`"]},"aps":{"alert":"`+rig.Alert+`"}}`), "")
	if err != nil {
		return 0, err
	}
	err = rig.Poll(ctx, time.Millisecond, "wait for a notification to one token", func() (bool, error) {
		return b.sim.Counts(token).Accepted > 0, nil
	})
	return time.Since(begin), err
}
