package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/lhspn/lhspn/bench/internal/measure"
	"github.com/lhspn/lhspn/bench/internal/rig"
	"github.com/lhspn/lhspn/internal/config"
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/simulator"
)

const (
	// toldAnswer is how long the webhook's receiver takes.
	toldAnswer = 100 * time.Millisecond
	// toldFailing is of how many devices one is refused.
	toldFailing = 20
)

// following is whoever is told, and how far.
type following struct {
	mu             sync.Mutex // guards what follows
	events, failed int
	ends           int
	at             time.Time // of the last event
}

func (f *following) add(kind string, data json.RawMessage) error {
	var d struct{ Items []json.RawMessage }
	if err := json.Unmarshal(data, &d); err != nil {
		return fmt.Errorf("an event's data: %w", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.events++
	f.failed += len(d.Items)
	if kind == "notification.done" {
		f.ends++
	}
	f.at = time.Now()
	return nil
}

func (f *following) ended(failing int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ends > 0 && f.failed >= failing
}

// ServeHTTP is the webhook's receiver.
func (f *following) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var event struct {
		Type string
		Data json.RawMessage
	}
	text, err := io.ReadAll(r.Body)
	if err == nil {
		err = json.Unmarshal(text, &event)
	}
	timer := time.NewTimer(toldAnswer)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.Context().Done():
		return
	}
	if err == nil {
		err = f.add(event.Type, event.Data)
	}
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
	}
}

// read reads the feed until ctx ends.
func (f *following) read(ctx context.Context, api rig.API) error {
	for cursor := ""; ; {
		var page struct {
			Items []struct {
				Type string
				Data json.RawMessage
			}
			Next string `json:"next_cursor"`
		}
		err := api.Call(ctx, http.MethodGet, "/v1/events?limit=1000&wait=5&after="+cursor, nil, nil, &page)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // it has read all
		}
		if err != nil {
			return err
		}
		for _, e := range page.Items {
			if err := f.add(e.Type, e.Data); err != nil {
				return err
			}
		}
		cursor = page.Next
	}
}

// told measures a broadcast of which some are refused, with a reader of the feed and a webhook that is slow.
func told(ctx context.Context, o options) (err error) {
	dir, discard, err := rig.TempDir()
	if err != nil {
		return err
	}
	defer discard()
	sim, credentials, stop, err := rig.RunSimulator(ctx, dir, simulator.Config{Record: simulator.RecordCounts})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	var reader, receiver following
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	web := &http.Server{Handler: &receiver}
	go func() { _ = web.Serve(l) }() // until it is closed
	defer func() { err = errors.Join(err, web.Close()) }()
	serverConfig := rig.ServerConfig{
		Bin: o.bin, Dir: dir, Transport: "http2", Gateway: sim.ProviderAddr(), Credentials: credentials,
		Extra: fmt.Sprintf("webhooks:\n  allowed_origins: [\"http://%s\"]\n", l.Addr()),
		AppExtra: fmt.Sprintf("    webhooks:\n      - {url: \"http://%s/\", secret: %s}\n", l.Addr(),
			config.NewWebhookSecret()),
	}
	var remove func()
	if serverConfig.Database, remove, err = rig.NewDatabase(ctx, o.engine, dir); err != nil {
		return err
	}
	defer remove()
	server, err := rig.StartServer(ctx, serverConfig)
	if err != nil {
		return err
	}
	defer server.Stop(20 * time.Second)
	token := func(i int) push.Token {
		if i%toldFailing == 0 {
			return simulator.MagicToken(simulator.InvalidToken, i)
		}
		return rig.Token(i)
	}
	if err := server.Import(ctx, o.told, func(dst []byte, i int) []byte { return token(i).AppendText(dst) }); err != nil {
		return err
	}
	failing := (o.told + toldFailing - 1) / toldFailing

	reading, end := context.WithCancel(ctx)
	var wait sync.WaitGroup
	var readErr error
	wait.Go(func() { readErr = reader.read(reading, server.API) })
	defer wait.Wait()
	defer end()
	if err := measure.ResetPeak(server.PID()); err != nil {
		return err
	}
	before := measure.Peak(server.PID())
	begin := time.Now()
	n, err := server.Post(ctx, []byte(`{"to":{"all":true},"aps":{"alert":"`+rig.Alert+`"}}`), "")
	if err != nil {
		return err
	}
	state, err := server.Done(ctx, n.ID)
	if err != nil {
		return err
	}
	done := time.Since(begin)
	if state.Counts.Failed != int64(failing) {
		return fmt.Errorf("%d failed, want %d", state.Counts.Failed, failing)
	}
	if err := rig.Poll(ctx, 20*time.Millisecond, "wait for the feed and the webhook", func() (bool, error) {
		return reader.ended(failing) && receiver.ended(failing), readErr
	}); err != nil {
		return err
	}
	fmt.Printf("### %s devices, %s of them refused: %s; a reader of the feed, and a webhook that answers after %v\n\n",
		measure.Cell(o.told), measure.Cell(failing), o.engine, toldAnswer)
	table := measure.Table{Columns: []string{"done", "events", "the feed has all", "the webhook has all", "RSS before",
		"RSS peak"}}
	table.Row(seconds(done.Seconds()), reader.events, seconds(reader.at.Sub(begin).Seconds()),
		seconds(receiver.at.Sub(begin).Seconds()), measure.MiB(before), measure.MiB(measure.Peak(server.PID())))
	table.Write(os.Stdout)
	return nil
}
