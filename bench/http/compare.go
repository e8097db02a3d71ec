package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/lhspn/lhspn/bench/internal/load"
	"github.com/lhspn/lhspn/bench/internal/measure"
	"github.com/lhspn/lhspn/bench/internal/rig"
)

// side is one of what is compared: programs and a setting.
type side struct {
	name, bin string
	appExtra  string
	read      bool // a consumer reads the app's events meanwhile
}

// cost is what a side took for each notification to one token, from its acceptance until it is settled.
type cost struct {
	server, database time.Duration // CPU, user and system
	rate             float64
	events           int64 // that the consumer read
	// Of the database, for 1,000 notifications; 0 with SQLite.
	statements, commits float64
}

// compare measures, in turns, what a notification to one token costs with the programs of o.base, and with ours with a
// consumer of the events, without one, and with events off. CPU hardly depends on what else the machine does.
func compare(ctx context.Context, o options) error {
	sides := []side{
		{name: "events off", bin: o.bin, appExtra: "    events: false\n"},
		{name: "events kept", bin: o.bin},
		{name: "events kept and read", bin: o.bin, read: true},
	}
	if o.base != "" {
		sides = append(sides, side{name: "base: events off", bin: o.base, appExtra: "    events: false\n"},
			side{name: "base: events kept", bin: o.base}, side{name: "base: events kept and read", bin: o.base, read: true})
	}
	if o.sides != "" {
		names := strings.Split(o.sides, ",")
		sides = slices.DeleteFunc(sides, func(s side) bool { return !slices.Contains(names, s.name) })
	}
	for engine := range strings.SplitSeq(o.engines, ",") {
		costs := map[string][]cost{}
		for round := range o.rounds {
			for i := range sides {
				s := sides[(i+round)%len(sides)]
				c, err := s.measure(ctx, o, engine)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", engine, s.name, err)
				}
				costs[s.name] = append(costs[s.name], c)
			}
		}
		table := measure.Table{Columns: []string{engine, "server CPU each", "of the first", "database CPU each", "both",
			"of the first", "accepted/s", "events read", "statements for 1,000", "commits"}}
		median := func(s side, of func(cost) time.Duration) time.Duration {
			return time.Duration(measure.MedianOf(costs[s.name], func(c cost) float64 { return float64(of(c)) }))
		}
		server := func(c cost) time.Duration { return c.server }
		both := func(c cost) time.Duration { return c.server + c.database }
		for _, s := range sides {
			table.Row(s.name, median(s, server), percent(median(s, server), median(sides[0], server)),
				median(s, func(c cost) time.Duration { return c.database }), median(s, both),
				percent(median(s, both), median(sides[0], both)),
				measure.MedianOf(costs[s.name], func(c cost) float64 { return c.rate }),
				measure.MedianOf(costs[s.name], func(c cost) float64 { return float64(c.events) }),
				measure.MedianOf(costs[s.name], func(c cost) float64 { return c.statements }),
				measure.MedianOf(costs[s.name], func(c cost) float64 { return c.commits }))
		}
		fmt.Printf("### One token a notification: %d notifications over %d connections, medians of %d rounds in turns\n\n",
			o.requests, o.connections, o.rounds)
		table.Write(os.Stdout)
	}
	return nil
}

func percent(a, b time.Duration) string {
	return fmt.Sprintf("%+.1f %%", 100*(float64(a)/float64(b)-1))
}

// measure is one round of a side, on a database and with processes of its own.
func (s side) measure(ctx context.Context, o options, engine string) (c cost, err error) {
	dir, discard, err := rig.TempDir()
	if err != nil {
		return c, err
	}
	defer discard()
	sim, err := rig.StartSimulator(ctx, o.bin, dir, "--record", "totals")
	if err != nil {
		return c, err
	}
	defer sim.Stop(5 * time.Second)
	database, remove, err := rig.NewDatabase(ctx, engine, dir)
	if err != nil {
		return c, err
	}
	defer remove()
	server, err := rig.StartServer(ctx, rig.ServerConfig{
		Bin: s.bin, Dir: dir, Database: database, Transport: "http2", Gateway: sim.Provider,
		Credentials: sim.Credentials, AppExtra: s.appExtra,
	})
	if err != nil {
		return c, err
	}
	defer server.Stop(20 * time.Second)
	databaseCPU := func() float64 { return 0 }
	databaseWork := func(context.Context) (int64, int64, error) { return 0, 0, nil }
	if engine != "sqlite" {
		pid, err := rig.DatabasePID(ctx)
		if err != nil {
			return c, err
		}
		databaseCPU = func() float64 { return measure.CPUSeconds(pid) }
		databaseWork = rig.DatabaseWork
	}
	request := acceptance(func(n int64) int { return int(n) })
	press := func(n int64) (*load.Result, error) {
		return load.Run{Address: server.Listen, Connections: o.connections, Duration: 2 * time.Minute, Requests: n,
			Append: request}.Do(ctx)
	}
	if _, err := press(o.requests / 10); err != nil { // the caches fill, the connections open
		return c, err
	}
	if err := settled(ctx, server, o.requests/10); err != nil {
		return c, err
	}
	reading, stop := context.WithCancel(ctx)
	defer stop()
	read := make(chan int64, 1)
	if s.read {
		cursor, err := latest(ctx, server)
		if err != nil {
			return c, err
		}
		go func() { read <- consume(reading, server, cursor, o.requests) }()
	}
	if o.profiles != "" {
		go o.profile(ctx, server, engine+" "+s.name)
	}
	statements, commits, err := databaseWork(ctx)
	if err != nil {
		return c, err
	}
	cpu, db := measure.CPUSeconds(server.PID()), databaseCPU()
	result, err := press(o.requests)
	if err != nil {
		return c, err
	}
	if result.Refused() > 0 {
		return c, fmt.Errorf("%d requests were refused, the first with: %s", result.Refused(), result.FirstRefused)
	}
	if err := settled(ctx, server, o.requests/10+o.requests); err != nil {
		return c, err
	}
	if s.read {
		select {
		case c.events = <-read:
		case <-time.After(30 * time.Second):
			return c, errors.New("not all events came")
		}
	}
	each := func(seconds float64) time.Duration {
		return time.Duration(seconds / float64(o.requests) * float64(time.Second))
	}
	c.server, c.database = each(measure.CPUSeconds(server.PID())-cpu), each(databaseCPU()-db)
	c.rate = result.Rate()
	statementsNow, commitsNow, err := databaseWork(ctx)
	thousands := float64(o.requests) / 1000
	c.statements, c.commits = float64(statementsNow-statements)/thousands, float64(commitsNow-commits)/thousands
	return c, err
}

// settled waits until so many recipients are settled.
func settled(ctx context.Context, server *rig.Server, n int64) error {
	return rig.Poll(ctx, 50*time.Millisecond, "wait until all is settled", func() (bool, error) {
		done, err := server.Metric(ctx, "lhspn_queue_settled_recipients_total")
		return int64(done) >= n, err
	})
}

type feedPage struct {
	Items []struct {
		Type string `json:"type"`
	} `json:"items"`
	Next string `json:"next_cursor"`
}

func latest(ctx context.Context, server *rig.Server) (string, error) {
	var page feedPage
	err := server.Call(ctx, http.MethodGet, "/v1/events?after=latest", nil, nil, &page)
	return page.Next, err
}

// consume reads the feed until n notifications are done.
func consume(ctx context.Context, server *rig.Server, cursor string, n int64) (read int64) {
	for read < n {
		var page feedPage
		path := "/v1/events?limit=1000&wait=30&after=" + url.QueryEscape(cursor)
		if err := server.Call(ctx, http.MethodGet, path, nil, nil, &page); err != nil {
			return read
		}
		cursor = page.Next
		for _, e := range page.Items {
			if e.Type == "notification.done" {
				read++
			}
		}
	}
	return read
}
