package binary

import (
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/lhspn/lhspn/internal/apns"
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/push/pushtest"
)

// One notification breaks each connection it is sent on: it gets its count grown, all others go through, soon.
func TestPoison(t *testing.T) {
	for name, orderly := range map[string]bool{"reset": false, "orderly close": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				const poison = 4321
				began := time.Now()
				s := start(t, Config{}, func(_ int, c *gatewayConn) {
					for {
						f, ok := c.next(t)
						if !ok {
							return
						}
						if pushtest.NumberOf(f.Token) == poison {
							if !orderly {
								c.Reset(true)
							}
							return
						}
					}
				})
				g := s.send(0, 10000)
				s.Wait()
				for i := range g.Deliveries {
					want := push.Accepted
					if i == poison {
						want = push.Retry
					}
					if got := g.Deliveries[i].Result.Outcome; got != want {
						t.Fatalf("delivery %d is %v, want %v", i, got, want)
					}
				}
				if took := time.Since(began); took > 12*time.Second {
					t.Errorf("took %v", took)
				}
				_, conns := s.gw.counts()
				t.Logf("%d connections, %v", conns, time.Since(began))
				if conns > 40 {
					t.Errorf("%d connections", conns)
				}
			})
		})
	}
}

// A notification that is alone may break the connections, or the gateway may: its count grows again only when something
// else was accepted meanwhile.
func TestLonePoison(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const poison = 7
		counted := &lines{n: map[slog.Level]int{}}
		gw := &gateway{serve: func(_ int, c *gatewayConn) {
			for f, ok := c.next(t); ok && pushtest.NumberOf(f.Token) != poison; {
				f, ok = c.next(t)
			}
		}}
		b := New(Config{}, slog.New(counted), apns.NewMetrics(prometheus.NewRegistry()))
		b.dial = gw.dial
		s := &tester{Reporter: t, Ledger: pushtest.NewLedger(), b: b, gw: gw}
		stop := run(t, b)
		send := func(n int, want string) {
			t.Helper()
			again := *testNotification // the queue may have read it anew
			g := &push.Group{Deliveries: []push.Delivery{{Notification: &again, Recipient: push.Recipient{Token: pushtest.HexToken(n)}}}}
			s.sendGroup(g)
			s.Wait()
			check(t, g, want)
		}
		for range 3 {
			send(poison, "retry/ConnectionLost/0/0")
			for range 10 { // as often as the queue offers it
				send(poison, "not_sent/NoAnswer/0/0")
			}
			send(8, "accepted")
		}
		stop()
		gw.wg.Wait()
		// Each time the finding and the gateway's going away are a line, and its being back is one.
		want := map[slog.Level]int{slog.LevelWarn: 6, slog.LevelInfo: 3}
		if diff := cmp.Diff(want, counted.n); diff != "" {
			t.Errorf("lines by level: -want +got\n%s", diff)
		}
	})
}

// A gateway that takes every connection and breaks off whatever is written is no fault of the notifications.
func TestBreaksOffEverything(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := start(t, Config{}, func(_ int, c *gatewayConn) { c.next(t) })
		g := s.send(0, 100)
		s.Wait()
		culprits := 0
		for i := range g.Deliveries {
			switch g.Deliveries[i].Result.Outcome {
			case push.Retry:
				culprits++
			case push.NotSent:
			default:
				t.Fatalf("delivery %d is %v", i, g.Deliveries[i].Result.Outcome)
			}
		}
		if culprits != maxCulprits {
			t.Errorf("%d were taken for culprits, want %d", culprits, maxCulprits)
		}
	})
}
