package http2

import (
	"context"
	"encoding/hex"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lhspn/lhspn/internal/http2/http2test"
)

// bubble runs f in a bubble, in parallel with other tests.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, f)
}

func elapse(d time.Duration) { time.Sleep(d) } //nolint:forbidigo // in a synctest bubble

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// note is what the requests of a batch have in common.
type note struct {
	topic, collapse, body string
	number                uint64
	over                  time.Time // not sent any more from then on
}

var testNote = &note{topic: "com.example.app", body: `{"aps":{"alert":"hello"}}`}

const (
	fieldAuth = iota
	fieldTopic
	fieldNumber
	fieldCollapse
	fieldID
)

var testFields = []Field{
	fieldAuth: {"authorization", Always}, fieldTopic: {"apns-topic", Always}, fieldNumber: {"apns-expiration", Repeated},
	fieldCollapse: {"apns-collapse-id", Repeated}, fieldID: {"apns-id", Never},
}

// result is an Answer, kept.
type result struct {
	outcome Outcome
	status  int
	body    string
	field   string
	again   bool
	times   int // it was given
}

// batch is a group of requests numbered from from.
type batch struct {
	note    *note
	auth    string
	from    int
	results []result
	next    func(i int, a *Answer) Next // nil for Finished
	done    func(*batch)
	andThen func() // called by Done, before the batch counts as done
}

func (b *batch) Len() int { return len(b.results) }

func (b *batch) Header(i int, h *Header) (int, bool) {
	n := b.note
	if !n.over.IsZero() && !h.Now().Before(n.over) {
		return 0, false
	}
	var number [32]byte
	for i := range number {
		number[i] = 0xaa
	}
	id := uint64(b.from + i)
	number[28], number[29], number[30], number[31] = byte(id>>24), byte(id>>16), byte(id>>8), byte(id)
	path := h.OwnPath(len("/3/device/") + 64)
	hex.Encode(path[copy(path, "/3/device/"):], number[:])
	if b.auth != "" {
		h.Add(fieldAuth, b.auth)
	}
	if !h.Repeat(n) {
		h.Add(fieldTopic, n.topic)
		h.AddUint(fieldNumber, n.number)
		if n.collapse != "" {
			h.Add(fieldCollapse, n.collapse)
		}
		h.EndRepeat()
	}
	hex.Encode(h.AddOwn(fieldID, 32), number[16:])
	return len(n.body), true
}

func (b *batch) AppendBody(_ int, dst []byte) []byte { return append(dst, b.note.body...) }

func (b *batch) Answer(i int, a *Answer) Next {
	r := &b.results[i]
	*r = result{a.Outcome, a.Status, string(a.Body), string(a.Field(0)), a.Again, r.times + 1}
	if b.next != nil {
		return b.next(i, a)
	}
	return Finished
}

func (b *batch) Done() {
	if b.andThen != nil {
		b.andThen()
	}
	b.done(b)
}

// number is the number of a request.
func number(r *http2test.Request) int {
	path := r.Headers[":path"]
	n, err := strconv.ParseUint(path[len(path)-8:], 16, 32)
	if err != nil {
		return -1
	}
	return int(n)
}

// tester runs a client against a gateway and checks that every batch is done exactly once.
type tester struct {
	testing.TB
	cl     *Client
	gw     *http2test.Gateway
	cancel context.CancelFunc
	ran    chan error

	mu   sync.Mutex // guards done
	done map[*batch]int
	wake chan struct{} // capacity one: a batch came back
}

func startClient(tb testing.TB, cfg Config, serve func(n int, p *http2test.Peer)) *tester {
	tb.Helper()
	t := newTester(tb, cfg, &http2test.Gateway{Serve: serve})
	tb.Cleanup(t.stop)
	return t
}

// newTester starts a client that the caller stops. Without a gateway it dials as cfg says.
func newTester(tb testing.TB, cfg Config, gw *http2test.Gateway) *tester {
	tb.Helper()
	if cfg.Address == "" {
		cfg.Address = "api.push.apple.com:443"
	}
	cfg.Fields = testFields
	cl := New(cfg, quiet())
	if gw != nil {
		cl.open = gw.Open
	}
	ctx, cancel := context.WithCancel(context.Background())
	t := &tester{
		TB: tb, cl: cl, gw: gw, cancel: cancel, ran: make(chan error, 1), done: map[*batch]int{}, wake: make(chan struct{}, 1),
	}
	go func() { t.ran <- cl.Run(ctx) }()
	return t
}

func (t *tester) stop() {
	t.cancel()
	if err := <-t.ran; err != nil {
		t.Errorf("Run: %v", err)
	}
	if t.gw != nil {
		t.gw.Wait()
	}
	for b, n := range t.done {
		if n != 1 {
			t.Errorf("Done of a batch of %d was called %d times", len(b.results), n)
		}
		for i, r := range b.results {
			if want := 1; r.times != want && !r.again && b.note.over.IsZero() {
				t.Errorf("request %d was answered %d times", i, r.times)
			}
		}
	}
	t.cl.mu.Lock()
	defer t.cl.mu.Unlock()
	if t.cl.groups.Inside() != 0 || t.cl.queue.Len() != 0 || t.cl.active != 0 || t.cl.opening != 0 {
		t.Errorf("left behind: %d groups, %d queued, %d active, %d opening", t.cl.groups.Inside(), t.cl.queue.Len(), t.cl.active, t.cl.opening)
	}
	if !t.cl.room.TryAcquire(int64(t.cl.cfg.MaxInFlight)) {
		t.Error("the bound in flight was not given back")
	}
}

// send hands over the requests numbered from to to-1.
func (t *tester) send(n *note, from, to int) *batch {
	t.Helper()
	b := &batch{note: n, from: from, results: make([]result, to-from)}
	t.sendBatch(b)
	return b
}

func (t *tester) sendBatch(b *batch) {
	t.Helper()
	t.mu.Lock()
	t.done[b] = 0
	t.mu.Unlock()
	b.done = func(b *batch) {
		t.mu.Lock()
		t.done[b]++
		t.mu.Unlock()
		select {
		case t.wake <- struct{}{}:
		default:
		}
	}
	if err := t.cl.Send(context.Background(), b); err != nil {
		t.Errorf("Send: %v", err)
	}
}

// wait waits until all batches that were sent are done.
func (t *tester) wait() {
	for {
		t.mu.Lock()
		open := 0
		for _, n := range t.done {
			if n == 0 {
				open++
			}
		}
		t.mu.Unlock()
		if open == 0 {
			return
		}
		<-t.wake
	}
}

// want fails unless every request of b ended so.
func (t *tester) want(b *batch, o Outcome, status int) {
	t.Helper()
	for i, got := range b.results {
		if got.outcome != o || got.status != status {
			t.Errorf("request %d: %v %d, want %v %d", i, got.outcome, got.status, o, status)
			return
		}
	}
}

func reasonBody(reason string) string { return fmt.Sprintf(`{"reason":%q}`, reason) }

func long(n int) *note { return &note{topic: testNote.topic, body: strings.Repeat("x", n)} }
