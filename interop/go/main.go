// Command interop runs one third-party client against a simulator and checks what the client reports and what the
// simulator received. The libraries are used unchanged; run.sh starts the simulator and calls this program.
package main

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	anachronistic "github.com/anachronistic/apns"
	libapns "github.com/joekarl/go-libapns"
	"github.com/sideshow/apns2"
	"github.com/sideshow/apns2/certificate"
	apns2token "github.com/sideshow/apns2/token"
	timehop "github.com/timehop/apns"
)

// The tokens: see docs/simulator.md for the magic ones.
var (
	good         = tokens("11", 6)
	invalid      = "deadfa17c0de0008" + strings.Repeat("0", 48)
	unregistered = "deadfa17c0de0020" + strings.Repeat("0", 48)
)

func tokens(prefix string, n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("%s%062x", prefix, i)
	}
	return list
}

// environment is what run.sh tells.
var (
	gateway  = os.Getenv("SIM_GATEWAY")
	feedback = os.Getenv("SIM_FEEDBACK")
	provider = os.Getenv("SIM_PROVIDER")
	page     = os.Getenv("SIM_PAGE")
	certs    = os.Getenv("SIM_CERTS")
)

func main() {
	log.SetFlags(0)
	cases := map[string]func() error{
		"go-libapns":        goLibapns,
		"timehop":           timehopClient,
		"anachronistic":     anachronisticClient,
		"sideshow-token":    sideshowToken,
		"sideshow-cert":     sideshowCertificate,
		"sideshow-shutdown": sideshowGoAway,
	}
	run := cases[os.Args[1]]
	if run == nil {
		log.Fatalf("no case %q", os.Args[1])
	}
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

// pem is the client certificate with its key.
func pem() []byte {
	b, err := os.ReadFile(certs + "/client.pem")
	if err != nil {
		log.Fatal(err)
	}
	return b
}

type counts struct{ Received, Accepted int }

// expect waits until every token has been accepted just so often, or for ten seconds.
func expect(want map[string]int) error {
	list := make([]string, 0, len(want))
	for token := range want {
		list = append(list, token)
	}
	body, err := json.Marshal(list)
	if err != nil {
		return err
	}
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for deadline := time.Now().Add(10 * time.Second); ; <-again.C {
		resp, err := http.Post(page+"counts", "application/json", bytes.NewReader(body))
		if err != nil {
			return err
		}
		var got []struct {
			Token string
			counts
		}
		err = json.NewDecoder(resp.Body).Decode(&got)
		_ = resp.Body.Close()
		if err != nil {
			return err
		}
		var wrong []string
		for _, g := range got {
			if g.Accepted != want[g.Token] {
				wrong = append(wrong, fmt.Sprintf("%s… accepted %d times, not %d", g.Token[:16], g.Accepted, want[g.Token]))
			}
		}
		if len(wrong) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return errors.New(strings.Join(wrong, "; "))
		}
	}
}

// allGood is that every good token was accepted once.
func allGood(more map[string]int) map[string]int {
	want := map[string]int{}
	for _, token := range good {
		want[token] = 1
	}
	for token, n := range more {
		want[token] = n
	}
	return want
}

// mixed is a sequence with the invalid token in its middle and the unregistered one at its end.
func mixed() []string {
	return append(append(append([]string{}, good[:3]...), invalid),
		append(append([]string{}, good[3:]...), unregistered)...)
}

func goLibapns() error {
	host, port, err := net.SplitHostPort(gateway)
	if err != nil {
		return err
	}
	connect := func() (*libapns.APNSConnection, error) {
		return libapns.NewAPNSConnection(&libapns.APNSConfig{
			GatewayHost: host, GatewayPort: port, CertificateBytes: pem(), KeyBytes: pem(),
		})
	}
	conn, err := connect()
	if err != nil {
		return err
	}
	for _, token := range mixed() {
		conn.SendChannel <- &libapns.Payload{Token: token, AlertText: "hello"}
	}
	closed := <-conn.CloseChannel
	if closed.Error.ErrorCode != 8 || closed.ErrorPayload == nil || closed.ErrorPayload.Token != invalid {
		return fmt.Errorf("reported %+v for %+v", closed.Error, closed.ErrorPayload)
	}
	if n := closed.UnsentPayloads.Len(); n != 4 {
		return fmt.Errorf("%d unsent payloads, not 4", n)
	}
	// As its documentation says: what was not sent goes over a new connection.
	if conn, err = connect(); err != nil {
		return err
	}
	for e := closed.UnsentPayloads.Front(); e != nil; e = e.Next() {
		conn.SendChannel <- e.Value.(*libapns.Payload)
	}
	if err := expect(allGood(map[string]int{invalid: 0, unregistered: 1})); err != nil {
		return err
	}
	conn.Disconnect()

	host, port, err = net.SplitHostPort(feedback)
	if err != nil {
		return err
	}
	list, err := libapns.ConnectToFeedbackService(&libapns.APNSFeedbackServiceConfig{
		GatewayHost: host, GatewayPort: port, CertificateBytes: pem(), KeyBytes: pem(),
	})
	if err != nil {
		return fmt.Errorf("feedback: %w", err)
	}
	if list.Len() != 1 {
		return fmt.Errorf("feedback: %d tuples", list.Len())
	}
	tuple := list.Front().Value.(*libapns.FeedbackResponse)
	return checkFeedback(tuple.Token, int64(tuple.Timestamp))
}

func checkFeedback(token string, unix int64) error {
	if token != unregistered {
		return fmt.Errorf("feedback: token %s", token)
	}
	if age := time.Now().Unix() - unix; age < 0 || age > 60 {
		return fmt.Errorf("feedback: timestamp %d", unix)
	}
	return nil
}

func timehopClient() error {
	cert, err := tls.X509KeyPair(pem(), pem())
	if err != nil {
		return err
	}
	client := timehop.NewClientWithCert(gateway, cert)
	failed := make(chan timehop.NotificationResult, 1)
	go func() { failed <- <-client.FailedNotifs }()
	for i, token := range mixed() {
		n := timehop.NewNotification()
		n.DeviceToken, n.Identifier, n.Priority = token, uint32(i+1), 10
		n.Payload.APS.Alert.Body = "hello"
		if err := client.Send(n); err != nil {
			return err
		}
	}
	select {
	case f := <-failed:
		if f.Notif.DeviceToken != invalid || f.Err.Status != 8 {
			return fmt.Errorf("reported %+v", f)
		}
	case <-time.After(10 * time.Second):
		return errors.New("no failure was reported")
	}
	if err := expect(allGood(map[string]int{invalid: 0, unregistered: 1})); err != nil {
		return err
	}
	var tuples []timehop.FeedbackTuple
	for tuple := range timehop.NewFeedbackWithCert(feedback, cert).Receive() {
		tuples = append(tuples, tuple)
	}
	if len(tuples) != 1 {
		return fmt.Errorf("feedback: %+v", tuples)
	}
	return checkFeedback(tuples[0].DeviceToken, tuples[0].Timestamp.Unix())
}

func anachronisticClient() error {
	client := anachronistic.BareClient(gateway, string(pem()), string(pem()))
	// It opens a connection for each notification and takes five seconds of silence as success: so all at once.
	send := func(token string) error {
		n := anachronistic.NewPushNotification()
		n.DeviceToken = token
		n.AddPayload(&anachronistic.Payload{Alert: "hello", Sound: "default"})
		switch resp := client.Send(n); {
		case token != invalid && !resp.Success:
			return fmt.Errorf("%s…: %w", token[:16], resp.Error)
		case token == invalid && (resp.Success || resp.AppleResponse != "INVALID_TOKEN"):
			return fmt.Errorf("invalid token: %+v", resp)
		}
		return nil
	}
	errs := make(chan error)
	for _, token := range mixed() {
		go func() { errs <- send(token) }()
	}
	for range mixed() {
		if err := <-errs; err != nil {
			return err
		}
	}
	return expect(allGood(map[string]int{invalid: 0, unregistered: 1}))
}

// sideshow sends to all tokens by one client, several times side by side.
func sideshow(client *apns2.Client) error {
	client.Host = "https://" + provider
	push := func(token string) (*apns2.Response, error) {
		return client.Push(&apns2.Notification{
			DeviceToken: token, Topic: "com.example.hedgehog", Payload: []byte(`{"aps":{"alert":"hello"}}`),
			PushType: apns2.PushTypeAlert, Priority: apns2.PriorityHigh, Expiration: time.Now().Add(time.Hour),
		})
	}
	errs := make(chan error, len(good))
	for _, token := range good {
		go func() {
			resp, err := push(token)
			if err == nil && (!resp.Sent() || resp.ApnsID == "") {
				err = fmt.Errorf("%s…: %+v", token[:16], resp)
			}
			errs <- err
		}()
	}
	for range good {
		if err := <-errs; err != nil {
			return err
		}
	}
	resp, err := push(invalid)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusBadRequest || resp.Reason != apns2.ReasonBadDeviceToken {
		return fmt.Errorf("invalid token: %+v", resp)
	}
	if resp, err = push(unregistered); err != nil {
		return err
	}
	age := time.Since(resp.Timestamp.Time)
	if resp.StatusCode != http.StatusGone || resp.Reason != apns2.ReasonUnregistered || age < 0 || age > time.Minute {
		return fmt.Errorf("unregistered: %+v", resp)
	}
	return expect(allGood(map[string]int{invalid: 0, unregistered: 0}))
}

func tokenClient() (*apns2.Client, error) {
	key, err := apns2token.AuthKeyFromFile(certs + "/AuthKey_SIMKEY0001.p8")
	if err != nil {
		return nil, err
	}
	return apns2.NewTokenClient(&apns2token.Token{AuthKey: key, KeyID: "SIMKEY0001", TeamID: "SIMTEAM001"}), nil
}

func sideshowToken() error {
	client, err := tokenClient()
	if err != nil {
		return err
	}
	return sideshow(client)
}

func sideshowCertificate() error {
	cert, err := certificate.FromP12File(certs+"/client.p12", "simulator")
	if err != nil {
		return err
	}
	return sideshow(apns2.NewClient(cert))
}

// sideshowGoAway: the simulator says GOAWAY after every second request, and net/http goes on over new connections.
func sideshowGoAway() error {
	setFaults := func(faults string) error {
		req, err := http.NewRequest(http.MethodPut, page+"faults", strings.NewReader(faults))
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusNoContent {
			return fmt.Errorf("set faults: %s", resp.Status)
		}
		return nil
	}
	if err := setFaults(`{"go_away_every": 2}`); err != nil {
		return err
	}
	return errors.Join(sideshowToken(), setFaults(`{}`))
}
