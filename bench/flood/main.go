// Command flood measures what the backend that sends notices of an attack with what anybody has: connections that are
// held open by a byte now and then, and registrations with the key of the mobile app at ten times what an address may
// make.
//
//	flood [flags]            the benchmark; MariaDB needs scripts/testdb around it
//	flood -attack ADDRESS    the attack, which the benchmark starts as a process of its own
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/lhspn/lhspn/bench/internal/measure"
	"github.com/lhspn/lhspn/bench/internal/program"
	"github.com/lhspn/lhspn/bench/internal/rig"
)

type options struct {
	bin, engines, attack string
	connections          int
	addresses            int
	rate                 int
	duration, settle     time.Duration
}

// registerKey is in every copy of the app.
const registerKey = "bench-key-of-a-mobile-app"

func main() {
	var o options
	flag.StringVar(&o.attack, "attack", "", "be the attack on this address, until SIGTERM")
	flag.StringVar(&o.bin, "bin", "bench/bin", "the built programs")
	flag.StringVar(&o.engines, "engines", "sqlite,mysql", "database engines")
	flag.IntVar(&o.connections, "connections", 9_500, "slow connections; the service has room for 10,000 by default")
	flag.IntVar(&o.addresses, "addresses", 10, "client addresses that register, each at ten times its limit")
	flag.IntVar(&o.rate, "rate", 100, "notifications a second")
	flag.DurationVar(&o.duration, "duration", 20*time.Second, "each measured part")
	flag.DurationVar(&o.settle, "settle", 10*time.Second, "before the attack is measured, and after its end")
	program.Main("flood", 5*time.Minute, func(ctx context.Context) error {
		if o.attack != "" {
			return attack(ctx, o)
		}
		return benchmark(ctx, o)
	})
}

func benchmark(ctx context.Context, o options) error {
	table := measure.Table{Columns: []string{
		"", "notifications/s", "p50", "p99", "max", "RSS", "open files", "connections opened", "registered", "refused (429)",
	}}
	for engine := range strings.SplitSeq(o.engines, ",") {
		if err := o.measure(ctx, engine, &table); err != nil {
			return fmt.Errorf("%s: %w", engine, err)
		}
	}
	table.Write(os.Stdout)
	return nil
}

func (o options) measure(ctx context.Context, engine string, table *measure.Table) error {
	dir, discard, err := rig.TempDir()
	if err != nil {
		return err
	}
	defer discard()
	database, remove, err := rig.NewDatabase(ctx, engine, dir)
	if err != nil {
		return err
	}
	defer remove()
	sim, err := rig.StartSimulator(ctx, o.bin, dir)
	if err != nil {
		return err
	}
	defer sim.Stop(10 * time.Second)
	server, err := rig.StartServer(ctx, rig.ServerConfig{
		Bin: o.bin, Dir: dir, Database: database, Transport: "http2", Gateway: sim.Provider, Credentials: sim.Credentials,
		RegisterKey: registerKey,
	})
	if err != nil {
		return err
	}
	defer server.Stop(30 * time.Second)

	if _, err := o.send(ctx, server, o.settle); err != nil { // the first ones make the program's pages be there
		return err
	}
	row := func(when string, s *sent, rss int64, a *attacked) {
		rate := int(float64(s.times.Count()) / o.duration.Seconds())
		table.Row(engine+": "+when, rate, s.times.Quantile(0.5), s.times.Quantile(0.99), s.times.Max(), measure.MiB(rss),
			s.files, a.Opened, a.Registered, a.Refused)
	}
	quiet, err := o.send(ctx, server, o.duration)
	if err != nil {
		return err
	}
	row("quiet", quiet, measure.Resident(server.PID()), &attacked{})

	flooded, counts, err := o.flood(ctx, server)
	if err != nil {
		return err
	}
	row("attacked", flooded, measure.Peak(server.PID()), counts)

	after, err := o.send(ctx, server, o.duration)
	if err != nil {
		return err
	}
	row("after it", after, measure.Resident(server.PID()), &attacked{})
	return nil
}

// flood sends while the attack is under way.
func (o options) flood(ctx context.Context, server *rig.Server) (*sent, *attacked, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	if err := measure.ResetPeak(server.PID()); err != nil {
		return nil, nil, err
	}
	var out bytes.Buffer
	attacker, err := rig.Start(context.WithoutCancel(ctx), rig.Spec{
		Name: "attack", Program: self, Stdout: &out, Args: []string{
			"-attack", server.Listen, "-connections", strconv.Itoa(o.connections), "-addresses", strconv.Itoa(o.addresses),
		},
	})
	if err != nil {
		return nil, nil, err
	}
	defer attacker.Kill()
	if err := wait(ctx, o.settle); err != nil {
		return nil, nil, err
	}
	s, err := o.send(ctx, server, o.duration)
	if err != nil {
		return nil, nil, err
	}
	if _, clean := attacker.Stop(10 * time.Second); !clean {
		return nil, nil, fmt.Errorf("the attack did not end: %s", attacker.Log())
	}
	var counts attacked
	if err := json.Unmarshal(out.Bytes(), &counts); err != nil {
		return nil, nil, fmt.Errorf("read what the attack says: %w: %s", err, attacker.Log())
	}
	return s, &counts, wait(ctx, o.settle)
}

// sent is what became of the notifications of a part.
type sent struct {
	times measure.Histogram // from when each was to be sent until its 202
	files int               // that the server had open in the middle of it
}

// send posts notifications to one token each at the rate, whether those before have been answered or not.
func (o options) send(ctx context.Context, server *rig.Server, duration time.Duration) (*sent, error) {
	s := &sent{}
	var mu sync.Mutex // guards what follows, and s.times
	var failed error
	var under sync.WaitGroup
	total := int(duration.Seconds() * float64(o.rate))
	began := time.Now()
	for i := range total {
		due := began.Add(time.Duration(i) * time.Second / time.Duration(o.rate))
		if err := wait(ctx, time.Until(due)); err != nil {
			return nil, err
		}
		if i == total/2 {
			files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", server.PID()))
			if err != nil {
				return nil, fmt.Errorf("count the server's files: %w", err)
			}
			s.files = len(files)
		}
		under.Go(func() {
			body := fmt.Appendf(nil, `{"to": {"tokens": ["%s"]}, "aps": {"alert": "Hello"}}`, rig.Token(i))
			_, err := server.Post(ctx, body, "")
			took := time.Since(due)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed = err
				return
			}
			s.times.Add(took)
		})
	}
	under.Wait()
	return s, failed
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}
