package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/lhspn/lhspn/internal/config"
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/simulator"
)

// The test binary is the program, too: what is tested here is tested from outside, as a process that can be killed.
func TestMain(m *testing.M) {
	// Most of the time these tests wait, for processes and for what is due. An argument -parallel still wins.
	_ = flag.Set("test.parallel", strconv.Itoa(4*runtime.GOMAXPROCS(0)))
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

// No level leaves out who did what.
func TestAuditLinesHaveNoLevel(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"json", "text"} {
		var out strings.Builder
		log, _ := newLogger(config.Log{Level: "error", Format: format}, &out)
		log.Warn("left out")
		log.Log(t.Context(), push.LevelAudit, "audit")
		log.Log(t.Context(), push.LevelRefused, "key refused")
		text := out.String()
		if strings.Count(text, "\n") != 2 || !strings.Contains(text, "INFO") || !strings.Contains(text, "WARN") {
			t.Errorf("%s", text)
		}
	}
}
