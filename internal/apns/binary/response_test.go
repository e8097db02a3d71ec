package binary

import (
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/lhspn/lhspn/internal/apns"
	"github.com/lhspn/lhspn/internal/apns/frame"
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/push/pushtest"
)

func TestErrorResponse(t *testing.T) {
	for _, tc := range []struct {
		name   string
		cfg    Config
		status frame.Status
		want   string // of deliveries 0, 1, 2 and 3, of which 1 is identified
		second []int  // what is received on the second connection
	}{
		{"invalid token", Config{}, frame.StatusInvalidToken, "accepted failed/InvalidToken/8/1 accepted accepted", []int{2, 3}},
		{"processing error", Config{}, frame.StatusProcessingError, "accepted retry/ProcessingError/1/1 accepted accepted", []int{2, 3}},
		{"shutdown", Config{}, frame.StatusShutdown, "accepted retry/Shutdown/10/1 accepted accepted", []int{2, 3}},
		{
			"shutdown as Apple reads it", Config{RetryStatuses: []uint8{1}}, frame.StatusShutdown,
			"accepted accepted accepted accepted", []int{2, 3},
		},
		{
			"processing error not retried", Config{RetryStatuses: []uint8{}}, frame.StatusProcessingError,
			"accepted failed/ProcessingError/1/1 accepted accepted", []int{2, 3},
		},
		{"undocumented", Config{}, 77, "accepted failed/Unknown/255/1 accepted accepted", []int{2, 3}},
		{"undocumented, 255 retried", Config{RetryStatuses: []uint8{255}}, 77, "accepted retry/Unknown/255/1 accepted accepted", []int{2, 3}},
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
				s.Wait()
				check(t, g, tc.want)
				s.stopNow()
				if diff := cmp.Diff(tc.second, s.gw.conns[1].got); diff != "" {
					t.Errorf("second connection: -want +got\n%s", diff)
				}
			})
		})
	}
}

// Everything has its result or is sent again in the order of Send, across groups, wherever the error falls.
func TestErrorAmongGroups(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const bad = 3700
		s := start(t, Config{}, func(n int, c *gatewayConn) {
			for {
				f, ok := c.next(t)
				if !ok {
					return
				}
				if pushtest.NumberOf(f.Token) == bad {
					c.reject(frame.StatusInvalidToken, f.Identifier)
					return
				}
			}
		})
		var groups []*push.Group
		for i := range 8 {
			groups = append(groups, s.send(i*1000, i*1000+1000))
		}
		s.Wait()
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

// The peer closes a socket with unread bytes: the write fails, but the error response that came before is there to be
// read.
func TestResetAfterErrorResponse(t *testing.T) {
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
					c.Reset(false)
					return
				}
			}
		}
		s := startWith(t, Config{}, gw)
		g := s.send(0, 1000)
		s.Wait()
		check(t, g, times(10, "accepted")+" failed/InvalidToken/8/10 "+times(989, "accepted"))
	})
}

// The reset destroys the response: it is a broken connection like any other.
func TestResetDestroysErrorResponse(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := start(t, Config{}, func(n int, c *gatewayConn) {
			if n > 0 {
				c.drain(t)
				return
			}
			c.next(t)
			c.Reset(true)
		})
		g := s.send(0, 1000)
		s.Wait()
		check(t, g, times(1000, "accepted"))
		s.stopNow()
		if got := s.gw.conns[1].got; len(got) != 1000 || got[0] != 0 {
			t.Errorf("%d were sent again, want all 1000", len(got))
		}
	})
}

func TestResponseInPieces(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := start(t, Config{IdleClose: time.Hour}, func(n int, c *gatewayConn) {
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
		s.Wait()
		check(t, g, "failed/InvalidToken/8/0 accepted")
	})
}

// An end within an error response says that there was one: it is no evidence, although we have half-closed.
func TestEndWithinResponse(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := start(t, Config{}, func(n int, c *gatewayConn) {
			c.drain(t)
			if n == 0 {
				_, _ = c.Write(frame.AppendErrorResponse(nil, frame.StatusInvalidToken, 0)[:3])
			}
		})
		g := s.send(0, 2)
		s.Wait()
		check(t, g, "accepted accepted")
		if _, conns := s.gw.counts(); conns != 2 {
			t.Errorf("%d connections, want 2", conns)
		}
	})
}

// Apple's shutdown names one that had been accepted before: nothing has failed.
func TestLateShutdown(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := start(t, Config{RetryStatuses: []uint8{1}, IdleClose: time.Hour}, func(n int, c *gatewayConn) {
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
		s.Wait()
		h := s.send(2, 4)
		s.Wait()
		check(t, g, "accepted accepted")
		check(t, h, "accepted accepted")
		s.stopNow()
		if diff := cmp.Diff([]int{2, 3}, s.gw.conns[1].got); diff != "" {
			t.Errorf("second connection: -want +got\n%s", diff)
		}
	})
}

// A gateway that answers and reads no more must not hold up the writer until its time is out.
func TestResponseToABlockedWriter(t *testing.T) {
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
		s := startWith(t, Config{}, gw)
		g := s.send(0, 100)
		s.Wait()
		check(t, g, "failed/InvalidToken/8/0 "+times(99, "accepted"))
		if took := time.Since(began); took >= DefaultWriteTimeout {
			t.Errorf("took %v", took)
		}
	})
}

// Two apps share the metrics.
// Each refused notification is a line, however many there are.
func TestLogsEachRefusal(t *testing.T) {
	bubble(t, func(t *testing.T) {
		counted := &lines{n: map[slog.Level]int{}}
		gw := &gateway{serve: func(_ int, c *gatewayConn) {
			if n, ok := c.next(t); ok {
				c.reject(frame.StatusInvalidToken, n.Identifier)
			}
		}}
		b := New(Config{}, slog.New(counted), apns.NewMetrics(prometheus.NewRegistry()))
		b.dial = gw.dial
		stop := run(t, b)
		const refused = 500
		done := make(chan struct{})
		g := &push.Group{Done: func(*push.Group) { close(done) }}
		for i := range refused {
			g.Deliveries = append(g.Deliveries, push.Delivery{Notification: testNotification, Recipient: push.Recipient{Token: pushtest.HexToken(i)}})
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
