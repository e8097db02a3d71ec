package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/lhspn/lhspn/internal/config"
	"github.com/lhspn/lhspn/internal/database/dbtest"
	"github.com/lhspn/lhspn/internal/simulator"
	"github.com/lhspn/lhspn/internal/simulator/fcmsim"
	"github.com/lhspn/lhspn/internal/simulator/webpushsim"
)

// writeKey writes a new signing key, as Apple gives them out, and returns the file.
func writeKey(t *testing.T, file string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// status is what a request without a body is answered with.
func (r *rig) status(method, path string) int {
	r.t.Helper()
	return r.statusWith(method, path, "", nil)
}

func (r *rig) statusWith(method, path, body string, header map[string]string) int {
	r.t.Helper()
	status, _ := r.do(method, path, body, header)
	return status
}

// do makes a request and reads its whole answer.
func (r *rig) do(method, path, body string, header map[string]string) (status int, text []byte) {
	r.t.Helper()
	req, err := http.NewRequest(method, r.api+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+cmp.Or(r.apiKey, testKey))
	req.Header.Set("Content-Type", "application/json")
	for name, value := range header {
		req.Header.Set(name, value)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	if text, err = io.ReadAll(res.Body); err != nil {
		r.t.Fatal(err)
	}
	return res.StatusCode, text
}

// userToken proves the user by a shared secret in base64url.
func userToken(t *testing.T, secret, user string) string {
	t.Helper()
	key, err := base64.RawURLEncoding.DecodeString(secret)
	if err != nil {
		t.Fatal(err)
	}
	claims := jwt.MapClaims{"sub": user, "exp": time.Now().Add(time.Hour).Unix()}
	signed, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

const testKey = "a key of the tests"

// rig is a service's surroundings: the simulator, a configuration, and the process while it runs.
type rig struct {
	t    *testing.T
	dir  string
	sim  *simulator.Simulator
	file string

	transport string

	process  *exec.Cmd
	stderr   *bytes.Buffer
	logs     *lockedBuffer // what it logs after that it serves
	api, ops string
	apiKey   string // where it is not testKey
}

// newRig starts a simulator and writes a configuration. Of the processes it starts, none outlives the test.
func newRig(t *testing.T, transport, database string) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir(), transport: transport}
	log := slog.New(slog.DiscardHandler)
	certs := filepath.Join(r.dir, "certs")
	var err error
	r.sim, err = simulator.New(simulator.Config{
		Gateway: "127.0.0.1:0", Feedback: "127.0.0.1:0", Provider: "127.0.0.1:0", CredentialsDir: certs, RequireClientCert: true,
		VerifyProviderTokens: true, TrackIDs: true,
		FCM: fcmsim.Config{Address: "127.0.0.1:0"}, WebPush: webpushsim.Config{Address: "127.0.0.1:0"},
	}, log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.sim.Run(ctx) }()
	t.Cleanup(func() {
		r.kill()
		stop()
		if err := <-done; err != nil {
			t.Error("simulator:", err)
		}
	})
	apns := fmt.Sprintf("{topic: "+simulator.DefaultTopic+", transport: binary, gateway: %q, feedback_address: %q, ca_file: certs/ca.pem, certificate_file: certs/client.pem, idle_close: 200ms}",
		r.sim.GatewayAddr(), r.sim.FeedbackAddr())
	if transport == "http2" {
		apns = fmt.Sprintf("{topic: "+simulator.DefaultTopic+", gateway: %q, ca_file: certs/ca.pem, key_file: certs/AuthKey_%s.p8, key_id: %s, team_id: %s}",
			r.sim.ProviderAddr(), simulator.ProviderKeyID, simulator.ProviderKeyID, simulator.TeamID)
	}
	r.file = filepath.Join(r.dir, "lhspn.yaml")
	text := fmt.Sprintf(`
listen: 127.0.0.1:0
ops_listen: 127.0.0.1:0
database: %q
shutdown_delay: 0s
queue: {lease: 2s}
apps:
  - name: hedgehog
    apns: %s
    keys: [{name: tests, scope: admin, sha256: %s}]
`, database, apns, config.HashKey(testKey))
	if err := os.WriteFile(r.file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return r
}

// start starts the service and waits until it serves.
func (r *rig) start() {
	r.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		r.t.Fatal(err)
	}
	// testscript runs what its program is called as.
	program := filepath.Join(r.dir, "server")
	if err := os.Symlink(exe, program); err != nil && !os.IsExist(err) {
		r.t.Fatal(err)
	}
	r.process = exec.CommandContext(r.t.Context(), program, "serve", "--config", r.file) // ends with the test, whatever happens
	out, err := r.process.StderrPipe()
	if err != nil {
		r.t.Fatal(err)
	}
	if err := r.process.Start(); err != nil {
		r.t.Fatal(err)
	}
	hung := time.AfterFunc(time.Minute, func() { _ = r.process.Process.Kill() })
	defer hung.Stop()
	r.stderr, r.logs = new(bytes.Buffer), new(lockedBuffer)
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var line struct{ Msg, Listen, OpsListen string }
		fmt.Fprintln(r.stderr, lines.Text())
		text := strings.Replace(lines.Text(), "ops_listen", "opsListen", 1)
		if json.Unmarshal([]byte(text), &line) == nil && line.Msg == "serving" {
			r.api, r.ops = "http://"+line.Listen, "http://"+line.OpsListen
			go io.Copy(r.logs, out) // so that the service can go on logging
			return
		}
	}
	r.t.Fatalf("the service ended before it served: %v\n%s", r.process.Wait(), r.stderr)
}

// lockedBuffer can be read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// kill ends the process as a crash does.
func (r *rig) kill() {
	if r.process != nil {
		_ = r.process.Process.Kill()
		_ = r.process.Wait()
		r.process = nil
	}
}

// stop ends the process as an orchestrator does.
func (r *rig) stop() {
	r.t.Helper()
	if err := r.process.Process.Signal(syscall.SIGTERM); err != nil {
		r.t.Fatal(err)
	}
	if err := r.process.Wait(); err != nil {
		r.t.Errorf("after SIGTERM: %v", err)
	}
	r.process = nil
}

func (r *rig) call(method, path, body string, status int) map[string]any {
	r.t.Helper()
	got, text := r.do(method, path, body, nil)
	if got != status {
		r.t.Fatalf("%s %s: status %d, want %d: %s", method, path, got, status, text)
	}
	answer := map[string]any{}
	if len(text) > 0 {
		if err := json.Unmarshal(text, &answer); err != nil {
			r.t.Fatalf("%s %s: %v: %s", method, path, err, text)
		}
	}
	return answer
}

// until asks again until ok, for at most a minute.
func (r *rig) until(what string, ok func() bool) {
	r.t.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			r.t.Fatalf("timed out: %s\n%s", what, r.stderr)
		}
	}
}

func (r *rig) done(id string) map[string]any {
	r.t.Helper()
	var status map[string]any
	r.until("notification "+id+" is done", func() bool {
		status = r.call("GET", "/v1/notifications/"+id, "", 200)
		return status["state"] == "done"
	})
	return status
}

func token(n int) string { return fmt.Sprintf("%064x", 0xbeef0000+n) }

// each runs f for each transport on each engine there is.
func each(t *testing.T, f func(t *testing.T, r *rig)) {
	t.Helper()
	for _, transport := range []string{"binary", "http2"} {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			onSQLite(t, transport, f)
			onMySQL(t, transport, f)
		})
	}
}

// eachOnce is each where an engine and a transport have nothing to do with one another: every one of them comes once.
func eachOnce(t *testing.T, f func(t *testing.T, r *rig)) {
	t.Helper()
	onSQLite(t, "http2", f)
	onMySQL(t, "binary", f)
}

func onSQLite(t *testing.T, transport string, f func(t *testing.T, r *rig)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		f(t, newRig(t, transport, "sqlite:"+filepath.Join(t.TempDir(), "lhspn.db")))
	})
}

func onMySQL(t *testing.T, transport string, f func(t *testing.T, r *rig)) {
	t.Helper()
	t.Run("mysql", func(t *testing.T) {
		t.Parallel()
		f(t, newRig(t, transport, dbtest.MySQLAddress(t)))
	})
}

// metrics is what Prometheus would scrape.
func (r *rig) metrics() string {
	r.t.Helper()
	res, err := http.Get(r.ops + "/metrics")
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return string(text)
}
