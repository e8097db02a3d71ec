package binary

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lhspn/lhspn/internal/apns/frame"
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/push/pushtest"
)

func TestNotWritten(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := start(t, Config{}, func(_ int, c *gatewayConn) { c.drain(t) })
		late := *testNotification
		late.Expiration = time.Now().Add(-time.Second)
		empty := *testNotification
		empty.Payload = push.Payload{}
		huge := *testNotification
		huge.Payload = push.Payload{JSON: make([]byte, 1<<16)}
		g := &push.Group{Deliveries: []push.Delivery{
			{Notification: testNotification, Recipient: push.Recipient{Token: pushtest.HexToken(0)}},
			{Notification: &late, Recipient: push.Recipient{Token: pushtest.HexToken(1)}},
			{Notification: testNotification, Recipient: push.Recipient{Token: pushtest.HexToken(2)}},
			{Notification: testNotification},
			{Notification: testNotification, Recipient: push.Recipient{Token: push.Token(make([]byte, 101))}},
			{Notification: &empty, Recipient: push.Recipient{Token: pushtest.HexToken(5)}},
			{Notification: &huge, Recipient: push.Recipient{Token: pushtest.HexToken(6)}},
			{Notification: testNotification, Recipient: push.Recipient{Token: pushtest.HexToken(7)}},
		}}
		s.sendGroup(g)
		s.Wait()
		check(t, g, "accepted expired/Expired/0/0 accepted failed/MissingDeviceToken/0/0 failed/InvalidTokenSize/0/0 "+
			"failed/MissingPayload/0/0 failed/InvalidPayloadSize/0/0 accepted")
		s.stopNow()
		if diff := cmp.Diff([]int{0, 2, 7}, s.gw.conns[0].got); diff != "" {
			t.Errorf("received: -want +got\n%s", diff)
		}
	})
}

func TestCommands(t *testing.T) {
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
				s := start(t, Config{Command: tc.command}, func(_ int, c *gatewayConn) {
					got, _ = c.next(t)
					got.Token, got.Payload = slices.Clone(got.Token), slices.Clone(got.Payload)
					c.drain(t)
				})
				n := *testNotification
				n.Priority, n.Expiration = tc.priority, time.Now().Add(time.Hour)
				n.Payload = push.Payload{JSON: []byte(`{"aps":{"badge":}}`), BadgeAt: 16}
				s.sendGroup(&push.Group{Deliveries: []push.Delivery{{Notification: &n, Recipient: push.Recipient{Token: pushtest.HexToken(3), Badge: 42}}}})
				s.Wait()
				s.stopNow()
				want := frame.Notification{
					Command: tc.wantCmd, Priority: tc.wantPrior, HasIdentifier: true, Expiration: n.ExpirationUnix(),
					Token: []byte(pushtest.HexToken(3)), Payload: []byte(`{"aps":{"badge":42}}`),
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("-want +got\n%s", diff)
				}
			})
		})
	}
}

// A peer that never reads is given up after the write timeout, and none of it counts as accepted meanwhile.
func TestWriteTimeout(t *testing.T) {
	bubble(t, func(t *testing.T) {
		gw := &gateway{size: 500}
		gw.serve = func(n int, c *gatewayConn) {
			if n == 0 {
				elapse(time.Hour)
				return
			}
			c.drain(t)
		}
		s := startWith(t, Config{}, gw)
		g := s.send(0, 100)
		s.Wait()
		check(t, g, times(100, "accepted"))
		s.stopNow()
		if got := gw.conns[1].got; len(got) != 100 {
			t.Errorf("%d were sent again, want all 100", len(got))
		}
	})
}
