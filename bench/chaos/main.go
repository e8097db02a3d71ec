// Command chaos kills the service with SIGKILL at random moments while notifications are on their way, starts it again,
// and then checks that nothing was lost and that every count and every stored badge is exact. What was sent twice is
// counted: after a kill nobody can know of what was in flight, so it is sent again.
//
//	chaos -mode rounds      one process; in each round 100,000 recipients, and a kill somewhere in the middle
//	chaos -mode platforms   the same with one message to iPhones, Android phones and browsers
//	chaos -mode replicas    three replicas on one MariaDB; broadcasts, a replica killed every few seconds
//	chaos -mode rolling     three replicas on one MariaDB; stopped by SIGTERM one after the other, and nothing sent twice
//	chaos -mode webhooks    one process on SQLite, three replicas on MariaDB; a replica and a webhook's receiver killed
//	                        in turn: every event arrives
//	chaos -mode galera      three replicas on the three nodes of a Galera cluster; a node killed, and a replica
//	chaos -mode group       three replicas on the primary of three MySQL servers; the primary killed or changed, a
//	                        replica killed
//	chaos -mode server      three replicas on one MariaDB or MySQL; the database server killed, and a replica
//	chaos -mode vitess      three replicas on a Vitess cluster; each of its processes killed in turn, and a replica
//
// MariaDB needs scripts/testdb around it, or scripts/mysqldb for MySQL in its place; the cluster scripts/galera, the
// group scripts/group-replication, Vitess scripts/vitess. It exits with 1 at the first thing that is not as it should
// be.
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
	"syscall"
	"time"

	"github.com/lhspn/lhspn/bench/internal/measure"
	"github.com/lhspn/lhspn/bench/internal/rig"
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/simulator"
)

type options struct {
	mode          string
	bin           string
	keep          string
	engines       string
	transports    string
	tokens        int
	rounds        int
	kills         int
	replicas      int
	killEvery     time.Duration
	lease         time.Duration
	maxDuplicates int
	seed          uint64
	timeout       time.Duration
	listen, file  string
	receiver      string
}

const modes = "rounds, platforms, replicas, rolling, webhooks, galera, group, server or vitess"

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench/chaos: FAILED:", err)
		os.Exit(1)
	}
}

func run() error {
	var o options
	flag.StringVar(&o.mode, "mode", "rounds", modes)
	flag.StringVar(&o.bin, "bin", "bench/bin", "the built programs")
	flag.StringVar(&o.keep, "keep", "", "keep the service's logs, configuration and SQLite file in this folder")
	flag.StringVar(&o.engines, "engines", "sqlite,mysql", "rounds: database engines")
	flag.StringVar(&o.transports, "transports", "binary,http2", "transports")
	flag.IntVar(&o.tokens, "tokens", 100_000, "registered tokens, each of which every round (or broadcast) must reach")
	flag.IntVar(&o.rounds, "rounds", 20, "rounds, or broadcasts")
	flag.IntVar(&o.kills, "kills", 1, "rounds: kills in each round")
	flag.IntVar(&o.replicas, "replicas", 3, "replicas, rolling: how many")
	flag.DurationVar(&o.killEvery, "kill-every", 3*time.Second, "replicas: mean time between kills")
	flag.DurationVar(&o.lease, "lease", 0,
		"the service's setting queue.lease; 0 is its default. On MySQL a killed process's work waits for its end")
	flag.IntVar(&o.maxDuplicates, "max-duplicates", 0,
		"fail when a kill costs more than this many duplicates; 0 is what the transport's windows hold")
	flag.Uint64Var(&o.seed, "seed", uint64(time.Now().UnixNano()), "of all that is random")
	flag.DurationVar(&o.timeout, "timeout", 30*time.Minute, "the whole run")
	flag.StringVar(&o.listen, "listen", "", "receiver: the address, of a process of the mode webhooks")
	flag.StringVar(&o.receiver, "receiver", "",
		"webhooks: a program that receives in place of ours, as \"node interop/webhooks/node/keep.mjs\"")
	flag.StringVar(&o.file, "file", "", "receiver: the file for what it gets")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeoutCause(ctx, o.timeout, fmt.Errorf("the run took longer than %v", o.timeout))
	defer cancel()
	if o.mode == "receiver" {
		return receive(ctx, o.listen, o.file)
	}
	fmt.Printf("seed %d\n\n", o.seed)
	engines := strings.Split(o.engines, ",")
	play := rounds
	switch o.mode {
	case "rounds":
	case "platforms":
		play = platforms
	case "replicas":
		engines, play = []string{"mysql"}, replicas // SQLite refuses a second process
	case "webhooks":
		play = webhooks
	case "rolling":
		engines, play = []string{"mysql"}, rolling
	case "galera":
		engines, play = []string{"galera"}, galera
	case "group":
		engines, play = []string{"group"}, group
	case "server":
		engines, play = []string{"server"}, outages
	case "vitess":
		engines, play = []string{"vitess"}, outages
	default:
		return fmt.Errorf("a mode is %s, not %q", modes, o.mode)
	}
	for _, engine := range engines {
		for transport := range strings.SplitSeq(o.transports, ",") {
			if err := stage(ctx, o, engine, transport, play); err != nil {
				return fmt.Errorf("%s, %s, seed %d: %w", engine, transport, o.seed, err)
			}
		}
	}
	return nil
}

// theatre is all that a play needs.
type theatre struct {
	options
	engine, transport string
	sim               *simulator.Simulator
	config            rig.ServerConfig
	nodes             []rig.Node // of a cluster
	group             *rig.Group
	parts             *rig.Parts // that can be killed
}

func stage(ctx context.Context, o options, engine, transport string,
	play func(context.Context, *theatre) error) (err error) {
	dir := o.keep
	if dir == "" {
		var discard func()
		if dir, discard, err = rig.TempDir(); err != nil {
			return err
		}
		defer discard()
	} else if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make a folder: %w", err)
	}
	cfg := simulator.Config{Record: simulator.RecordCounts, TrackIDs: transport == "http2"}
	if o.mode == "platforms" {
		cfg.FCM.Address, cfg.WebPush.Address = "127.0.0.1:0", "127.0.0.1:0"
	}
	sim, credentials, stop, err := rig.RunSimulator(ctx, dir, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	var nodes []rig.Node
	var servers *rig.Group
	var parts *rig.Parts
	var database string
	remove := func() {}
	switch engine {
	case "galera":
		if nodes, remove, err = rig.NewGaleraDatabase(ctx); err == nil {
			o.replicas = len(nodes)
		}
	case "group":
		servers, remove, err = rig.NewGroup(ctx)
	case "server":
		parts, remove, err = rig.NewMySQLParts(ctx)
	case "vitess":
		parts, err = rig.NewVitess(ctx)
	default:
		database, remove, err = rig.NewDatabase(ctx, engine, dir)
	}
	if err != nil {
		return err
	}
	defer remove()
	t := &theatre{options: o, engine: engine, transport: transport, sim: sim, nodes: nodes, group: servers, parts: parts,
		config: rig.ServerConfig{
			Bin: o.bin, Dir: dir, Database: database, Transport: transport, Credentials: credentials, Connections: connections,
		}}
	if o.lease > 0 {
		t.config.Extra = fmt.Sprintf("queue:\n  lease: %v\n", o.lease)
	}
	t.config.Gateway = sim.ProviderAddr()
	if transport == "binary" {
		t.config.Gateway = sim.GatewayAddr()
	}
	return play(ctx, t)
}

// connections of each process to the gateway.
const connections = 2

// duplicateBound is how many notifications can be sent and not yet settled when one process is killed.
func (t *theatre) duplicateBound() int {
	if t.maxDuplicates > 0 {
		return t.maxDuplicates
	}
	return windowInFlight
}

// windowInFlight is what the sender holds for one app by default: 32,000 recipients with the transport, and as many
// again that are read, or whose results are on their way into the database.
const windowInFlight = 64_000

// check compares what the simulator received with what had to be: every token at least once, and the first extra tokens
// twice. It returns the number of notifications that arrived more often.
func (t *theatre) check(extra int) (duplicates int, err error) {
	missing, first := 0, push.Token("")
	for i := range t.tokens {
		token := rig.Token(i)
		n := int(t.sim.Counts(token).Accepted)
		want := 1
		if i < extra {
			want = 2
		}
		if n < want {
			missing++
			first = token
			continue
		}
		duplicates += n - want
	}
	if missing > 0 {
		return duplicates, fmt.Errorf("%d of %d tokens were not reached as often as they should, one of them %s", missing,
			t.tokens, first)
	}
	if total := t.sim.Totals(); total.TokensAccepted != uint64(t.tokens) {
		return duplicates, fmt.Errorf("the simulator was sent to %d tokens, of which there are %d", total.TokensAccepted,
			t.tokens)
	}
	return duplicates, nil
}

// badges checks that every registered token's stored badge is want.
func (t *theatre) badges(ctx context.Context, api rig.API, want uint32) error {
	return badgesOf(ctx, api, t.tokens, want)
}

func badgesOf(ctx context.Context, api rig.API, tokens int, want uint32) error {
	seen, wrong := 0, map[uint32]int{}
	err := rig.Insist(ctx, func(ctx context.Context) error {
		seen = 0
		clear(wrong)
		return api.Export(ctx, func(r rig.Registered) {
			seen++
			if r.Badge != want {
				wrong[r.Badge]++
			}
		})
	})
	if err != nil {
		return err
	}
	if seen != tokens || len(wrong) > 0 {
		return fmt.Errorf("%d tokens exported of %d; badges that are not %d, with how many have them: %v", seen, tokens, want,
			wrong)
	}
	return nil
}

// final checks one notification's counts.
func final(n rig.Notification, recipients int) error {
	if n.Recipients == nil || *n.Recipients != int64(recipients) || n.Counts.Sum() != int64(recipients) ||
		n.Counts.Accepted != int64(recipients) {
		text := "as yet unknown"
		if n.Recipients != nil {
			text = strconv.FormatInt(*n.Recipients, 10)
		}
		return fmt.Errorf("notification %s: %d recipients expected, all accepted; it says %v with %+v",
			n.ID, recipients, text, n.Counts)
	}
	return nil
}

// summary is the table at the end of a play.
func summary(title string, durations []float64, duplicates []int, kills, recipients int) {
	sum, most := 0, 0
	for _, d := range duplicates {
		sum += d
		most = max(most, d)
	}
	fmt.Printf("### %s\n\n", title)
	t := measure.Table{Columns: []string{
		"kills", "recipients", "lost", "wrong counts", "wrong badges", "duplicates", "most for one round", "median round"}}
	t.Row(kills, recipients, 0, 0, 0, sum, most, time.Duration(measure.Median(durations)*float64(time.Second)))
	t.Write(os.Stdout)
}
