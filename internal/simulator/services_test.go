package simulator

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lhspn/lhspn/internal/simulator/fcmsim"
	"github.com/lhspn/lhspn/internal/simulator/webpushsim"
)

func account(t *testing.T, text []byte) (a struct{ PrivateKey, TokenURI, ProjectID string }) {
	t.Helper()
	var file map[string]string
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	a.PrivateKey, a.TokenURI, a.ProjectID = file["private_key"], file["token_uri"], file["project_id"]
	return a
}

func TestTheServiceAccountKeepsItsKeyAndFollowsTheAddress(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "certs")
	cfg := Config{FCM: fcmsim.Config{Address: "127.0.0.1:0"}, Page: "127.0.0.1:0", CredentialsDir: dir}
	first, second := start(t, cfg), start(t, cfg)
	file, err := os.ReadFile(filepath.Join(dir, "service-account.json"))
	if err != nil {
		t.Fatal(err)
	}
	a, b := account(t, first.FCM().ServiceAccount()), account(t, second.FCM().ServiceAccount())
	if a.PrivateKey != b.PrivateKey || a.TokenURI == b.TokenURI || b.TokenURI != second.FCM().URL()+"/token" || b.ProjectID != fcmsim.ProjectID {
		t.Errorf("%s, %s; the same key: %v", a.TokenURI, b.TokenURI, a.PrivateKey == b.PrivateKey)
	}
	if string(file) != string(second.FCM().ServiceAccount()) {
		t.Error("the file is not of the last run")
	}
	if status, body := call(t, second, "GET", "/fcm/service-account.json", ""); status != 200 || body != string(file) {
		t.Errorf("the page: %d %s", status, body)
	}
	for _, broken := range []string{"{", `{"private_key":""}`, `{"private_key":"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"}`} {
		if err := os.WriteFile(filepath.Join(dir, "service-account.json"), []byte(broken), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := New(cfg, discard); err == nil || !strings.Contains(err.Error(), "service account") {
			t.Errorf("%s: %v", broken, err)
		}
	}
}

func TestThePageKnowsAllServices(t *testing.T) {
	t.Parallel()
	s := start(t, Config{FCM: fcmsim.Config{Address: "127.0.0.1:0"}, WebPush: webpushsim.Config{Address: "127.0.0.1:0"}, Page: "127.0.0.1:0"})
	if status, _ := call(t, s, "PUT", "/webpush/faults", `{"offline":true,"everything":"html"}`); status != 204 || s.WebPush().Faults() != (webpushsim.Faults{Offline: true, Everything: "html"}) {
		t.Errorf("faults: %d %+v", status, s.WebPush().Faults())
	}
	const key = "BP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A8"
	status, body := call(t, s, "POST", "/webpush/subscribe", `{"applicationServerKey":"`+key+`","fault":"gone-once"}`)
	var sub webpushsim.Subscription
	if err := json.Unmarshal([]byte(body), &sub); err != nil || status != 201 || !strings.HasPrefix(sub.Endpoint, s.WebPush().Origin()) {
		t.Errorf("subscribe: %d %s", status, body)
	}
	if status, body := call(t, s, "POST", "/webpush/unsubscribe", `{"endpoint":"`+sub.Endpoint+`"}`); status != 204 {
		t.Errorf("unsubscribe: %d %s", status, body)
	}
	for _, bad := range []string{`{"applicationServerKey":"x"}`, `{"applicationServerKey":"` + key + `","fault":"x"}`, `{"nonsense":1}`} {
		if status, body := call(t, s, "POST", "/webpush/subscribe", bad); status != 400 {
			t.Errorf("subscribe %s: %d %s", bad, status, body)
		}
	}
	if status, body := call(t, s, "POST", "/webpush/unsubscribe", `{"endpoint":"x"}`); status != 400 {
		t.Errorf("unsubscribe: %d %s", status, body)
	}
	if status, _ := call(t, s, "PUT", "/fcm/faults", `{"latency":5,"quota_percent":3}`); status != 204 || s.FCM().Faults() != (fcmsim.Faults{Latency: 5 * time.Nanosecond, QuotaPercent: 3}) {
		t.Errorf("faults: %d %+v", status, s.FCM().Faults())
	}
	for _, path := range []string{"/tokens/fcm:a", "/tokens/webpush:a", "/fcm/stats", "/webpush/stats", "/webpush/pending/webpush:x", "/fcm/faults", "/?token=fcm:a"} {
		if status, body := call(t, s, "GET", path, ""); status != 200 {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	if status, _ := call(t, s, "POST", "/fcm/expire-tokens", ""); status != 204 {
		t.Errorf("expire-tokens: %d", status)
	}
}

func TestSubscriptionsOutliveARestart(t *testing.T) {
	t.Parallel()
	cfg := Config{WebPush: webpushsim.Config{Address: "127.0.0.1:0"}, CredentialsDir: filepath.Join(t.TempDir(), "certs")}
	start(t, cfg)
	first, err := os.ReadFile(filepath.Join(cfg.CredentialsDir, "webpush.seed"))
	if err != nil || len(first) != webpushsim.SeedLen {
		t.Fatalf("%d bytes, %v", len(first), err)
	}
	start(t, cfg)
	if second, err := os.ReadFile(filepath.Join(cfg.CredentialsDir, "webpush.seed")); err != nil || string(second) != string(first) {
		t.Errorf("the seed is another, %v", err)
	}
	if err := os.WriteFile(filepath.Join(cfg.CredentialsDir, "webpush.seed"), []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(cfg, discard); err == nil || !strings.Contains(err.Error(), "seed") {
		t.Errorf("a short seed: %v", err)
	}
}
