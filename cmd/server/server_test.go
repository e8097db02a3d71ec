package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/lhspn/lhspn/internal/config"
	"github.com/lhspn/lhspn/internal/database/dbtest"
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/simulator"
	"github.com/lhspn/lhspn/internal/simulator/fcmsim"
	"github.com/lhspn/lhspn/internal/simulator/webpushsim"
)

// The test binary is the program, too: what is tested here is tested from outside, as a process that can be killed.
func TestMain(m *testing.M) {
	// Most of the time these tests wait, for processes and for what is due. An argument -parallel still wins.
	_ = flag.Set("test.parallel", strconv.Itoa(2*runtime.GOMAXPROCS(0)))
	testscript.Main(m, map[string]func(){"server": main})
}

func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{Dir: "testdata/script", Setup: func(env *testscript.Env) error {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return err
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return err
		}
		text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
		return os.WriteFile(filepath.Join(env.WorkDir, "key.p8"), text, 0o600)
	}})
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
	req, err := http.NewRequest(method, r.api+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+cmp.Or(r.apiKey, testKey))
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	if res.StatusCode != status {
		r.t.Fatalf("%s %s: status %d, want %d: %s", method, path, res.StatusCode, status, text)
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
			t.Run("sqlite", func(t *testing.T) {
				t.Parallel()
				f(t, newRig(t, transport, "sqlite:"+filepath.Join(t.TempDir(), "lhspn.db")))
			})
			t.Run("mysql", func(t *testing.T) {
				t.Parallel()
				f(t, newRig(t, transport, dbtest.MySQLAddress(t)))
			})
		})
	}
}

// The way of a notification from end to end, with a token that APNs refuses, and one that is dead.
func TestSendsAndForgets(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		r.start()
		good := token(1)
		bad := simulator.MagicToken(simulator.InvalidToken, 1).String()
		gone := simulator.MagicTokenAt(simulator.Unregistered, 1, time.Now().Add(time.Hour)).String()
		for _, token := range []string{good, bad, gone} {
			r.call("PUT", "/v1/tokens/"+token, `{"badge": 2}`, 201)
		}
		n := r.call("POST", "/v1/notifications", fmt.Sprintf(`{"to": {"tokens": [%q, %q]}, "aps": {"alert": "Hello"}, "badge_increment": 3}`, good, bad), 202)
		counts, _ := r.done(n["id"].(string))["counts"].(map[string]any)
		if counts["accepted"] != 1.0 || counts["failed"] != 1.0 {
			t.Errorf("counts %v, want one accepted and one failed", counts)
		}
		failures, _ := r.call("GET", "/v1/notifications/"+n["id"].(string)+"/failures", "", 200)["items"].([]any)
		if len(failures) != 1 || failures[0].(map[string]any)["token"] != bad {
			t.Errorf("failures %v, want the bad token's", failures)
		}
		if badge := r.call("GET", "/v1/tokens/"+good, "", 200)["badge"]; badge != 5.0 {
			t.Errorf("badge %v, want 2 + 3", badge)
		}
		parsed, _ := push.ParseToken(good)
		if got := r.sim.Received(parsed); len(got) != 1 || !strings.Contains(got[0].Payload, `"badge":5`) {
			t.Errorf("the device got %v, want one push with badge 5", got)
		}

		// Dead since later than its registration: it goes. Registered again since then: it stays.
		r.call("POST", "/v1/notifications", fmt.Sprintf(`{"to": {"tokens": [%q]}, "aps": {"alert": "Hello"}}`, gone), 202)
		r.sim.AddFeedback(time.Now().Add(-time.Hour), parsed)
		r.until("the dead token is removed", func() bool {
			r.call("POST", "/v1/feedback/check", "", 200)
			items, _ := r.call("GET", "/v1/feedback", "", 200)["items"].([]any)
			for _, it := range items {
				if it := it.(map[string]any); it["token"] == gone {
					return it["removed"] == true
				}
			}
			return false
		})
		r.call("GET", "/v1/tokens/"+gone, "", 404)
		r.call("GET", "/v1/tokens/"+good, "", 200)
		r.stop()
	})
}

// Whatever the instant at which the process is killed: what was accepted reaches the gateway, the counts add up and no
// badge is counted twice.
func TestSurvivesKills(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		const rounds, recipients = 3, 1500
		r.sim.SetFaults(simulator.Faults{Latency: 2 * time.Millisecond})
		var tokens []string
		r.start()
		for i := range recipients {
			tokens = append(tokens, token(i))
		}
		for _, token := range tokens[:20] {
			r.call("PUT", "/v1/tokens/"+token, "", 201)
		}
		list, _ := json.Marshal(tokens)
		var ids []string
		for range rounds {
			n := r.call("POST", "/v1/notifications", fmt.Sprintf(`{"to": {"tokens": %s}, "aps": {"alert": "Hello"}, "badge_increment": 1}`, list), 202)
			ids = append(ids, n["id"].(string))
			seen := r.sim.Totals().Received
			r.until("some are sent", func() bool { return r.sim.Totals().Received > seen })
			r.kill()
			r.start()
		}
		for _, id := range ids {
			status := r.done(id)
			if counts := status["counts"].(map[string]any); counts["accepted"] != float64(recipients) {
				t.Errorf("counts %v, want %d accepted", counts, recipients)
			}
		}
		for _, token := range tokens[:20] {
			if badge := r.call("GET", "/v1/tokens/"+token, "", 200)["badge"]; badge != float64(rounds) {
				t.Errorf("badge %v after %d notifications", badge, rounds)
			}
		}
		for _, text := range tokens {
			parsed, _ := push.ParseToken(text)
			if got := r.sim.Counts(parsed).Accepted; got < rounds {
				t.Errorf("token %s received %d notifications of %d", text, got, rounds)
			}
		}
	})
}

// A feedback service that breaks off in the middle: what it told before is decided on, and is the answer of the check.
// One that is away is a dependency that is away, and no failure of ours.
func TestAFeedbackServiceThatBreaksOff(t *testing.T) {
	t.Parallel()
	r := newRig(t, "binary", "sqlite:"+filepath.Join(t.TempDir(), "lhspn.db"))
	r.start()
	for n := range 2 {
		r.call("PUT", "/v1/tokens/"+token(n), "", 201)
		parsed, _ := push.ParseToken(token(n))
		r.sim.AddFeedback(time.Now().Add(time.Hour), parsed)
	}
	r.sim.SetFaults(simulator.Faults{FeedbackCut: true})
	if items, _ := r.call("POST", "/v1/feedback/check", "", 200)["items"].([]any); len(items) != 1 {
		t.Errorf("items %v, want that of the whole tuple", items)
	}
	r.call("GET", "/v1/tokens/"+token(0), "", 404)
	r.call("GET", "/v1/tokens/"+token(1), "", 200)

	parsed, _ := push.ParseToken(token(1))
	r.sim.AddFeedback(time.Now(), parsed)
	problem := r.call("POST", "/v1/feedback/check", "", 503)
	if problem["type"] != "urn:lhspn:problem:unavailable" {
		t.Errorf("problem %v", problem)
	}
}

// An orderly stop in the middle of sending loses nothing and repeats nothing.
func TestStopsInOrder(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		const recipients = 2000
		r.start()
		var tokens []string
		for i := range recipients {
			tokens = append(tokens, token(i))
		}
		list, _ := json.Marshal(tokens)
		n := r.call("POST", "/v1/notifications", fmt.Sprintf(`{"to": {"tokens": %s}, "aps": {"alert": "Hello"}}`, list), 202)
		r.stop()
		r.start()
		r.done(n["id"].(string))
		r.stop()
		for _, text := range tokens {
			parsed, _ := push.ParseToken(text)
			if got := r.sim.Counts(parsed).Accepted; got != 1 {
				t.Errorf("token %s received %d notifications, want 1", text, got)
			}
		}
	})
}

func TestDurationsAreLoggedWithTheirUnit(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"json", "text"} {
		var out bytes.Buffer
		log, _ := newLogger(config.Log{Level: "info", Format: format}, &out)
		log.Info("tried again", "every", 90*time.Second)
		if !strings.Contains(out.String(), "1m30s") {
			t.Errorf("%s: %s", format, &out)
		}
	}
}

// What APNs answered is not taken for a gateway that cannot be reached, and what can be done is said.
func TestSendCommandSaysWhatToDo(t *testing.T) {
	t.Parallel()
	r := newRig(t, "http2", "sqlite:unused.db")
	for fault, want := range map[simulator.Fault]string{
		0x0209: "APNs answered", // IdleTimeout
		0x0212: "clock",         // ExpiredProviderToken
		0x0216: "APNs answered", // UnrelatedKeyIdInToken
		0x021c: "20 minutes",    // TooManyProviderTokenUpdates
	} {
		err := send(t.Context(), r.file, message{token: simulator.MagicToken(fault, 1).String(), body: "Hello"}, io.Discard)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "could not be reached") {
			t.Errorf("%#x: %v, want %q", fault, err, want)
		}
	}
}

// An app of the sandbox is sent to there, and the verdict names it.
func TestSendCommandNamesTheGateway(t *testing.T) {
	t.Parallel()
	r := newRig(t, "http2", "sqlite:unused.db")
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }))
	t.Cleanup(proxy.Close)
	text, err := os.ReadFile(r.file)
	if err != nil {
		t.Fatal(err)
	}
	text = regexp.MustCompile(`gateway: "[^"]*"`).ReplaceAll(text, []byte("environment: sandbox, proxy: "+strconv.Quote(proxy.URL)))
	if err := os.WriteFile(r.file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	err = send(t.Context(), r.file, message{token: token(1), body: "Hello"}, io.Discard)
	if err == nil || !strings.HasPrefix(err.Error(), "not accepted by api.sandbox.push.apple.com: ") ||
		!strings.Contains(err.Error(), "CONNECT api.sandbox.push.apple.com:443: 403") {
		t.Error(err)
	}
}

// The first thing that an operator does with new credentials.
func TestSendCommand(t *testing.T) {
	t.Parallel()
	for _, transport := range []string{"binary", "http2"} {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, transport, "sqlite:unused.db")
			var out bytes.Buffer
			if err := send(t.Context(), r.file, message{token: token(1), body: "Hello"}, &out); err != nil || !strings.HasPrefix(out.String(), "accepted by 127.0.0.1:") {
				t.Errorf("a good token: %v, %s", err, &out)
			}
			parsed, _ := push.ParseToken(token(1))
			if got := r.sim.Received(parsed); len(got) != 1 || got[0].Payload != `{"aps":{"alert":"Hello"}}` {
				t.Errorf("the device got %v", got)
			}
			view := "VIEW"
			localised := message{
				token: token(2), environment: "sandbox", locKey: "DINNER", locArgs: []string{"Anna, Ben"}, actionLocKey: &view, launchImage: "a.png",
			}
			if err := send(t.Context(), r.file, localised, &out); err != nil {
				t.Errorf("a localised alert: %v", err)
			}
			parsed, _ = push.ParseToken(token(2))
			const want = `{"aps":{"alert":{"action-loc-key":"VIEW","launch-image":"a.png","loc-args":["Anna, Ben"],"loc-key":"DINNER"}}}`
			if got := r.sim.Received(parsed); len(got) != 1 || got[0].Payload != want {
				t.Errorf("the device got %v", got)
			}
			err := send(t.Context(), r.file, message{app: "hedgehog", token: simulator.MagicToken(simulator.InvalidToken, 1).String(), body: "Hello"}, &out)
			if err == nil || !strings.Contains(err.Error(), "compare topic and environment") {
				t.Errorf("a bad token: %v", err)
			}
			// Why there is no connection is what an operator must know; the reason alone does not tell.
			elsewhere := filepath.Join(filepath.Dir(r.file), "elsewhere.yaml")
			text, err := os.ReadFile(r.file)
			if err != nil {
				t.Fatal(err)
			}
			text = regexp.MustCompile(`gateway: "[^"]*"`).ReplaceAll(text, []byte(`gateway: "127.0.0.1:1"`))
			if err := os.WriteFile(elsewhere, text, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := send(t.Context(), elsewhere, message{token: token(1), body: "x"}, &out); err == nil || !strings.Contains(err.Error(), "connection refused") {
				t.Errorf("no gateway: %v", err)
			}
			for _, wrong := range []message{
				{app: "another", token: token(1), body: "x"}, {token: "abc", body: "x"}, {token: token(1)},
				{token: token(1), body: "x", locKey: "K"}, {token: token(1), body: "x", environment: "test"},
			} {
				if err := send(t.Context(), r.file, wrong, &out); err == nil {
					t.Errorf("%+v: no error", wrong)
				}
			}
		})
	}
}

// One environment of an app that is away, or refused, takes nothing from the other one.
func TestOneRouteNeverStopsAnother(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ transport, sandbox string }{
		{"binary", ""}, {"binary", "closes"}, {"binary", "breaks off"}, {"binary", "status 1"}, {"binary", "status 10"}, {"http2", ""},
		{"http2", `403 {"reason":"BadEnvironmentKeyIdInToken"}`},
		{"http2", `403 {"reason":"BadCertificateEnvironment"}`},
		{"http2", `400 {"reason":"TopicDisallowed"}`},
	} {
		t.Run(c.transport+" "+c.sandbox, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, c.transport, "sqlite:"+filepath.Join(t.TempDir(), "lhspn.db"))
			gateway := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				status, body, _ := strings.Cut(c.sandbox, " ")
				code, _ := strconv.Atoi(status)
				w.WriteHeader(code)
				_, _ = io.WriteString(w, body)
			}))
			gateway.EnableHTTP2 = true
			gateway.StartTLS()
			t.Cleanup(gateway.Close)
			address := gateway.Listener.Addr().String()
			switch {
			case c.sandbox == "":
				gateway.Close() // nobody listens there
			case c.transport == "binary":
				address = refusingBinaryGateway(t, c.sandbox, gateway.TLS.Certificates)
			}
			ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: gateway.Certificate().Raw})
			if err := os.WriteFile(filepath.Join(r.dir, "sandbox.pem"), ca, 0o600); err != nil {
				t.Fatal(err)
			}
			text, err := os.ReadFile(r.file)
			if err != nil {
				t.Fatal(err)
			}
			own := fmt.Sprintf("ca_file: certs/ca.pem, sandbox: {gateway: %q, ca_file: sandbox.pem}, ", address)
			text = bytes.Replace(text, []byte("ca_file: certs/ca.pem, "), []byte(own), 1)
			if err := os.WriteFile(r.file, text, 0o600); err != nil {
				t.Fatal(err)
			}
			r.start()
			r.call("PUT", "/v1/tokens/"+token(9999), `{"environment": "sandbox", "user_id": "u"}`, 201)
			waiting := []any{
				r.call("POST", "/v1/notifications", `{"to": {"tokens": ["`+token(9998)+`"], "environment": "sandbox"}, "aps": {"alert": "x"}}`, 202)["id"],
				r.call("POST", "/v1/notifications", `{"to": {"tokens": ["`+token(9999)+`"]}, "aps": {"alert": "x"}}`, 202)["id"],
				r.call("POST", "/v1/notifications", `{"to": {"users": ["u"]}, "aps": {"alert": "x"}}`, 202)["id"],
			}
			r.until("the sandbox route is paused", func() bool {
				return regexp.MustCompile(`lhspn_sender_app_paused\{app="hedgehog",cause="\w+",route="sandbox"\} 1`).MatchString(r.metrics())
			})
			began := time.Now()
			for i := range 6 {
				tokens := make([]string, 100)
				for j := range tokens {
					tokens[j] = strconv.Quote(token(100*i + j))
				}
				id := r.call("POST", "/v1/notifications", `{"to": {"tokens": [`+strings.Join(tokens, ",")+`]}, "aps": {"alert": "x"}}`, 202)["id"]
				if counts := r.done(id.(string))["counts"].(map[string]any); counts["accepted"] != 100.0 {
					t.Errorf("production: %v", counts)
				}
			}
			if took := time.Since(began); took > 30*time.Second {
				t.Errorf("600 notifications to production took %v", took)
			}
			for _, id := range waiting { // and nothing of the sandbox is lost, or went to production
				if s := r.call("GET", "/v1/notifications/"+id.(string), "", 200); s["state"] == "done" {
					t.Errorf("a notification to the sandbox: %v", s)
				}
			}
		})
	}
}

// refusingBinaryGateway takes connections, and then closes them at once, breaks them off once something was written, or
// answers whatever comes first with a status.
func refusingBinaryGateway(t *testing.T, how string, certificates []tls.Certificate) (address string) {
	t.Helper()
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: certificates, MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	t.Cleanup(func() {
		_ = ln.Close()
		serving.Wait()
	})
	serve := func(c *tls.Conn) {
		defer c.Close()
		if c.Handshake() != nil || how == "closes" {
			return
		}
		head := make([]byte, 5) // command and identifier
		if _, err := io.ReadFull(c, head); err != nil || how == "breaks off" {
			return
		}
		status, _ := strconv.Atoi(strings.TrimPrefix(how, "status "))
		_, _ = c.Write(append([]byte{8, byte(status)}, head[1:]...))
		_ = c.CloseWrite()
		_, _ = io.Copy(io.Discard, c)
	}
	serving.Go(func() {
		for c, err := ln.Accept(); err == nil; c, err = ln.Accept() {
			serving.Go(func() { serve(c.(*tls.Conn)) })
		}
	})
	return ln.Addr().String()
}

// After SIGTERM the service says at once that it is not ready, and goes on serving until load balancers have noticed.
func TestShutdownDelay(t *testing.T) {
	t.Parallel()
	r := newRig(t, "http2", "sqlite:"+filepath.Join(t.TempDir(), "lhspn.db"))
	text, err := os.ReadFile(r.file)
	if err != nil {
		t.Fatal(err)
	}
	text = bytes.Replace(text, []byte("shutdown_delay: 0s"), []byte("shutdown_delay: 5m"), 1)
	if err := os.WriteFile(r.file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	r.start()
	ready := func() int {
		res, err := http.Get(r.ops + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		return res.StatusCode
	}
	if got := ready(); got != 200 {
		t.Fatalf("ready: %d", got)
	}
	if err := r.process.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	r.until("it is not ready any more", func() bool { return ready() == 503 })
	id := r.call("POST", "/v1/notifications", `{"to": {"tokens": ["`+token(1)+`"]}, "aps": {"alert": "x"}}`, 202)["id"].(string)
	r.done(id)
	r.stop() // the second signal ends the delay
}

// An app whose credentials cannot be used waits until they can, and holds up no other.
func TestUnusableCredentialsHoldOneAppOnly(t *testing.T) {
	t.Parallel()
	p8 := "AuthKey_" + simulator.ProviderKeyID + ".p8"
	key := "key_file: other, key_id: " + simulator.ProviderKeyID + ", team_id: " + simulator.TeamID
	for name, c := range map[string]struct {
		settings      string
		broken, right string // what is in the file called other, at first and then; empty for no file, a name in certs otherwise
	}{
		"not a key":        {key, "ca.pem", p8},
		"no key":           {key, "", p8},
		"no certificate":   {"certificate_file: other", "", "client.pem"},
		"no password file": {"certificate_file: certs/client.p12, certificate_password_file: other", "", "password"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testUnusableCredentials(t, c.settings, c.broken, c.right)
		})
	}
}

// testUnusableCredentials has a second app, whose credentials need a file that is broken at first.
func testUnusableCredentials(t *testing.T, settings, broken, right string) {
	t.Helper()
	r := newRig(t, "http2", "sqlite:"+filepath.Join(t.TempDir(), "lhspn.db"))
	text, err := os.ReadFile(r.file)
	if err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(r.dir, "other")
	put := func(name string) {
		content := []byte(simulator.P12Password + "\n")
		if name != "password" {
			if content, err = os.ReadFile(filepath.Join(r.dir, "certs", name)); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(other, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if broken != "" {
		put(broken)
	}
	const otherKey = "lhspn_other_key_of_the_tests"
	text = fmt.Appendf(text, `  - name: other
    apns: {topic: %s, gateway: %q, ca_file: certs/ca.pem, %s}
    keys: [{name: other, scope: admin, sha256: %s}]
`, simulator.DefaultTopic, r.sim.ProviderAddr(), settings, config.HashKey(otherKey))
	if err := os.WriteFile(r.file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	r.start()
	if err := check(r.file, io.Discard); err == nil || !strings.Contains(err.Error(), other) {
		t.Errorf("server check: %v", err)
	}
	id := r.call("POST", "/v1/notifications", `{"to": {"tokens": ["`+token(1)+`"]}, "aps": {"alert": "x"}}`, 202)["id"].(string)
	if counts := r.done(id)["counts"].(map[string]any); counts["accepted"] != 1.0 {
		t.Errorf("the other app: %v", counts)
	}
	const metric = `lhspn_credentials_unusable{app="other",route="production"} `
	if m := r.metrics(); !strings.Contains(m, metric+"1") {
		t.Error("no metric says that the credentials cannot be used")
	}
	put(right)
	r.until("the repaired credentials are taken up without a notification", func() bool {
		return strings.Contains(r.metrics(), metric+"0")
	})
	r.apiKey = otherKey
	id = r.call("POST", "/v1/notifications", `{"to": {"tokens": ["`+token(2)+`"]}, "aps": {"alert": "x"}}`, 202)["id"].(string)
	if counts := r.done(id)["counts"].(map[string]any); counts["accepted"] != 1.0 {
		t.Errorf("the repaired app: %v", counts)
	}
}

// Device tokens are arbitrary bytes, also such as look like the written form of another platform's.
func TestTokensThatLookLikeAnotherPlatforms(t *testing.T) {
	t.Parallel()
	for _, transport := range []string{"binary", "http2"} {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, transport, "sqlite:"+filepath.Join(t.TempDir(), "lhspn.db"))
			r.start()
			var tokens []push.Token
			var list []string
			for _, prefix := range []string{"m:", "fcm:", "hex:", "webpush:", "hex:fcm:"} {
				token := push.HexToken(prefix + strings.Repeat("x", 32-len(prefix)))
				tokens, list = append(tokens, token), append(list, strconv.Quote(token.String()))
				r.call("PUT", "/v1/tokens/"+token.String(), `{"user_id": "u"}`, 201)
				if got := r.call("GET", "/v1/tokens/"+token.String(), "", 200)["token"]; got != token.String() {
					t.Errorf("%s is read back as %v", token, got)
				}
			}
			for _, to := range []string{`{"tokens": [` + strings.Join(list, ",") + `]}`, `{"users": ["u"]}`} {
				r.done(r.call("POST", "/v1/notifications", `{"to": `+to+`, "aps": {"alert": "x"}}`, 202)["id"].(string))
			}
			for _, token := range tokens {
				if got := r.sim.Counts(token).Accepted; got != 2 {
					t.Errorf("%s received %d notifications, want 2", token, got)
				}
			}
		})
	}
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
