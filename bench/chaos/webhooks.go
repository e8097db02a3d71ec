package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/lhspn/lhspn/bench/internal/measure"
	"github.com/lhspn/lhspn/bench/internal/rig"
	"github.com/lhspn/lhspn/internal/config"
	"github.com/lhspn/lhspn/internal/simulator"
)

// receiverSecret is the variable with the secret of a receiver's process.
const receiverSecret = "LHSPN_CHAOS_SECRET"

// receive is the process of a webhook's receiver: it appends what it verifies to the file, a line each, and then says
// that it has it.
func receive(ctx context.Context, address, file string) error {
	key, err := standardwebhooks.NewWebhook(os.Getenv(receiverSecret))
	if err != nil {
		return fmt.Errorf("the receiver's secret: %w", err)
	}
	out, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open what was received: %w", err)
	}
	defer out.Close()
	srv := &http.Server{Addr: address, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		line := "unverified\n"
		if key.Verify(body, r.Header) == nil {
			line = string(body) + "\n"
		}
		if _, err := out.WriteString(line); err != nil {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})}
	context.AfterFunc(ctx, func() { _ = srv.Close() })
	if err := srv.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("the receiver: %w", err)
	}
	return nil
}

// told is an event, as the feed or the receiver has it.
type told struct {
	ID   string `json:"id"`
	Type string `json:"type"`
	Data struct {
		ID           string `json:"id"`
		Notification string `json:"notification_id"`
		State        string `json:"state"`
	} `json:"data"`
}

func (e *told) notification() string { return e.Data.ID + e.Data.Notification }

// audience is who is told: the receiver's process, and a reader of the feed.
type audience struct {
	t       *theatre
	address string
	file    string
	secret  string
	process *rig.Process

	offset int64
	got    []told // by the receiver

	mu   sync.Mutex // guards feed
	feed []told
}

// start starts the receiver's process.
func (a *audience) start(ctx context.Context) (err error) {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	command := append([]string{program}, "-mode", "receiver")
	if a.t.receiver != "" {
		command = strings.Fields(a.t.receiver)
		if command[0], err = exec.LookPath(command[0]); err != nil {
			return fmt.Errorf("-receiver: %w", err)
		}
	}
	a.process, err = rig.Start(context.WithoutCancel(ctx), rig.Spec{
		Name: "receiver", Program: command[0], Args: append(command[1:], "-listen", a.address, "-file", a.file),
		Env: []string{receiverSecret + "=" + a.secret}, Stdout: io.Discard,
	})
	return err
}

// read takes what the receiver has got since the last time.
func (a *audience) read() error {
	file, err := os.Open(a.file)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	if _, err := file.Seek(a.offset, io.SeekStart); err != nil {
		return err
	}
	for r := bufio.NewReader(file); ; {
		line, err := r.ReadBytes('\n')
		if err != nil {
			return nil // the rest of the line comes
		}
		a.offset += int64(len(line))
		var e told
		if err := json.Unmarshal(line, &e); err != nil {
			return fmt.Errorf("the receiver got %q", bytes.TrimSpace(line))
		}
		a.got = append(a.got, e)
	}
}

// follow reads the feed by its cursor, from whatever replica answers, until ctx ends.
func (a *audience) follow(ctx context.Context, fleet []*rig.Server) {
	cursor := ""
	for ctx.Err() == nil {
		var page struct {
			Items []told `json:"items"`
			Next  string `json:"next_cursor"`
		}
		if err := a.t.call(ctx, fleet, func(ctx context.Context, api rig.API) error {
			return api.Call(ctx, http.MethodGet, "/v1/events?limit=500&wait=2&after="+cursor, nil, nil, &page)
		}); err != nil {
			return
		}
		a.mu.Lock()
		a.feed = append(a.feed, page.Items...)
		a.mu.Unlock()
		cursor = page.Next
	}
}

// inFeed is what the feed has until now.
func (a *audience) inFeed() []told {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.feed[:len(a.feed):len(a.feed)]
}

// webhooks is the play for those who are told: a replica and the receiver are killed in turn, while notifications are
// accepted. Every event must arrive, those of one notification in their order, and the feed has each once.
func webhooks(ctx context.Context, t *theatre) (err error) {
	if t.engine == "sqlite" {
		t.replicas = 1 // SQLite refuses a second process
	}
	a := &audience{t: t, file: filepath.Join(t.config.Dir, "received"), secret: config.NewWebhookSecret()}
	if a.address, err = rig.FreeAddress(); err != nil {
		return err
	}
	t.config.Extra += fmt.Sprintf("webhooks:\n  allowed_origins: [\"http://%s\"]\n", a.address)
	t.config.AppExtra += fmt.Sprintf("    webhooks:\n      - url: http://%s/\n        secret: %s\n", a.address, a.secret)
	fleet, stop, err := t.start(ctx, func(int) string { return t.config.Database })
	defer stop()
	if err != nil {
		return err
	}
	if err := a.start(ctx); err != nil {
		return err
	}
	defer func() { a.process.Kill() }()
	reading, end := context.WithCancel(ctx)
	var wait sync.WaitGroup
	wait.Go(func() { a.follow(reading, fleet) })
	defer wait.Wait()
	defer end()
	random := rand.New(rand.NewPCG(t.seed, 5))
	posted := 0
	var durations []float64
	for round := 1; round <= t.rounds; round++ {
		begin := time.Now()
		n, err := a.round(ctx, fleet, random, round, posted)
		if err != nil {
			return fmt.Errorf("round %d: %w", round, err)
		}
		posted += n
		durations = append(durations, time.Since(begin).Seconds())
	}
	duplicates, err := a.compare()
	if err != nil {
		return err
	}
	fmt.Printf("### %d replicas and the receiver killed -9 in turn, %d rounds: %s, %s\n\n", t.replicas, t.rounds, t.engine,
		t.transport)
	table := measure.Table{Columns: []string{
		"kills", "notifications", "events", "lost", "out of order", "twice in the feed", "came again", "median round"}}
	table.Row(2*t.rounds, posted, len(a.inFeed()), 0, 0, 0, duplicates,
		time.Duration(measure.Median(durations)*float64(time.Second)))
	table.Write(os.Stdout)
	return nil
}

// round posts notifications while a replica and the receiver are killed, and waits until the end of each is told.
func (a *audience) round(ctx context.Context, fleet []*rig.Server, random *rand.Rand, round, before int) (n int,
	err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 8*time.Minute, errors.New("not told after 8 min"))
	defer cancel()
	n = a.t.tokens
	failed := make(chan error, 1)
	go func() { failed <- a.post(ctx, fleet, round, n) }()
	pause := func() error {
		timer := time.NewTimer(time.Duration(random.Int64N(int64(2 * time.Second))))
		defer timer.Stop()
		select {
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if err := pause(); err != nil {
		return n, err
	}
	server := fleet[random.IntN(len(fleet))]
	server.Kill()
	if err := server.Restart(ctx); err != nil {
		return n, fmt.Errorf("restart: %w", err)
	}
	if err := pause(); err != nil {
		return n, err
	}
	a.process.Kill()
	if err := a.start(ctx); err != nil {
		return n, err
	}
	if err := <-failed; err != nil {
		return n, fmt.Errorf("post: %w", err)
	}
	return n, rig.Poll(ctx, 50*time.Millisecond, "wait for the receiver", func() (bool, error) {
		if err := a.read(); err != nil {
			return false, err
		}
		ended := map[string]bool{}
		for i := range a.got {
			if a.got[i].Data.State == "done" {
				ended[a.got[i].notification()] = true
			}
		}
		inFeed := 0
		for _, e := range a.inFeed() {
			if e.Data.State == "done" {
				inFeed++
			}
		}
		return len(ended) == before+n && inFeed == before+n, nil
	})
}

// post posts notifications to one, three or thirty devices, of which some are refused.
func (a *audience) post(ctx context.Context, fleet []*rig.Server, round, n int) error {
	for i := range n {
		var tokens []string
		for j := range []int{1, 3, 30}[i%3] {
			token := rig.Token(i + j)
			if j%3 == 1 {
				token = simulator.MagicToken(simulator.InvalidToken, i+j)
			}
			tokens = append(tokens, `"`+token.String()+`"`)
		}
		body := []byte(`{"to":{"tokens":[` + strings.Join(tokens, ",") + `]},"aps":{"alert":"` + rig.Alert + `"}}`)
		if err := a.t.call(ctx, fleet, func(ctx context.Context, api rig.API) error {
			_, err := api.Post(ctx, body, fmt.Sprintf("round %d, notification %d", round, i))
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

// compare checks what the receiver got against the feed, and counts what came again.
func (a *audience) compare() (duplicates int, err error) {
	inFeed := map[string]int{}
	feed := a.inFeed()
	for i := range feed {
		if _, twice := inFeed[feed[i].ID]; twice {
			return 0, fmt.Errorf("the event %s is twice in the feed", feed[i].ID)
		}
		inFeed[feed[i].ID] = i
	}
	seen := map[string]bool{}
	last := map[string]int{} // by notification, the place in the feed
	for i := range a.got {
		e := &a.got[i]
		at, known := inFeed[e.ID]
		switch before, any := last[e.notification()]; {
		case !known:
			return 0, fmt.Errorf("the receiver got the event %s, which the feed does not have", e.ID)
		case seen[e.ID]:
			duplicates++
			continue
		case any && at < before:
			return 0, fmt.Errorf("of notification %s, %s comes after what is behind it in the feed", e.notification(), e.Type)
		}
		seen[e.ID] = true
		last[e.notification()] = at
	}
	if len(seen) != len(feed) {
		return 0, fmt.Errorf("the receiver has %d of the %d events of the feed", len(seen), len(feed))
	}
	return duplicates, nil
}
