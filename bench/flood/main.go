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
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
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
	rounds               int
	duration             time.Duration
	settle, over         time.Duration
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
	flag.IntVar(&o.rounds, "rounds", 1, "attacks")
	flag.DurationVar(&o.duration, "duration", 25*time.Second, "each part; a crowd ends after ten, and comes again")
	flag.DurationVar(&o.settle, "settle", 3*time.Second, "before the first part is measured, and before an attack is")
	flag.DurationVar(&o.over, "over", 3*time.Second, "after an attack's end, before what it leaves is measured")
	program.Main("flood", 5*time.Minute, func(ctx context.Context) error {
		if o.attack != "" {
			return attack(ctx, o)
		}
		return benchmark(ctx, o)
	})
}

func benchmark(ctx context.Context, o options) error {
	table := measure.Table{Columns: []string{
		"", "notifications/s", "p50", "p99", "max", "p99 beside a quick disk", "stalls of the disk", "fsync p99",
		"RSS", "open files", "cores: service", "cores: attack",
		"connections opened", "registered", "refused (429)",
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

	if err := o.send(ctx, server, dir, o.settle, &part{}); err != nil { // the first ones make the program's pages be there
		return err
	}
	var before, attacked, after part
	if err := o.send(ctx, server, dir, o.duration, &before); err != nil {
		return err
	}
	before.memory = measure.Resident(server.PID())
	for range o.rounds {
		if err := o.flood(ctx, server, dir, &attacked); err != nil {
			return err
		}
		if err := o.send(ctx, server, dir, o.duration, &after); err != nil {
			return err
		}
		after.memory = measure.Resident(server.PID())
	}
	before.row(table, engine+": before")
	attacked.row(table, engine+": attacked")
	after.row(table, engine+": after")
	return nil
}

// flood sends while the attack is under way.
func (o options) flood(ctx context.Context, server *rig.Server, dir string, p *part) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if err := measure.ResetPeak(server.PID()); err != nil {
		return err
	}
	var out bytes.Buffer
	attacker, err := rig.Start(context.WithoutCancel(ctx), rig.Spec{
		Name: "attack", Program: self, Stdout: &out, Args: []string{
			"-attack", server.Listen, "-connections", strconv.Itoa(o.connections), "-addresses", strconv.Itoa(o.addresses),
		},
	})
	if err != nil {
		return err
	}
	defer attacker.Kill()
	if err := wait(ctx, o.settle); err != nil {
		return err
	}
	cpu := measure.CPUSeconds(attacker.PID())
	if err := o.send(ctx, server, dir, o.duration, p); err != nil {
		return err
	}
	p.attackCPU += measure.CPUSeconds(attacker.PID()) - cpu
	p.memory = max(p.memory, measure.Peak(server.PID()))
	if _, clean := attacker.Stop(10 * time.Second); !clean {
		return fmt.Errorf("the attack did not end: %s", attacker.Log())
	}
	var counts attacked
	if err := json.Unmarshal(out.Bytes(), &counts); err != nil {
		return fmt.Errorf("read what the attack says: %w: %s", err, attacker.Log())
	}
	p.attack.add(counts)
	return wait(ctx, o.over)
}

// part is what became of the notifications of all rounds' like parts, and what it took.
type part struct {
	times, syncs   measure.Histogram // of a notification: from when it was to be sent until its 202
	quick          measure.Histogram // as times, but for what was under way while the disk stalled
	stalls         int
	took           time.Duration
	cpu, attackCPU float64 // seconds
	memory         int64
	files          int // that the server had open in the middle
	attack         attacked
}

func (p *part) row(to *measure.Table, name string) {
	seconds := p.took.Seconds()
	to.Row(name, int(float64(p.times.Count())/seconds), p.times.Quantile(0.5), p.times.Quantile(0.99), p.times.Max(),
		p.quick.Quantile(0.99), p.stalls, p.syncs.Quantile(0.99), measure.MiB(p.memory), p.files,
		p.cpu/seconds, p.attackCPU/seconds, p.attack.Opened, p.attack.Registered, p.attack.Refused)
}

// span is the time that something took.
type span struct{ begin, end time.Time }

func (s span) took() time.Duration { return s.end.Sub(s.begin) }

// stalled is what a write to the disk of a page takes at the least that is a stall: the service cannot answer sooner.
const stalled = 5 * time.Millisecond

// add takes in how long notifications and the probes of the disk beside them took.
func (p *part) add(notifications, syncs []span) {
	var stalls []span
	for _, s := range syncs {
		p.syncs.Add(s.took())
		if s.took() >= stalled {
			stalls = append(stalls, s)
		}
	}
	p.stalls += len(stalls)
	for _, n := range notifications {
		p.times.Add(n.took())
		beside := func(s span) bool { return n.begin.Before(s.end) && s.begin.Before(n.end) }
		if !slices.ContainsFunc(stalls, beside) {
			p.quick.Add(n.took())
		}
	}
}

// send posts notifications to one token each at the rate, whether those before have been answered or not.
func (o options) send(ctx context.Context, server *rig.Server, dir string, duration time.Duration, p *part) error {
	probing, stop := context.WithCancel(ctx)
	defer stop()
	var probed sync.WaitGroup
	var syncs []span
	var syncErr error
	probed.Go(func() { syncs, syncErr = probe(probing, dir) })
	var mu sync.Mutex // guards what follows
	var failed error
	var answered []span
	var under sync.WaitGroup
	total := int(duration.Seconds() * float64(o.rate))
	cpu, began := measure.CPUSeconds(server.PID()), time.Now()
	for i := range total {
		due := began.Add(time.Duration(i) * time.Second / time.Duration(o.rate))
		if err := wait(ctx, time.Until(due)); err != nil {
			return err
		}
		if i == total/2 {
			files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", server.PID()))
			if err != nil {
				return fmt.Errorf("count the server's files: %w", err)
			}
			p.files = len(files)
		}
		under.Go(func() {
			body := fmt.Appendf(nil, `{"to": {"tokens": ["%s"]}, "aps": {"alert": "Hello"}}`, rig.Token(i))
			_, err := server.Post(ctx, body, "")
			took := span{due, time.Now()}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed = err
				return
			}
			answered = append(answered, took)
		})
	}
	under.Wait()
	p.took += time.Since(began)
	p.cpu += measure.CPUSeconds(server.PID()) - cpu
	stop()
	probed.Wait()
	p.add(answered, syncs)
	return errors.Join(failed, syncErr)
}

// probe writes to the disk what a small commit does, fifty times a second: how slow that is is not the service's fault.
func probe(ctx context.Context, dir string) (syncs []span, err error) {
	f, err := os.Create(filepath.Join(dir, "probe"))
	if err != nil {
		return nil, fmt.Errorf("measure the disk: %w", err)
	}
	defer f.Close()
	page := make([]byte, 4<<10)
	for wait(ctx, 20*time.Millisecond) == nil {
		began := time.Now()
		if _, err = f.WriteAt(page, 0); err == nil {
			err = f.Sync()
		}
		if err != nil {
			return nil, fmt.Errorf("measure the disk: %w", err)
		}
		syncs = append(syncs, span{began, time.Now()})
	}
	return syncs, nil
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}
