package simulator

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/lhspn/lhspn/internal/apns/frame"
)

// requestsFor encodes n requests as a good client does: what repeats is in HPACK's table, path and id are literals.
func requestsFor(n int, authorization string) (first, rest []byte) {
	var buf, frames bytes.Buffer
	enc := hpack.NewEncoder(&buf)
	framer := http2.NewFramer(&frames, nil)
	for i := range n {
		buf.Reset()
		for _, f := range []hpack.HeaderField{
			{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: "https"}, {Name: ":authority", Value: "localhost"},
			{Name: ":path", Value: devicePath + plainToken(byte(i)).String(), Sensitive: true},
			{Name: "authorization", Value: authorization}, {Name: "apns-topic", Value: DefaultTopic},
			{Name: "apns-push-type", Value: "alert"}, {Name: "apns-priority", Value: "10"}, {Name: "apns-expiration", Value: "1700000000"},
			{Name: "apns-id", Value: "123e4567-e89b-12d3-a456-4266554400a0", Sensitive: true},
		} {
			_ = enc.WriteField(f)
		}
		_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(2*i + 1), BlockFragment: buf.Bytes(), EndHeaders: true})
		_ = framer.WriteData(uint32(2*i+1), true, []byte(hello))
		if i == 0 {
			first = bytes.Clone(frames.Bytes())
			frames.Reset()
		}
	}
	return first, frames.Bytes()
}

// feed works through the frames without a socket, each time with new stream identifiers.
func feed(tb testing.TB, c *providerConn, b []byte) {
	tb.Helper()
	base := (c.maxID + 1) &^ 1
	for len(b) > 0 {
		length := int(b[0])<<16 | int(b[1])<<8 | int(b[2])
		id := binary.BigEndian.Uint32(b[5:]) + base
		if err := c.frame(context.Background(), http2.FrameType(b[3]), http2.Flags(b[4]), id, b[frameHead:frameHead+length]); err != nil {
			tb.Fatal(err)
		}
		b = b[frameHead+length:]
	}
	c.replenish()
	c.s.recorder.add(&c.tally)
	c.out = c.out[:0]
	c.maxID &= 1<<20 - 1
}

func benchConn(tb testing.TB, record Record) (*providerConn, []byte) {
	tb.Helper()
	s := &Simulator{log: discard, recorder: newRecorder(record, 100, false),
		cfg: Config{ConnectionWindow: 1 << 20, StreamWindow: 1 << 16, MaxConcurrentStreams: 1000}}
	s.SetFaults(Faults{})
	c := &providerConn{s: s, faults: s.faults.Load(), now: time.Now(), streams: map[uint32]*stream{}, hasCert: true, certTopic: DefaultTopic,
		ackedLimit: unlimited, limit: unlimited, receiveWindow: 1 << 20, sendWindow: defaultWindow, peerWindow: defaultWindow}
	c.headers = newHeaderDecoder(c.header)
	c.noteLimit(1000)
	first, rest := requestsFor(101, "bearer "+unsignedToken())
	feed(tb, c, first)
	return c, rest
}

// unsignedToken is good in form; without a key that is enough.
func unsignedToken() string {
	part := base64.RawURLEncoding.EncodeToString
	return part([]byte(`{"alg":"ES256","kid":"K"}`)) + "." + part(fmt.Appendf(nil, `{"iss":"T","iat":%d}`, time.Now().Unix())) + ".AAAA"
}

func TestNothingIsAllocatedPerNotification(t *testing.T) {
	for _, record := range []Record{RecordAll, RecordCounts, RecordTotals} {
		c, rest := benchConn(t, record)
		for range 5 {
			feed(t, c, rest) // fills the ring and the tables
		}
		if totals := c.s.recorder.totals(); totals.Accepted != 501 {
			t.Fatalf("totals: %+v", totals)
		}
		if n := testing.AllocsPerRun(20, func() { feed(t, c, rest) }); n > 0 {
			t.Errorf("record %d: %v allocations in 100 requests", record, n)
		}
	}
}

func BenchmarkProvider(b *testing.B) {
	c, rest := benchConn(b, RecordTotals)
	for b.Loop() {
		feed(b, c, rest)
	}
	b.ReportMetric(100*float64(b.N)/b.Elapsed().Seconds(), "requests/s")
	b.ReportAllocs()
}

// BenchmarkGatewayOverTLS is what one client on loopback gets through, its own work and both sides' TLS included.
func BenchmarkGatewayOverTLS(b *testing.B) {
	s, err := New(Config{Gateway: "127.0.0.1:0", Record: RecordTotals}, discard)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	conn, err := tls.Dial("tcp", s.GatewayAddr(), clientTLS(s))
	if err != nil {
		b.Fatal(err)
	}
	var frames []byte
	n := 0
	for ; len(frames) < 64<<10; n++ {
		frames = frame.AppendCommand1(frames, uint32(n), 0, plainToken(byte(n)), bytes.Repeat([]byte("p"), 100))
	}
	sent := 0
	for b.Loop() {
		if _, err := conn.Write(frames); err != nil {
			b.Fatal(err)
		}
		sent += n
	}
	_ = conn.CloseWrite()
	_, _ = io.Copy(io.Discard, conn)
	b.ReportMetric(float64(sent)/b.Elapsed().Seconds(), "frames/s")
	cancel()
	if err := <-done; err != nil || s.Totals().Accepted != uint64(sent) {
		b.Errorf("%v, %+v of %d", err, s.Totals(), sent)
	}
	_ = conn.Close()
}
