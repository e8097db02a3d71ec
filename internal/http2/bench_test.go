package http2

import (
	"bytes"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/lhspn/lhspn/internal/memconn"
)

// round sends n requests by the writer's path and answers them by the reader's, without a peer between them.
type round struct {
	c     *conn
	batch *batch
	out   []byte
	in    []byte
	block []byte
}

func newRound(tb testing.TB, n int) *round {
	tb.Helper()
	cl := New(Config{Address: "api.push.apple.com:443", Fields: testFields}, quiet())
	client, _ := memconn.Pipe(1)
	c := newConn(cl, client)
	c.slot, c.maxStreams, c.sendWindow, c.answers = cl.slots[0], 1000, 1<<30, 1
	c.maxHeaderList = 16 << 10 // as servers have it
	note := *testNote
	note.body = string(bytes.Repeat([]byte("x"), 100))
	r := &round{c: c, batch: &batch{note: &note, results: make([]result, n), done: func(*batch) {}}}
	r.batch.next = func(int, *Answer) Next { return Finished }
	var b bytes.Buffer
	enc := hpack.NewEncoder(&b)
	enc.SetMaxDynamicTableSizeLimit(0)
	_ = enc.WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
	_ = enc.WriteField(hpack.HeaderField{Name: "apns-id", Value: "eabeae54-14a8-11e5-b60b-1697f925ec7b"})
	r.block = b.Bytes()
	return r
}

func (r *round) do(tb testing.TB) {
	tb.Helper()
	if err := r.c.cl.Send(tb.Context(), r.batch); err != nil {
		tb.Fatal(err)
	}
	r.c.mu.Lock()
	r.in = r.in[:0]
	first := r.c.nextID
	for r.c.cl.queue.Len() > 0 {
		r.out = r.c.fill(r.out[:0], time.Now())
	}
	for id := first; id < r.c.nextID; id += 2 {
		r.in = appendFrameHeader(r.in, len(r.block), http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream, id)
		r.in = append(r.in, r.block...)
	}
	r.c.sendWindow = 1 << 30
	used, err := r.c.frames(r.in)
	r.c.mu.Unlock()
	r.c.cl.finish(&r.c.readDone)
	if err != nil || used != len(r.in) || r.batch.results[0].status != 200 {
		tb.Fatalf("%d of %d: %v, %v", used, len(r.in), err, r.batch.results[0])
	}
}

// TestAllocatesNothing: neither request nor answer costs an allocation once all that grows has grown.
func TestAllocatesNothing(t *testing.T) { // not parallel: it counts the process' allocations
	r := newRound(t, 1000)
	r.do(t)
	// A group may cost one or two; a request none.
	if n := testing.AllocsPerRun(20, func() { r.do(t) }); n > 2 {
		t.Errorf("%v allocations for 1,000 requests", n)
	}
}

// BenchmarkRound is the whole CPU of a request but for TLS and the system: request and answer.
func BenchmarkRound(b *testing.B) {
	r := newRound(b, 1000)
	b.ReportAllocs()
	for n := 0; n < b.N; n += 1000 {
		r.do(b)
	}
}

// BenchmarkHeader is the header block alone.
func BenchmarkHeader(b *testing.B) {
	h := newHeader("api.push.apple.com", testFields)
	batch := &batch{note: testNote, auth: "bearer " + string(bytes.Repeat([]byte("x"), 200))}
	buf := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		h.begin(buf[:0], 1)
		n, _ := batch.Header(1, h)
		buf = h.end(n)
	}
}
