// Command webpushgo drives SherClockHolmes/webpush-go: many goroutines on one net/http client with HTTP/2.
package main

import (
	"context"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	webpush "github.com/SherClockHolmes/webpush-go"

	"github.com/lhspn/lhspn/bench/peers/report"
)

func main() {
	log.SetFlags(0)
	o := report.Parse()
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join(o.Credentials, name))
		if err != nil {
			log.Fatal(err)
		}
		return b
	}
	var subscriptions []*webpush.Subscription
	if err := json.Unmarshal(read("subscriptions.json"), &subscriptions); err != nil {
		log.Fatal(err)
	}
	private, public := string(read("vapid.private")), string(read("vapid.public"))
	payload := []byte(`{"aps":{"alert":"` + report.Alert + `"}}`)
	// Its own default client keeps two connections a host and no more; this one is as good as net/http's gets. The
	// service's certificate is trusted by SSL_CERT_FILE.
	client := &http.Client{Transport: &http.Transport{ForceAttemptHTTP2: true, MaxIdleConnsPerHost: o.Workers}}
	send := func(n int) (failed int64) {
		var next, bad atomic.Int64
		var wait sync.WaitGroup
		for range o.Workers {
			wait.Go(func() {
				for {
					i := next.Add(1) - 1
					if i >= int64(n) {
						return
					}
					answer, err := webpush.SendNotificationWithContext(context.Background(), payload,
						subscriptions[i%int64(len(subscriptions))],
						&webpush.Options{
							HTTPClient: client, Subscriber: "push@example.com", VAPIDPublicKey: public, VAPIDPrivateKey: private,
							TTL: 3600, Urgency: webpush.UrgencyHigh,
						})
					if err == nil {
						_, _ = io.Copy(io.Discard, answer.Body)
						_ = answer.Body.Close()
					}
					if err != nil || answer.StatusCode != http.StatusCreated {
						if bad.Add(1) == 1 {
							log.Printf("first failure: %v %+v", err, answer)
						}
					}
				}
			})
		}
		wait.Wait()
		return bad.Load()
	}
	send(o.Warmup)
	meter := report.Begin()
	failed := send(o.Count)
	meter.End(o, int(failed))
}
