package binary

import (
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lhspn/lhspn/internal/apns"
	"github.com/lhspn/lhspn/internal/apns/credentials"
	"github.com/lhspn/lhspn/internal/apns/frame"
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/push/pushtest"
	"github.com/lhspn/lhspn/internal/simulator"
	"github.com/lhspn/lhspn/internal/simulator/simtest"
)

// simulated starts a simulator that asks for the client certificate, and gives the TLS configuration for it, made from
// the files an operator would have.
func simulated(t *testing.T, faults simulator.Faults) (*simulator.Simulator, *tls.Config) {
	t.Helper()
	sim := simtest.Start(t, simulator.Config{
		Gateway: "127.0.0.1:0", Feedback: "127.0.0.1:0", RequireClientCert: true, Faults: faults,
	})
	dir := t.TempDir()
	p12, err := sim.ClientCertificateP12("password")
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"push.p12": p12, "ca.pem": sim.CAPEM()} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cert, err := credentials.LoadCertificate(filepath.Join(dir, "push.p12"), "password")
	if err != nil {
		t.Fatal(err)
	}
	roots, err := credentials.LoadCAs(filepath.Join(dir, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	return sim, &tls.Config{Certificates: []tls.Certificate{cert}, RootCAs: roots, MinVersion: tls.VersionTLS12}
}

// startTLS starts a Transport that connects for real.
func startTLS(t *testing.T, cfg Config) *tester {
	t.Helper()
	s := newTester(t, cfg, nil)
	t.Cleanup(s.stop)
	return s
}

// The faults of the simulator, over TLS, among 5,000 that have none.
func TestAgainstSimulator(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name     string
		faults   simulator.Faults
		innocent int // so many of those without a fault may have their count grown
	}{
		{"no more faults", simulator.Faults{}, 0},
		{"acknowledging each", simulator.Faults{Acknowledge: true}, 0},
		{"shutdown after 1000", simulator.Faults{ShutdownAfter: 1000}, 10},
		{"unknown identifier after 1000", simulator.Faults{UnknownIdentifierAfter: 1000}, 30},
		{"drop after 1000", simulator.Faults{DropAfter: 1000}, 0},
		{"reset after 1000", simulator.Faults{ResetAfter: 1000}, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			sim, conf := simulated(t, tc.faults)
			s := startTLS(t, Config{Address: sim.GatewayAddr(), TLS: conf, Window: 1500, Connections: 2})
			const each = 1000
			groups := []*push.Group{}
			magic := []simulator.Fault{
				simulator.InvalidToken, simulator.ProcessingErrorOnce, simulator.ShutdownOnce, simulator.ResetOnce, simulator.DropOnce,
			}
			for i, fault := range magic {
				g := &push.Group{}
				for n := range each {
					g.Deliveries = append(g.Deliveries, push.Delivery{
						Notification: testNotification, Recipient: push.Recipient{Token: pushtest.HexToken(i*each + n)},
					})
				}
				g.Deliveries[each/2].Token = simulator.MagicToken(fault, 1)
				groups = append(groups, g)
				s.sendGroup(g)
			}
			s.Wait()
			again := 0
			for i, g := range groups {
				for n := range g.Deliveries {
					d := &g.Deliveries[n]
					received := sim.Counts(d.Token)
					switch d.Result.Outcome {
					case push.Accepted:
						if received.Accepted == 0 {
							t.Errorf("%d of group %d counts as accepted, and was not", n, i)
						}
					case push.Retry:
						if n != each/2 {
							again++
						}
					case push.Failed:
						if magic[i] != simulator.InvalidToken || n != each/2 {
							t.Errorf("%d of group %d failed: %+v", n, i, d.Result)
						}
					default:
						t.Errorf("%d of group %d: %+v", n, i, d.Result)
					}
				}
			}
			if again > tc.innocent {
				t.Errorf("%d without a fault of their own had their count grown", again)
			}
			if r := groups[0].Deliveries[each/2].Result; r.Outcome != push.Failed || r.Reason != apns.InvalidToken || r.Status != 8 {
				t.Errorf("the invalid token: %+v", r)
			}
		})
	}
}

// A token of a wrong size fails alone, named by its identifier, with both commands.
func TestTokenSizeAgainstSimulator(t *testing.T) {
	t.Parallel()
	for _, command := range []uint8{frame.Command1, frame.Command2} {
		t.Run(fmt.Sprint("command ", command), func(t *testing.T) {
			t.Parallel()
			sim, conf := simulated(t, simulator.Faults{})
			s := startTLS(t, Config{Address: sim.GatewayAddr(), TLS: conf, Command: command})
			const bad, all = 50, 101
			g := &push.Group{}
			for n := range all {
				g.Deliveries = append(g.Deliveries, push.Delivery{Notification: testNotification, Recipient: push.Recipient{Token: pushtest.HexToken(n)}})
			}
			g.Deliveries[bad].Token = g.Deliveries[bad].Token[:20]
			s.sendGroup(g)
			if err := s.b.Drain(t.Context()); err != nil {
				t.Fatal(err)
			}
			check(t, g, times(bad, "accepted")+" failed/InvalidTokenSize/5/50 "+times(all-bad-1, "accepted"))
			for n := range all {
				if received := sim.Counts(g.Deliveries[n].Token); n != bad && received.Accepted == 0 {
					t.Errorf("%d counts as accepted, and was not", n)
				}
			}
		})
	}
}

func TestRefusedCertificate(t *testing.T) {
	t.Parallel()
	sim, conf := simulated(t, simulator.Faults{})
	conf.Certificates = nil
	s := startTLS(t, Config{Address: sim.GatewayAddr(), TLS: conf})
	g := s.send(0, 2)
	s.Wait()
	check(t, g, "not_sent/ConnectionLost/0/0 not_sent/ConnectionLost/0/0")
}

func TestFeedbackAgainstSimulator(t *testing.T) {
	t.Parallel()
	sim, conf := simulated(t, simulator.Faults{})
	sim.AddFeedback(time.Unix(1700000000, 0), pushtest.HexToken(1))
	sim.AddFeedback(time.Unix(1700000001, 0), pushtest.HexToken(2))
	f := &Feedback{Address: sim.FeedbackAddr(), TLS: conf}
	var got []tuple
	read := func(at time.Time, token push.Token) error {
		got = append(got, tuple{at.Unix(), token})
		return nil
	}
	if err := f.Read(t.Context(), read); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]tuple{{1700000000, pushtest.HexToken(1)}, {1700000001, pushtest.HexToken(2)}}, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	sim.SetFaults(simulator.Faults{FeedbackNeverClose: true})
	sim.AddFeedback(time.Unix(1700000002, 0), pushtest.HexToken(3))
	f.Silence = 100 * time.Millisecond
	got = nil
	if err := f.Read(t.Context(), read); err != nil || len(got) != 1 {
		t.Errorf("a service that never closes: %v, error %v", got, err)
	}
}

// A gateway that refuses late loses nothing, whether it ends connections, or never does.
func TestLateAgainstSimulator(t *testing.T) {
	t.Parallel()
	for _, neverEOF := range []bool{false, true} {
		t.Run(fmt.Sprint("never ends ", neverEOF), func(t *testing.T) {
			t.Parallel()
			sim, conf := simulated(t, simulator.Faults{NeverEOF: neverEOF, LateDelay: 700 * time.Millisecond})
			s := startTLS(t, Config{
				Address: sim.GatewayAddr(), TLS: conf, IdleClose: 50 * time.Millisecond, ConfirmAfter: 500 * time.Millisecond, EndAfter: time.Second,
			})
			const late, all = 50, 101
			for round := range 2 { // by the second one the gateway is known
				g := &push.Group{}
				for n := range all {
					g.Deliveries = append(g.Deliveries, push.Delivery{
						Notification: testNotification, Recipient: push.Recipient{Token: pushtest.HexToken(round*all + n)},
					})
				}
				g.Deliveries[late].Token = simulator.MagicToken(simulator.LateInvalidToken, round)
				s.sendGroup(g)
				s.Wait()
				check(t, g, times(late, "accepted")+" failed/InvalidToken/8/50 "+times(all-late-1, "accepted"))
				for n := range all {
					if d := &g.Deliveries[n]; d.Result.Outcome == push.Accepted && sim.Counts(d.Token).Accepted == 0 {
						t.Fatalf("%d counts as accepted, and was not", n)
					}
				}
			}
		})
	}
}
