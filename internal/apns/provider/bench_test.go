package provider

import (
	"bytes"
	"net/http"
	"testing"
	"time"

	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/push/pushtest"
)

func benchGroup(n int, done func(*push.Group)) *push.Group {
	note := *testNotification
	note.Payload.JSON = bytes.Repeat([]byte("x"), 100)
	note.Expiration = time.Now().Add(time.Hour)
	g := &push.Group{Done: done, Deliveries: make([]push.Delivery, n)}
	for i := range g.Deliveries {
		g.Deliveries[i] = push.Delivery{Notification: &note, Recipient: push.Recipient{Token: pushtest.HexToken(i)}}
	}
	return g
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
				cfg = sinkServer(b, cfg, 1000)
			}
			tr := newTester(b, cfg, nil)
			free := make(chan *push.Group, 16)
			for range cap(free) {
				free <- benchGroup(1000, func(g *push.Group) { free <- g })
			}
			b.ReportAllocs()
			b.ResetTimer()
			for n := 0; n < b.N; n += 1000 {
				if err := tr.tr.Send(b.Context(), <-free); err != nil {
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
