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
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/lhspn/lhspn/bench/internal/measure"
	"github.com/lhspn/lhspn/bench/internal/rig"
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/simulator"
)

type options struct {
	bin       string
	engine    string
	transport string
	sizes     string
	runs      int
	probes    int
	every     time.Duration
	timeout   time.Duration
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench/broadcast:", err)
		os.Exit(1)
	}
}

func run() error {
	var o options
	flag.StringVar(&o.bin, "bin", "bench/bin", "the built programs")
	flag.StringVar(&o.engine, "engine", "mysql", "mysql or sqlite")
	flag.StringVar(&o.transport, "transport", "http2", "http2 or binary")
	flag.StringVar(&o.sizes, "sizes", "100000,1000000", "registered tokens, growing")
	flag.IntVar(&o.runs, "runs", 3, "broadcasts of each kind and size")
	flag.IntVar(&o.probes, "probes", 50, "notifications to one token without a broadcast")
	flag.DurationVar(&o.every, "every", 100*time.Millisecond, "time between notifications to one token")
	flag.DurationVar(&o.timeout, "timeout", 10*time.Minute, "the whole benchmark")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeoutCause(ctx, o.timeout, fmt.Errorf("the benchmark took longer than %v", o.timeout))
	defer cancel()
	return benchmark(ctx, o)
}

// bench is one service with its registry.
type bench struct {
	options
	server *rig.Server
	sim    *simulator.Simulator
	// probe numbers the single tokens; they are not registered, so that no broadcast reaches them.
	probe int
	// sent counts them since the last Reset of the simulator.
	sent atomic.Int64
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
	database, remove, err := rig.NewDatabase(ctx, o.engine, dir)
	if err != nil {
		return err
	}
	defer remove()
	config := rig.ServerConfig{
		Bin: o.bin, Dir: dir, Database: database,
		Transport: o.transport, Gateway: sim.ProviderAddr(), Credentials: credentials,
	}
	if o.transport == "binary" {
		config.Gateway = sim.GatewayAddr()
	}
	server, err := rig.StartServer(ctx, config)
	if err != nil {
		return err
	}
	defer server.Stop(20 * time.Second)
	b := &bench{options: o, server: server, sim: sim}

	broadcasts := measure.Table{Columns: []string{
		"tokens", "", "received by all", "done", "recipients/s", "RSS before", "RSS peak", "server CPU each"}}
	probes := measure.Table{Columns: []string{"one token, every " + o.every.String(), "pushes", "p50", "p99", "max"}}
	row := func(label string, h *measure.Histogram) {
		probes.Row(label, h.Count(), h.Quantile(.5), h.Quantile(.99), h.Max())
	}

	var idle measure.Histogram
	limited, cancel := context.WithTimeout(ctx, time.Duration(o.probes)*o.every)
	err = b.probes(ctx, limited.Done(), &idle)
	cancel()
	if err != nil {
		return err
	}
	row("no broadcast", &idle)

	registered := 0
	for text := range strings.SplitSeq(o.sizes, ",") {
		size, err := strconv.Atoi(text)
		if err != nil || size < registered {
			return fmt.Errorf("sizes are numbers that grow, not %q", o.sizes)
		}
		begin := time.Now()
		first := registered
		if err := server.Import(ctx, size-first, func(dst []byte, i int) []byte { return rig.AppendToken(dst, first+i) }); err != nil {
			return err
		}
		if size > first {
			fmt.Printf("Imported %s tokens in %s: %s a second.\n\n", measure.Cell(size-first), measure.Cell(time.Since(begin)),
				measure.Cell(float64(size-first)/time.Since(begin).Seconds()))
		}
		registered = size
		for _, kind := range []struct {
			label, extra string
			probed       bool
		}{
			{label: "plain"},
			{label: "badge_increment", extra: `,"badge_increment":1`},
			{label: "plain, with one-token pushes", probed: true},
			{label: "badge_increment, with one-token pushes", extra: `,"badge_increment":1`, probed: true},
		} {
			var runs []timing
			var latency measure.Histogram
			for range o.runs {
				var h *measure.Histogram
				if kind.probed {
					h = &latency
				}
				one, err := b.broadcast(ctx, size, kind.extra, h)
				if err != nil {
					return fmt.Errorf("broadcast to %d, %s: %w", size, kind.label, err)
				}
				runs = append(runs, one)
			}
			median := func(f func(timing) float64) float64 { return measure.MedianOf(runs, f) }
			received := median(func(t timing) float64 { return t.received.Seconds() })
			broadcasts.Row(size, kind.label, seconds(received), seconds(median(func(t timing) float64 { return t.done.Seconds() })),
				float64(size)/received, measure.MiB(int64(median(func(t timing) float64 { return float64(t.before) }))),
				measure.MiB(int64(median(func(t timing) float64 { return float64(t.peak) }))),
				fmt.Sprintf("%.2f µs", 1e6*median(func(t timing) float64 { return t.cpu })/float64(size)))
			if kind.probed {
				row(fmt.Sprintf("%s tokens, %s", measure.Cell(size), strings.TrimSuffix(kind.label, ", with one-token pushes")), &latency)
			}
		}
	}
	fmt.Printf("### Broadcast: %s, %s, simulator and load on the same cores; median of %d\n\n", o.engine, o.transport, o.runs)
	broadcasts.Write(os.Stdout)
	fmt.Print("### From POST to the simulator\n\n")
	probes.Write(os.Stdout)
	return nil
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// timing is one broadcast.
type timing struct {
	received, done time.Duration // since the POST was begun
	before, peak   int64
	cpu            float64
}

// broadcast sends to everyone; with latency not nil, single tokens meanwhile.
func (b *bench) broadcast(ctx context.Context, size int, extra string, latency *measure.Histogram) (timing, error) {
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
	cpu := measure.CPUSeconds(pid)
	begin := time.Now()
	n, err := b.server.Post(ctx, []byte(`{"to":{"all":true},"aps":{"alert":"`+rig.Alert+`"}`+extra+`}`), "")
	if err != nil {
		return t, err
	}
	over := make(chan struct{})
	var wait sync.WaitGroup
	var probing error
	if latency != nil {
		wait.Go(func() {
			if probing = b.probes(ctx, over, latency); probing != nil {
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
	t.peak, t.cpu = measure.Peak(pid), measure.CPUSeconds(pid)-cpu
	if state.Recipients == nil || *state.Recipients != int64(size) || state.Counts.Accepted != int64(size) {
		return t, fmt.Errorf("%d recipients expected, all accepted; it says %v with %+v", size, state.Recipients, state.Counts)
	}
	return t, nil
}

// probes posts a notification to one token every so often, until over, and takes the time until the simulator has it.
func (b *bench) probes(ctx context.Context, over <-chan struct{}, latency *measure.Histogram) error {
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
