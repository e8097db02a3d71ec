package apns

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/lhspn/lhspn/internal/apns/frame"
	"github.com/lhspn/lhspn/internal/push"
)

func times(n int, word string) string { return strings.TrimSuffix(strings.Repeat(word+" ", n), " ") }

func check(t *testing.T, g *push.Group, want string) {
	t.Helper()
	if diff := cmp.Diff(strings.Fields(want), strings.Fields(outcomes(g))); diff != "" {
		t.Errorf("results: -want +got\n%s", diff)
	}
}

// bubble runs f with a clock of its own, in which no time passes while anything runs.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, f)
}

// elapse lets d go by on the bubble's clock.
func elapse(d time.Duration) { time.Sleep(d) } //nolint:forbidigo // in a synctest bubble

func TestBinaryAcceptsOnEOFAfterHalfClose(t *testing.T) {
	bubble(t, func(t *testing.T) {
		began := time.Now()
		s := start(t, BinaryConfig{}, func(_ int, c *gatewayConn) { c.drain(t) })
		g := s.send(0, 1000)
		s.wait()
		check(t, g, times(1000, "accepted"))
		if took := time.Since(began); took != DefaultIdleClose {
			t.Errorf("settled after %v, want %v: the idle close", took, DefaultIdleClose)
		}
		// The next ones go on a new connection, whose identifiers the gateway checks to start at 0 again.
		g = s.send(1000, 1003)
		s.wait()
		check(t, g, times(3, "accepted"))
		if _, conns := s.gw.counts(); conns != 2 {
			t.Errorf("%d connections, want 2", conns)
		}
	})
}

func TestBinaryAcceptsOnSilence(t *testing.T) {
	bubble(t, func(t *testing.T) {
		began := time.Now()
		// A gateway that never closes.
		s := start(t, BinaryConfig{IdleClose: time.Hour}, func(_ int, c *gatewayConn) { c.drain(t) })
		g := s.send(0, 3)
		s.wait()
		check(t, g, times(3, "accepted"))
		if took := time.Since(began); took != DefaultConfirmAfter {
			t.Errorf("settled after %v, want %v", took, DefaultConfirmAfter)
		}
	})
}

// A gateway that never ends a half-closed connection shows so once. From then on silence is the evidence, but not before a
// response could still have come for as long again; unless others are to be sent, or the transport drains.
func TestBinaryNeverEOF(t *testing.T) {
	bubble(t, func(t *testing.T) {
		began := time.Now()
		release := make(chan struct{})
		s := start(t, BinaryConfig{}, func(_ int, c *gatewayConn) {
			c.drain(t)
			<-release // the end of our direction changes nothing for it
		})
		g := s.send(0, 3)
		s.wait()
		check(t, g, times(3, "accepted"))
		if took, want := time.Since(began), DefaultIdleClose+2*DefaultEndAfter; took != want {
			t.Errorf("settled after %v, want %v", took, want)
		}
		began = time.Now()
		g = s.send(3, 6)
		s.wait()
		check(t, g, times(3, "accepted"))
		if took, want := time.Since(began), DefaultConfirmAfter+DefaultEndAfter; took != want {
			t.Errorf("later ones were settled after %v, want %v", took, want)
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
func TestBinaryBusyGateway(t *testing.T) {
	for _, busy := range []time.Duration{3400 * time.Millisecond, 6 * time.Second, 50 * time.Second} {
		for _, pause := range []time.Duration{0, 100 * time.Millisecond} { // between the groups: one connection never idle
			t.Run(busy.String()+" "+pause.String(), func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					s := start(t, BinaryConfig{}, func(_ int, c *gatewayConn) {
						elapse(busy)
						for n, ok := c.next(t); ok; n, ok = c.next(t) {
							if numberOf(n.Token) == 50 {
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
					s.wait()
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

// Where silence counts, and a response comes all the same, it is in time: nothing had been reported, and what it says was
// thrown away is sent again.
func TestBinaryLateResponse(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := start(t, BinaryConfig{IdleClose: time.Hour}, func(n int, c *gatewayConn) {
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
		s.b.endless.Store(true)
		g := s.send(0, 10)
		s.wait()
		check(t, g, times(5, "accepted")+" failed/InvalidToken/8/5 "+times(4, "accepted"))
		var late dto.Metric
		if err := s.b.metrics.late.Write(&late); err != nil || late.GetCounter().GetValue() != 1 {
			t.Errorf("%v late responses are counted, want 1: %v", late.GetCounter().GetValue(), err)
		}
		s.stopNow()
		if got := s.gw.conns[1].got; !slices.Equal(got, []int{6, 7, 8, 9}) {
			t.Errorf("sent again: %v, want those after the refused one", got)
		}
	})
}

// Where all is confirmed already when the connection is half-closed, a gateway that does not close keeps it no longer.
func TestBinaryNeverEOFAfterAcknowledgement(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ended := make(chan error, 1)
		s := start(t, BinaryConfig{}, func(_ int, c *gatewayConn) {
			for n, ok := c.next(t); ok; n, ok = c.next(t) {
				_, _ = c.Write(frame.AppendErrorResponse(nil, frame.StatusNone, n.Identifier))
			}
			elapse(2 * DefaultConfirmAfter)
			_, err := c.Write([]byte{frame.CommandError}) // fails if the client has closed
			ended <- err
		})
		g := s.send(0, 3)
		s.wait()
		check(t, g, times(3, "accepted"))
		if err := <-ended; err == nil {
			t.Errorf("the connection is still open %v after the half-close", 2*DefaultConfirmAfter)
		}
	})
}

func TestBinaryErrorResponse(t *testing.T) {
	for _, tc := range []struct {
		name   string
		cfg    BinaryConfig
		status frame.Status
		want   string // of deliveries 0, 1, 2 and 3, of which 1 is identified
		second []int  // what is received on the second connection
	}{
		{"invalid token", BinaryConfig{}, frame.StatusInvalidToken, "accepted failed/InvalidToken/8/1 accepted accepted", []int{2, 3}},
		{"processing error", BinaryConfig{}, frame.StatusProcessingError, "accepted retry/ProcessingError/1/1 accepted accepted", []int{2, 3}},
		{"shutdown", BinaryConfig{}, frame.StatusShutdown, "accepted retry/Shutdown/10/1 accepted accepted", []int{2, 3}},
		{
			"shutdown as Apple reads it", BinaryConfig{RetryStatuses: []uint8{1}}, frame.StatusShutdown,
			"accepted accepted accepted accepted", []int{2, 3},
		},
		{
			"processing error not retried", BinaryConfig{RetryStatuses: []uint8{}}, frame.StatusProcessingError,
			"accepted failed/ProcessingError/1/1 accepted accepted", []int{2, 3},
		},
		{"undocumented", BinaryConfig{}, 77, "accepted failed/Unknown/255/1 accepted accepted", []int{2, 3}},
		{"undocumented, 255 retried", BinaryConfig{RetryStatuses: []uint8{255}}, 77, "accepted retry/Unknown/255/1 accepted accepted", []int{2, 3}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s := start(t, tc.cfg, func(n int, c *gatewayConn) {
					for {
						f, ok := c.next(t)
						if !ok {
							return
						}
						if n == 0 && f.Identifier == 1 {
							c.reject(tc.status, 1)
							return
						}
					}
				})
				g := s.send(0, 4)
				s.wait()
				check(t, g, tc.want)
				s.stopNow()
				if diff := cmp.Diff(tc.second, s.gw.conns[1].got); diff != "" {
					t.Errorf("second connection: -want +got\n%s", diff)
				}
			})
		})
	}
}

// Everything is settled or sent again in the order of Send, across groups, wherever the error falls.
func TestBinaryErrorAmongGroups(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const bad = 3700
		s := start(t, BinaryConfig{}, func(n int, c *gatewayConn) {
			for {
				f, ok := c.next(t)
				if !ok {
					return
				}
				if numberOf(f.Token) == bad {
					c.reject(frame.StatusInvalidToken, f.Identifier)
					return
				}
			}
		})
		var groups []*push.Group
		for i := range 8 {
			groups = append(groups, s.send(i*1000, i*1000+1000))
		}
		s.wait()
		for i, g := range groups {
			for j := range g.Deliveries {
				want := push.Accepted
				if i*1000+j == bad {
					want = push.Failed
				}
				if got := g.Deliveries[j].Result.Outcome; got != want {
					t.Errorf("delivery %d is %v, want %v", i*1000+j, got, want)
				}
			}
		}
		s.stopNow()
		if got := s.gw.conns[1].got; got[0] != bad+1 || !slices.IsSorted(got) || got[len(got)-1] != 7999 {
			t.Errorf("second connection: from %d to %d, sorted: %v", got[0], got[len(got)-1], slices.IsSorted(got))
		}
	})
}

func TestBinaryUnknownIdentifier(t *testing.T) {
	for name, identifier := range map[string]uint32{"never sent": 4711, "status 2, identifier 0": 0} {
		t.Run(name, func(t *testing.T) { testBinaryUnknownIdentifier(t, identifier) })
	}
}

func testBinaryUnknownIdentifier(t *testing.T, identifier uint32) {
	t.Helper()
	bubble(t, func(t *testing.T) {
		s := start(t, BinaryConfig{}, func(n int, c *gatewayConn) {
			for {
				f, ok := c.next(t)
				if !ok {
					return
				}
				if n == 0 && f.Identifier == 2 {
					c.reject(frame.StatusMissingToken, identifier)
					return
				}
			}
		})
		g := s.send(0, 4)
		s.wait()
		check(t, g, "retry/MissingDeviceToken/2/0 accepted accepted accepted")
		s.stopNow()
		if diff := cmp.Diff([]int{1, 2, 3}, s.gw.conns[1].got); diff != "" {
			t.Errorf("second connection: -want +got\n%s", diff)
		}
	})
}

func TestBinaryStatusZeroAcknowledges(t *testing.T) {
	bubble(t, func(t *testing.T) {
		began := time.Now()
		s := start(t, BinaryConfig{}, func(_ int, c *gatewayConn) {
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
		s.wait()
		check(t, first, times(3, "accepted"))
		second := s.send(3, 6)
		s.wait()
		check(t, second, times(3, "accepted"))
		if took := time.Since(began); took != 0 {
			t.Errorf("settled after %v, want at once", took)
		}
		if _, conns := s.gw.counts(); conns != 1 {
			t.Errorf("%d connections, want 1", conns)
		}
	})
}

// The peer closes a socket with unread bytes: the write fails, but the error response that came before is there to be read.
func TestBinaryResetAfterErrorResponse(t *testing.T) {
	bubble(t, func(t *testing.T) {
		gw := &gateway{size: 4096}
		gw.serve = func(n int, c *gatewayConn) {
			for {
				f, ok := c.next(t)
				if !ok {
					return
				}
				if n == 0 && f.Identifier == 10 {
					_, _ = c.Write(frame.AppendErrorResponse(nil, frame.StatusInvalidToken, 10))
					c.reset(false)
					return
				}
			}
		}
		s := startWith(t, BinaryConfig{}, gw)
		g := s.send(0, 1000)
		s.wait()
		check(t, g, times(10, "accepted")+" failed/InvalidToken/8/10 "+times(989, "accepted"))
	})
}

// The reset destroys the response: it is a broken connection like any other.
func TestBinaryResetDestroysErrorResponse(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := start(t, BinaryConfig{}, func(n int, c *gatewayConn) {
			if n > 0 {
				c.drain(t)
				return
			}
			c.next(t)
			c.reset(true)
		})
		g := s.send(0, 1000)
		s.wait()
		check(t, g, times(1000, "accepted"))
		s.stopNow()
		if got := s.gw.conns[1].got; len(got) != 1000 || got[0] != 0 {
			t.Errorf("%d were sent again, want all 1000", len(got))
		}
	})
}

// A gateway that answers each half-close by a reset gives no evidence but silence: that is waited for after the first time.
func TestBinaryResetInAnswerToHalfClose(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := start(t, BinaryConfig{}, func(_ int, c *gatewayConn) {
			c.drain(t)
			c.reset(true)
		})
		g := s.send(0, 100)
		s.wait()
		check(t, g, times(100, "accepted"))
		g = s.send(100, 200)
		s.wait()
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

func TestBinaryResponseInPieces(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := start(t, BinaryConfig{IdleClose: time.Hour}, func(n int, c *gatewayConn) {
			if n > 0 {
				c.drain(t)
				return
			}
			c.next(t)
			response := frame.AppendErrorResponse(nil, frame.StatusInvalidToken, 0)
			_, _ = c.Write(response[:3])
			elapse(2 * DefaultConfirmAfter) // what has begun to arrive is no silence
			_, _ = c.Write(response[3:])
		})
		g := s.send(0, 2)
		s.wait()
		check(t, g, "failed/InvalidToken/8/0 accepted")
	})
}

func TestBinaryGatewayDown(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := start(t, BinaryConfig{}, func(_ int, c *gatewayConn) { c.drain(t) })
		s.gw.setDown(true)
		began := time.Now()
		for time.Since(began) < 10*time.Minute {
			g := s.send(0, 2)
			s.wait()
			check(t, g, "not_sent/ConnectionLost/0/0 not_sent/ConnectionLost/0/0")
		}
		// A sender that comes back at once each time must not make a tight loop: every 5 s in the end, give or take a half.
		if dials, _ := s.gw.counts(); dials < 80 || dials > 180 {
			t.Errorf("%d dials in ten minutes", dials)
		}
		s.gw.setDown(false)
		g := s.send(0, 2)
		s.wait()
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
func TestBinaryClosedAfterHandshake(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := start(t, BinaryConfig{}, func(int, *gatewayConn) {})
		began := time.Now()
		for time.Since(began) < 10*time.Minute {
			g := s.send(0, 2)
			s.wait()
			check(t, g, "not_sent/ConnectionLost/0/0 not_sent/ConnectionLost/0/0")
		}
		if dials, _ := s.gw.counts(); dials < 80 || dials > 180 {
			t.Errorf("%d dials in ten minutes", dials)
		}
	})
}

// One notification breaks each connection it is written to: it gets its count grown, all others go through, soon.
func TestBinaryPoison(t *testing.T) {
	for name, orderly := range map[string]bool{"reset": false, "orderly close": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				const poison = 4321
				began := time.Now()
				s := start(t, BinaryConfig{}, func(_ int, c *gatewayConn) {
					for {
						f, ok := c.next(t)
						if !ok {
							return
						}
						if numberOf(f.Token) == poison {
							if !orderly {
								c.reset(true)
							}
							return
						}
					}
				})
				g := s.send(0, 10000)
				s.wait()
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

// A notification that is alone may break the connections, or the gateway may: its count grows again only when something else
// was accepted meanwhile.
func TestBinaryLonePoison(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const poison = 7
		counted := &lines{n: map[slog.Level]int{}}
		gw := &gateway{serve: func(_ int, c *gatewayConn) {
			for f, ok := c.next(t); ok && numberOf(f.Token) != poison; {
				f, ok = c.next(t)
			}
		}}
		b := NewBinary(BinaryConfig{}, slog.New(counted), NewMetrics(prometheus.NewRegistry()))
		b.dial = gw.dial
		s := &tester{reporter: t, ledger: newLedger(), b: b, gw: gw}
		stop := runBinary(t, b)
		send := func(n int, want string) {
			t.Helper()
			again := *testNotification // the queue may have read it anew
			g := &push.Group{Deliveries: []push.Delivery{{Notification: &again, Recipient: push.Recipient{Token: tokenOf(n)}}}}
			s.sendGroup(g)
			s.wait()
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
		// Each time the blame and the gateway's going away are a line, and its being back is one.
		want := map[slog.Level]int{slog.LevelWarn: 6, slog.LevelInfo: 3}
		if diff := cmp.Diff(want, counted.n); diff != "" {
			t.Errorf("lines by level: -want +got\n%s", diff)
		}
	})
}

// A gateway that takes every connection and breaks off whatever is written is no fault of the notifications.
func TestBinaryBreaksOffEverything(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := start(t, BinaryConfig{}, func(_ int, c *gatewayConn) { c.next(t) })
		g := s.send(0, 100)
		s.wait()
		blamed := 0
		for i := range g.Deliveries {
			switch g.Deliveries[i].Result.Outcome {
			case push.Retry:
				blamed++
			case push.NotSent:
			default:
				t.Fatalf("delivery %d is %v", i, g.Deliveries[i].Result.Outcome)
			}
		}
		if blamed != maxCulprits {
			t.Errorf("%d were blamed, want %d", blamed, maxCulprits)
		}
	})
}

// The window is bounded, and full windows are settled by exchanging connections, not by waiting for silence.
func TestBinaryWindowAndRotation(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const window = 100
		began := time.Now()
		s := start(t, BinaryConfig{Window: window}, func(_ int, c *gatewayConn) { c.drain(t) })
		for i := range 100 {
			s.send(i*50, i*50+50)
		}
		s.wait()
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

func TestBinarySendBlocksWhileTheWindowIsFull(t *testing.T) {
	bubble(t, func(t *testing.T) {
		release := make(chan struct{})
		s := start(t, BinaryConfig{Window: 10, ConfirmAfter: time.Hour, EndAfter: time.Hour}, func(_ int, c *gatewayConn) {
			<-release
			c.drain(t)
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		taken := 0
		for {
			g := &push.Group{Done: func(*push.Group) {}}
			for range 10 {
				g.Deliveries = append(g.Deliveries, push.Delivery{Notification: testNotification, Recipient: push.Recipient{Token: tokenOf(0)}})
			}
			if err := s.b.Send(ctx, g); err != nil {
				break
			}
			taken++
		}
		// What is written on a connection and its drained predecessors, taken by the lane, and waiting.
		if most := 2 + maxDraining + 2; taken < 2 || taken > most {
			t.Errorf("%d windows were taken, want 2 to %d", taken, most)
		}
		close(release)
	})
}

func TestBinaryDrain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		began := time.Now()
		s := start(t, BinaryConfig{}, func(_ int, c *gatewayConn) { c.drain(t) })
		g := s.send(0, 100)
		if err := s.b.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		check(t, g, times(100, "accepted"))
		if took := time.Since(began); took != 0 {
			t.Errorf("took %v, want no waiting", took)
		}
		if err := s.b.Send(t.Context(), &push.Group{Deliveries: make([]push.Delivery, 1)}); err == nil {
			t.Error("Send after Drain took a group")
		}
	})
}

func TestBinaryDrainIdleAndTimeout(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := start(t, BinaryConfig{}, func(_ int, c *gatewayConn) { c.drain(t) })
		if err := s.b.Drain(t.Context()); err != nil {
			t.Fatalf("with nothing sent: %v", err)
		}
		release := make(chan struct{})
		s = start(t, BinaryConfig{ConfirmAfter: time.Hour}, func(_ int, c *gatewayConn) { <-release })
		g := s.send(0, 1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := s.b.Drain(ctx); err == nil {
			t.Fatal("Drain returned without its group being done")
		}
		close(release)
		s.stopNow()
		check(t, g, "not_sent/ConnectionLost/0/0")
	})
}

func TestBinaryStop(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := start(t, BinaryConfig{Window: 100, Connections: 3}, func(_ int, c *gatewayConn) { _, _ = io.Copy(io.Discard, readerOf{c}) })
		g := s.send(0, 2000)
		synctest.Wait()
		s.stopNow()
		for i := range g.Deliveries {
			if o := g.Deliveries[i].Result.Outcome; o != push.NotSent && o != push.Accepted {
				t.Fatalf("delivery %d is %v", i, o)
			}
		}
		if last := g.Deliveries[1999].Result.Outcome; last != push.NotSent {
			t.Errorf("the last is %v", last)
		}
	})
}

func TestBinaryNotWritten(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := start(t, BinaryConfig{}, func(_ int, c *gatewayConn) { c.drain(t) })
		late := *testNotification
		late.Expiration = time.Now().Add(-time.Second)
		empty := *testNotification
		empty.Payload = push.Payload{}
		huge := *testNotification
		huge.Payload = push.Payload{JSON: make([]byte, 1<<16)}
		g := &push.Group{Deliveries: []push.Delivery{
			{Notification: testNotification, Recipient: push.Recipient{Token: tokenOf(0)}},
			{Notification: &late, Recipient: push.Recipient{Token: tokenOf(1)}},
			{Notification: testNotification, Recipient: push.Recipient{Token: tokenOf(2)}},
			{Notification: testNotification},
			{Notification: testNotification, Recipient: push.Recipient{Token: push.Token(make([]byte, 101))}},
			{Notification: &empty, Recipient: push.Recipient{Token: tokenOf(5)}},
			{Notification: &huge, Recipient: push.Recipient{Token: tokenOf(6)}},
			{Notification: testNotification, Recipient: push.Recipient{Token: tokenOf(7)}},
		}}
		s.sendGroup(g)
		s.wait()
		check(t, g, "accepted expired/Expired/0/0 accepted failed/MissingDeviceToken/0/0 failed/InvalidTokenSize/0/0 "+
			"failed/MissingPayload/0/0 failed/InvalidPayloadSize/0/0 accepted")
		s.stopNow()
		if diff := cmp.Diff([]int{0, 2, 7}, s.gw.conns[0].got); diff != "" {
			t.Errorf("received: -want +got\n%s", diff)
		}
	})
}

func TestBinaryCommands(t *testing.T) {
	for _, tc := range []struct {
		name               string
		command, priority  uint8
		wantCmd, wantPrior uint8
	}{
		{"enhanced format", 0, 10, 1, 10},
		{"priority not given", 0, 0, 1, 10},
		{"priority 5", 0, 5, 2, 5},
		{"priority 1", 0, 1, 2, 5},
		{"command 2", 2, 10, 2, 10},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var got frame.Notification
				s := start(t, BinaryConfig{Command: tc.command}, func(_ int, c *gatewayConn) {
					got, _ = c.next(t)
					got.Token, got.Payload = slices.Clone(got.Token), slices.Clone(got.Payload)
					c.drain(t)
				})
				n := *testNotification
				n.Priority, n.Expiration = tc.priority, time.Now().Add(time.Hour)
				n.Payload = push.Payload{JSON: []byte(`{"aps":{"badge":}}`), BadgeAt: 16}
				s.sendGroup(&push.Group{Deliveries: []push.Delivery{{Notification: &n, Recipient: push.Recipient{Token: tokenOf(3), Badge: 42}}}})
				s.wait()
				s.stopNow()
				want := frame.Notification{
					Command: tc.wantCmd, Priority: tc.wantPrior, HasIdentifier: true, Expiration: n.ExpirationUnix(),
					Token: []byte(tokenOf(3)), Payload: []byte(`{"aps":{"badge":42}}`),
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("-want +got\n%s", diff)
				}
			})
		})
	}
}

// stopNow is stop before the test's own checks; the cleanup then finds it done.
func (t *tester) stopNow() {
	t.cancel()
	t.gw.wg.Wait()
	err := <-t.ran
	t.ran <- err
}

// An acknowledgement settles what it names and all before it, and no more, even if the connection breaks right after it.
func TestBinaryBreakAfterAcknowledgement(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := start(t, BinaryConfig{}, func(n int, c *gatewayConn) {
			if n > 0 {
				c.drain(t)
				return
			}
			for {
				if f, _ := c.next(t); f.Identifier == 4 {
					_, _ = c.Write(frame.AppendErrorResponse(nil, frame.StatusNone, 1))
					c.reset(false)
					return
				}
			}
		})
		g := s.send(0, 5)
		s.wait()
		check(t, g, times(5, "accepted"))
		s.stopNow()
		if diff := cmp.Diff([]int{2, 3, 4}, s.gw.conns[1].got); diff != "" {
			t.Errorf("second connection: -want +got\n%s", diff)
		}
	})
}

// What was never sent cannot be acknowledged.
func TestBinaryAcknowledgementOfTheUnsent(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := start(t, BinaryConfig{}, func(n int, c *gatewayConn) {
			if n > 0 {
				c.drain(t)
				return
			}
			c.next(t)
			_, _ = c.Write(frame.AppendErrorResponse(nil, frame.StatusNone, 1<<32-1))
			c.reset(false)
		})
		g := s.send(0, 2)
		s.wait()
		check(t, g, "accepted accepted")
		s.stopNow()
		if diff := cmp.Diff([]int{0, 1}, s.gw.conns[1].got); diff != "" {
			t.Errorf("second connection: -want +got\n%s", diff)
		}
	})
}

// An end within an error response says that there was one: it is no evidence, although we have half-closed.
func TestBinaryEndWithinResponse(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := start(t, BinaryConfig{}, func(n int, c *gatewayConn) {
			c.drain(t)
			if n == 0 {
				_, _ = c.Write(frame.AppendErrorResponse(nil, frame.StatusInvalidToken, 0)[:3])
			}
		})
		g := s.send(0, 2)
		s.wait()
		check(t, g, "accepted accepted")
		if _, conns := s.gw.counts(); conns != 2 {
			t.Errorf("%d connections, want 2", conns)
		}
	})
}

// Apple's shutdown names one that silence had settled before: nothing has failed.
func TestBinaryLateShutdown(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := start(t, BinaryConfig{RetryStatuses: []uint8{1}, IdleClose: time.Hour}, func(n int, c *gatewayConn) {
			for {
				f, ok := c.next(t)
				if !ok {
					return
				}
				if n == 0 && f.Identifier == 3 {
					c.reject(frame.StatusShutdown, 1)
					return
				}
			}
		})
		g := s.send(0, 2)
		s.wait()
		h := s.send(2, 4)
		s.wait()
		check(t, g, "accepted accepted")
		check(t, h, "accepted accepted")
		s.stopNow()
		if diff := cmp.Diff([]int{2, 3}, s.gw.conns[1].got); diff != "" {
			t.Errorf("second connection: -want +got\n%s", diff)
		}
	})
}

// A gateway that answers and reads no more must not hold up the writer until its time is out.
func TestBinaryResponseToABlockedWriter(t *testing.T) {
	bubble(t, func(t *testing.T) {
		began := time.Now()
		gw := &gateway{size: 500}
		gw.serve = func(n int, c *gatewayConn) {
			if n > 0 {
				c.drain(t)
				return
			}
			c.chunk = 100
			c.next(t)
			_, _ = c.Write(frame.AppendErrorResponse(nil, frame.StatusInvalidToken, 0))
			elapse(time.Hour)
		}
		s := startWith(t, BinaryConfig{}, gw)
		g := s.send(0, 100)
		s.wait()
		check(t, g, "failed/InvalidToken/8/0 "+times(99, "accepted"))
		if took := time.Since(began); took >= DefaultWriteTimeout {
			t.Errorf("took %v", took)
		}
	})
}

// A peer that never reads is given up after the write timeout, and none of it counts as accepted meanwhile.
func TestBinaryWriteTimeout(t *testing.T) {
	bubble(t, func(t *testing.T) {
		gw := &gateway{size: 500}
		gw.serve = func(n int, c *gatewayConn) {
			if n == 0 {
				elapse(time.Hour)
				return
			}
			c.drain(t)
		}
		s := startWith(t, BinaryConfig{}, gw)
		g := s.send(0, 100)
		s.wait()
		check(t, g, times(100, "accepted"))
		s.stopNow()
		if got := gw.conns[1].got; len(got) != 100 {
			t.Errorf("%d were sent again, want all 100", len(got))
		}
	})
}

// While the process stood still nothing was silent: the reader has not read what came, and a gateway on the same machine stood
// still too. Only silence that the lane has watched all the time is evidence.
func TestBinaryStandstill(t *testing.T) {
	const slack = DefaultConfirmAfter / 8
	for _, test := range []struct {
		name         string
		after, lasts time.Duration // it begins so long after the write
		anew         bool
	}{
		{"none", time.Second, slack, false},
		{"for an hour", time.Second, time.Hour, true},
		{"from the write until silence is just due", 0, DefaultConfirmAfter, true},
		{"from the write until silence is a little overdue", 0, DefaultConfirmAfter + slack - 1, true},
		{"for a moment before silence is due", DefaultConfirmAfter - 1, slack + 1, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := NewBinary(BinaryConfig{}, quiet(), NewMetrics(prometheus.NewRegistry()))
			b.endless.Store(true)
			l := b.slots[0]
			if l.slack() != slack {
				t.Fatalf("the slack is %v", l.slack())
			}
			g := &push.Group{Deliveries: make([]push.Delivery, 1), Done: func(*push.Group) {}}
			j := &job{group: g}
			j.left.Store(1)
			now := time.Now()
			c := &binaryConn{next: 1, unconfirmed: 1, lastWrite: now, halfClosedAt: now}
			c.window.pushBack(sent{span: span{job: j, to: 1}, at: now})
			l.draining = []*binaryConn{c}
			written := now
			turn := func() (accepted bool) {
				l.due = time.Time{}
				l.noticeStandstill(now)
				l.evidence(now)
				return !c.silentSince.IsZero()
			}
			due := written.Add(DefaultConfirmAfter)
			l.last = now
			for now.Sub(written) < test.after { // it sleeps as long as it asks to, and no longer than to the standstill
				if turn() {
					t.Fatalf("accepted after %v", now.Sub(written))
				}
				if now = l.due; now.Sub(written) > test.after {
					now = written.Add(test.after)
				}
			}
			turn()
			now = now.Add(test.lasts)
			if test.anew {
				due = now.Add(DefaultConfirmAfter)
			}
			for !turn() {
				if l.due.Sub(now) > slack/2 || !l.due.After(now) {
					t.Fatalf("%v after the write it wants to sleep for %v", now.Sub(written), l.due.Sub(now))
				}
				now = l.due
			}
			if now != due {
				t.Errorf("accepted %v after the write, want %v", now.Sub(written), due.Sub(written))
			}
		})
	}
}

// lines counts log lines by level.
type lines struct {
	slog.Handler
	mu sync.Mutex
	n  map[slog.Level]int
}

func (l *lines) Enabled(context.Context, slog.Level) bool { return true }
func (l *lines) WithAttrs([]slog.Attr) slog.Handler       { return l }

func (l *lines) Handle(_ context.Context, r slog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.n[r.Level]++
	return nil
}

// The gateway's going away and coming back is one line each, however often it is tried and by however many lanes.
func TestBinaryLogsChangesOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		counted := &lines{n: map[slog.Level]int{}}
		gw := &gateway{serve: func(_ int, c *gatewayConn) { c.drain(t) }}
		gw.setDown(true)
		b := NewBinary(BinaryConfig{Connections: 3}, slog.New(counted), NewMetrics(prometheus.NewRegistry()))
		b.dial = gw.dial
		stop := runBinary(t, b)
		try := func() *push.Group {
			done := make(chan *push.Group, 1)
			g := &push.Group{Done: func(g *push.Group) { done <- g }}
			for i := range 3000 {
				g.Deliveries = append(g.Deliveries, push.Delivery{Notification: testNotification, Recipient: push.Recipient{Token: tokenOf(i)}})
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

// Two apps share the metrics.
// Each refused notification is a line, however many there are.
func TestBinaryLogsEachRefusal(t *testing.T) {
	bubble(t, func(t *testing.T) {
		counted := &lines{n: map[slog.Level]int{}}
		gw := &gateway{serve: func(_ int, c *gatewayConn) {
			if n, ok := c.next(t); ok {
				c.reject(frame.StatusInvalidToken, n.Identifier)
			}
		}}
		b := NewBinary(BinaryConfig{}, slog.New(counted), NewMetrics(prometheus.NewRegistry()))
		b.dial = gw.dial
		stop := runBinary(t, b)
		const refused = 500
		done := make(chan struct{})
		g := &push.Group{Done: func(*push.Group) { close(done) }}
		for i := range refused {
			g.Deliveries = append(g.Deliveries, push.Delivery{Notification: testNotification, Recipient: push.Recipient{Token: tokenOf(i)}})
		}
		if err := b.Send(t.Context(), g); err != nil {
			t.Fatal(err)
		}
		<-done
		stop()
		gw.wg.Wait()
		if n := counted.n[slog.LevelWarn]; n != refused {
			t.Errorf("%d lines for %d refused notifications", n, refused)
		}
	})
}

func TestMetricsAreShared(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	m := NewMetrics(reg)
	for _, app := range []string{"a", "b"} {
		NewBinary(BinaryConfig{App: app}, quiet(), m)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "lhspn_apns_results_total" && len(f.GetMetric()) != 2*5 {
			t.Errorf("%d outcomes of two apps are there from the start, want 10", len(f.GetMetric()))
		}
	}
}

// Silence is no evidence of what has not even reached the peer's machine, as when a cable is pulled out. Here the peer does
// not read, and the buffers on the way take only a part.
func TestBinarySilenceWithoutArrival(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("this system does not say what the peer has acknowledged")
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	nc, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	peer, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	wire := &wireConn{TCPConn: nc.(*net.TCPConn)}
	_ = wire.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
	for err == nil {
		_, err = wire.Write(make([]byte, 1<<20))
	}
	if arrived := wire.arrived(); arrived <= 0 || arrived >= wire.written.Load() {
		t.Fatalf("%d of %d bytes have arrived, want a part", arrived, wire.written.Load())
	}
	if err := (&binaryConn{nc: wire, wire: wire, halfClosed: true}).endOf(io.EOF, 0); err == nil {
		t.Error("an end now would count as evidence")
	}
	l := NewBinary(BinaryConfig{}, quiet(), NewMetrics(prometheus.NewRegistry())).slots[0]
	l.b.endless.Store(true)
	now := time.Now()
	c := &binaryConn{nc: wire, wire: wire, next: 2, unconfirmed: 2, lastWrite: now, halfClosedAt: now, end: wire.written.Load()}
	c.window.pushBack(sent{span: span{job: new(job), to: 2}, at: now})
	l.draining = []*binaryConn{c}
	silent := func(after time.Duration) bool {
		l.evidence(now.Add(after))
		return !c.silentSince.IsZero()
	}
	if silent(DefaultConfirmAfter) {
		t.Error("silence counts although not all has arrived")
	}
	c.end = 1
	if !silent(DefaultConfirmAfter) {
		t.Error("silence does not count although all has arrived")
	}
	c.end, c.silentSince = wire.written.Load(), time.Time{}
	// Nothing gets through for as long as a write may take: the connection is given up.
	if silent(DefaultConfirmAfter + DefaultWriteTimeout) {
		t.Error("silence counts although nothing gets through")
	}
	if _, err := wire.Write([]byte{0}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the connection is still there: error %v", err)
	}
}

// A gateway that never says which one failed: each time one has its count grown, and soon the culprit alone is left.
func TestBinaryUnknownIdentifierEachTime(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const culprit = 700
		s := start(t, BinaryConfig{}, func(_ int, c *gatewayConn) {
			for {
				f, ok := c.next(t)
				if !ok {
					return
				}
				if numberOf(f.Token) == culprit {
					c.reject(frame.StatusMissingToken, 0)
					return
				}
			}
		})
		g := s.send(0, 5000)
		s.wait()
		again := 0
		for i := range g.Deliveries {
			switch o := g.Deliveries[i].Result.Outcome; {
			case o == push.Retry:
				again++
			case o == push.Failed && i == culprit: // once it was alone
			case o != push.Accepted || i == culprit:
				t.Fatalf("delivery %d is %v", i, o)
			}
		}
		if again > 10 {
			t.Errorf("%d were given back, to find one", again)
		}
	})
}

// Status 2 or 4 for identifier 0 is doubted only where it could be meant for another: a notification on its own has failed, and
// is not sent again.
func TestBinaryIdentifierZeroAlone(t *testing.T) {
	t.Parallel()
	for _, status := range []frame.Status{frame.StatusMissingToken, frame.StatusMissingPayload} {
		t.Run(status.String(), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s := start(t, BinaryConfig{}, func(_ int, c *gatewayConn) {
					if _, ok := c.next(t); ok {
						c.reject(status, 0)
					}
				})
				g := s.send(0, 1)
				s.wait()
				if r := g.Deliveries[0].Result; r.Outcome != push.Failed || r.Status != uint16(status) {
					t.Errorf("%+v", r)
				}
			})
		})
	}
}

// A gateway that refuses sizes without naming the notification: the one of an unusual size is found, and fails; the others go
// through, at the cost of a retry for few of them.
func TestBinaryIdentifierZeroForASize(t *testing.T) {
	t.Parallel()
	short, long := *testNotification, *testNotification
	short.Payload, long.Payload = push.Payload{JSON: []byte(`{"aps":{}}`)}, push.Payload{JSON: make([]byte, 3000)}
	const bad = 30
	for status, spoil := range map[frame.Status]func(*push.Delivery){
		frame.StatusInvalidTokenSize:   func(d *push.Delivery) { d.Token += "12345678" },
		frame.StatusInvalidPayloadSize: func(d *push.Delivery) { d.Notification = &long },
	} {
		for _, alone := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v alone %v", status, alone), func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					s := start(t, BinaryConfig{}, func(_ int, c *gatewayConn) {
						for n, ok := c.next(t); ok; n, ok = c.next(t) {
							if len(n.Token) > 32 || len(n.Payload) > 2048 {
								c.reject(status, 0)
								return
							}
						}
					})
					g := &push.Group{}
					for i := range 80 {
						d := push.Delivery{Notification: &short, Recipient: push.Recipient{Token: tokenOf(i)}}
						if i == bad || alone {
							spoil(&d)
						}
						g.Deliveries = append(g.Deliveries, d)
					}
					s.sendGroup(g)
					s.wait()
					again := 0
					for i := range g.Deliveries {
						switch r := g.Deliveries[i].Result; {
						case r.Outcome == push.Retry:
							again++
						case (i == bad || alone) != (r.Outcome == push.Failed), r.Outcome == push.Failed && r.Status != uint16(status):
							t.Errorf("delivery %d: %+v", i, r)
						}
					}
					if again > 5 || again > 0 && alone {
						t.Errorf("%d were given back", again)
					}
				})
			})
		}
	}
}

// A gateway may drop a connection of which it has read all, our end too: TCP ends in good order, and TLS does not. With a
// gateway that ends its connections properly that is no evidence; with one that never does it is.
func TestBinaryAbruptEnd(t *testing.T) {
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
			s := startTLS(t, BinaryConfig{Address: address, TLS: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}})
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

// While the peer does not read there is no silence: what was written before that may not have been read either.
func TestBinarySilenceOfAPeerThatDoesNotRead(t *testing.T) {
	bubble(t, func(t *testing.T) {
		gw := &gateway{size: 500}
		gw.serve = func(n int, c *gatewayConn) {
			if n > 0 {
				c.drain(t)
				return
			}
			elapse(DefaultConfirmAfter + time.Second)
			for range 10 {
				c.next(t)
			}
			elapse(time.Second)
			c.reject(frame.StatusInvalidToken, 0)
		}
		s := startWith(t, BinaryConfig{IdleClose: time.Hour}, gw)
		first := s.send(0, 2) // fits the buffers on the way
		synctest.Wait()
		s.send(2, 10) // does not
		s.wait()
		check(t, first, "failed/InvalidToken/8/0 accepted")
	})
}
