package fcm

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/simulator/fcmsim"
	"github.com/lhspn/lhspn/internal/simulator/record"
)

// newSimulated runs a transport to the simulator, token endpoint and all, until the test ends.
func newSimulated(t *testing.T, cfg fcmsim.Config) (*rig, *fcmsim.Simulator) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	cfg.Address, cfg.Record, cfg.Key = "127.0.0.1:0", record.All, testKey()
	sim, err := fcmsim.New(cfg, gatewayCert, log)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "firebase.json")
	if err := os.WriteFile(file, sim.ServiceAccount(), 0o600); err != nil {
		t.Fatal(err)
	}
	roots := &tls.Config{RootCAs: gatewayRoots, ServerName: "fcm.example", MinVersion: tls.VersionTLS12}
	c, err := NewCredentials(CredentialsConfig{App: "hedgehog", File: file, TLS: roots}, log)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{Transport: NewTransport(Config{
		App: "hedgehog", Address: sim.Addr(), Credentials: c, TLS: roots, MaxRate: -1, Connections: 2,
	}, log, NewMetrics(prometheus.NewRegistry()))}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 2)
	go func() { ran <- sim.Run(ctx) }()
	go func() { ran <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		for range 2 {
			if err := <-ran; err != nil {
				t.Error(err)
			}
		}
	})
	return r, sim
}

// TestSimulatedRows: what each answer of the simulator, made by others from FCM's documents, means here.
func TestSimulatedRows(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		fault fcmsim.Fault
		want  string
		after time.Duration
	}{
		{"no fault", fcmsim.NoFault, "accepted", 0},
		{"InvalidToken", fcmsim.InvalidToken, "failed InvalidRegistration", 0},
		{"InvalidTokenField", fcmsim.InvalidTokenField, "failed InvalidRegistration", 0},
		{"InvalidField", fcmsim.InvalidField, "failed INVALID_ARGUMENT", 0},
		{"TooBig", fcmsim.TooBig, "failed INVALID_ARGUMENT", 0},
		{"PackageMismatch", fcmsim.PackageMismatch, "failed INVALID_ARGUMENT", 0},
		{"AccessTokenExpired", fcmsim.AccessTokenExpired, "blocked UNAUTHENTICATED", 0},
		{"AccessTokenExpired once", fcmsim.AccessTokenExpired.Once(), "accepted", 0},
		{"AccessTokenUnsupported", fcmsim.AccessTokenUnsupported, "blocked UNAUTHENTICATED", 0},
		{"ThirdPartyAuthError", fcmsim.ThirdPartyAuthError, "blocked THIRD_PARTY_AUTH_ERROR", thirdPartyPause},
		{"SenderIDMismatch", fcmsim.SenderIDMismatch, "failed SENDER_ID_MISMATCH", 0},
		{"PermissionDenied", fcmsim.PermissionDenied, "blocked PERMISSION_DENIED", 0},
		{"ServiceDisabled", fcmsim.ServiceDisabled, "blocked SERVICE_DISABLED", 0},
		{"ConsumerSuspended", fcmsim.ConsumerSuspended, "blocked CONSUMER_SUSPENDED", 0},
		{"Unregistered", fcmsim.Unregistered, "unregistered UNREGISTERED", 0},
		{"NotFound", fcmsim.NotFound, "blocked NOT_FOUND", 0},
		{"QuotaProjectRetryAfter", fcmsim.QuotaProjectRetryAfter, "not_sent QUOTA_EXCEEDED", 2 * time.Second},
		{"QuotaProject", fcmsim.QuotaProject, "not_sent QUOTA_EXCEEDED", time.Minute},
		{"QuotaDeviceRetryAfter", fcmsim.QuotaDeviceRetryAfter, "retry DeviceMessageRateExceeded", time.Minute},
		{"QuotaDevice", fcmsim.QuotaDevice, "retry DeviceMessageRateExceeded", time.Minute},
		{"Exhausted", fcmsim.Exhausted, "not_sent QUOTA_EXCEEDED", time.Minute},
		{"Internal", fcmsim.Internal, "retry INTERNAL", retryPause},
		{"BadGateway", fcmsim.BadGateway, "retry UNAVAILABLE", retryPause},
		{"UnavailableRetryAfter", fcmsim.UnavailableRetryAfter, "retry UNAVAILABLE", retryPause},
		{"Unavailable", fcmsim.Unavailable, "retry UNAVAILABLE", retryPause},
		{"GatewayTimeout", fcmsim.GatewayTimeout, "retry UNAVAILABLE", retryPause},
		{"UnavailableRetryAfterDate", fcmsim.UnavailableRetryAfterDate, "retry UNAVAILABLE", retryPause},
		{"UnspecifiedError", fcmsim.UnspecifiedError, "retry UNSPECIFIED_ERROR", retryPause},
		{"UnknownErrorCode", fcmsim.UnknownErrorCode, "retry UNSPECIFIED_ERROR", retryPause},
		{"Garbage", fcmsim.Garbage, "retry UnrecognizedAnswer", retryPause},
		{"HTMLNotFound", fcmsim.HTMLNotFound, "blocked NOT_FOUND", 0},
		{"HTMLAccepted", fcmsim.HTMLAccepted, "retry UnrecognizedAnswer", retryPause},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r, _ := newSimulated(t, fcmsim.Config{})
			results := r.send(t, group(hello(t, nil), fcmsim.MagicToken(test.fault, 1).Address(), fcmsim.MagicFID(test.fault, 2).Address()))
			if got := outcomes(results); got != test.want+", "+test.want || results[0].RetryAfter != test.after {
				t.Errorf("%s, wait %v\nwant %s, wait %v", got, results[0].RetryAfter, test.want, test.after)
			}
		})
	}
}

// TestSimulatedMessages: all that Compose makes passes the simulator's checks of a message.
func TestSimulatedMessages(t *testing.T) {
	t.Parallel()
	r, sim := newSimulated(t, fcmsim.Config{})
	for _, blocks := range []map[string]string{
		{"message": `{"title": "T", "subtitle": "S", "body": "B", "image": "https://e.example/i.png", "sound": "bell", "link": "https://e.example/1",
			"badge": 3, "thread": "th", "category": "c", "actions": [{"id": "a", "title": "A"}]}`, "data": `{"n": 1, "o": {"a": []}}`},
		{"data": `{"k": "v"}`},
		{"fcm": `{"android": {"ttl": "3.5s", "directBootOk": true, "bandwidthConstrainedOk": true, "restrictedSatelliteOk": true, "notification": {"color": "#ff8800", "vibrateTimings": ["0.5s"],
			"visibility": "PUBLIC", "notificationPriority": "PRIORITY_MAX", "proxy": "DENY", "eventTime": "2026-11-26T12:00:00Z", "sticky": false, "bodyLocKey": "k", "bodyLocArgs": ["a"]}},
			"notification": {"title": "T"}, "fcmOptions": {"analyticsLabel": "l"}, "apns": {"payload": {"aps": {}}}, "webpush": {"headers": {}}}`},
	} {
		n := composed(t, content(t, blocks, func(c *push.Content) { c.CreatedAt = time.Now(); c.CollapseID = "k" }))
		if got := outcomes(r.send(t, group(n, "abc:APA91b", testFID))); got != "accepted, accepted" {
			t.Errorf("%s: %s", n.Payload.JSON, got)
		}
	}
	received := sim.Received(push.TextToken(Name, testFID))
	if len(received) != 3 || !json.Valid([]byte(received[0].Payload)) {
		t.Fatalf("%+v", received)
	}
}

// TestSimulatedExpiry: access tokens that end under way cost no message.
func TestSimulatedExpiry(t *testing.T) {
	t.Parallel()
	r, sim := newSimulated(t, fcmsim.Config{})
	for range 5 {
		addresses := make([]string, 500)
		for i := range addresses {
			addresses[i] = fcmsim.MagicToken(fcmsim.NoFault, i).Address()
		}
		for i, result := range r.send(t, group(hello(t, nil), addresses...)) {
			if result.Outcome != push.Accepted {
				t.Fatalf("message %d: %s %s", i, result.Outcome, result.Reason)
			}
		}
		sim.ExpireTokens()
	}
}

// TestSimulatedFaults: connections that come and go, refuse and reset cost no message either, and nothing goes beyond
// the streams that are allowed.
func TestSimulatedFaults(t *testing.T) {
	t.Parallel()
	r, sim := newSimulated(t, fcmsim.Config{Faults: fcmsim.Faults{GoAwayEvery: 300, RefuseEvery: 50}})
	addresses := make([]string, 2000)
	for i := range addresses {
		addresses[i] = "device" + fcmsim.MagicToken(fcmsim.NoFault, i).Address()
	}
	for i, result := range r.send(t, group(hello(t, nil), addresses...)) {
		if result.Outcome != push.Accepted {
			t.Fatalf("message %d: %s %s", i, result.Outcome, result.Reason)
		}
	}
	for _, a := range addresses {
		if c := sim.Counts(push.TextToken(Name, a)); c.Accepted != 1 {
			t.Fatalf("%s: %+v", a, c)
		}
	}
}
