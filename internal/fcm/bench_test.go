package fcm

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	xhttp2 "golang.org/x/net/http2"

	"github.com/lhspn/lhspn/internal/push"
)

// sink is a gateway over TLS on loopback that accepts every message after delay and does as little else as it can, so
// that the transport is what is measured. It is not HTTP/2 but for our own frames.
type sink struct {
	listener net.Listener
	streams  uint32
	delay    time.Duration
	serving  sync.WaitGroup
}

func newSink(tb testing.TB, streams uint32, delay time.Duration) *sink {
	tb.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{gatewayCert}, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS13,
	})
	if err != nil {
		tb.Fatal(err)
	}
	s := &sink{listener: l, streams: streams, delay: delay}
	s.serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.serving.Go(func() { s.serve(c) })
		}
	})
	return s
}

func (s *sink) close() {
	s.listener.Close()
	s.serving.Wait()
}

// answers are frames that are due at a time.
type answers struct {
	due    time.Time
	frames []byte
}

func (s *sink) serve(nc net.Conn) {
	defer nc.Close()
	preface := make([]byte, len(xhttp2.ClientPreface))
	if _, err := io.ReadFull(nc, preface); err != nil {
		return
	}
	fr := xhttp2.NewFramer(nc, nil)
	_ = fr.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingMaxConcurrentStreams, Val: s.streams},
		xhttp2.Setting{ID: xhttp2.SettingMaxHeaderListSize, Val: 64 << 10}) // which Google's front end says, too
	_ = fr.WriteWindowUpdate(0, 1<<30)
	// Answers are written by another goroutine when they are due; the buffers go round.
	free, written := make(chan []byte, 64), make(chan answers, 64)
	for range cap(free) {
		free <- make([]byte, 0, 64<<10)
	}
	var writing sync.WaitGroup
	writing.Go(func() {
		for a := range written {
			if d := time.Until(a.due); d > 0 {
				<-time.After(d)
			}
			_, _ = nc.Write(a.frames)
			free <- a.frames[:0]
		}
	})
	defer writing.Wait()
	defer close(written)
	const body = `{"name":"projects/hedgehog-4711/messages/0:1500415314455276%31bd1c9631bd1c96"}`
	buf := make([]byte, 256<<10)
	received, start, end := 0, 0, 0
	frame := func(b []byte, length int, typ xhttp2.FrameType, flags xhttp2.Flags, stream uint32) []byte {
		b = append(b, byte(length>>16), byte(length>>8), byte(length), byte(typ), byte(flags))
		return binary.BigEndian.AppendUint32(b, stream)
	}
	for {
		n, err := nc.Read(buf[end:])
		if err != nil {
			return
		}
		end += n
		out := <-free
		for end-start >= 9 {
			length := int(buf[start])<<16 | int(buf[start+1])<<8 | int(buf[start+2])
			if end-start < 9+length {
				break
			}
			typ, stream := xhttp2.FrameType(buf[start+3]), binary.BigEndian.Uint32(buf[start+5:])
			start += 9 + length
			if typ == xhttp2.FrameData {
				received += length
				out = append(frame(out, 1, xhttp2.FrameHeaders, xhttp2.FlagHeadersEndHeaders, stream), 0x88)
				out = append(frame(out, len(body), xhttp2.FrameData, xhttp2.FlagDataEndStream, stream), body...)
			}
		}
		if received > 1<<20 {
			out = frame(out, 4, xhttp2.FrameWindowUpdate, 0, 0)
			out = binary.BigEndian.AppendUint32(out, uint32(received))
			received = 0
		}
		if len(out) > 0 {
			written <- answers{time.Now().Add(s.delay), out}
		} else {
			free <- out
		}
		end = copy(buf, buf[start:end])
		start = 0
	}
}

// measured is a transport to a sink, with groups that go round.
type measured struct {
	*Transport
	free chan *push.Group
	stop func()
}

func newMeasured(tb testing.TB, s *sink, connections, groups, size int) *measured {
	tb.Helper()
	from, err := ParseServiceAccount([]byte(accountJSON(nil)))
	if err != nil {
		tb.Fatal(err)
	}
	account := &account{from.ProjectID, from}
	c := &Credentials{renewing: make(chan struct{}, 1), reload: make(chan struct{}, 1), log: slog.New(slog.DiscardHandler)}
	c.renewing <- struct{}{}
	c.account.Store(account)
	c.current.Store(&accessToken{
		account: account, authorization: "Bearer ya29." + fmt.Sprintf("%0200d", 1), path: "/v1/projects/hedgehog-4711/messages:send",
		issued: time.Now(), life: time.Hour,
	})
	t := NewTransport(Config{
		App: "hedgehog", Address: s.listener.Addr().String(), Credentials: c, MaxRate: -1, Connections: connections, MaxInFlight: groups * size,
		TLS: &tls.Config{RootCAs: gatewayRoots, ServerName: "fcm.example", MinVersion: tls.VersionTLS12},
	}, slog.New(slog.DiscardHandler), NewMetrics(prometheus.NewRegistry()))
	m := &measured{Transport: t, free: make(chan *push.Group, groups)}
	note, faults := Compose(&push.Content{
		Blocks: map[string]push.JSON{"message": push.JSON(`{"title": "Your order has arrived", "body": "Come and fetch it before Friday"}`)}, CreatedAt: time.Now(),
	})
	if len(faults) > 0 {
		tb.Fatal(faults)
	}
	for i := range groups {
		g := group(note, make([]string, size)...)
		for j := range g.Deliveries {
			g.Deliveries[j].Token = push.TextToken(Name, fmt.Sprintf("bk3RNwTe3H0:CI2k_HHwgIpoDKCIZvv%0120d", i*size+j))
		}
		g.Done = func(g *push.Group) { m.free <- g }
		m.free <- g
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = t.Run(ctx) })
	m.stop = func() {
		cancel()
		running.Wait()
		s.close()
	}
	return m
}

// round sends n groups and waits until all are done.
func (m *measured) round(tb testing.TB, n int) {
	tb.Helper()
	for range n {
		g := <-m.free
		if r := g.Deliveries[0].Result; r.Outcome != push.Accepted && r.Outcome != push.Pending {
			tb.Fatalf("%+v", r)
		}
		if err := m.Send(context.Background(), g); err != nil {
			tb.Fatal(err)
		}
	}
	all := make([]*push.Group, cap(m.free))
	for i := range all {
		all[i] = <-m.free
	}
	for _, g := range all {
		m.free <- g
	}
}

// TestAllocatesNothing: a message costs no allocation once all that grows has grown.
func TestAllocatesNothing(t *testing.T) { // not parallel: it counts the process' allocations
	m := newMeasured(t, newSink(t, 100, 0), 1, 4, 1000)
	defer m.stop()
	m.round(t, 40)
	const rounds = 40
	// A group may cost a few (with the race detector many), and TLS some for a record; a message none.
	if n := testing.AllocsPerRun(3, func() { m.round(t, rounds) }); n > rounds*1000/10 {
		t.Errorf("%v allocations for %d messages", n, rounds*1000)
	}
}

// BenchmarkTransport is the whole transport over TLS on loopback, with the gateway in the same process: one connection,
// with the streams that Google allows and with many. With a delay what is looked at is how near it comes to streams ÷
// delay.
func BenchmarkTransport(b *testing.B) {
	for _, c := range []struct {
		streams uint32
		delay   time.Duration
	}{{100, 0}, {1000, 0}, {100, 20 * time.Millisecond}} {
		b.Run(fmt.Sprintf("streams=%d/delay=%v", c.streams, c.delay), func(b *testing.B) {
			m := newMeasured(b, newSink(b, c.streams, c.delay), 1, 8, 500)
			defer m.stop()
			m.round(b, 8)
			b.ReportAllocs()
			b.ResetTimer()
			m.round(b, (b.N+499)/500)
			b.StopTimer()
			rate := float64((b.N+499)/500*500) / b.Elapsed().Seconds()
			b.ReportMetric(rate, "messages/s")
			if c.delay > 0 {
				b.ReportMetric(100*rate*c.delay.Seconds()/float64(c.streams), "%ofbound")
			}
		})
	}
}

func BenchmarkAppendBody(b *testing.B) {
	n, _ := Compose(&push.Content{Blocks: map[string]push.JSON{"message": push.JSON(`{"title": "T", "body": "B"}`)}, CreatedAt: time.Now(), BadgeIncrement: 1})
	token := push.TextToken(Name, fmt.Sprintf("bk3RNwTe3H0:CI2k_HHwgIpoDKCIZvv%0120d", 1))
	buf := make([]byte, 0, 4096)
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		buf = appendBody(buf[:0], n, token, 7, now)
		if len(buf) != bodyLen(n, token.Address(), 7) {
			b.Fatal("another length")
		}
	}
}

func BenchmarkJudge(b *testing.B) {
	for name, body := range map[string]string{"accepted": acceptedReply.body, "unregistered": failure(404, "NOT_FOUND", "Requested entity was not found.", fcmError("UNREGISTERED"))} {
		b.Run(name, func(b *testing.B) {
			status := 200
			if name != "accepted" {
				status = 404
			}
			text := []byte(body)
			b.ReportAllocs()
			for b.Loop() {
				judge(status, text, false, 0)
			}
		})
	}
}
