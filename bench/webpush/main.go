// Command webpush measures sending over Web Push: our transport against SherClockHolmes/webpush-go, to a net/http
// server that takes everything, beside what the key agreement alone costs.
//
//	webpush [flags]            the benchmark; prints a table
//	webpush -client [flags]    our client alone, which the benchmark starts as a process of its own
//	webpush -serve [flags]     the push service, likewise
package main

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/lhspn/lhspn/bench/internal/measure"
	"github.com/lhspn/lhspn/bench/internal/program"
	"github.com/lhspn/lhspn/bench/internal/rig"
)

type options struct {
	program.Options
	serve bool
	rest  time.Duration
}

func main() {
	o := options{Options: program.Options{Warmup: 1000, Count: 10_000, Runs: 3}}
	o.Flags("messages")
	flag.BoolVar(&o.serve, "serve", false, "be the push service")
	flag.DurationVar(&o.rest, "rest", 0,
		"with -client: idle time before the measured part, in which key pairs are made ahead")
	program.Main("webpush", 5*time.Minute, func(ctx context.Context) error {
		switch {
		case o.Client:
			return client(ctx, o)
		case o.serve:
			return serve(ctx, o)
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
	// ahead: its key pairs were made before, so that its limit is the agreement alone.
	ahead bool
}

func benchmark(ctx context.Context, o options) error {
	dir, discard, err := rig.TempDir()
	if err != nil {
		return err
	}
	defer discard()
	address, err := rig.FreeAddress()
	if err != nil {
		return err
	}
	if err := prepare(dir, address); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	stop, err := rig.StartServe(ctx, "push service", address, dir)
	if err != nil {
		return err
	}
	defer stop()
	contenders := []contender{
		{"ours", self, []string{"-client"}, 40_000, false},
		// As many as are made ahead, in a burst: see the transport's keyPairsAhead.
		{"ours, a burst after a second of rest", self, []string{"-client", "-rest", "1s"}, 4000, true},
		{"SherClockHolmes/webpush-go, 100 goroutines", filepath.Join(o.Bin, "webpushgo"), []string{"-workers", "100"}, 5000,
			false},
	}
	reports := make([][]measure.Report, len(contenders))
	var floors [2][]float64
	for range o.Runs {
		for i, c := range contenders {
			count := max(int(float64(c.count)*o.Scale), 500)
			report, err := rig.Client(ctx, rig.Spec{
				Name: c.name, Program: c.program, Env: []string{"SSL_CERT_FILE=" + filepath.Join(dir, "ca.pem")},
				Args: slices.Concat(c.args, rig.ClientArgs(address, dir, count)),
			}, nil)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			if report.Failed > 0 {
				return fmt.Errorf("%s: %d messages failed", c.name, report.Failed)
			}
			reports[i] = append(reports[i], report)
		}
		pair, agreement, err := floor(max(int(20_000*o.Scale), 500))
		if err != nil {
			return err
		}
		floors[0], floors[1] = append(floors[0], pair+agreement), append(floors[1], agreement)
	}

	fmt.Printf("### Web Push: a payload of 130 bytes to 1,000 subscriptions, %d interleaved runs\n\n", o.Runs)
	both, alone := measure.Median(floors[0]), measure.Median(floors[1])
	table := measure.Table{Columns: []string{"client", "messages/s", "client CPU each (µs)", "messages/s of one core",
		"of the limit", "allocations each", "RSS (MiB)"}}
	for i, c := range contenders {
		cpu, limit := measure.MedianOf(reports[i], measure.Report.CPUMicros), both
		if c.ahead {
			limit = alone
		}
		table.Row(c.name, int64(measure.MedianOf(reports[i], measure.Report.Rate)), fmt.Sprintf("%.1f", cpu), int64(1e6/cpu),
			fmt.Sprintf("%.0f %%", 100*limit/cpu), fmt.Sprintf("%.0f", measure.MedianOf(reports[i], measure.Report.MallocsEach)),
			measure.MiB(int64(measure.MedianOf(reports[i], measure.Report.RSS))))
	}
	table.Row("limit: one P-256 key pair and one ECDH", "", fmt.Sprintf("%.1f", both), int64(1e6/both), "100 %", "", "")
	table.Row("one ECDH alone", "", fmt.Sprintf("%.1f", alone), int64(1e6/alone), "", "", "")
	table.Write(os.Stdout)
	fmt.Println()
	return nil
}

// floor measures what every message needs, in microseconds of CPU: a key pair, which may be made ahead, and an
// agreement.
func floor(count int) (pair, agreement float64, err error) {
	browser, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return 0, 0, fmt.Errorf("make a key: %w", err)
	}
	keys := make([]*ecdh.PrivateKey, count)
	begin := measure.Self().CPU()
	for i := range keys {
		if keys[i], err = ecdh.P256().GenerateKey(rand.Reader); err != nil {
			return 0, 0, fmt.Errorf("make a key: %w", err)
		}
	}
	made := measure.Self().CPU()
	for _, key := range keys {
		if _, err := key.ECDH(browser.PublicKey()); err != nil {
			return 0, 0, fmt.Errorf("agree on a secret: %w", err)
		}
	}
	each := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / float64(count) / 1e3 }
	return each(made - begin), each(measure.Self().CPU() - made), nil
}

// serve is a push service that reads a message and takes it.
func serve(ctx context.Context, o options) error {
	certificate, key := filepath.Join(o.Credentials, "ca.pem"), filepath.Join(o.Credentials, "key.pem")
	return rig.ServeHTTP2(ctx, o.Address, certificate, key, 100, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusCreated)
	})
}
