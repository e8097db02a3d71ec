package main

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/simulator"
	"github.com/lhspn/lhspn/internal/simulator/webpushsim"
)

// Devices of all platforms get their tickets, and what they tell with them counts once, whatever process they tell it.
func TestReceiptsOfAllPlatforms(t *testing.T) {
	t.Parallel()
	eachOnce(t, func(t *testing.T, r *rig) {
		r.withPlatforms().start()
		iPhone, err := push.ParseToken(token(1))
		if err != nil {
			t.Fatal(err)
		}
		android, browser := push.TextToken("fcm", "cFk3:APA91b-android"), r.subscribe(webpushsim.NoFault, "")
		n := r.call("POST", "/v1/notifications", fmt.Sprintf(
			`{"to": {"tokens": [%q, %q, %q]}, "message": {"title": "Hello"}, "badge_increment": 2, "receipts": true}`, iPhone, android, browser), 202)
		id := n["id"].(string)
		if counts := r.done(id)["counts"].(map[string]any); counts["accepted"] != 3.0 {
			t.Fatalf("%v", counts)
		}
		tickets := map[string]string{}
		for token, got := range map[push.Token][]simulator.Notification{
			iPhone: r.sim.Received(iPhone), android: r.sim.FCM().Received(android), browser: r.sim.WebPush().Received(browser),
		} {
			if len(got) != 1 {
				t.Fatalf("%s got %v", token, got)
			}
			var payload struct {
				Lhspn   string
				Data    struct{ Lhspn string }
				Message struct{ Data struct{ Lhspn string } }
			}
			if err := json.Unmarshal([]byte(got[0].Payload), &payload); err != nil {
				t.Fatalf("%s: %v", got[0].Payload, err)
			}
			tickets[token.String()] = payload.Lhspn + payload.Data.Lhspn + payload.Message.Data.Lhspn
		}
		want := func(delivered, opened float64) {
			t.Helper()
			got := r.call("GET", "/v1/notifications/"+id, "", 200)["receipts"].(map[string]any)
			if got["delivered"] != delivered || got["opened"] != opened {
				t.Errorf("%v, want %v and %v", got, delivered, opened)
			}
		}
		tell := func(ticket, event string) {
			t.Helper()
			if status := r.statusWith("POST", "/v1/receipts", fmt.Sprintf(`{"ticket": %q, "event": %q}`, ticket, event), nil); status != 204 {
				t.Errorf("%d", status)
			}
		}
		want(0, 0)
		for _, ticket := range tickets {
			if len(ticket) != push.TicketLen {
				t.Fatalf("tickets %q", tickets)
			}
			tell(ticket, "delivered")
			tell(ticket, "delivered")
		}
		want(3, 0)
		r.kill() // and another process knows them, too
		r.start()
		for _, ticket := range tickets {
			tell(ticket, "delivered")
			tell(ticket[1:]+"A", "opened")
		}
		tell(tickets[android.String()], "opened")
		want(3, 1)
		got := r.call("GET", "/v1/notifications/"+id+"/recipients/"+android.String(), "", 200)["receipts"].(map[string]any)
		if got["delivered"] != true || got["opened"] != true {
			t.Errorf("%v", got)
		}
		told := map[string]int{}
		r.until("they are told", func() bool {
			clear(told)
			items, _ := r.events("")
			for _, e := range items {
				if e["type"] == "receipts" {
					data := e["data"].(map[string]any)
					for _, item := range data["items"].([]any) {
						told[item.(map[string]any)["event"].(string)+" of "+data["notification_id"].(string)]++
					}
				}
			}
			return len(told) >= 2
		})
		if told["delivered of "+id] != 3 || told["opened of "+id] != 1 {
			t.Errorf("told %v", told)
		}
	})
}
