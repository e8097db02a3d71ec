package apns

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/lhspn/lhspn/internal/push"
)

// http2Idle is a connection without a peer, for what is measured and checked below its goroutines.
func http2Idle(tb testing.TB) *http2Conn {
	tb.Helper()
	h := NewHTTP2(HTTP2Config{App: "test", Address: "api.push.apple.com:443"}, quiet(), NewMetrics(prometheus.NewRegistry()))
	now := time.Now()
	return &http2Conn{
		h: h, nc: http2Mem{&memConn{in: newStream(1), out: newStream(1)}}, slot: h.slots[0], since: now, lastRead: now, lastScan: now,
		wakes: make(chan struct{}, 1), retired: make(chan struct{}), enc: newHTTP2Encoder("api.push.apple.com"),
		streams: make([]http2Stream, 256), overflow: map[uint32]http2Stream{}, bodies: map[uint32][]byte{},
		nextID: 1, maxStreams: 1000, initialWindow: http2DefaultWindow, sendWindow: 1 << 30, maxFrame: http2DefaultFrame,
		maxHeaderList: 1<<32 - 1, answers: 1,
	}
}

func http2BenchGroup(n int, done func(*push.Group)) *push.Group {
	note := *http2Notification
	note.Payload.JSON = bytes.Repeat([]byte("x"), 100)
	note.Expiration = time.Now().Add(time.Hour)
	g := &push.Group{Done: done, Deliveries: make([]push.Delivery, n)}
	for i := range g.Deliveries {
		g.Deliveries[i] = push.Delivery{Notification: &note, Recipient: push.Recipient{Token: tokenOf(i)}}
	}
	return g
}

// http2Round sends n notifications by the writer's path and answers them by the reader's, without a peer between them.
type http2Round struct {
	c     *http2Conn
	group *push.Group
	out   []byte
	in    []byte
	block []byte
}

func newHTTP2Round(tb testing.TB, n int) *http2Round {
	tb.Helper()
	r := &http2Round{c: http2Idle(tb), group: http2BenchGroup(n, func(*push.Group) {})}
	var b bytes.Buffer
	enc := hpack.NewEncoder(&b)
	enc.SetMaxDynamicTableSizeLimit(0)
	_ = enc.WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
	_ = enc.WriteField(hpack.HeaderField{Name: "apns-id", Value: ID(http2Notification.ID, tokenOf(1).Address()).String()})
	r.block = b.Bytes()
	return r
}

func (r *http2Round) do(tb testing.TB) {
	tb.Helper()
	if err := r.c.h.Send(tb.Context(), r.group); err != nil {
		tb.Fatal(err)
	}
	r.c.mu.Lock()
	r.in = r.in[:0]
	first := r.c.nextID
	for r.c.h.queue.n > 0 {
		r.out = r.c.fill(r.out[:0], time.Now())
	}
	for id := first; id < r.c.nextID; id += 2 {
		r.in = appendFrameHeader(r.in, len(r.block), http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream, id)
		r.in = append(r.in, r.block...)
	}
	r.c.sendWindow = 1 << 30
	used, err := r.c.frames(r.in)
	r.c.mu.Unlock()
	r.c.h.settle(&r.c.readDone)
	if err != nil || used != len(r.in) || r.group.Deliveries[0].Result.Outcome != push.Accepted {
		tb.Fatalf("%d of %d: %v, %v", used, len(r.in), err, r.group.Deliveries[0].Result)
	}
}

// TestHTTP2AllocatesNothing: neither request nor answer costs an allocation once all that grows has grown.
func TestHTTP2AllocatesNothing(t *testing.T) { // not parallel: it counts the process' allocations
	r := newHTTP2Round(t, 1000)
	r.do(t)
	// A group may cost one or two; a notification none.
	if n := testing.AllocsPerRun(20, func() { r.do(t) }); n > 2 {
		t.Errorf("%v allocations for 1,000 notifications", n)
	}
}

// BenchmarkHTTP2Round is the whole CPU of a notification but for TLS and the system: request and answer.
func BenchmarkHTTP2Round(b *testing.B) {
	r := newHTTP2Round(b, 1000)
	b.ReportAllocs()
	for n := 0; n < b.N; n += 1000 {
		r.do(b)
	}
}

// BenchmarkHTTP2Encode is the header block alone, by its template.
func BenchmarkHTTP2Encode(b *testing.B) {
	e := newHTTP2Encoder("api.push.apple.com")
	e.setAuthorization("bearer " + string(bytes.Repeat([]byte("x"), 200)))
	token := tokenOf(1)
	buf := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		buf = e.appendBlock(buf[:0], http2Notification, token.Address(), 100)
	}
}

// http2Sink is a gateway over TLS that answers each request with 200 and does as little else as it can, so that the client is
// what is measured. It is not HTTP/2 but for this client's own frames.
func http2Sink(nc net.Conn, streams uint32) {
	defer nc.Close()
	preface := make([]byte, len(http2.ClientPreface))
	if _, err := io.ReadFull(nc, preface); err != nil {
		return
	}
	fr := http2.NewFramer(nc, nil)
	_ = fr.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: streams})
	_ = fr.WriteWindowUpdate(0, 1<<30)
	buf := make([]byte, 256<<10)
	var out []byte
	var received int
	start, end := 0, 0
	for {
		n, err := nc.Read(buf[end:])
		if err != nil {
			return
		}
		end += n
		out = out[:0]
		for end-start >= http2FrameHeaderLen {
			f := parseFrameHeader(buf[start:])
			if end-start < http2FrameHeaderLen+f.length {
				break
			}
			start += http2FrameHeaderLen + f.length
			if f.typ == http2.FrameData {
				received += f.length
				out = appendFrameHeader(out, 1, http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream, f.stream)
				out = append(out, 0x88)
			}
		}
		if received > 1<<20 {
			out = appendFrameHeader(out, 4, http2.FrameWindowUpdate, 0, 0)
			out = binary.BigEndian.AppendUint32(out, uint32(received))
			received = 0
		}
		if len(out) > 0 {
			if _, err := nc.Write(out); err != nil {
				return
			}
		}
		end = copy(buf, buf[start:end])
		start = 0
	}
}

// BenchmarkHTTP2Loopback is all of it over TLS on loopback, with the gateway in the same process.
func BenchmarkHTTP2Loopback(b *testing.B) {
	for _, sink := range []bool{true, false} {
		name := "net-http"
		if sink {
			name = "sink"
		}
		b.Run(name, func(b *testing.B) {
			cfg := netHTTPServer(b, func(http.ResponseWriter, *http.Request) {})
			if sink {
				cfg = http2SinkServer(b, cfg, 1000)
			}
			tr := newHTTP2Tester(b, cfg, nil)
			free := make(chan *push.Group, 16)
			for range cap(free) {
				free <- http2BenchGroup(1000, func(g *push.Group) { free <- g })
			}
			b.ReportAllocs()
			b.ResetTimer()
			for n := 0; n < b.N; n += 1000 {
				if err := tr.h.Send(b.Context(), <-free); err != nil {
					b.Fatal(err)
				}
			}
			for range cap(free) {
				<-free
			}
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "notifications/s")
			tr.stop()
		})
	}
}
