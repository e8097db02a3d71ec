// Command http measures the REST API under load: registering device tokens, and accepting notifications to one token,
// each commit included, on SQLite and on MariaDB, with an empty registry and with a large one. A bare chi handler that
// stores nothing and a bare loop over the database driver run beside it, to tell how much of the machine is left.
//
//	http [flags]                 the benchmark; MariaDB needs scripts/testdb around it
//	http -gorush PROGRAM         the same against appleboy/gorush, which keeps everything in memory
//	http -compare [-base DIR]    CPU for each notification with events and without, and of another commit's programs
//	http -receipts               receipts a second, forged, repeated and new, and what becomes of the rest meanwhile
//	http -reference ADDRESS      the bare chi handler, which the benchmark starts as a process of its own
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/lhspn/lhspn/bench/internal/load"
	"github.com/lhspn/lhspn/bench/internal/measure"
	"github.com/lhspn/lhspn/bench/internal/rig"
)

type options struct {
	reference string

	bin         string
	engines     string
	profiles    string
	transport   string
	connections int
	warmup      time.Duration
	duration    time.Duration
	registry    int
	gorush      string
	rounds      int
	compare     bool
	receipts    bool
	base        string
	sides       string
	requests    int64 // of a part that is bounded by them
	timeout     time.Duration
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench/http:", err)
		os.Exit(1)
	}
}

func run() error {
	var o options
	flag.StringVar(&o.reference, "reference", "", "be the bare chi handler at this address")
	flag.StringVar(&o.bin, "bin", "bench/bin", "the built programs")
	flag.StringVar(&o.engines, "engines", "sqlite,mysql", "database engines")
	flag.StringVar(&o.transport, "transport", "http2", "how the accepted notifications leave: http2 or binary")
	flag.IntVar(&o.connections, "connections", 64, "connections, each with one request under way")
	flag.DurationVar(&o.warmup, "warmup", time.Second, "load before each measured part")
	flag.DurationVar(&o.duration, "duration", 5*time.Second, "each measured part")
	flag.StringVar(&o.profiles, "profiles", "",
		"keep a CPU profile of the server for each row in this directory; costs a few percent")
	flag.IntVar(&o.registry, "registry", 1_000_000, "tokens to import before all is measured again; 0 leaves that out")
	flag.StringVar(&o.gorush, "gorush", "", "measure against this program instead, in turns; takes root")
	flag.IntVar(&o.rounds, "rounds", 5, "with -gorush and -compare: rounds")
	flag.BoolVar(&o.compare, "compare", false, "compare what a notification to one token costs with events and without")
	flag.BoolVar(&o.receipts, "receipts", false, "measure receipts: forged, repeated and new ones")
	flag.StringVar(&o.base, "base", "", "with -compare: programs of another commit to compare with, in turns")
	flag.StringVar(&o.sides, "sides", "", "with -compare: only these rows, as \"events kept,base: events kept\"")
	flag.Int64Var(&o.requests, "requests", 20_000, "with -compare: notifications a round")
	flag.DurationVar(&o.timeout, "timeout", 10*time.Minute, "the whole benchmark")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if o.reference != "" {
		return reference(ctx, o.reference)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, o.timeout, fmt.Errorf("the benchmark took longer than %v", o.timeout))
	defer cancel()
	if o.receipts {
		return receipts(ctx, o)
	}
	if o.compare {
		return compare(ctx, o)
	}
	o.requests = 0
	if o.gorush != "" {
		return versus(ctx, o)
	}
	return benchmark(ctx, o)
}

// reference is the least that an HTTP service in Go can do: routes, a body read as JSON, an answer written as JSON.
func reference(ctx context.Context, address string) error {
	router := chi.NewRouter()
	handler := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			var body struct {
				To struct {
					Tokens []string `json:"tokens"`
				} `json:"to"`
				APS json.RawMessage `json:"aps"`
			}
			data, err := io.ReadAll(r.Body)
			if err == nil {
				err = json.Unmarshal(data, &body)
			}
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			answer, err := json.Marshal(map[string]any{"id": "01890a5d-ac96-774b-bcce-b302099a8057",
				"recipients": len(body.To.Tokens)})
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			_, _ = w.Write(answer)
		}
	}
	router.Put("/v1/tokens/{token}", handler(http.StatusCreated))
	router.Post("/v1/notifications", handler(http.StatusAccepted))
	server := &http.Server{Addr: address, Handler: router, ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// registration returns what appends the request that registers token(n).
func registration(token func(n int64) int) func([]byte, int64) []byte {
	const body = `{"app_version":"4.2","os_version":"18.1","locale":"en_GB","time_zone":"Europe/London"}`
	tail := " HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + rig.Key +
		"\r\nContent-Type: application/json\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body
	return func(dst []byte, n int64) []byte {
		dst = append(dst, "PUT /v1/tokens/"...)
		dst = rig.AppendToken(dst, token(n))
		return append(dst, tail...)
	}
}

// acceptance returns what appends the request that posts a notification to token(n).
func acceptance(token func(n int64) int) func([]byte, int64) []byte {
	const before, after = `{"to":{"tokens":["`, `"]},"aps":{"alert":"` + rig.Alert + `"}}`
	head := "POST /v1/notifications HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + rig.Key +
		"\r\nContent-Type: application/json\r\nContent-Length: " + strconv.Itoa(len(before)+64+len(after)) + "\r\n\r\n" +
		before
	return func(dst []byte, n int64) []byte {
		dst = append(dst, head...)
		dst = rig.AppendToken(dst, token(n))
		return append(dst, after...)
	}
}

func benchmark(ctx context.Context, o options) error {
	table := measure.Table{Columns: []string{
		"what", "requests/s", "of bare chi", "of the driver loop", "p50", "p99", "max", "server CPU each", "delivered/s",
		"RSS"}}
	bare, err := bareChi(ctx, o)
	if err != nil {
		return err
	}
	for _, name := range []string{"register", "accept"} {
		b := bare[name]
		table.Row("bare chi handler: "+name, b.Rate(), "", "", b.Latency.Quantile(.5), b.Latency.Quantile(.99),
			b.Latency.Max(), "", "", "")
	}
	for engine := range strings.SplitSeq(o.engines, ",") {
		loop, err := driverLoop(ctx, o, engine)
		if err != nil {
			return err
		}
		table.Row("bare driver loop on "+engine+": upsert and commit", loop,
			measure.Ratio(loop, bare["register"].Rate()), "", "", "", "", "", "", "")
		if err := service(ctx, o, engine, loop, bare, &table); err != nil {
			return err
		}
	}
	fmt.Printf("### REST API: %d connections, %v for each row, the load client on the same cores\n\n", o.connections,
		o.duration)
	table.Write(os.Stdout)
	return nil
}

func bareChi(ctx context.Context, o options) (map[string]*load.Result, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	address, err := rig.FreeAddress()
	if err != nil {
		return nil, err
	}
	process, err := rig.Start(ctx, rig.Spec{Name: "bare chi", Program: self, Args: []string{"-reference", address}})
	if err != nil {
		return nil, err
	}
	defer process.Stop(2 * time.Second)
	if err := rig.Reachable(ctx, address); err != nil {
		return nil, err
	}
	results := map[string]*load.Result{}
	each := func(n int64) int { return int(n) }
	for name, request := range map[string]func([]byte, int64) []byte{"register": registration(each),
		"accept": acceptance(each)} {
		if results[name], err = pressure(ctx, o, address, request); err != nil {
			return nil, err
		}
	}
	return results, nil
}

func pressure(ctx context.Context, o options, address string, request func([]byte, int64) []byte) (*load.Result,
	error) {
	result, err := load.Run{
		Address: address, Connections: o.connections, Warmup: o.warmup, Duration: o.duration, Append: request,
	}.Do(ctx)
	if err != nil {
		return nil, err
	}
	if result.Refused() > 0 {
		return nil, fmt.Errorf("%d of %d requests were refused, the first with: %s", result.Refused(), result.Requests,
			result.FirstRefused)
	}
	return result, nil
}

// service measures the service on one engine, first with next to nothing in the registry, then with o.registry tokens.
func service(ctx context.Context, o options, engine string, loop float64, bare map[string]*load.Result,
	table *measure.Table) error {
	dir, discard, err := rig.TempDir()
	if err != nil {
		return err
	}
	defer discard()
	sim, err := rig.StartSimulator(ctx, o.bin, dir, "--record", "totals")
	if err != nil {
		return err
	}
	defer sim.Stop(5 * time.Second)
	database, remove, err := rig.NewDatabase(ctx, engine, dir)
	if err != nil {
		return err
	}
	defer remove()
	gateway := sim.Provider
	if o.transport == "binary" {
		gateway = sim.Gateway
	}
	server, err := rig.StartServer(ctx, rig.ServerConfig{
		Bin: o.bin, Dir: dir, Database: database, Transport: o.transport, Gateway: gateway, Credentials: sim.Credentials,
	})
	if err != nil {
		return err
	}
	defer server.Stop(20 * time.Second)

	// Tokens that are registered under load begin after those that are imported.
	fresh := int64(o.registry)
	registries := []int{0}
	if o.registry > 0 {
		registries = append(registries, o.registry)
	}
	for _, registry := range registries {
		label := engine
		if registry > 0 {
			label = fmt.Sprintf("%s, %s tokens registered", engine, measure.Thousands(int64(registry)))
			begin := time.Now()
			if err := server.Import(ctx, registry, rig.AppendToken); err != nil {
				return err
			}
			rate := float64(registry) / time.Since(begin).Seconds()
			table.Row(engine+": import", rate, "", measure.Ratio(rate, loop), "", "", "", "", "",
				measure.MiB(measure.Peak(server.PID())))
		}
		first := fresh
		var used int64
		newTokens := func(n int64) int { return int(first + n) }
		if used, err = row(ctx, o, server, table, label+": register new", loop, bare["register"],
			registration(newTokens)); err != nil {
			return err
		}
		fresh += used
		// Every token that is named from here on is registered, and not next to the one before it.
		known := func(n int64) int { return int(first + (n*7919)%used) }
		if registry > 0 {
			known = func(n int64) int { return int((n * 7919) % int64(registry)) }
		}
		if _, err = row(ctx, o, server, table, label+": register again", loop, bare["register"],
			registration(known)); err != nil {
			return err
		}
		if err = acceptRow(ctx, o, server, sim, table, label+": accept", loop, bare["accept"],
			acceptance(known)); err != nil {
			return err
		}
	}
	return nil
}

// row measures one kind of request and returns how many numbers it has used up.
func row(ctx context.Context, o options, server *rig.Server, table *measure.Table, what string, loop float64,
	bare *load.Result,
	request func([]byte, int64) []byte) (int64, error) {
	_ = measure.ResetPeak(server.PID()) // without it the peak is that since the start, which is no less true
	cpu := measure.CPUSeconds(server.PID())
	var highest highWater
	if o.profiles != "" {
		go o.profile(ctx, server, what)
	}
	result, err := pressure(ctx, o, server.Listen, highest.watch(request))
	if err != nil {
		return 0, fmt.Errorf("%s: %w", what, err)
	}
	cpu = measure.CPUSeconds(server.PID()) - cpu
	total := highest.value.Load()
	table.Row(what, result.Rate(), measure.Ratio(result.Rate(), bare.Rate()), measure.Ratio(result.Rate(), loop),
		result.Latency.Quantile(.5), result.Latency.Quantile(.99), result.Latency.Max(),
		fmt.Sprintf("%.0f µs", cpu/float64(total)*1e6), "",
		measure.MiB(measure.Peak(server.PID())))
	return total, nil
}

// profile keeps a CPU profile of the measured part.
func (o options) profile(ctx context.Context, server *rig.Server, what string) {
	seconds := max(1, int(o.duration.Seconds()))
	url := fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", server.OpsAddress, seconds)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		fmt.Fprintln(os.Stderr, "profile:", err)
		return
	}
	defer answer.Body.Close()
	file, err := os.Create(filepath.Join(o.profiles, strings.NewReplacer(" ", "-", ":", "", ",",
		"").Replace(what)+".pprof"))
	if err != nil {
		fmt.Fprintln(os.Stderr, "profile:", err)
		return
	}
	defer file.Close()
	if _, err := io.Copy(file, answer.Body); err != nil {
		fmt.Fprintln(os.Stderr, "profile:", err)
	}
}

// acceptRow is row for acceptance: while notifications are accepted they are delivered as well, and all of them have to
// be.
func acceptRow(ctx context.Context, o options, server *rig.Server, sim *rig.Simulator, table *measure.Table,
	what string, loop float64,
	bare *load.Result, request func([]byte, int64) []byte) error {
	if err := sim.Reset(ctx); err != nil {
		return err
	}
	begin := time.Now()
	total, err := row(ctx, o, server, table, what, loop, bare, request)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, 2*time.Minute, errors.New("not everything accepted was delivered"))
	defer cancel()
	at, err := sim.Received(ctx, uint64(total))
	if err != nil {
		return err
	}
	table.Rows[len(table.Rows)-1][8] = measure.Cell(float64(total) / at.Sub(begin).Seconds())
	return nil
}
