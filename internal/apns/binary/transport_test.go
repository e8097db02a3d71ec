package binary

import (
	"context"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lhspn/lhspn/internal/apns"
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/push/pushtest"
)

func TestSendBlocksWhileTheWindowIsFull(t *testing.T) {
	bubble(t, func(t *testing.T) {
		release := make(chan struct{})
		s := start(t, Config{Window: 10, ConfirmAfter: time.Hour, EndAfter: time.Hour}, func(_ int, c *gatewayConn) {
			<-release
			c.drain(t)
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		taken := 0
		for {
			g := &push.Group{Done: func(*push.Group) {}}
			for range 10 {
				g.Deliveries = append(g.Deliveries, push.Delivery{Notification: testNotification, Recipient: push.Recipient{Token: pushtest.HexToken(0)}})
			}
			if err := s.b.Send(ctx, g); err != nil {
				break
			}
			taken++
		}
		// What is written on a connection and its drained predecessors, taken by the slot, and waiting.
		if most := 2 + maxDraining + 2; taken < 2 || taken > most {
			t.Errorf("%d windows were taken, want 2 to %d", taken, most)
		}
		close(release)
	})
}

func TestDrain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		began := time.Now()
		s := start(t, Config{}, func(_ int, c *gatewayConn) { c.drain(t) })
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

func TestDrainIdleAndTimeout(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := start(t, Config{}, func(_ int, c *gatewayConn) { c.drain(t) })
		if err := s.b.Drain(t.Context()); err != nil {
			t.Fatalf("with nothing sent: %v", err)
		}
		release := make(chan struct{})
		s = start(t, Config{ConfirmAfter: time.Hour}, func(_ int, c *gatewayConn) { <-release })
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

func TestStop(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := start(t, Config{Window: 100, Connections: 3}, func(_ int, c *gatewayConn) { _, _ = io.Copy(io.Discard, readerOf{c}) })
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

func TestMetricsAreShared(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	m := apns.NewMetrics(reg)
	for _, app := range []string{"a", "b"} {
		New(Config{App: app}, quiet(), m)
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
