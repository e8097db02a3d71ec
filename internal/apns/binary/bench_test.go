package binary

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lhspn/lhspn/internal/apns"
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/push/pushtest"
)

// selfSigned makes a certificate for loopback.
func selfSigned(tb testing.TB, name string) *tls.Certificate {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		tb.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// tlsGateway serves connections over TLS on loopback; n counts them from 0. Each is closed abruptly after serve.
func tlsGateway(tb testing.TB, serve func(n int, c *tls.Conn)) (address string, roots *x509.CertPool) {
	tb.Helper()
	own := selfSigned(tb, "gateway")
	roots = x509.NewCertPool()
	roots.AddCert(own.Leaf)
	conf := &tls.Config{Certificates: []tls.Certificate{*own}, ClientAuth: tls.RequestClientCert, MinVersion: tls.VersionTLS12}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := 0; ; n++ {
			raw, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer raw.Close()
				c := tls.Server(raw, conf)
				if c.Handshake() == nil {
					serve(n, c)
				}
			})
		}
	})
	tb.Cleanup(func() { _ = ln.Close(); wg.Wait() })
	return ln.Addr().String(), roots
}

// BenchmarkBinaryTLS is the whole way: Send, window, frames, TLS on loopback, evidence by half-close, Done. The
// gateway, which decrypts and discards, runs in the same process, and so its share is in the CPU time.
func BenchmarkBinaryTLS(b *testing.B) {
	address, roots := tlsGateway(b, func(_ int, c *tls.Conn) {
		buf := make([]byte, 64<<10)
		for {
			if _, err := c.Read(buf); err != nil {
				_ = c.Close()
				return
			}
		}
	})
	bin := New(Config{App: "bench", Address: address, TLS: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}},
		quiet(), apns.NewMetrics(prometheus.NewRegistry()))
	notification := *testNotification
	notification.Payload = push.Payload{JSON: []byte(`{"aps":{"alert":"` + strings.Repeat("x", 100) + `"}}`)}
	notification.Expiration = time.Now().Add(time.Hour)
	const size, inFlight = 1000, 64
	free := make(chan *push.Group, inFlight)
	for range inFlight {
		g := &push.Group{Deliveries: make([]push.Delivery, size), Done: func(g *push.Group) { free <- g }}
		for i := range g.Deliveries {
			g.Deliveries[i] = push.Delivery{Notification: &notification, Recipient: push.Recipient{Token: pushtest.HexToken(i)}}
		}
		free <- g
	}
	done := run(b, bin)
	b.ReportAllocs()
	cpu := cpuTime()
	b.ResetTimer()
	for sent := 0; sent < b.N; sent += size {
		g := <-free
		for i := range g.Deliveries {
			if o := g.Deliveries[i].Result.Outcome; o != push.Accepted && o != push.Pending {
				b.Fatalf("outcome %v", o)
			}
		}
		if err := bin.Send(b.Context(), g); err != nil {
			b.Fatal(err)
		}
	}
	if err := bin.Drain(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "notifications/s")
	b.ReportMetric(float64(cpuTime()-cpu)/float64(b.N), "cpu-ns/op")
	done()
}

// discardConn takes all, and at the end of our direction ends its own.
type discardConn struct {
	net.Conn
	end  chan struct{}
	once *sync.Once
}

func (c discardConn) Write(b []byte) (int, error)      { return len(b), nil }
func (c discardConn) Read([]byte) (int, error)         { <-c.end; return 0, io.EOF }
func (c discardConn) CloseWrite() error                { c.once.Do(func() { close(c.end) }); return nil }
func (c discardConn) Close() error                     { return c.CloseWrite() }
func (c discardConn) SetReadDeadline(time.Time) error  { return nil }
func (c discardConn) SetWriteDeadline(time.Time) error { return nil }

// BenchmarkBinaryHotPath leaves the network out: what remains is queue, encoding, window and results.
func BenchmarkBinaryHotPath(b *testing.B) {
	bin := New(Config{App: "bench", Address: "gateway:2195"}, quiet(), apns.NewMetrics(prometheus.NewRegistry()))
	l := bin.slots[0]
	notification := *testNotification
	notification.Payload = push.Payload{JSON: []byte(`{"aps":{"alert":"` + strings.Repeat("x", 100) + `"}}`)}
	notification.Expiration = time.Now().Add(time.Hour)
	g := &push.Group{Deliveries: make([]push.Delivery, 1000), Done: func(*push.Group) {}}
	for i := range g.Deliveries {
		g.Deliveries[i] = push.Delivery{Notification: &notification, Recipient: push.Recipient{Token: pushtest.HexToken(i)}}
	}
	c := &conn{nc: discardConn{end: make(chan struct{}), once: new(sync.Once)}}
	l.conn = c
	step := func() {
		if err := bin.Send(b.Context(), g); err != nil {
			b.Fatal(err)
		}
		for l.write(time.Now()) {
		}
		l.accept(c, c.unconfirmed)
		c.next = 0
	}
	step() // the buffers grow to their size
	if allocs := testing.AllocsPerRun(10, step); allocs != 0 {
		b.Errorf("%v allocations for %d notifications", allocs, len(g.Deliveries))
	}
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		if n%len(g.Deliveries) == 0 { // an op is one notification
			step()
		}
	}
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
