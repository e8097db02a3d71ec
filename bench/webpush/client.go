package main

import (
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lhspn/lhspn/bench/internal/drive"
	"github.com/lhspn/lhspn/bench/internal/rig"
	"github.com/lhspn/lhspn/internal/apns/credentials"
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/webpush"
)

// subscriptions is the number of different browsers.
const subscriptions = 1000

const subject = "mailto:push@example.com"

// subscription is what a browser gives.
type subscription struct {
	Endpoint string `json:"endpoint"`
	Keys     struct {
		P256DH string `json:"p256dh"`
		Auth   string `json:"auth"`
	} `json:"keys"`
}

// prepare writes what the programs share: the server's certificate, the VAPID key in the form of the web-push package,
// and the subscriptions.
func prepare(dir, address string) error {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make a key: %w", err)
	}
	number, err := private.Bytes()
	if err != nil {
		return fmt.Errorf("write the key: %w", err)
	}
	public, err := private.PublicKey.Bytes()
	if err != nil {
		return fmt.Errorf("write the key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return fmt.Errorf("write the key: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bench"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true,
		BasicConstraintsValid: true,
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		return fmt.Errorf("make a certificate: %w", err)
	}
	list := make([]subscription, subscriptions)
	for i := range list {
		browser, err := ecdh.P256().GenerateKey(rand.Reader)
		if err != nil {
			return fmt.Errorf("make a key: %w", err)
		}
		auth := make([]byte, 16)
		_, _ = rand.Read(auth)
		list[i].Endpoint = fmt.Sprintf("https://%s/wpush/v2/%0180d", address, i)
		list[i].Keys.P256DH = base64.RawURLEncoding.EncodeToString(browser.PublicKey().Bytes())
		list[i].Keys.Auth = base64.RawURLEncoding.EncodeToString(auth)
	}
	text, err := json.Marshal(list)
	if err != nil {
		return fmt.Errorf("write the subscriptions: %w", err)
	}
	for name, content := range map[string][]byte{
		"ca.pem":             pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}),
		"key.pem":            pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
		"vapid.private":      []byte(base64.RawURLEncoding.EncodeToString(number)),
		"vapid.public":       []byte(base64.RawURLEncoding.EncodeToString(public)),
		"subscriptions.json": text,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return fmt.Errorf("write what the programs share: %w", err)
		}
	}
	return nil
}

// registry has what is stored of the subscriptions, by the tokens that drive uses.
type registry map[push.Token][]byte

func (r registry) Addresses(context.Context, string, []push.Token) (map[push.Token][]byte, error) {
	return r, nil
}

// client is our transport, driven as the sender drives it.
func client(ctx context.Context, o options) error {
	vapid, err := webpush.LoadVAPID(filepath.Join(o.Credentials, "vapid.private"), subject)
	if err != nil {
		return err
	}
	roots, err := credentials.LoadCAs(filepath.Join(o.Credentials, "ca.pem"))
	if err != nil {
		return err
	}
	origins, err := webpush.ParseOrigins([]string{"https://" + o.Address})
	if err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join(o.Credentials, "subscriptions.json"))
	if err != nil {
		return fmt.Errorf("read the subscriptions: %w", err)
	}
	stored := registry{}
	all, err := push.ParseJSON(text)
	if err != nil {
		return fmt.Errorf("read the subscriptions: %w", err)
	}
	for i, v := range all.Elements() {
		s, faults := webpush.ParseSubscription(v, "subscription", origins, time.Now())
		if len(faults) > 0 {
			return faults[0]
		}
		stored[rig.Token(i)] = s.Address(vapid.PublicKey())
	}
	transport := webpush.New(webpush.Config{
		App: "bench", Route: webpush.Route, VAPID: vapid, Origins: origins, Subscriptions: stored, RootCAs: roots,
	}, slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
		webpush.NewMetrics(prometheus.NewRegistry()))
	const groupSize, inFlight = 500, 4000
	report, err := drive.Run(ctx, transport, drive.Options{
		Warmup: o.Warmup, Count: o.Count, Rest: o.rest, Tokens: subscriptions, Settle: true, Groups: inFlight / groupSize,
		GroupSize: groupSize,
	})
	if err != nil {
		return err
	}
	return report.Write(os.Stdout)
}
