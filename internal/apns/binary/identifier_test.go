package binary

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lhspn/lhspn/internal/apns/frame"
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/push/pushtest"
)

func TestUnknownIdentifier(t *testing.T) {
	for name, identifier := range map[string]uint32{"never sent": 4711, "status 2, identifier 0": 0} {
		t.Run(name, func(t *testing.T) { testUnknownIdentifier(t, identifier) })
	}
}

func testUnknownIdentifier(t *testing.T, identifier uint32) {
	t.Helper()
	bubble(t, func(t *testing.T) {
		s := start(t, Config{}, func(n int, c *gatewayConn) {
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
		s.Wait()
		check(t, g, "retry/MissingDeviceToken/2/0 accepted accepted accepted")
		s.stopNow()
		if diff := cmp.Diff([]int{1, 2, 3}, s.gw.conns[1].got); diff != "" {
			t.Errorf("second connection: -want +got\n%s", diff)
		}
	})
}

// A gateway that never says which one failed: each time one has its count grown, and soon the culprit alone is left.
func TestUnknownIdentifierEachTime(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const culprit = 700
		s := start(t, Config{}, func(_ int, c *gatewayConn) {
			for {
				f, ok := c.next(t)
				if !ok {
					return
				}
				if pushtest.NumberOf(f.Token) == culprit {
					c.reject(frame.StatusMissingToken, 0)
					return
				}
			}
		})
		g := s.send(0, 5000)
		s.Wait()
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

// Status 2 or 4 for identifier 0 is doubted only where it could be meant for another: a notification on its own has
// failed, and is not sent again.
func TestIdentifierZeroAlone(t *testing.T) {
	t.Parallel()
	for _, status := range []frame.Status{frame.StatusMissingToken, frame.StatusMissingPayload} {
		t.Run(status.String(), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s := start(t, Config{}, func(_ int, c *gatewayConn) {
					if _, ok := c.next(t); ok {
						c.reject(status, 0)
					}
				})
				g := s.send(0, 1)
				s.Wait()
				if r := g.Deliveries[0].Result; r.Outcome != push.Failed || r.Status != uint16(status) {
					t.Errorf("%+v", r)
				}
			})
		})
	}
}

// A gateway that refuses sizes without naming the notification: the one of an unusual size is found, and fails; the
// others go through, at the cost of a retry for few of them.
func TestIdentifierZeroForASize(t *testing.T) {
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
					s := start(t, Config{}, func(_ int, c *gatewayConn) {
						for n, ok := c.next(t); ok; n, ok = c.next(t) {
							if len(n.Token) > 32 || len(n.Payload) > 2048 {
								c.reject(status, 0)
								return
							}
						}
					})
					g := &push.Group{}
					for i := range 80 {
						d := push.Delivery{Notification: &short, Recipient: push.Recipient{Token: pushtest.HexToken(i)}}
						if i == bad || alone {
							spoil(&d)
						}
						g.Deliveries = append(g.Deliveries, d)
					}
					s.sendGroup(g)
					s.Wait()
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
