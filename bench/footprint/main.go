// Command footprint measures what the service takes of MariaDB: the bytes of a registered token and of a notification,
// and the statements, rows and redo log that a broadcast, notifications to one token and an idle service cost. These
// are counts of the server's own, and hardly depend on the machine or on what else it does. What it prints is in
// docs/scaling.md.
//
// MariaDB needs scripts/testdb around it.
package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	_ "github.com/go-sql-driver/mysql" // the driver

	"github.com/lhspn/lhspn/bench/internal/measure"
	"github.com/lhspn/lhspn/bench/internal/rig"
)

type options struct {
	bin           string
	tokens        int
	notifications int
	clients       int
	timeout       time.Duration
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench/footprint:", err)
		os.Exit(1)
	}
}

func run() error {
	var o options
	flag.StringVar(&o.bin, "bin", "bench/bin", "the built programs")
	flag.IntVar(&o.tokens, "tokens", 200_000,
		"tokens to register, twice: bare ones, and ones with a user, a device and two tags")
	flag.IntVar(&o.notifications, "notifications", 50_000,
		"notifications to one token each, half of them with an idempotency key")
	flag.IntVar(&o.clients, "clients", 64, "requests under way at once")
	flag.DurationVar(&o.timeout, "timeout", 10*time.Minute, "the whole run")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeoutCause(ctx, o.timeout, fmt.Errorf("the run took longer than %v", o.timeout))
	defer cancel()
	return footprint(ctx, o)
}

// meter reads the database server's counters. The service under test must be the only one that uses the server.
type meter struct{ db *sql.DB }

// counters is what the server counts, and the bytes of each table.
type counters struct {
	status, tables map[string]int64
}

// before reads the sizes first, so that the counters do not hold what that costs; after the other way round.
func (m meter) before(ctx context.Context) (c counters, err error) {
	if c.tables, err = m.sizes(ctx); err == nil {
		c.status, err = m.pairs(ctx, "SHOW GLOBAL STATUS")
	}
	return c, err
}

func (m meter) after(ctx context.Context) (c counters, err error) {
	if c.status, err = m.pairs(ctx, "SHOW GLOBAL STATUS"); err == nil {
		c.tables, err = m.sizes(ctx)
	}
	return c, err
}

func (m meter) sizes(ctx context.Context) (map[string]int64, error) {
	// Without it the sizes are those of some earlier moment.
	for _, table := range []string{"device_tokens", "device_token_index", "notifications", "batches", "idempotency_keys"} {
		if _, err := m.pairs(ctx, "ANALYZE TABLE "+table); err != nil {
			return nil, err
		}
	}
	return m.pairs(ctx, "SELECT table_name, data_length + index_length FROM information_schema.tables WHERE "+
		"table_schema = DATABASE()")
}

// pairs returns the numbers that a statement gives for names, which are its first two columns.
func (m meter) pairs(ctx context.Context, statement string) (map[string]int64, error) {
	rows, err := m.db.QueryContext(ctx, statement)
	if err != nil {
		return nil, fmt.Errorf("read the counters: %w", err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return nil, fmt.Errorf("read the counters: %w", err)
	}
	var name, value sql.NullString
	into := []any{&name, &value}
	for range len(columns) - len(into) {
		into = append(into, new(sql.RawBytes))
	}
	found := map[string]int64{}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return nil, fmt.Errorf("read the counters: %w", err)
		}
		if n, err := strconv.ParseInt(value.String, 10, 64); err == nil { // many are no numbers
			found[name.String] = n
		}
	}
	return found, rows.Err()
}

func footprint(ctx context.Context, o options) error {
	dir, discard, err := rig.TempDir()
	if err != nil {
		return err
	}
	defer discard()
	sim, err := rig.StartSimulator(ctx, o.bin, dir)
	if err != nil {
		return err
	}
	defer sim.Stop(5 * time.Second)
	database, remove, err := rig.NewDatabase(ctx, "mysql", dir)
	if err != nil {
		return err
	}
	defer remove()
	server, err := rig.StartServer(ctx, rig.ServerConfig{
		Bin: o.bin, Dir: dir, Database: database, Transport: "http2", Gateway: sim.Provider, Credentials: sim.Credentials,
	})
	if err != nil {
		return err
	}
	defer server.Stop(20 * time.Second)
	db, err := sql.Open("mysql", strings.TrimPrefix(database, "mysql://"))
	if err != nil {
		return fmt.Errorf("open the database: %w", err)
	}
	defer db.Close() //nolint:errcheck // only read
	m := meter{db}

	load := measure.Table{Columns: []string{
		"for 1,000", "statements", "of them writes", "transactions", "rows written", "rows read", "redo log"}}
	step := func(label string, n int, work func() error) (before, after counters, err error) {
		if before, err = m.before(ctx); err == nil {
			err = work()
		}
		if err == nil {
			after, err = m.after(ctx)
		}
		if err != nil {
			return before, after, fmt.Errorf("%s: %w", label, err)
		}
		each := func(prefixes ...string) float64 { return after.delta(before, prefixes...) / float64(n) * 1000 }
		load.Row(label, each("Questions"), each("Com_insert", "Com_update", "Com_delete", "Com_replace"), each("Com_commit"),
			each("Handler_write", "Handler_update", "Handler_delete"), each("Handler_read_"), kib(each("Innodb_lsn_current")))
		return before, after, nil
	}
	size := measure.Table{Columns: []string{"table", "rows", "", "bytes each", "MiB for 1,000,000"}}
	grown := func(before, after counters, table string, rows int, what string) {
		each := float64(after.tables[table]-before.tables[table]) / float64(rows)
		size.Row(table, rows, what, each, each*1e6/(1<<20))
	}

	const idle = 10 * time.Second
	if _, _, err := step("seconds of an idle replica", int(idle.Seconds()), func() error {
		select {
		case <-time.After(idle):
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}); err != nil {
		return err
	}
	before, after, err := step("tokens imported", o.tokens, func() error {
		return server.Import(ctx, o.tokens,
			rig.AppendToken)
	})
	if err != nil {
		return err
	}
	grown(before, after, "device_tokens", o.tokens, "a token alone")
	for _, extra := range []string{"", `,"badge_increment":1`} {
		label := "recipients of a broadcast"
		if extra != "" {
			label += ", badge_increment"
		}
		if _, _, err := step(label, o.tokens, func() error { return broadcast(ctx, server, extra) }); err != nil {
			return err
		}
	}
	before, after, err = step("tokens imported, with user, device, two tags", o.tokens, func() error {
		return server.Import(ctx, o.tokens, func(dst []byte, i int) []byte {
			dst = rig.AppendToken(dst, o.tokens+i)
			return fmt.Appendf(dst, `","tags":["news","team-%d"],"user_id":"user-%08d","device_id":"device-%08d`, i%100, i, i)
		})
	})
	if err != nil {
		return err
	}
	grown(before, after, "device_tokens", o.tokens, "with user, device, two tags")
	grown(before, after, "device_token_index", o.tokens, "with user, device, two tags")
	label := fmt.Sprintf("notifications to one token, %d clients", o.clients)
	before, after, err = step(label, o.notifications, func() error { return singles(ctx, server, o) })
	if err != nil {
		return err
	}
	grown(before, after, "notifications", o.notifications, "to one token, an alert of 100 bytes")
	grown(before, after, "idempotency_keys", o.notifications/2, "a key of 20 bytes")
	size.Row("batches", 0,
		fmt.Sprintf("room kept for the next, %s MiB in all", measure.Cell(float64(after.tables["batches"])/(1<<20))), "-",
		"-")

	fmt.Print("### Bytes\n\n")
	size.Write(os.Stdout)
	fmt.Print("### Load on the database\n\n")
	load.Write(os.Stdout)
	return nil
}

// delta is by how much the counters whose names begin so have grown since.
func (c counters) delta(since counters, prefixes ...string) (n float64) {
	for name, value := range c.status {
		if slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(name, p) }) {
			n += float64(value - since.status[name])
		}
	}
	return n
}

func kib(bytes float64) string { return measure.Cell(bytes/1024) + " KiB" }

// broadcast sends to everyone and waits until that is done.
func broadcast(ctx context.Context, server *rig.Server, extra string) error {
	n, err := server.Post(ctx, []byte(`{"to":{"all":true},"aps":{"alert":"`+rig.Alert+`"}`+extra+`}`), "")
	if err == nil {
		_, err = server.Done(ctx, n.ID)
	}
	return err
}

// singles posts notifications to one token each and waits until all are done.
func singles(ctx context.Context, server *rig.Server, o options) error {
	const done = "lhspn_queue_settled_recipients_total"
	earlier, err := server.Metric(ctx, done)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wait sync.WaitGroup
	errs := make([]error, o.clients)
	for c := range o.clients {
		wait.Go(func() {
			for i := c; i < o.notifications; i += o.clients {
				body, err := json.Marshal(map[string]any{
					"to":  map[string]any{"tokens": []string{rig.Token(i % o.tokens).String()}},
					"aps": map[string]any{"alert": rig.Alert},
				})
				key := ""
				if i%2 == 1 {
					key = fmt.Sprintf("notification%08d", i)
				}
				if err == nil {
					_, err = server.Post(ctx, body, key)
				}
				if err != nil {
					errs[c] = err
					cancel()
					return
				}
			}
		})
	}
	wait.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return rig.Poll(ctx, 20*time.Millisecond, "wait until all are settled", func() (bool, error) {
		now, err := server.Metric(ctx, done)
		return now-earlier >= float64(o.notifications), err
	})
}
