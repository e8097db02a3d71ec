package binary

import (
	"crypto/tls"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lhspn/lhspn/internal/apns/frame"
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/push/pushtest"
)

func TestAcceptsOnEOFAfterHalfClose(t *testing.T) {
	bubble(t, func(t *testing.T) {
		began := time.Now()
		s := start(t, Config{}, func(_ int, c *gatewayConn) { c.drain(t) })
		g := s.send(0, 1000)
		s.Wait()
		check(t, g, times(1000, "accepted"))
		if took := time.Since(began); took != DefaultIdleClose {
			t.Errorf("finished after %v, want %v: the idle close", took, DefaultIdleClose)
		}
		// The next ones go on a new connection, whose identifiers the gateway checks to start at 0 again.
		g = s.send(1000, 1003)
		s.Wait()
		check(t, g, times(3, "accepted"))
		if _, conns := s.gw.counts(); conns != 2 {
			t.Errorf("%d connections, want 2", conns)
		}
	})
}

func TestAcceptsOnSilence(t *testing.T) {
	bubble(t, func(t *testing.T) {
		began := time.Now()
		// A gateway that never closes.
		s := start(t, Config{IdleClose: time.Hour}, func(_ int, c *gatewayConn) { c.drain(t) })
		g := s.send(0, 3)
		s.Wait()
		check(t, g, times(3, "accepted"))
		if took := time.Since(began); took != DefaultConfirmAfter {
			t.Errorf("finished after %v, want %v", took, DefaultConfirmAfter)
		}
	})
}

// A gateway that never ends a half-closed connection shows so once. From then on silence is the evidence, but not
// before a response could still have come for as long again; unless others are to be sent, or the transport drains.
func TestNeverEOF(t *testing.T) {
	bubble(t, func(t *testing.T) {
		began := time.Now()
		release := make(chan struct{})
		s := start(t, Config{}, func(_ int, c *gatewayConn) {
			c.drain(t)
			<-release // the end of our direction changes nothing for it
		})
		g := s.send(0, 3)
		s.Wait()
		check(t, g, times(3, "accepted"))
		if took, want := time.Since(began), DefaultIdleClose+2*DefaultEndAfter; took != want {
			t.Errorf("finished after %v, want %v", took, want)
		}
		began = time.Now()
		g = s.send(3, 6)
		s.Wait()
		check(t, g, times(3, "accepted"))
		if took, want := time.Since(began), DefaultConfirmAfter+DefaultEndAfter; took != want {
			t.Errorf("later ones were finished after %v, want %v", took, want)
		}
		began = time.Now()
		g = s.send(6, 9)
		if err := s.b.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		check(t, g, times(3, "accepted"))
		if took := time.Since(began); took != DefaultConfirmAfter {
			t.Errorf("draining took %v, want %v", took, DefaultConfirmAfter)
		}
		close(release)
	})
}

// A gateway that is busy is silent, too, before it refuses: what it says after that is what counts.
func TestBusyGateway(t *testing.T) {
	for _, busy := range []time.Duration{3400 * time.Millisecond, 6 * time.Second, 50 * time.Second} {
		for _, pause := range []time.Duration{0, 100 * time.Millisecond} { // between the groups: one connection never idle
			t.Run(busy.String()+" "+pause.String(), func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					s := start(t, Config{}, func(_ int, c *gatewayConn) {
						elapse(busy)
						for n, ok := c.next(t); ok; n, ok = c.next(t) {
							if pushtest.NumberOf(n.Token) == 50 {
								c.reject(frame.StatusInvalidToken, n.Identifier)
								return
							}
						}
					})
					groups := []*push.Group{}
					for i := range 101 {
						groups = append(groups, s.send(i, i+1))
						elapse(pause)
					}
					s.Wait()
					for i, g := range groups {
						if r := g.Deliveries[0].Result; i == 50 && r.Outcome != push.Failed || i != 50 && r.Outcome != push.Accepted {
							t.Errorf("delivery %d: %+v", i, r)
						}
					}
					processed := map[int]bool{} // by a gateway that went on after them
					for _, c := range s.gw.conns {
						if !slices.Contains(c.got, 50) {
							for _, n := range c.got {
								processed[n] = true
							}
						}
					}
					for i := 51; i < 101; i++ {
						if !processed[i] {
							t.Fatalf("delivery %d was thrown away and not sent again", i)
						}
					}
				})
			})
		}
	}
}

// Where silence counts, and a response comes all the same, it is in time: nothing had been reported, and what it says
// was thrown away is sent again.
func TestLateResponse(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := start(t, Config{IdleClose: time.Hour}, func(n int, c *gatewayConn) {
			if n > 0 {
				c.drain(t)
				return
			}
			for range 10 {
				c.next(t)
			}
			elapse(2 * DefaultConfirmAfter)
			c.reject(frame.StatusInvalidToken, 5)
		})
		s.b.habits.endless.Store(true)
		g := s.send(0, 10)
		s.Wait()
		check(t, g, times(5, "accepted")+" failed/InvalidToken/8/5 "+times(4, "accepted"))
		if n := s.lateResponses(); n != 1 {
			t.Errorf("%v late responses are counted, want 1", n)
		}
		s.stopNow()
		if got := s.gw.conns[1].got; !slices.Equal(got, []int{6, 7, 8, 9}) {
			t.Errorf("sent again: %v, want those after the refused one", got)
		}
	})
}

// Where all is confirmed already when the connection is half-closed, a gateway that does not close keeps it no longer.
func TestNeverEOFAfterAcknowledgement(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ended := make(chan error, 1)
		s := start(t, Config{}, func(_ int, c *gatewayConn) {
			for n, ok := c.next(t); ok; n, ok = c.next(t) {
				_, _ = c.Write(frame.AppendErrorResponse(nil, frame.StatusNone, n.Identifier))
			}
			elapse(2 * DefaultConfirmAfter)
			_, err := c.Write([]byte{frame.CommandError}) // fails if the client has closed
			ended <- err
		})
		g := s.send(0, 3)
		s.Wait()
		check(t, g, times(3, "accepted"))
		if err := <-ended; err == nil {
			t.Errorf("the connection is still open %v after the half-close", 2*DefaultConfirmAfter)
		}
	})
}

func TestStatusZeroAcknowledges(t *testing.T) {
	bubble(t, func(t *testing.T) {
		began := time.Now()
		s := start(t, Config{}, func(_ int, c *gatewayConn) {
			for {
				f, ok := c.next(t)
				if !ok {
					return
				}
				if f.Identifier == 2 {
					_, _ = c.Write(frame.AppendErrorResponse(nil, frame.StatusNone, 2))
				}
				if f.Identifier == 5 {
					_, _ = c.Write(frame.AppendErrorResponse(nil, frame.StatusNone, 5))
				}
			}
		})
		first := s.send(0, 3)
		s.Wait()
		check(t, first, times(3, "accepted"))
		second := s.send(3, 6)
		s.Wait()
		check(t, second, times(3, "accepted"))
		if took := time.Since(began); took != 0 {
			t.Errorf("finished after %v, want at once", took)
		}
		if _, conns := s.gw.counts(); conns != 1 {
			t.Errorf("%d connections, want 1", conns)
		}
	})
}

// An acknowledgement accepts what it names and all before it, and no more, even if the connection breaks right after
// it.
func TestBreakAfterAcknowledgement(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := start(t, Config{}, func(n int, c *gatewayConn) {
			if n > 0 {
				c.drain(t)
				return
			}
			for {
				if f, _ := c.next(t); f.Identifier == 4 {
					_, _ = c.Write(frame.AppendErrorResponse(nil, frame.StatusNone, 1))
					c.Reset(false)
					return
				}
			}
		})
		g := s.send(0, 5)
		s.Wait()
		check(t, g, times(5, "accepted"))
		s.stopNow()
		if diff := cmp.Diff([]int{2, 3, 4}, s.gw.conns[1].got); diff != "" {
			t.Errorf("second connection: -want +got\n%s", diff)
		}
	})
}

// What was never sent cannot be acknowledged.
func TestAcknowledgementOfTheUnsent(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := start(t, Config{}, func(n int, c *gatewayConn) {
			if n > 0 {
				c.drain(t)
				return
			}
			c.next(t)
			_, _ = c.Write(frame.AppendErrorResponse(nil, frame.StatusNone, 1<<32-1))
			c.Reset(false)
		})
		g := s.send(0, 2)
		s.Wait()
		check(t, g, "accepted accepted")
		s.stopNow()
		if diff := cmp.Diff([]int{0, 1}, s.gw.conns[1].got); diff != "" {
			t.Errorf("second connection: -want +got\n%s", diff)
		}
	})
}

// A gateway that answers each half-close by a reset gives no evidence but silence: that is waited for after the first
// time.
func TestResetInAnswerToHalfClose(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := start(t, Config{}, func(_ int, c *gatewayConn) {
			c.drain(t)
			c.Reset(true)
		})
		g := s.send(0, 100)
		s.Wait()
		check(t, g, times(100, "accepted"))
		g = s.send(100, 200)
		s.Wait()
		check(t, g, times(100, "accepted"))
		s.stopNow()
		sends := map[int]int{}
		for _, c := range s.gw.conns {
			for _, n := range c.got {
				sends[n]++
			}
		}
		for n := range 200 {
			if most := 2 - n/100; sends[n] == 0 || sends[n] > most {
				t.Fatalf("delivery %d was sent %d times, want %d at the most", n, sends[n], most)
			}
		}
	})
}

// A gateway may drop a connection of which it has read all, our end too: TCP ends in good order, and TLS does not. With
// a gateway that ends its connections properly that is no evidence; with one that never does it is.
func TestAbruptEnd(t *testing.T) {
	t.Parallel()
	readAll := func(c *tls.Conn) string {
		b, _ := io.ReadAll(c)
		return string(b)
	}
	for _, tc := range []struct {
		name   string
		proper bool
		want   []int // notifications received by connection
	}{
		{"of a gateway that knows better", true, []int{2, 0, 2}},
		{"as always", false, []int{2, 0}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			got := map[int]int{}
			address, roots := tlsGateway(t, func(n int, c *tls.Conn) {
				received := strings.Count(readAll(c), "alert")
				mu.Lock()
				got[n] = received
				mu.Unlock()
				if n > 0 && tc.proper {
					_ = c.Close()
				}
			})
			s := startTLS(t, Config{Address: address, TLS: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}})
			g := s.send(0, 2)
			if err := s.b.Drain(t.Context()); err != nil {
				t.Fatal(err)
			}
			check(t, g, "accepted accepted")
			mu.Lock()
			defer mu.Unlock()
			want := map[int]int{}
			for n, received := range tc.want {
				want[n] = received
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("notifications by connection: -want +got\n%s", diff)
			}
		})
	}
}
