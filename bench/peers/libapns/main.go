// Command libapns drives joekarl/go-libapns, with its own defaults: frames gathered for 10 ms or 64 KiB, 10,000
// notifications kept for a resend.
package main

import (
	"log"
	"net"
	"os"
	"path/filepath"
	"time"

	apns "github.com/joekarl/go-libapns"

	"github.com/lhspn/lhspn/bench/peers/report"
)

func main() {
	log.SetFlags(0)
	o := report.Parse()
	host, port, err := net.SplitHostPort(o.Address)
	if err != nil {
		log.Fatal(err)
	}
	pair, err := os.ReadFile(filepath.Join(o.Credentials, "client.pem"))
	if err != nil {
		log.Fatal(err)
	}
	// It has no option for a CA: SSL_CERT_FILE names the simulator's.
	conn, err := apns.NewAPNSConnection(&apns.APNSConfig{
		CertificateBytes: pair, KeyBytes: pair, GatewayHost: host, GatewayPort: port,
	})
	if err != nil {
		log.Fatalf("connect: %v", err)
	}
	tokens := report.Tokens(100_000)
	expiry := uint32(time.Now().Add(24 * time.Hour).Unix())
	send := func(n int) {
		for i := range n {
			select {
			case conn.SendChannel <- &apns.Payload{AlertText: report.Alert, Token: tokens[i%len(tokens)],
				ExpirationTime: expiry}:
			case closed := <-conn.CloseChannel:
				log.Fatalf("the connection was closed: %+v", closed.Error)
			}
		}
	}
	send(o.Warmup)
	meter := report.Begin()
	send(o.Count)
	meter.End(o, 0)
	// The last frames leave by its timer; the process is ended by whoever started it, when they have arrived.
	<-conn.CloseChannel
}
