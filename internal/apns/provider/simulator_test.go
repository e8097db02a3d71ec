package provider

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/lhspn/lhspn/internal/apns"
	"github.com/lhspn/lhspn/internal/apns/credentials"
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/push/pushtest"
	"github.com/lhspn/lhspn/internal/simulator"
	"github.com/lhspn/lhspn/internal/simulator/simtest"
)

// simulatedProvider starts a simulator of the provider API. The configuration authenticates by provider token, whose
// signature the simulator checks, or by certificate.
func simulatedProvider(tb testing.TB, byToken bool, faults simulator.Faults) (*simulator.Simulator, Config) {
	tb.Helper()
	sim := simtest.Start(tb, simulator.Config{
		Provider: "127.0.0.1:0", Faults: faults, VerifyProviderTokens: true, TrackIDs: true, Record: simulator.RecordCounts,
		Topic: testNotification.Key,
	})
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(sim.CAPEM())
	cfg := Config{Address: sim.ProviderAddr(), TLS: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, BackoffMin: time.Millisecond}
	if !byToken {
		cfg.TLS.Certificates = []tls.Certificate{sim.ClientCertificate()}
		return sim, cfg
	}
	text, err := sim.ProviderKeyPEM()
	if err != nil {
		tb.Fatal(err)
	}
	file := filepath.Join(tb.TempDir(), "AuthKey.p8")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		tb.Fatal(err)
	}
	key, err := credentials.LoadSigningKey(file)
	if err != nil {
		tb.Fatal(err)
	}
	if cfg.Tokens, err = credentials.NewProviderTokens(key, simulator.ProviderKeyID, simulator.TeamID); err != nil {
		tb.Fatal(err)
	}
	return sim, cfg
}

// TestSimulatorAnswers asks the simulator for each reason that Apple documents, once with either way to authenticate.
func TestSimulatorAnswers(t *testing.T) {
	t.Parallel()
	for _, byToken := range []bool{false, true} {
		t.Run("token="+strconv.FormatBool(byToken), func(t *testing.T) {
			t.Parallel()
			_, cfg := simulatedProvider(t, byToken, simulator.Faults{})
			tr := newTester(t, cfg, nil)
			t.Cleanup(tr.stop)
			dead := time.UnixMilli(1650000000123).UTC()
			for i, row := range verdictTable {
				if row.text == "BadEnvironmentKeyInToken" {
					continue // the simulator knows one of the spellings
				}
				want := push.Result{Outcome: row.outcome, Reason: row.reason, Status: uint16(row.status)}
				g := &push.Group{}
				token := simulator.MagicToken(simulator.ReasonFault(simulatorReason(row.reason)), i)
				if row.outcome == push.Unregistered {
					fault := simulator.Unregistered
					if row.reason == apns.ExpiredToken {
						fault = simulator.ExpiredToken
					}
					token, want.DeadAt = simulator.MagicTokenAt(fault, i, dead), dead.UnixMicro()
				}
				for _, token := range []push.Token{pushtest.HexToken(i), token} {
					g.Deliveries = append(g.Deliveries, push.Delivery{Notification: testNotification, Recipient: push.Recipient{Token: token}})
				}
				tr.sendGroup(g)
				tr.Wait()
				if got := g.Deliveries[1].Result; got != want {
					t.Errorf("%s: %+v, want %+v", row.text, got, want)
				}
				if got := g.Deliveries[0].Result; got.Outcome != push.Accepted {
					t.Errorf("beside %s: %+v", row.text, got)
				}
			}
		})
	}
}

// TestSimulatorStorm sends under everything at once that does not lose an answer: nothing is lost, and nothing is
// accepted twice.
func TestSimulatorStorm(t *testing.T) {
	t.Parallel()
	for _, byToken := range []bool{false, true} {
		t.Run("token="+strconv.FormatBool(byToken), func(t *testing.T) {
			t.Parallel()
			sim, cfg := simulatedProvider(t, byToken, simulator.Faults{
				UnregisteredPercent: 1, ServiceUnavailablePercent: 1, BadTokenPercent: 1, GoAwayEvery: 700, RefuseEvery: 331, OneStreamAfter: 200,
			})
			cfg.Connections = 3
			tr := newTester(t, cfg, nil)
			t.Cleanup(tr.stop)
			const n = 20000
			var groups []*push.Group
			for i := 0; i < n; i += 500 {
				groups = append(groups, tr.send(testNotification, i, i+500))
			}
			tr.Wait()
			outcomes := map[push.Outcome]int{}
			for _, g := range groups {
				for i := range g.Deliveries {
					d := &g.Deliveries[i]
					outcomes[d.Result.Outcome]++
					want := uint32(0)
					if d.Result.Outcome == push.Accepted {
						want = 1
					}
					if got := sim.Counts(d.Token).Accepted; got != want {
						t.Fatalf("%+v, and accepted %d times", d.Result, got)
					}
				}
			}
			totals := sim.Totals()
			if totals.IDsRepeated != 0 {
				t.Errorf("%d were accepted twice", totals.IDsRepeated)
			}
			if outcomes[push.Accepted] < n*95/100 || outcomes[push.Unregistered] == 0 || outcomes[push.Retry] == 0 || outcomes[push.Failed] == 0 {
				t.Errorf("%v", outcomes)
			}
			if totals.Connections < 10 {
				t.Errorf("%d connections: no GOAWAY?", totals.Connections)
			}
		})
	}
}

// TestSimulatorLosses: connections that break, streams that are reset or never answered.
func TestSimulatorLosses(t *testing.T) {
	t.Parallel()
	_, cfg := simulatedProvider(t, true, simulator.Faults{})
	cfg.StreamTimeout = 400 * time.Millisecond
	tr := newTester(t, cfg, nil)
	t.Cleanup(tr.stop)
	for _, test := range []struct {
		fault simulator.Fault
		want  push.Result
	}{
		{simulator.DropOnce, push.Result{Outcome: push.Accepted, Status: 200}},
		{simulator.ResetOnce, push.Result{Outcome: push.Accepted, Status: 200}},
		{simulator.RefuseOnce, push.Result{Outcome: push.Accepted, Status: 200}},
		{simulator.AcceptThenShutdown, push.Result{Outcome: push.Accepted, Status: 200}},
		{simulator.NeverAnswerAlways, push.Result{Outcome: push.Retry, Reason: push.NoAnswer}},
		{simulator.StreamErrorOnce, push.Result{Outcome: push.Accepted, Status: 200}},
		{simulator.RefuseAlways, push.Result{Outcome: push.Retry, Reason: push.NoAnswer}},
		{simulator.DropAlways, push.Result{Outcome: push.NotSent, Reason: push.ConnectionLost}},
		{simulator.ReasonOnceFault(simulator.ReasonExpiredProviderToken), push.Result{Outcome: push.Accepted, Status: 200}},
	} {
		for round := range 2 {
			g := tr.send(testNotification, 0, 20)
			g2 := &push.Group{Deliveries: []push.Delivery{{
				Notification: testNotification, Recipient: push.Recipient{Token: simulator.MagicToken(test.fault, round)},
			}}}
			tr.sendGroup(g2)
			tr.Wait()
			if got := g2.Deliveries[0].Result; got != test.want {
				t.Errorf("%x: %+v, want %+v", test.fault, got, test.want)
			}
			for i := range g.Deliveries {
				// Its neighbours may be told that the connection was lost, with a gateway that always loses it.
				if o := g.Deliveries[i].Result.Outcome; o != push.Accepted && test.fault != simulator.DropAlways {
					t.Errorf("beside %x: %+v", test.fault, g.Deliveries[i].Result)
				}
			}
		}
	}
}

// simulatorReason is the simulator's own value for a reason.
func simulatorReason(reason *push.Reason) simulator.Reason {
	for _, r := range simulator.Reasons() {
		if r.String() == reason.Text {
			return r
		}
	}
	return simulator.ReasonNone
}
