package simulator

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/lhspn/lhspn/internal/apns/frame"
	"github.com/lhspn/lhspn/internal/simulator/h2"
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

// discardConn is a connection that takes everything and gives nothing.
type discardConn struct{ net.Conn }

func (discardConn) Write(b []byte) (int, error)      { return len(b), nil }
func (discardConn) SetWriteDeadline(time.Time) error { return nil }
func (discardConn) SetReadDeadline(time.Time) error  { return nil }
func (discardConn) Close() error                     { return nil }

// fed is a connection without a socket.
type fed struct {
	*providerConn
	base uint32 // of the next stream identifiers
}

// feed works through whole frames, each time with new stream identifiers.
func (c *fed) feed(tb testing.TB, frames []byte) {
	tb.Helper()
	highest := uint32(0)
	for b := frames; len(b) > 0; {
		length := int(b[0])<<16 | int(b[1])<<8 | int(b[2])
		id := binary.BigEndian.Uint32(b[5:])%10_000 + c.base
		binary.BigEndian.PutUint32(b[5:], id)
		highest = max(highest, id)
		b = b[9+length:]
	}
	c.base = (highest/10_000 + 1) * 10_000
	if used, done, err := c.http.Feed(context.Background(), frames); err != nil || done || used != len(frames) {
		tb.Fatal(used, done, err)
	}
}

func benchConn(tb testing.TB, level Record) (c *fed, rest []byte) {
	tb.Helper()
	cfg := Config{Record: level, Recent: 100, ConnectionWindow: 1 << 20, StreamWindow: 1 << 16, MaxConcurrentStreams: 1000}
	s := &Simulator{log: discard, recorder: newRecorder(cfg), cfg: cfg}
	s.SetFaults(Faults{})
	c = &fed{providerConn: &providerConn{s: s, hasCert: true, certTopic: DefaultTopic}}
	c.http = h2.New(c.config(), providerHeaders, c.providerConn, discardConn{}, discardConn{})
	if err := c.http.Greet(); err != nil {
		tb.Fatal(err)
	}
	first, rest := requestsFor(101, "bearer "+unsignedToken())
	c.feed(tb, first)
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
			c.feed(t, rest) // fills the ring and the tables
		}
		if totals := c.s.recorder.Totals(); totals.Accepted != 501 {
			t.Fatalf("totals: %+v", totals)
		}
		if n := testing.AllocsPerRun(20, func() { c.feed(t, rest) }); n > 0 {
			t.Errorf("record %d: %v allocations in 100 requests", record, n)
		}
	}
}

func BenchmarkProvider(b *testing.B) {
	c, rest := benchConn(b, RecordTotals)
	for b.Loop() {
		c.feed(b, rest)
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
