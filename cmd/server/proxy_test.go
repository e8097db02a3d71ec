package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lhspn/lhspn/internal/config"
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/simulator"
	"github.com/lhspn/lhspn/internal/simulator/simtest"
)

// connectProxy is an HTTP CONNECT proxy that leads each name to an address; a name without one is a bad gateway.
func connectProxy(t *testing.T, addresses map[string]string) string {
	t.Helper()
	var tunnels sync.WaitGroup
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		up, err := (&net.Dialer{}).DialContext(r.Context(), "tcp", addresses[r.Host])
		if r.Method != http.MethodConnect || err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		w.WriteHeader(http.StatusOK)
		down, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		tunnels.Go(func() { _, _ = io.Copy(up, buffered); up.Close() })
		tunnels.Go(func() { _, _ = io.Copy(down, up); down.Close() })
	}))
	t.Cleanup(func() { s.Close(); tunnels.Wait() })
	return s.URL
}

// The program as it runs for real: no gateway configured, so Apple's two names, which a proxy leads to a simulator
// each. One notification for the sandbox, which refuses the key or cannot be reached, must not delay a single one of
// production.
func TestSandboxNeverStopsProduction(t *testing.T) {
	t.Parallel()
	for name, away := range map[string]bool{"the sandbox refuses the key": false, "the sandbox is away": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const production, sandbox = "api.push.apple.com", "api.sandbox.push.apple.com"
			r := newRig(t, "http2", "sqlite:"+filepath.Join(t.TempDir(), "lhspn.db"))
			certs := filepath.Join(r.dir, "certs")
			first := simtest.Start(t, simulator.Config{
				Provider: "127.0.0.1:0", CredentialsDir: certs, Hosts: []string{production}, VerifyProviderTokens: true,
			})
			another, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			other := simtest.Start(t, simulator.Config{
				Provider: "127.0.0.1:0", CredentialsDir: certs, Hosts: []string{sandbox}, ProviderTokenKey: &another.PublicKey, Sandbox: true,
			})
			addresses := map[string]string{production + ":443": first.ProviderAddr(), sandbox + ":443": other.ProviderAddr()}
			if away {
				delete(addresses, sandbox+":443")
			}
			text := fmt.Sprintf(`
listen: 127.0.0.1:0
ops_listen: 127.0.0.1:0
database: "sqlite:lhspn.db"
shutdown_delay: 0s
apps:
  - name: hedgehog
    apns: {topic: %s, proxy: %q, ca_file: certs/ca.pem, key_file: certs/AuthKey_%s.p8, key_id: %[3]s, team_id: %[4]s}
    keys: [{name: tests, scope: admin, sha256: %[5]s}]
`, simulator.DefaultTopic, connectProxy(t, addresses), simulator.ProviderKeyID, simulator.TeamID, config.HashKey(testKey))
			if err := os.WriteFile(r.file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			r.start()
			held := r.call("POST", "/v1/notifications", fmt.Sprintf(`{"to": {"tokens": [%q], "environment": "sandbox"}, "aps": {"alert": "x"}}`, token(1)), 202)["id"].(string)
			r.until("the sandbox stands still", func() bool {
				for line := range strings.Lines(r.metrics()) {
					if strings.HasPrefix(line, "lhspn_sender_app_paused{") && strings.Contains(line, `route="sandbox"`) &&
						strings.HasSuffix(strings.TrimSpace(line), " 1") {
						return true
					}
				}
				return false
			})
			tokens := make([]string, 600)
			for i := range tokens {
				tokens[i] = token(1000 + i)
			}
			list, err := json.Marshal(tokens)
			if err != nil {
				t.Fatal(err)
			}
			begin := time.Now()
			id := r.call("POST", "/v1/notifications", fmt.Sprintf(`{"to": {"tokens": %s}, "aps": {"alert": "x"}}`, list), 202)["id"].(string)
			if counts := r.done(id)["counts"].(map[string]any); counts["accepted"] != 600.0 {
				t.Errorf("production: %v", counts)
			}
			if took := time.Since(begin); took > 20*time.Second { // it takes some milliseconds; a pause of the sandbox lasts longer
				t.Errorf("production took %v", took)
			}
			if state := r.call("GET", "/v1/notifications/"+held, "", 200)["state"]; state == "done" {
				t.Error("what the sandbox did not take is done")
			}
			parsed, err := push.ParseToken(tokens[599])
			if err != nil {
				t.Fatal(err)
			}
			if got := first.Received(parsed); len(got) != 1 {
				t.Errorf("production's simulator got %v", got)
			}
		})
	}
}
