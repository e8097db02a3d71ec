// Command apns2 drives sideshow/apns2: many goroutines on each client, a client for each connection, a provider token.
package main

import (
	"log"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sideshow/apns2"
	"github.com/sideshow/apns2/token"

	"github.com/lhspn/lhspn/bench/peers/report"
)

func main() {
	log.SetFlags(0)
	o := report.Parse()
	keys, err := filepath.Glob(filepath.Join(o.Credentials, "AuthKey_*.p8"))
	if err != nil || len(keys) != 1 {
		log.Fatalf("no provider token key in %s", o.Credentials)
	}
	key, err := token.AuthKeyFromFile(keys[0])
	if err != nil {
		log.Fatal(err)
	}
	keyID := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(keys[0]), "AuthKey_"), ".p8")
	provider := &token.Token{AuthKey: key, KeyID: keyID, TeamID: "SIMTEAM001"}
	clients := make([]*apns2.Client, o.Connections)
	for i := range clients {
		clients[i] = apns2.NewTokenClient(provider) // it has no option for a CA: SSL_CERT_FILE names the simulator's
		clients[i].Host = "https://" + o.Address
	}
	tokens := report.Tokens(1000)
	payload := []byte(`{"aps":{"alert":"` + report.Alert + `"}}`)
	expiration := time.Now().Add(24 * time.Hour)
	// One request first: APNs allows one stream until a token has proved good.
	for _, c := range clients {
		if _, err := c.Push(&apns2.Notification{DeviceToken: tokens[0], Topic: "com.example.hedgehog",
			Payload: payload}); err != nil {
			log.Fatalf("first push: %v", err)
		}
	}
	send := func(n int) (failed int64) {
		var next, bad atomic.Int64
		var wait sync.WaitGroup
		for _, c := range clients {
			for range o.Workers {
				wait.Go(func() {
					for {
						i := next.Add(1) - 1
						if i >= int64(n) {
							return
						}
						answer, err := c.Push(&apns2.Notification{
							DeviceToken: tokens[i%int64(len(tokens))], Topic: "com.example.hedgehog", Payload: payload,
							Expiration: expiration, Priority: apns2.PriorityHigh, PushType: apns2.PushTypeAlert,
						})
						if err != nil || !answer.Sent() {
							if bad.Add(1) == 1 {
								log.Printf("first failure: %v %+v", err, answer)
							}
						}
					}
				})
			}
		}
		wait.Wait()
		return bad.Load()
	}
	send(o.Warmup)
	meter := report.Begin()
	failed := send(o.Count)
	meter.End(o, int(failed))
}
