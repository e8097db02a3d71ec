package fcm

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lhspn/lhspn/internal/push"
)

// TestRefusedMessage: of a message that FCM refuses for what is in it, the rest of a group is not sent; but where one is
// judged otherwise, or may be, all are.
func TestRefusedMessage(t *testing.T) {
	t.Parallel()
	const size = 1000
	for name, test := range map[string]struct {
		blocks   map[string]string
		judged   string // how the first is
		accepted int    // every so many
		least    int    // that FCM gets
		most     int
	}{
		"all are refused":           {least: mostRefused, most: mostRefused + 2*assumedStreams},
		"one is accepted":           {judged: "accepted", least: size, most: size},
		"a token is dead":           {judged: "dead", least: size, most: size},
		"it is for one package's":   {blocks: map[string]string{"fcm": `{"android":{"restricted_package_name":"com.example"}}`}, least: size, most: size},
		"nothing is wrong with any": {accepted: 1, least: size, most: size},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, newFakeFCM(func(a arrival) reply {
					switch {
					case test.accepted > 0, a.target == "token phone0" && test.judged == "accepted":
						return acceptedReply
					case a.target == "token phone0" && test.judged == "dead":
						return reply{404, nil, failure(404, "NOT_FOUND", "", fcmError("UNREGISTERED"))}
					}
					time.Sleep(time.Second) //nolint:forbidigo // in a synctest bubble: the first has its answer before
					return reply{400, nil, failure(400, "INVALID_ARGUMENT", "Message is too big", fcmError("INVALID_ARGUMENT"))}
				}), nil)
				n := hello(t, func(c *push.Content) {
					for name, block := range test.blocks {
						v, err := push.ParseJSON([]byte(block))
						if err != nil {
							t.Fatal(err)
						}
						c.Blocks[name] = v
					}
				})
				addresses := make([]string, size)
				for i := range addresses {
					addresses[i] = fmt.Sprint("phone", i)
				}
				for i, result := range r.send(t, group(n, addresses...)) {
					if refused := result.Outcome == push.Failed && result.Reason == InvalidArgument && result.Status == 400; i > 0 && refused == (test.accepted > 0) {
						t.Fatalf("phone %d: %+v", i, result)
					}
				}
				if got := len(r.fcm.arrived()); got < test.least || got > test.most {
					t.Errorf("FCM got %d messages, want %d to %d", got, test.least, test.most)
				}
			})
		})
	}
}
