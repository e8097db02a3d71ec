package binary

import (
	"crypto/tls"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	dto "github.com/prometheus/client_model/go"

	"github.com/lhspn/lhspn/internal/apns/frame"
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/push/pushtest"
)

// rejectAfter reads nothing for as long as the gateway is busy, and then refuses the notification with that number.
func rejectAfter(t *testing.T, c *gatewayConn, busy time.Duration, bad int) {
	t.Helper()
	elapse(busy)
	for n, ok := c.next(t); ok; n, ok = c.next(t) {
		if pushtest.NumberOf(n.Token) == bad {
			c.reject(frame.StatusInvalidToken, n.Identifier)
			return
		}
	}
}

// checkNoneLost checks that the gateway has processed all that was reported as accepted. What it was given on a
// connection from the refused notification on it has thrown away.
func (t *tester) checkNoneLost(bad int, groups ...*push.Group) {
	t.Helper()
	t.gw.mu.Lock()
	defer t.gw.mu.Unlock()
	processed := map[int]bool{}
	for _, c := range t.gw.conns {
		for _, n := range c.got {
			if n == bad {
				break
			}
			processed[n] = true
		}
	}
	for _, g := range groups {
		for i := range g.Deliveries {
			n := pushtest.NumberOf([]byte(g.Deliveries[i].Token))
			if o := g.Deliveries[i].Result.Outcome; o == push.Accepted && !processed[n] {
				t.Errorf("delivery %d counts as accepted, and was thrown away", n)
				return
			}
		}
	}
}

func (t *tester) lateResponses() float64 {
	var m dto.Metric
	_ = t.b.metrics.Late.Write(&m)
	return m.GetCounter().GetValue()
}

// A reset in answer to a half-close has silence listened for, and orderly ends have it forgotten: a gateway that is
// busy later is waited for.
func TestResetOnce(t *testing.T) {
	for _, busy := range []time.Duration{3400 * time.Millisecond, 6 * time.Second, 8 * time.Second, 50 * time.Second} {
		for orderly, name := range []string{"at once", "after an orderly end", "after two", "after three"} {
			t.Run(busy.String()+" "+name, func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					busyNow := false
					s := start(t, Config{}, func(n int, c *gatewayConn) {
						switch {
						case n == 0:
							c.drain(t)
							c.Reset(true)
						case busyNow:
							rejectAfter(t, c, busy, 1050)
						default:
							c.drain(t)
						}
					})
					s.send(0, 10)
					s.Wait()
					if orderly > 0 && s.b.habits.resets.Load() {
						t.Error("an orderly end has not cleared the reset")
					}
					for i := range orderly {
						s.send(100+i, 101+i)
						s.Wait()
					}
					busyNow = true
					g := s.send(1000, 1101)
					s.Wait()
					check(t, &push.Group{Deliveries: g.Deliveries[50:52]}, "failed/InvalidToken/8/50 accepted")
					s.stopNow()
					s.checkNoneLost(1050, g)
				})
			})
		}
	}
}

// A gateway may be busy for longer than the end of a connection is waited for.
func TestBusyBeyondEndAfter(t *testing.T) {
	for _, busy := range []time.Duration{70 * time.Second, 119 * time.Second} {
		for _, window := range []int{5, DefaultWindow} { // with 5 each connection is full at once
			t.Run(busy.String(), func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					s := start(t, Config{Window: window}, func(_ int, c *gatewayConn) { rejectAfter(t, c, busy, 50) })
					g := s.send(0, 101)
					s.Wait()
					check(t, g, times(50, "accepted")+" failed/InvalidToken/8/"+
						map[int]string{5: "0", DefaultWindow: "50"}[window]+" "+times(50, "accepted"))
					if n := s.lateResponses(); n != 1 {
						t.Errorf("%v late responses are counted, want 1", n)
					}
					s.stopNow()
					s.checkNoneLost(50, g)
				})
			})
		}
	}
}

// What a late response undoes goes back to the caller when the gateway is away, or the transport stops.
func TestLateResponseThenAway(t *testing.T) {
	for name, away := range map[string]func(*tester){
		"gateway": func(s *tester) { s.gw.setDown(true) },
		"stop":    func(*tester) {},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s := start(t, Config{IdleClose: time.Hour}, func(n int, c *gatewayConn) {
					if n > 0 {
						_, _ = io.Copy(io.Discard, readerOf{c})
						elapse(time.Hour)
						return
					}
					rejectAfter(t, c, 2*DefaultConfirmAfter, 50)
				})
				s.b.habits.endless.Store(true)
				g := s.send(0, 101)
				elapse(DefaultConfirmAfter + time.Second)
				away(s)
				elapse(DefaultConfirmAfter)
				synctest.Wait()
				if s.b.habits.endless.Load() {
					t.Error("silence counts although it has misled")
				}
				s.stopNow()
				check(t, g, times(50, "accepted")+" failed/InvalidToken/8/50 "+times(50, "not_sent/ConnectionLost/0/0"))
			})
		})
	}
}

// A late response that comes in two pieces is waited for: the first is no reason to give the connection up.
func TestLateResponseInPieces(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := start(t, Config{}, func(n int, c *gatewayConn) {
			c.drain(t)
			if n > 0 {
				return
			}
			elapse(DefaultEndAfter / 2)
			response := frame.AppendErrorResponse(nil, frame.StatusInvalidToken, 0)
			_, _ = c.Write(response[:3])
			elapse(time.Second)
			_, _ = c.Write(response[3:])
		})
		g := s.send(0, 2)
		s.Wait()
		check(t, g, "failed/InvalidToken/8/0 accepted")
	})
}

// A connection that we give up ourselves is no reset by the gateway.
func TestGivenUpIsNoReset(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var s *tester
		s = start(t, Config{}, func(n int, c *gatewayConn) {
			if n > 0 && s.b.habits.resets.Load() {
				t.Error("it counts as a reset in answer to the half-close")
			}
			c.drain(t)
			if n == 0 {
				_, _ = c.Write([]byte{frame.CommandError})
				elapse(time.Hour) // the rest never comes
			}
		})
		g := s.send(0, 2)
		s.Wait()
		check(t, g, "accepted accepted")
	})
}

// A gateway that ends no connection is sent to as fast as its silence allows, and no more is held back than there is
// room for.
func TestEndlessGatewayUnderLoad(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const window, windows = 100, 50
		release := make(chan struct{})
		defer close(release)
		s := start(t, Config{Window: window}, func(_ int, c *gatewayConn) {
			c.drain(t)
			<-release
		})
		s.b.habits.endless.Store(true)
		began := time.Now()
		groups := make(chan *push.Group, 3) // as many windows as the sender has in flight
		for i := range windows {
			g := &push.Group{Done: func(*push.Group) { <-groups }}
			for n := range window {
				g.Deliveries = append(g.Deliveries, push.Delivery{
					Notification: testNotification, Recipient: push.Recipient{Token: pushtest.HexToken(i*window + n)},
				})
			}
			groups <- g
			if err := s.b.Send(t.Context(), g); err != nil {
				t.Fatal(err)
			}
			open := 0
			s.gw.mu.Lock()
			for _, c := range s.gw.conns {
				if !c.PeerClosed() {
					open++
				}
			}
			s.gw.mu.Unlock()
			if open > 3+maxDraining+maxSilent {
				t.Fatalf("%d connections are open", open)
			}
		}
		if took, most := time.Since(began), windows*(DefaultConfirmAfter+DefaultConfirmAfter/8); took > most {
			t.Errorf("took %v, want at most %v: a window each time that silence counts", took, most)
		}
	})
}

// A gateway that ends no connection, and is slow to refuse, has shown how slow by the time that its silence counts.
func TestEndlessSlowGatewayUnderLoad(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const window, windows, slow = 100, 300, 20 * time.Second
		bad := func(n int) bool { return n == 50 || n%5000 == 4321 }
		var mu sync.Mutex
		processed := map[int]bool{}
		s := start(t, Config{Window: window}, func(_ int, c *gatewayConn) {
			for n, ok := c.next(t); ok; n, ok = c.next(t) {
				if bad(pushtest.NumberOf(n.Token)) {
					elapse(slow)
					c.reject(frame.StatusInvalidToken, n.Identifier)
					return
				}
				mu.Lock()
				processed[pushtest.NumberOf(n.Token)] = true
				mu.Unlock()
			}
			for !c.PeerClosed() {
				elapse(time.Second)
			}
		})
		inFlight := make(chan struct{}, 3) // windows, as the sender has it
		var groups []*push.Group
		for i := range windows {
			g := &push.Group{Done: func(*push.Group) { <-inFlight }}
			for n := range window {
				g.Deliveries = append(g.Deliveries, push.Delivery{
					Notification: testNotification, Recipient: push.Recipient{Token: pushtest.HexToken(i*window + n)},
				})
			}
			groups = append(groups, g)
			inFlight <- struct{}{}
			if err := s.b.Send(t.Context(), g); err != nil {
				t.Fatal(err)
			}
		}
		for range cap(inFlight) {
			inFlight <- struct{}{}
		}
		if !s.b.habits.endless.Load() {
			t.Error("the gateway has not shown that it ends no connection")
		}
		s.stopNow()
		for _, g := range groups {
			for i := range g.Deliveries {
				n := pushtest.NumberOf([]byte(g.Deliveries[i].Token))
				switch o := g.Deliveries[i].Result.Outcome; {
				case bad(n) != (o == push.Failed):
					t.Errorf("delivery %d is %v", n, o)
				case o == push.Accepted && !processed[n]:
					t.Fatalf("delivery %d counts as accepted, and was thrown away", n)
				}
			}
		}
	})
}

// An end without close_notify is an end, for a gateway that always ends so: it has not shown that it never ends
// connections.
func TestAbruptEndIsAnEnd(t *testing.T) {
	t.Parallel()
	address, roots := tlsGateway(t, func(_ int, c *tls.Conn) { _, _ = io.Copy(io.Discard, c) })
	s := startTLS(t, Config{Address: address, TLS: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}})
	s.b.habits.endless.Store(true)
	s.b.habits.reset()
	g := s.send(0, 2)
	if err := s.b.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	check(t, g, "accepted accepted")
	if s.b.habits.endless.Load() || s.b.habits.resets.Load() {
		t.Error("silence still counts after an end")
	}
}
