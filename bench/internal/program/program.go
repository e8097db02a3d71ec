// Package program is what the benchmarks' main functions share: their common flags, their end by an interrupt or after
// a time, and their exit status. What is measured, and how, is each program's own.
package program

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// Options are the flags of a benchmark that starts its own client as a process of its own, by -client.
type Options struct {
	// Client says that this process is that client, which sends to Address what Count and Warmup say. Credentials is
	// the directory that the benchmark, or its simulator, wrote.
	Client               bool
	Address, Credentials string
	Warmup, Count        int
	Connections          int // 0: there is no such flag

	// Bin has the built programs, and NPM the npm drivers; empty: there is no such flag.
	Bin, NPM string
	// Base has this benchmark's program of another version, against whose client ours alone is measured.
	Base string
	// Runs are the interleaved runs of every client, and Scale what their counts are multiplied by.
	Runs  int
	Scale float64
}

// Flags defines the flags, with the values that are there as defaults. kind is what is sent.
func (o *Options) Flags(kind string) {
	flag.BoolVar(&o.Client, "client", false, "be our client")
	flag.StringVar(&o.Address, "address", "", "with -client, -serve: host:port")
	flag.StringVar(&o.Credentials, "credentials", "", "with -client, -serve: the directory with keys and certificates")
	flag.IntVar(&o.Warmup, "warmup", o.Warmup, "with -client: "+kind+" before the measured part")
	flag.IntVar(&o.Count, "count", o.Count, "with -client: "+kind+" in the measured part")
	if o.Connections > 0 {
		flag.IntVar(&o.Connections, "connections", o.Connections, "with -client: connections")
	}
	flag.StringVar(&o.Bin, "bin", "bench/bin", "the built programs")
	if o.NPM != "" {
		flag.StringVar(&o.NPM, "npm", o.NPM, "the npm drivers")
	}
	flag.IntVar(&o.Runs, "runs", o.Runs, "interleaved runs of every client")
	flag.Float64Var(&o.Scale, "scale", 1, "scale of the counts: 1 is one to three seconds for each client and run")
}

// BaseFlag defines the flag of Base.
func (o *Options) BaseFlag() {
	flag.StringVar(&o.Base, "base", "",
		"a directory with this program of another version: our clients of both, in turns, and no others")
}

// Main reads the flags and runs the benchmark of the name until it is interrupted or the time is over, which -timeout
// changes. It ends the process with status 1 where run fails.
func Main(name string, timeout time.Duration, run func(ctx context.Context) error) {
	flag.DurationVar(&timeout, "timeout", timeout, "the whole benchmark")
	flag.Parse()
	if err := bounded(timeout, run); err != nil {
		fmt.Fprintf(os.Stderr, "bench/%s: %v\n", name, err)
		os.Exit(1)
	}
}

func bounded(timeout time.Duration, run func(ctx context.Context) error) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("the benchmark took longer than %v", timeout))
	defer cancel()
	return run(ctx)
}
