package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/lhspn/lhspn/bench/internal/load"
	"github.com/lhspn/lhspn/bench/internal/measure"
	"github.com/lhspn/lhspn/bench/internal/rig"
)

// manyTokens is how many device tokens a request names in the rows of many.
const manyTokens = 1000

// contender is a service that takes notifications over HTTP and delivers them to the simulator.
type contender struct {
	name    string
	address string
	one     func(dst []byte, n int64) []byte // a notification to token n
	many    func(dst []byte, n int64) []byte // one to manyTokens tokens
	pid     int
	stop    func()
}

// sample is one round of one contender.
type sample struct {
	accepted, delivered, many  float64 // a second
	p50, p99, alone, aloneLoop time.Duration
	rss                        int64
	lost                       int64
}

// versus measures gorush and the service on each engine in turns.
//
// gorush sends to Apple's host alone. So it runs in a mount namespace whose hosts file has that name at 127.0.0.1,
// where the simulator listens on port 443: both take root.
func versus(ctx context.Context, o options) error {
	names := append([]string{"gorush"}, strings.Split(o.engines, ",")...)
	samples := map[string][]sample{}
	for range o.rounds {
		for _, name := range names {
			s, err := contend(ctx, o, name)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			samples[name] = append(samples[name], s)
		}
	}
	median := func(name string, of func(s sample) float64) float64 { return measure.MedianOf(samples[name], of) }
	table := measure.Table{Columns: []string{
		"service", "accepted/s", "of gorush", "delivered/s", "of gorush", "p50", "p99", "1 connection: p50",
		"of a durable insert",
		"1,000 tokens each: delivered/s", "of gorush", "RSS", "not delivered"}}
	accepted := func(s sample) float64 { return s.accepted }
	delivered := func(s sample) float64 { return s.delivered }
	many := func(s sample) float64 { return s.many }
	for _, name := range names {
		label := name
		if name != "gorush" {
			label = "LHSPN, " + name
		}
		ratio := func(of func(s sample) float64) string { return measure.Ratio(median(name, of), median("gorush", of)) }
		duration := func(of func(s sample) time.Duration) time.Duration {
			return time.Duration(median(name, func(s sample) float64 { return float64(of(s)) }))
		}
		alone, insert := duration(func(s sample) time.Duration { return s.alone }),
			duration(func(s sample) time.Duration { return s.aloneLoop })
		ofInsert := ""
		if insert > 0 {
			ofInsert = measure.Ratio(float64(alone), float64(insert))
		}
		table.Row(label, median(name, accepted), ratio(accepted), median(name, delivered), ratio(delivered),
			duration(func(s sample) time.Duration { return s.p50 }), duration(func(s sample) time.Duration { return s.p99 }),
			alone, ofInsert,
			median(name, many), ratio(many), measure.MiB(int64(median(name, func(s sample) float64 { return float64(s.rss) }))),
			median(name, func(s sample) float64 { return float64(s.lost) }))
	}
	fmt.Printf("### One notification a request: %d connections, medians of %d rounds in turns, %v for each figure\n\n",
		o.connections, o.rounds,
		o.duration)
	table.Write(os.Stdout)
	return nil
}

// contend is one round of one contender, on a database and with processes of its own.
func contend(ctx context.Context, o options, name string) (s sample, err error) {
	dir, discard, err := rig.TempDir()
	if err != nil {
		return s, err
	}
	defer discard()
	if name != "gorush" {
		single := o
		single.connections, single.duration, single.warmup = 1, o.duration/3, o.warmup/2
		loop, err := driverLoop(ctx, single, name)
		if err != nil {
			return s, err
		}
		s.aloneLoop = time.Duration(float64(time.Second) / loop)
	}
	args := []string{"--record", "totals", "--host", "api.push.apple.com"}
	if name == "gorush" {
		args = append(args, "--provider", "127.0.0.1:443")
	}
	sim, err := rig.StartSimulator(ctx, o.bin, dir, args...)
	if err != nil {
		return s, err
	}
	defer sim.Stop(5 * time.Second)
	var c *contender
	if name == "gorush" {
		c, err = startGorush(ctx, o, dir, sim)
	} else {
		c, err = startOurs(ctx, o, name, dir, sim)
	}
	if err != nil {
		return s, err
	}
	defer c.stop()
	result, delivered, lost, err := c.press(ctx, o, sim, c.one, 1, o.connections)
	if err != nil {
		return s, err
	}
	s.accepted, s.delivered, s.lost = result.Rate(), delivered, lost
	s.p50, s.p99 = result.Latency.Quantile(.5), result.Latency.Quantile(.99)
	single := o
	single.duration = o.duration / 3
	if result, _, _, err = c.press(ctx, single, sim, c.one, 1, 1); err != nil {
		return s, err
	}
	s.alone = result.Latency.Quantile(.5)
	s.rss = measure.Peak(c.pid)
	// A bounded number of requests: in gorush's memory, which has no bound, would be more than it delivers in a minute.
	single.requests, single.warmup = 50, 0
	if _, s.many, _, err = c.press(ctx, single, sim, c.many, manyTokens, 4); err != nil {
		return s, err
	}
	s.rss = max(s.rss, measure.Peak(c.pid))
	return s, nil
}

// press runs the load, and waits until all of it is delivered, or nothing more is: lost is what was not.
func (c *contender) press(ctx context.Context, o options, sim *rig.Simulator, request func([]byte, int64) []byte,
	each int64, connections int) (
	result *load.Result, delivered float64, lost int64, err error,
) {
	if err := sim.Reset(ctx); err != nil {
		return nil, 0, 0, err
	}
	var highest highWater
	begin := time.Now()
	result, err = load.Run{
		Address: c.address, Connections: connections, Warmup: o.warmup, Duration: o.duration, Requests: o.requests,
		Append: highest.watch(request),
	}.Do(ctx)
	if err != nil {
		return nil, 0, 0, err
	}
	if result.Refused() > 0 {
		return nil, 0, 0, fmt.Errorf("%d of %d requests were refused, the first with: %s", result.Refused(), result.Requests,
			result.FirstRefused)
	}
	want := uint64(highest.value.Load() * each)
	var received uint64
	at := time.Now()
	err = rig.Poll(ctx, 2*time.Millisecond, "wait until all is delivered", func() (bool, error) {
		totals, err := sim.Stats(ctx)
		if totals.Received != received {
			received, at = totals.Received, time.Now()
		}
		return received >= want || time.Since(at) > 3*time.Second, err
	})
	return result, float64(received) / at.Sub(begin).Seconds(), int64(want - min(want, received)), err
}

func startOurs(ctx context.Context, o options, engine, dir string, sim *rig.Simulator) (*contender, error) {
	database, remove, err := rig.NewDatabase(ctx, engine, dir)
	if err != nil {
		return nil, err
	}
	server, err := rig.StartServer(ctx, rig.ServerConfig{
		Bin: o.bin, Dir: dir, Database: database, Transport: "http2", Gateway: sim.Provider, Credentials: sim.Credentials,
	})
	if err != nil {
		remove()
		return nil, err
	}
	return &contender{
		name: engine, address: server.Listen, pid: server.PID(), stop: func() { server.Stop(20 * time.Second); remove() },
		one:  acceptance(func(n int64) int { return int(n) }),
		many: posting("/v1/notifications", `{"to":{"tokens":[`, `]},"aps":{"alert":"`+rig.Alert+`"}}`),
	}, nil
}

// posting returns what appends a request with manyTokens tokens in its body.
func posting(path, before, after string) func([]byte, int64) []byte {
	const quoted = 64 + 3 // with quotes and a comma
	head := "POST " + path + " HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + rig.Key +
		"\r\nContent-Type: application/json\r\nContent-Length: " + strconv.Itoa(len(before)+manyTokens*quoted-1+len(after)) +
		"\r\n\r\n" + before
	return func(dst []byte, n int64) []byte {
		dst = append(dst, head...)
		for i := range manyTokens {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(rig.AppendToken(append(dst, '"'), int(n)*manyTokens+i), '"')
		}
		return append(dst, after...)
	}
}

// startGorush starts it with everything in memory, room in its queue for all that is accepted, and nothing logged.
func startGorush(ctx context.Context, o options, dir string, sim *rig.Simulator) (*contender, error) {
	address, err := rig.FreeAddress()
	if err != nil {
		return nil, err
	}
	host, port, _ := strings.Cut(address, ":")
	config := fmt.Sprintf(`core:
  address: %q
  port: %q
  queue_num: 10000000
  max_notification: 100
  mode: release
android:
  enabled: false
ios:
  enabled: true
  key_path: %q
  key_type: p8
  key_id: SIMKEY0001
  team_id: SIMTEAM001
  production: true
  max_concurrent_pushes: 100
log:
  access_log: /dev/null
  error_log: /dev/null
  access_level: fatal
  error_level: fatal
stat:
  engine: memory
queue:
  engine: local
`, host, port, filepath.Join(sim.Credentials, "AuthKey_SIMKEY0001.p8"))
	file, hosts := filepath.Join(dir, "gorush.yml"), filepath.Join(dir, "hosts")
	err = errors.Join(os.WriteFile(file, []byte(config), 0o600),
		os.WriteFile(hosts, []byte("127.0.0.1 localhost api.push.apple.com\n"), 0o644))
	if err != nil {
		return nil, fmt.Errorf("write gorush's files: %w", err)
	}
	process, err := rig.Start(ctx, rig.Spec{
		Name: "gorush", Program: "unshare", Env: []string{"SSL_CERT_FILE=" + filepath.Join(sim.Credentials, "ca.pem"),
			"GODEBUG=netdns=go"},
		Args: []string{"-m", "sh", "-c", `mount --bind "$0" /etc/hosts && exec "$@"`, hosts, o.gorush, "-c", file},
	})
	if err != nil {
		return nil, err
	}
	if err := rig.Reachable(ctx, address); err != nil {
		process.Stop(time.Second)
		return nil, fmt.Errorf("%w: %s", err, process.Log())
	}
	const note = `],"platform":1,"topic":"` + rig.Topic + `","message":"` + rig.Alert + `"}]}`
	one := func(dst []byte, n int64) []byte {
		const before = `{"notifications":[{"tokens":["`
		dst = append(dst, "POST /api/push HTTP/1.1\r\nHost: localhost\r\n"+
			"Content-Type: application/json\r\nContent-Length: "...)
		dst = strconv.AppendInt(dst, int64(len(before)+64+1+len(note)), 10)
		dst = append(append(dst, "\r\n\r\n"...), before...)
		dst = rig.AppendToken(dst, int(n))
		return append(append(dst, '"'), note...)
	}
	return &contender{
		name: "gorush", address: address, pid: process.PID(), stop: func() { process.Stop(2 * time.Second) },
		one: one, many: posting("/api/push", `{"notifications":[{"tokens":[`, note),
	}, nil
}
