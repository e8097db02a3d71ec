package sender

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/lhspn/lhspn/internal/apns"
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/queue"
)

func TestResultsAreLoggedAtDebug(t *testing.T) { //nolint:paralleltest // it counts allocations
	token := push.HexToken(bytes.Repeat([]byte{0xab}, 32))
	n := &push.Notification{ID: uuid.Must(uuid.NewV7())}
	g := &group{}
	g.Deliveries = []push.Delivery{
		{Notification: n, Recipient: push.Recipient{Token: token}, Result: push.Result{Outcome: push.Accepted, Status: 200}},
		{Notification: n, Recipient: push.Recipient{Token: token, Attempts: 2}, Result: push.Result{Outcome: push.Failed, Reason: apns.BadDeviceToken, Status: 400}},
	}
	var log bytes.Buffer
	r := &route{s: &Sender{log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))}, app: "hedgehog", name: push.Production}
	b := &batch{Batch: &queue.Batch{Key: queue.Key{Notification: n.ID}}}
	ready := []*queue.Batch{{Recipients: make([]push.Recipient, 3)}, {Recipients: make([]push.Recipient, 4)}}
	r.logExpansion(b, ready, true)
	r.logResults(g)
	for _, part := range []string{
		"notification=" + n.ID.String() + " app=hedgehog route=production token=", "outcome=accepted status=200 attempt=1",
		"outcome=failed reason=BadDeviceToken status=400 attempt=3",
		`msg="audience expanded" notification=` + n.ID.String() + " app=hedgehog route=production recipients=7 last=true",
	} {
		if !strings.Contains(log.String(), part) {
			t.Errorf("the log has no %q: %s", part, &log)
		}
	}
	if strings.Contains(log.String(), token.String()) {
		t.Error("the log has a whole token")
	}
	log.Reset()
	r.s.log = slog.New(slog.NewTextHandler(&log, nil))
	if n := testing.AllocsPerRun(10, func() { r.logExpansion(b, ready, true); r.logResults(g) }); n > 0 || log.Len() > 0 {
		t.Errorf("at info: %v allocations, %d bytes", n, log.Len())
	}
}
