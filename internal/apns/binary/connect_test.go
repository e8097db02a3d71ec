package binary

import (
	"crypto/tls"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/lhspn/lhspn/internal/apns"
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/push/pushtest"
)

func TestGatewayDown(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := start(t, Config{}, func(_ int, c *gatewayConn) { c.drain(t) })
		s.gw.setDown(true)
		began := time.Now()
		for time.Since(began) < 10*time.Minute {
			g := s.send(0, 2)
			s.Wait()
			check(t, g, "not_sent/ConnectionLost/0/0 not_sent/ConnectionLost/0/0")
		}
		// A sender that comes back at once each time must not make a tight loop: every 5 s in the end, give or take a
		// half.
		if dials, _ := s.gw.counts(); dials < 80 || dials > 180 {
			t.Errorf("%d dials in ten minutes", dials)
		}
		s.gw.setDown(false)
		g := s.send(0, 2)
		s.Wait()
		check(t, g, "accepted accepted")
		dials, _ := s.gw.counts()
		synctest.Wait()
		elapse(time.Hour) // with no work, nothing is dialled
		if again, _ := s.gw.counts(); again != dials {
			t.Errorf("%d dials without work", again-dials)
		}
	})
}

// A certificate for the wrong environment: every connection ends right after the handshake.
func TestClosedAfterHandshake(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := start(t, Config{}, func(int, *gatewayConn) {})
		began := time.Now()
		for time.Since(began) < 10*time.Minute {
			g := s.send(0, 2)
			s.Wait()
			check(t, g, "not_sent/ConnectionLost/0/0 not_sent/ConnectionLost/0/0")
		}
		if dials, _ := s.gw.counts(); dials < 80 || dials > 180 {
			t.Errorf("%d dials in ten minutes", dials)
		}
	})
}

// The gateway's going away and coming back is one line each, however often it is tried and by however many slots.
func TestLogsChangesOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		counted := &lines{n: map[slog.Level]int{}}
		gw := &gateway{serve: func(_ int, c *gatewayConn) { c.drain(t) }}
		gw.setDown(true)
		b := New(Config{Connections: 3}, slog.New(counted), apns.NewMetrics(prometheus.NewRegistry()))
		b.dial = gw.dial
		stop := run(t, b)
		try := func() *push.Group {
			done := make(chan *push.Group, 1)
			g := &push.Group{Done: func(g *push.Group) { done <- g }}
			for i := range 3000 {
				g.Deliveries = append(g.Deliveries, push.Delivery{Notification: testNotification, Recipient: push.Recipient{Token: pushtest.HexToken(i)}})
			}
			if err := b.Send(t.Context(), g); err != nil {
				t.Fatal(err)
			}
			return <-done
		}
		for range 20 {
			try()
		}
		gw.setDown(false)
		for try().Deliveries[0].Result.Outcome != push.Accepted {
		}
		stop()
		gw.wg.Wait()
		want := map[slog.Level]int{slog.LevelWarn: 1, slog.LevelInfo: 1}
		if diff := cmp.Diff(want, counted.n); diff != "" {
			t.Errorf("lines by level: -want +got\n%s", diff)
		}
	})
}

// The window is bounded, and full windows are told by exchanging connections, not by waiting for silence.
func TestWindowAndRotation(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const window = 100
		began := time.Now()
		s := start(t, Config{Window: window}, func(_ int, c *gatewayConn) { c.drain(t) })
		for i := range 100 {
			s.send(i*50, i*50+50)
		}
		s.Wait()
		if took := time.Since(began); took > DefaultIdleClose {
			t.Errorf("took %v: silence was waited for", took)
		}
		s.stopNow()
		for n, c := range s.gw.conns {
			if len(c.got) > window {
				t.Errorf("connection %d was given %d notifications without evidence, the window is %d", n, len(c.got), window)
			}
		}
		if n := len(s.gw.conns); n < 5000/window {
			t.Errorf("%d connections", n)
		}
	})
}

// A TLS session goes on with the certificate it was begun with: after a new one it is not resumed any more.
func TestNewCertificateAfterForgetSessions(t *testing.T) {
	t.Parallel()
	type seen struct {
		name    string
		resumed bool
	}
	shown := make(chan seen, 1)
	address, roots := tlsGateway(t, func(_ int, c *tls.Conn) {
		_, _ = c.Write([]byte{0}) // and with it the session's ticket
		state := c.ConnectionState()
		shown <- seen{state.PeerCertificates[0].Subject.CommonName, state.DidResume}
	})
	own := selfSigned(t, "old")
	transport := New(Config{Address: address, TLS: &tls.Config{
		RootCAs: roots, MinVersion: tls.VersionTLS12,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return own, nil },
	}}, quiet(), apns.NewMetrics(prometheus.NewRegistry()))
	connect := func() seen {
		c, err := transport.dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		return <-shown
	}
	connect()
	if got := connect(); got != (seen{"old", true}) {
		t.Errorf("the second connection: %+v", got)
	}
	own = selfSigned(t, "new")
	transport.ForgetSessions()
	if got := connect(); got != (seen{"new", false}) {
		t.Errorf("with the new certificate: %+v", got)
	}
}
