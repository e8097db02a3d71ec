// Command fcm-firebase drives Google's firebase.google.com/go: SendEach with 500 messages a call, the most that it
// takes. It has 50 goroutines over one net/http client with HTTP/2.
package main

import (
	"context"
	"fmt"
	"log"
	"path/filepath"
	"time"

	firebase "firebase.google.com/go/v4"
	"firebase.google.com/go/v4/messaging"
	"google.golang.org/api/option"

	"github.com/lhspn/lhspn/bench/peers/report"
)

func main() {
	log.SetFlags(0)
	o := report.Parse()
	ctx := context.Background()
	// SSL_CERT_FILE names the simulator's authority.
	app, err := firebase.NewApp(ctx, nil, option.WithCredentialsFile(filepath.Join(o.Credentials, "service-account.json")),
		option.WithEndpoint("https://"+o.Address+"/v1"))
	if err != nil {
		log.Fatal(err)
	}
	client, err := app.Messaging(ctx)
	if err != nil {
		log.Fatal(err)
	}
	ttl := 24 * time.Hour
	android := &messaging.AndroidConfig{Priority: "high", TTL: &ttl}
	notification := &messaging.Notification{Body: report.Alert}
	next := 0
	send := func(n int) (failed int) {
		for n > 0 {
			messages := make([]*messaging.Message, min(n, 500))
			for i := range messages {
				messages[i] = &messaging.Message{Token: fmt.Sprintf("bench%04d:APA91b%0134d", next%1000, next%1000),
					Android: android, Notification: notification}
				next++
			}
			n -= len(messages)
			answer, err := client.SendEach(ctx, messages)
			if err != nil {
				log.Fatal(err)
			}
			if failed == 0 && answer.FailureCount > 0 {
				for _, r := range answer.Responses {
					if r.Error != nil {
						log.Printf("first failure: %v", r.Error)
						break
					}
				}
			}
			failed += answer.FailureCount
		}
		return failed
	}
	send(o.Warmup)
	meter := report.Begin()
	failed := send(o.Count)
	meter.End(o, failed)
}
