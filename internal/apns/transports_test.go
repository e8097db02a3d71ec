package apns_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/lhspn/lhspn/internal/apns"
	"github.com/lhspn/lhspn/internal/apns/binary"
	"github.com/lhspn/lhspn/internal/apns/payload"
	"github.com/lhspn/lhspn/internal/apns/provider"
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/push/pushtest"
	"github.com/lhspn/lhspn/internal/simulator"
	"github.com/lhspn/lhspn/internal/simulator/simtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// transport is what the sender needs of one.
type transport interface {
	Run(ctx context.Context) error
	Send(ctx context.Context, g *push.Group) error
	Drain(ctx context.Context) error
}

// suite is one transport at work against the simulator, over TLS.
type suite struct {
	*testing.T
	*pushtest.Ledger
	sim        *simulator.Simulator
	tr         transport
	overBinary bool
	// end ends Run, which must succeed. It may be called more than once.
	end func()
}

// eachTransport runs the same test over both transports: what it checks the sender may rely on, whichever it has.
func eachTransport(t *testing.T, faults simulator.Faults, test func(s *suite)) {
	t.Helper()
	t.Parallel()
	for _, overBinary := range []bool{true, false} {
		name := "http2"
		if overBinary {
			name = "binary"
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sim := simtest.Start(t, simulator.Config{
				Gateway: "127.0.0.1:0", Provider: "127.0.0.1:0", Feedback: "127.0.0.1:0", RequireClientCert: true, Faults: faults,
			})
			roots := x509.NewCertPool()
			roots.AppendCertsFromPEM(sim.CAPEM())
			conf := &tls.Config{Certificates: []tls.Certificate{sim.ClientCertificate()}, RootCAs: roots, MinVersion: tls.VersionTLS12}
			s := &suite{T: t, Ledger: pushtest.NewLedger(), sim: sim, overBinary: overBinary}
			if overBinary {
				s.tr = binary.New(binary.Config{
					App: "test", Address: sim.GatewayAddr(), TLS: conf, IdleClose: 20 * time.Millisecond, ConfirmAfter: 500 * time.Millisecond,
				}, quiet(), apns.NewMetrics(prometheus.NewRegistry()))
			} else {
				s.tr = provider.New(provider.Config{
					App: "test", Address: sim.ProviderAddr(), TLS: conf, BackoffMin: time.Millisecond,
				}, quiet(), apns.NewMetrics(prometheus.NewRegistry()))
			}
			ctx, cancel := context.WithCancel(context.Background())
			ran := make(chan error, 1)
			go func() { ran <- s.tr.Run(ctx) }()
			ended := false
			s.end = func() {
				if cancel(); ended {
					return
				}
				ended = true
				if err := <-ran; err != nil {
					t.Errorf("Run: %v", err)
				}
			}
			defer s.Balanced(t)
			defer s.end()
			test(s)
		})
	}
}

// suiteNotification is to whom it may concern.
func suiteNotification() *push.Notification {
	return &push.Notification{
		ID: uuid.New(), Key: simulator.DefaultTopic, Type: payload.TypeAlert, Priority: 10, Expiration: time.Now().Add(time.Hour),
		Payload: push.Payload{JSON: []byte(`{"aps":{"alert":"hello"}}`)},
	}
}

// send hands over one group.
func (s *suite) send(n *push.Notification, recipients ...push.Recipient) *push.Group {
	s.Helper()
	g := &push.Group{}
	for _, r := range recipients {
		g.Deliveries = append(g.Deliveries, push.Delivery{Notification: n, Recipient: r})
	}
	s.Enter(g)
	if err := s.tr.Send(context.Background(), g); err != nil {
		s.Fatalf("Send: %v", err)
	}
	return g
}

// deliver does what the sender does: it sends again what did not reach APNs, and what APNs says to try again. It gives
// each one's final result, and how often APNs said so.
func (s *suite) deliver(n *push.Notification, recipients ...push.Recipient) (results []push.Result, retries []int) {
	s.Helper()
	results, retries = make([]push.Result, len(recipients)), make([]int, len(recipients))
	waiting := make([]int, len(recipients))
	for i := range waiting {
		waiting[i] = i
	}
	for range 20 {
		var round []push.Recipient
		for _, i := range waiting {
			round = append(round, recipients[i])
		}
		g := s.send(n, round...)
		s.Wait()
		var again []int
		for j, i := range waiting {
			results[i] = g.Deliveries[j].Result
			switch results[i].Outcome { //nolint:exhaustive // the others are final
			case push.Retry:
				retries[i]++
				again = append(again, i)
			case push.NotSent:
				again = append(again, i)
			}
		}
		if waiting = again; len(waiting) == 0 {
			return results, retries
		}
	}
	s.Errorf("%d of %d have no final result after 20 sends: %+v", len(waiting), len(recipients), results[waiting[0]])
	return results, retries
}

func plain(from, to int) (recipients []push.Recipient) {
	for n := from; n < to; n++ {
		recipients = append(recipients, push.Recipient{Token: pushtest.HexToken(n)})
	}
	return recipients
}

// Groups side by side: each comes back once, every delivery with its own result, and each was received once.
func TestTransportDeliversGroups(t *testing.T) {
	eachTransport(t, simulator.Faults{}, func(s *suite) {
		const groups, each = 8, 500
		n := suiteNotification()
		var sent []*push.Group
		for i := range groups {
			sent = append(sent, s.send(n, plain(i*each, (i+1)*each)...))
		}
		s.Wait()
		for _, g := range sent {
			for i := range g.Deliveries {
				d := &g.Deliveries[i]
				if c := s.sim.Counts(d.Token); d.Result.Outcome != push.Accepted || c.Received != 1 || c.Accepted != 1 {
					s.Fatalf("%+v, received %d times, accepted %d times", d.Result, c.Received, c.Accepted)
				}
			}
		}
	})
}

// What a device gets is what was accepted of the app backend, with its own badge.
func TestTransportSendsTheNotification(t *testing.T) {
	eachTransport(t, simulator.Faults{}, func(s *suite) {
		n := suiteNotification()
		n.Payload = push.Payload{JSON: []byte(`{"aps":{"alert":"hello","badge":},"k":"v"}`), BadgeAt: len(`{"aps":{"alert":"hello","badge":`)}
		n.Priority = 5
		recipients := plain(0, 3)
		for i, badge := range []uint32{0, 17, 1<<32 - 1} {
			recipients[i].Badge = badge
		}
		recipients = append(recipients, push.Recipient{Token: push.Token(string(pushtest.HexToken(9)) + "a longer device token"), Badge: 1})
		s.deliver(n, recipients...)
		for _, r := range recipients {
			want := fmt.Sprintf(`{"aps":{"alert":"hello","badge":%d},"k":"v"}`, r.Badge)
			got := s.sim.Received(r.Token)
			if len(got) != 1 || got[0].Payload != want || got[0].Priority != 5 || got[0].Expiration != n.ExpirationUnix() {
				s.Errorf("received %+v, want %s", got, want)
			}
		}
	})
}

// A verdict on one is a verdict on that one: its neighbours are accepted.
func TestTransportVerdicts(t *testing.T) {
	eachTransport(t, simulator.Faults{LateDelay: 100 * time.Millisecond}, func(s *suite) {
		n := suiteNotification()
		for _, c := range []struct {
			fault    simulator.Fault
			outcome  push.Outcome
			badToken bool
			retries  int
		}{
			{simulator.InvalidToken, push.Failed, true, 0},
			{simulator.LateInvalidToken, push.Failed, true, 0},
			{simulator.ProcessingErrorOnce, push.Accepted, false, 1},
			{simulator.ShutdownOnce, push.Accepted, false, 1},
		} {
			recipients := plain(0, 100)
			recipients[50].Token = simulator.MagicToken(c.fault, 1)
			results, retries := s.deliver(n, recipients...)
			for i, r := range results {
				if i != 50 && (r.Outcome != push.Accepted || retries[i] != 0) {
					s.Errorf("fault %x: neighbour %d: %+v after %d retries", c.fault, i, r, retries[i])
				}
			}
			if r := results[50]; r.Outcome != c.outcome || r.BadToken() != c.badToken || retries[50] != c.retries {
				s.Errorf("fault %x: %+v after %d retries", c.fault, r, retries[50])
			}
		}
	})
}

// A device that is gone: over HTTP/2 the answer says so, over the binary protocol the feedback service does, of a
// notification that was accepted.
type feedbackTuple struct {
	at    int64
	token push.Token
}

func TestTransportDeadToken(t *testing.T) {
	eachTransport(t, simulator.Faults{}, func(s *suite) {
		dead := time.Unix(1700000000, 0).UTC()
		token := simulator.MagicTokenAt(simulator.Unregistered, 1, dead)
		results, _ := s.deliver(suiteNotification(), push.Recipient{Token: token})
		if !s.overBinary {
			if r := results[0]; r.Outcome != push.Unregistered || !r.Timestamp().Equal(dead) {
				s.Errorf("%+v", r)
			}
			return
		}
		if results[0].Outcome != push.Accepted {
			s.Errorf("%+v", results[0])
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(s.sim.CAPEM())
		f := &binary.Feedback{Address: s.sim.FeedbackAddr(), TLS: &tls.Config{
			Certificates: []tls.Certificate{s.sim.ClientCertificate()}, RootCAs: roots, MinVersion: tls.VersionTLS12,
		}}
		var told []feedbackTuple
		err := f.Read(s.Context(), func(at time.Time, token push.Token) error {
			told = append(told, feedbackTuple{at.Unix(), token})
			return nil
		})
		if err != nil || len(told) != 1 || told[0] != (feedbackTuple{dead.Unix(), token}) {
			s.Errorf("feedback %v, %v", told, err)
		}
	})
}

// Connections that are lost lose nothing.
func TestTransportLosesNothing(t *testing.T) {
	for _, c := range []struct {
		name   string
		faults simulator.Faults
		token  simulator.Fault
	}{
		{"dropped", simulator.Faults{}, simulator.DropOnce},
		{"reset", simulator.Faults{}, simulator.ResetOnce},
		{"refused", simulator.Faults{}, simulator.RefuseOnce},
		{"replaced again and again", simulator.Faults{GoAwayEvery: 70, ShutdownAfter: 70}, simulator.NoFault},
	} {
		t.Run(c.name, func(t *testing.T) {
			eachTransport(t, c.faults, func(s *suite) {
				recipients := plain(0, 400)
				if c.token != simulator.NoFault {
					recipients[200].Token = simulator.MagicToken(c.token, 1)
				}
				results, _ := s.deliver(suiteNotification(), recipients...)
				for i, r := range results {
					if r.Outcome != push.Accepted || s.sim.Counts(recipients[i].Token).Accepted == 0 {
						s.Errorf("%d: %+v, accepted by the gateway %d times", i, r, s.sim.Counts(recipients[i].Token).Accepted)
					}
				}
			})
		})
	}
}

// What has expired is not sent.
func TestTransportExpired(t *testing.T) {
	eachTransport(t, simulator.Faults{}, func(s *suite) {
		n := suiteNotification()
		n.Expiration = time.Now().Add(-time.Second)
		results, _ := s.deliver(n, plain(0, 3)...)
		for _, r := range results {
			if r.Outcome != push.Expired {
				s.Errorf("%+v", r)
			}
		}
		if got := s.sim.Totals().Received; got != 0 {
			s.Errorf("%d were sent", got)
		}
	})
}

// Drain returns when all groups are done, and they are done soon: no result is waited for longer than it takes to come.
func TestTransportDrains(t *testing.T) {
	eachTransport(t, simulator.Faults{}, func(s *suite) {
		g := s.send(suiteNotification(), plain(0, 100)...)
		ctx, cancel := context.WithTimeout(s.Context(), time.Minute)
		defer cancel()
		if err := s.tr.Drain(ctx); err != nil {
			s.Fatal(err)
		}
		for i := range g.Deliveries {
			if r := g.Deliveries[i].Result; r.Outcome != push.Accepted {
				s.Errorf("%d: %+v", i, r)
			}
		}
	})
}

// When Run ends everything comes back as not sent, and nothing more is taken.
func TestTransportEnds(t *testing.T) {
	eachTransport(t, simulator.Faults{}, func(s *suite) {
		stuck := s.send(suiteNotification(), push.Recipient{Token: simulator.MagicToken(simulator.NeverAnswerAlways, 1)})
		s.end()
		if r := stuck.Deliveries[0].Result; r.Outcome != push.NotSent {
			s.Errorf("%+v", r)
		}
		g := &push.Group{Deliveries: []push.Delivery{{Notification: suiteNotification(), Recipient: push.Recipient{Token: pushtest.HexToken(1)}}}}
		g.Done = func(*push.Group) { s.Error("a group that was not taken is done") }
		if err := s.tr.Send(context.Background(), g); err == nil {
			s.Error("a group was taken after the end")
		}
	})
}

// A gateway that is away: everything comes back, to be kept in the queue, and a Send that cannot go on heeds its
// context.
func TestTransportGatewayAway(t *testing.T) {
	eachTransport(t, simulator.Faults{}, func(s *suite) {
		s.end()
		away := "127.0.0.1:" + freePort(s.T)
		if s.overBinary {
			s.tr = binary.New(binary.Config{App: "test", Address: away, BackoffMax: 10 * time.Millisecond}, quiet(), apns.NewMetrics(prometheus.NewRegistry()))
		} else {
			s.tr = provider.New(provider.Config{App: "test", Address: away, BackoffMin: time.Millisecond}, quiet(), apns.NewMetrics(prometheus.NewRegistry()))
		}
		ctx, cancel := context.WithCancel(context.Background())
		ran := make(chan error, 1)
		go func() { ran <- s.tr.Run(ctx) }()
		for range 2 {
			g := s.send(suiteNotification(), plain(0, 3)...)
			s.Wait()
			for i := range g.Deliveries {
				if r := g.Deliveries[i].Result; r.Outcome != push.NotSent || r.Reason != push.ConnectionLost {
					s.Errorf("%+v", r)
				}
			}
		}
		cancel()
		if err := <-ran; err != nil && !errors.Is(err, context.Canceled) {
			s.Errorf("Run: %v", err)
		}
	})
}

// freePort is a port on loopback that nothing listened on a moment ago.
func freePort(tb testing.TB) string {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}
