// Command anachronistic drives the codec of anachronistic/apns over one connection that is kept, a write for each
// notification.
//
// Its own Client.Send makes a TLS connection for every notification and then waits five seconds for an error, so that
// it reaches only as many notifications a second as there are goroutines, divided by five. This driver is what its
// users made of it, and far kinder.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/anachronistic/apns"

	"github.com/lhspn/lhspn/bench/peers/report"
)

func main() {
	log.SetFlags(0)
	o := report.Parse()
	pair := filepath.Join(o.Credentials, "client.pem")
	cert, err := tls.LoadX509KeyPair(pair, pair)
	if err != nil {
		log.Fatal(err)
	}
	ca, err := os.ReadFile(filepath.Join(o.Credentials, "ca.pem"))
	if err != nil {
		log.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	conn, err := tls.Dial("tcp", o.Address, &tls.Config{Certificates: []tls.Certificate{cert}, RootCAs: roots})
	if err != nil {
		log.Fatalf("connect: %v", err)
	}
	tokens := report.Tokens(100_000)
	expiry := uint32(time.Now().Add(24 * time.Hour).Unix())
	send := func(n int) {
		for i := range n {
			pn := apns.NewPushNotification()
			pn.DeviceToken = tokens[i%len(tokens)]
			pn.Expiry = expiry
			pn.Set("aps", &apns.Payload{Alert: report.Alert})
			frame, err := pn.ToBytes()
			if err != nil {
				log.Fatal(err)
			}
			if _, err := conn.Write(frame); err != nil {
				log.Fatalf("write: %v", err)
			}
		}
	}
	send(o.Warmup)
	meter := report.Begin()
	send(o.Count)
	meter.End(o, 0)
	_, _ = conn.Read(make([]byte, 6)) // stays until it is ended by whoever started it
}
