package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/lhspn/lhspn/bench/internal/load"
	"github.com/lhspn/lhspn/bench/internal/measure"
	"github.com/lhspn/lhspn/bench/internal/rig"
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/simulator"
)

// receiptTokens is how many recipients a notification has whose receipts are sent.
const receiptTokens = 10_000

// flood is what is sent to POST /v1/receipts beside the acceptance of notifications.
type flood struct {
	name string
	// append appends the n-th request; nil: there is no flood.
	append func(dst []byte, n int64) []byte
	// requests bounds it; 0: by the time alone. connections is how many send it.
	requests    int64
	connections int
}

// manyDevices is how many connections send new receipts, each of which waits for its transaction.
const manyDevices = 900

// receipts measures how many receipts a second are taken: forged ones, a good one that is repeated without end, and new
// ones; and what becomes of the acceptance of notifications over one connection meanwhile.
func receipts(ctx context.Context, o options) error {
	for engine := range strings.SplitSeq(o.engines, ",") {
		table := measure.Table{Columns: []string{engine, "receipts/s", "refused", "p50", "p99", "server CPU each",
			"accepted/s beside it", "p50", "p99", "counted", "RSS", "cores of the server", "cores of the load"}}
		if err := receiptsOn(ctx, o, engine, &table); err != nil {
			return fmt.Errorf("%s: %w", engine, err)
		}
		fmt.Printf("### Receipts over %d connections, %v for each row, one connection accepting notifications beside\n\n",
			o.connections, o.duration)
		table.Write(os.Stdout)
	}
	return nil
}

func receiptsOn(ctx context.Context, o options, engine string, table *measure.Table) error {
	dir, discard, err := rig.TempDir()
	if err != nil {
		return err
	}
	defer discard()
	sim, credentials, stop, err := rig.RunSimulator(ctx, dir, simulator.Config{Recent: receiptTokens})
	if err != nil {
		return err
	}
	defer func() { _ = stop() }()
	database, remove, err := rig.NewDatabase(ctx, engine, dir)
	if err != nil {
		return err
	}
	defer remove()
	config := rig.ServerConfig{Bin: o.bin, Dir: dir, Database: database, Transport: "http2",
		Gateway: sim.ProviderAddr(), Credentials: credentials, Extra: "api: {register_rate: 1000000}\n"}
	server, err := rig.StartServer(ctx, config)
	if err != nil {
		return err
	}
	defer server.Stop(20 * time.Second)
	id, tickets, err := takeTickets(ctx, server, sim)
	if err != nil {
		return err
	}
	forged := func(n int64) string { return tickets[0][:len(tickets[0])-8] + fmt.Sprintf("%08d", n%1e8) }
	floods := []flood{
		{name: "none"},
		{name: "forged", append: receipt(forged)},
		{name: "one, repeated", append: receipt(func(int64) string { return tickets[0] })},
		{name: fmt.Sprintf("new, over %d connections", manyDevices), requests: receiptTokens, connections: manyDevices,
			append: receipt(func(n int64) string { return tickets[n%receiptTokens] })},
	}
	for _, f := range floods {
		if err := f.measure(ctx, o, server, id, table); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
	}
	// By default an address may send 10 a second.
	config.Name, config.Extra = "limited", ""
	server.Stop(20 * time.Second)
	if server, err = rig.StartServer(ctx, config); err != nil {
		return err
	}
	defer server.Stop(20 * time.Second)
	limited := flood{name: "forged, with the default `api.register_rate`", append: receipt(forged)}
	return limited.measure(ctx, o, server, id, table)
}

// takeTickets has a notification sent, and takes its tickets from the payloads.
func takeTickets(ctx context.Context, server *rig.Server, sim *simulator.Simulator) (id string, tickets []string,
	err error) {
	body := []byte(`{"receipts":true,"aps":{"alert":"x"},"to":{"tokens":[`)
	for i := range receiptTokens {
		if i > 0 {
			body = append(body, ',')
		}
		body = append(rig.AppendToken(append(body, '"'), i), '"')
	}
	n, err := server.Post(ctx, append(body, "]}}"...), "")
	if err != nil {
		return "", nil, err
	}
	if _, err := server.Done(ctx, n.ID); err != nil {
		return "", nil, err
	}
	for _, got := range sim.Recent(receiptTokens) {
		_, rest, is := strings.Cut(got.Payload, `"`+push.TicketMember+`":"`)
		if !is || len(rest) < push.TicketLen {
			return "", nil, fmt.Errorf("a payload without a ticket: %s", got.Payload)
		}
		tickets = append(tickets, rest[:push.TicketLen])
	}
	if len(tickets) != receiptTokens {
		return "", nil, fmt.Errorf("the simulator has %d payloads of %d", len(tickets), receiptTokens)
	}
	return n.ID, tickets, nil
}

// receipt returns what appends the request that posts the n-th ticket.
func receipt(ticket func(n int64) string) func([]byte, int64) []byte {
	const before, after = `{"ticket":"`, `","event":"delivered"}`
	head := fmt.Sprintf("POST /v1/receipts HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"+
		"Content-Length: %d\r\n\r\n%s", len(before)+push.TicketLen+len(after), before)
	return func(dst []byte, n int64) []byte {
		dst = append(append(dst, head...), ticket(n)...)
		return append(dst, after...)
	}
}

// measure sends the flood, and notifications over one connection beside it.
func (f flood) measure(ctx context.Context, o options, server *rig.Server, id string,
	table *measure.Table) error {
	_ = measure.ResetPeak(server.PID())
	before, err := counted(ctx, server, id)
	if err != nil {
		return err
	}
	cpu, own := measure.CPUSeconds(server.PID()), measure.CPUSeconds(os.Getpid())
	begin := time.Now()
	beside, stop := context.WithCancel(ctx)
	defer stop()
	accepting := make(chan *load.Result, 1)
	failed := make(chan error, 1)
	go func() {
		result, err := load.Run{Address: server.Listen, Connections: 1, Duration: o.duration,
			Append: acceptance(func(n int64) int { return int(n) })}.Do(beside)
		failed <- err
		accepting <- result
	}()
	flood := &load.Result{Seconds: 1}
	if f.append != nil {
		if flood, err = (load.Run{Address: server.Listen, Connections: max(o.connections, f.connections),
			Duration: o.duration, Requests: f.requests, Append: f.append}).Do(ctx); err != nil {
			return err
		}
	}
	if err := <-failed; err != nil {
		return err
	}
	accepted := <-accepting
	seconds := time.Since(begin).Seconds()
	cpu, own = measure.CPUSeconds(server.PID())-cpu, measure.CPUSeconds(os.Getpid())-own
	after, err := counted(ctx, server, id)
	if err != nil {
		return err
	}
	each := ""
	if flood.Requests > 0 {
		each = fmt.Sprintf("%.0f µs", cpu/float64(flood.Requests)*1e6)
	}
	table.Row(f.name, flood.Rate(), flood.Refused(), flood.Latency.Quantile(.5), flood.Latency.Quantile(.99), each,
		accepted.Rate(), accepted.Latency.Quantile(.5), accepted.Latency.Quantile(.99), after-before,
		measure.MiB(measure.Peak(server.PID())), cpu/seconds, own/seconds)
	return nil
}

// counted is how many receipts of the notification were counted.
func counted(ctx context.Context, server *rig.Server, id string) (int64, error) {
	var n struct {
		Receipts struct {
			Delivered int64 `json:"delivered"`
		} `json:"receipts"`
	}
	err := server.Call(ctx, http.MethodGet, "/v1/notifications/"+id, nil, nil, &n)
	return n.Receipts.Delivered, err
}
