// Command fcm sends with Google's own Go client, unchanged, to a simulator of FCM, and checks what the client reports
// and what the simulator received. ../run.sh starts the simulator and calls this program.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"os"
	"time"

	firebase "firebase.google.com/go/v4"
	"firebase.google.com/go/v4/messaging"
	"google.golang.org/api/option"
)

// The magic tokens' codes: see docs/simulator.md.
const (
	invalidToken     = 0x0201
	senderIDMismatch = 0x0209
	unregistered     = 0x020d
)

func magic(code int) string { return fmt.Sprintf("deadfa17c0de%04x000001:APA91b%0134d", code, 1) }

func main() {
	log.SetFlags(0)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := run(ctx); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	app, err := firebase.NewApp(ctx, nil, option.WithCredentialsFile(os.Getenv("SIM_CERTS")+"/service-account.json"),
		option.WithEndpoint("https://"+os.Getenv("SIM_FCM")+"/v1"))
	if err != nil {
		return err
	}
	client, err := app.Messaging(ctx)
	if err != nil {
		return err
	}
	want := map[string]int{}
	var messages []*messaging.Message
	add := func(token string, accepted int) {
		want["fcm:"+token] = accepted
		ttl := time.Hour
		messages = append(messages, &messaging.Message{
			Token: token, Notification: &messaging.Notification{Title: "Hello", Body: "World"},
			Data: map[string]string{"order": "4711"},
			Android: &messaging.AndroidConfig{Priority: "high", TTL: &ttl, CollapseKey: "k",
				Notification: &messaging.AndroidNotification{Tag: "k", Color: "#ff8800"}},
		})
	}
	for i := range 300 {
		add(fmt.Sprintf("go%04d:APA91b%0134d", i, i), 1)
	}
	add(magic(unregistered), 0)
	add(magic(senderIDMismatch), 0)
	add(magic(invalidToken), 0)
	answer, err := client.SendEach(ctx, messages)
	if err != nil {
		return err
	}
	last := answer.Responses[300:]
	switch {
	case answer.SuccessCount != 300 || answer.FailureCount != 3:
		return fmt.Errorf("%d succeeded, %d failed: %v", answer.SuccessCount, answer.FailureCount, answer.Responses[0].Error)
	case !messaging.IsUnregistered(last[0].Error):
		return fmt.Errorf("unregistered: %w", last[0].Error)
	case !messaging.IsSenderIDMismatch(last[1].Error):
		return fmt.Errorf("of another project: %w", last[1].Error)
	case !messaging.IsInvalidArgument(last[2].Error):
		return fmt.Errorf("malformed: %w", last[2].Error)
	}
	return expect(ctx, want)
}

// expect checks that each token has been accepted just so often.
func expect(ctx context.Context, want map[string]int) error {
	var tokens []string
	for token := range want {
		tokens = append(tokens, token)
	}
	body, err := json.Marshal(tokens)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, os.Getenv("SIM_PAGE")+"counts", bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var counts []struct {
		Token    string
		Accepted int
	}
	if err := json.NewDecoder(resp.Body).Decode(&counts); err != nil {
		return err
	}
	for _, c := range counts {
		if c.Accepted != want[c.Token] {
			return fmt.Errorf("%s was accepted %d times", c.Token, c.Accepted)
		}
	}
	if len(counts) != len(want) {
		return fmt.Errorf("%d counts of %d", len(counts), len(want))
	}
	return nil
}
