// Command interop sends with SherClockHolmes/webpush-go, unchanged, to a simulator, and checks what the client reports
// and what the simulator received. run.sh starts the simulator and calls this program.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"

	"github.com/SherClockHolmes/webpush-go"
)

var page = os.Getenv("SIM_PAGE")

func main() {
	log.SetFlags(0)
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

// subscribe plays a browser of the simulator; docs/simulator.md has the faults.
func subscribe(key, fault string) (*webpush.Subscription, error) {
	body, err := json.Marshal(map[string]string{"applicationServerKey": key, "fault": fault})
	if err != nil {
		return nil, err
	}
	resp, err := http.Post(page+"webpush/subscribe", "application/json", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	var s webpush.Subscription
	if err := json.Unmarshal(text, &s); err != nil || resp.StatusCode != http.StatusCreated {
		return nil, fmt.Errorf("subscribe: %s %s %w", resp.Status, text, err)
	}
	return &s, nil
}

func run() error {
	private, public, err := webpush.GenerateVAPIDKeys()
	if err != nil {
		return err
	}
	for fault, want := range map[string]int{"": 201, "gone": 410, "too-many-requests": 429, "internal": 500} {
		s, err := subscribe(public, fault)
		if err != nil {
			return err
		}
		resp, err := webpush.SendNotification([]byte(`{"title":"Hello"}`), s, &webpush.Options{
			Subscriber: "push@example.com", VAPIDPublicKey: public, VAPIDPrivateKey: private, TTL: 60,
			Urgency: webpush.UrgencyHigh, Topic: "t",
		})
		if err != nil {
			return err
		}
		text, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != want {
			return fmt.Errorf("%q: %s %s %w", fault, resp.Status, text, err)
		}
	}
	resp, err := http.Get(page + "webpush/stats")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var stats struct{ Received, Accepted int }
	if err := json.NewDecoder(resp.Body).Decode(&stats); err != nil {
		return err
	}
	if stats.Received != 4 || stats.Accepted != 1 {
		return fmt.Errorf("received: %+v", stats)
	}
	return nil
}
