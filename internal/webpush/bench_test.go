package webpush

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lhspn/lhspn/internal/http2/http2test"
	"github.com/lhspn/lhspn/internal/push"
)

// stored is a registry that costs nothing: what is stored of many browsers, found at once.
type stored map[push.Token][]byte

func (s stored) Addresses(context.Context, string, []push.Token) (map[push.Token][]byte, error) {
	return s, nil
}

// BenchmarkTransport sends to a push service over TLS on loopback that accepts everything and does little else. An
// operation is one message: taken in a group, its address read, encrypted, sent and answered. See BenchmarkSeal for
// what of that is the key agreement.
func BenchmarkTransport(b *testing.B) {
	for _, ahead := range []bool{false, true} {
		b.Run(fmt.Sprintf("pairs made ahead=%t", ahead), func(b *testing.B) { benchmarkTransport(b, ahead) })
	}
}

func benchmarkTransport(b *testing.B, ahead bool) {
	b.Helper()
	certPEM, keyPEM := http2test.PEM()
	cert, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		b.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS13})
	if err != nil {
		b.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { http2test.Sink(nc, maxStreams) })
		}
	})
	defer serving.Wait()
	defer l.Close()

	_, port, _ := net.SplitHostPort(l.Addr().String())
	endpoint := "https://127.0.0.1:" + port
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(certPEM)
	v := newVAPID(b)
	addresses := stored{}
	const size = 1000
	tokens := make([]push.Token, size)
	for i := range tokens {
		s := newBrowser(b).subscription(fmt.Sprintf("%s/wpush/v2/%0180d", endpoint, i))
		tokens[i] = s.Token()
		addresses[tokens[i]] = s.Address(v.PublicKey())
	}
	t := New(Config{
		App: "hedgehog", Route: Route, VAPID: v, Origins: parseOrigins(b, endpoint), Subscriptions: addresses, RootCAs: roots,
	}, slog.New(slog.DiscardHandler), NewMetrics(prometheus.NewRegistry()))
	t.keys = newKeyPool(1)
	if ahead {
		t.keys = newKeyPool(b.N)
		for range b.N {
			pair, err := newKeyPair()
			if err != nil {
				b.Fatal(err)
			}
			t.keys.pairs <- pair
		}
	}
	ctx, cancel := context.WithCancel(b.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = t.Run(ctx) })
	defer running.Wait()
	defer cancel()

	n := note(strings.Repeat("x", 400))
	n.Expiration = time.Now().Add(time.Hour)
	const groups = 4
	free := make(chan *push.Group, groups)
	for range groups {
		g := &push.Group{Deliveries: make([]push.Delivery, 0, size)}
		g.Done = func(g *push.Group) {
			for i := range g.Deliveries {
				if r := g.Deliveries[i].Result; r.Outcome != push.Accepted {
					b.Errorf("%+v", r)
				}
			}
			free <- g
		}
		free <- g
	}
	b.ReportAllocs()
	b.ResetTimer()
	for left := b.N; left > 0; {
		g := <-free
		count := min(left, size)
		g.Deliveries = g.Deliveries[:count]
		for i := range g.Deliveries {
			g.Deliveries[i] = push.Delivery{Notification: n, Recipient: push.Recipient{Token: tokens[i]}}
		}
		if err := t.Send(ctx, g); err != nil {
			b.Fatal(err)
		}
		left -= count
	}
	for range groups {
		<-free
	}
	b.StopTimer()
}
