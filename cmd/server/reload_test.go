package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lhspn/lhspn/internal/config"
	"github.com/lhspn/lhspn/internal/inline"
	"github.com/lhspn/lhspn/internal/simulator"
)

// rewrite changes the configuration file and has it read.
func (r *rig) rewrite(change func(text string) string) {
	r.t.Helper()
	text, err := os.ReadFile(r.file)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(r.file, []byte(change(string(text))), 0o600); err != nil {
		r.t.Fatal(err)
	}
	if err := r.process.Process.Signal(syscall.SIGHUP); err != nil {
		r.t.Fatal(err)
	}
}

// logged waits for a line of the log.
func (r *rig) logged(text string) {
	r.t.Helper()
	r.until("the log says "+text, func() bool { return strings.Contains(r.logs.String(), text) })
}

// SIGHUP takes up what the file has new, and ends nothing: a broadcast that runs meanwhile reaches everybody once.
func TestReload(t *testing.T) {
	t.Parallel()
	r := newRig(t, "http2", "sqlite:"+filepath.Join(t.TempDir(), "lhspn.db"))
	// Another key under another id than the gateway takes: nothing is sent by it.
	other, _ := config.NewKey("x")
	key := writeKey(t, filepath.Join(r.dir, "certs", "AuthKey_OTHER12345.p8"))
	text, err := os.ReadFile(r.file)
	if err != nil {
		t.Fatal(err)
	}
	good := fmt.Sprintf("key_file: certs/AuthKey_%s.p8, key_id: %s,", simulator.ProviderKeyID, simulator.ProviderKeyID)
	refused := fmt.Sprintf("key_file: %s, key_id: OTHER12345,", key)
	if err := os.WriteFile(r.file, []byte(strings.Replace(string(text), good, refused, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	r.start()
	const recipients = 3000
	var tokens []string
	for i := range recipients {
		tokens = append(tokens, `"`+token(i)+`"`)
	}
	n := r.call("POST", "/v1/notifications", `{"to": {"tokens": [`+strings.Join(tokens, ",")+`]}, "aps": {"alert": "Hello"}}`, 202)

	// A wrong file changes nothing, and is told.
	r.rewrite(func(text string) string { return text + "nonsense: 1\n" })
	r.logged("the configuration file is wrong")
	r.call("GET", "/v1/notifications/"+n["id"].(string), "", 200)
	guess := "    keys: [{name: guess, scope: send, sha256: " + config.HashKey("password").String() + "}, "
	r.rewrite(func(text string) string {
		return strings.Replace(strings.Replace(text, "nonsense: 1\n", "", 1), "    keys: [", guess, 1)
	})
	r.logged("a key that anybody would guess")
	if status := r.as("password").status("GET", "/v1/notifications"); status != 401 {
		t.Errorf("with a key that anybody would guess: %d", status)
	}

	// The right key with its id, one more app, a key that is revoked, and what needs a restart.
	r.rewrite(func(text string) string {
		text = strings.Replace(text, guess, "    keys: [", 1)
		text = strings.Replace(text, refused, good, 1)
		text = strings.Replace(text, "queue: {lease: 2s}", "queue: {lease: 3s}\nlog: {level: debug}", 1)
		apns := text[strings.Index(text, "    apns:"):strings.Index(text, "    keys:")]
		return text + "  - name: another\n" + apns + "    keys: [{name: new, scope: send, sha256: " + config.HashKey(other).String() + "}]\n"
	})
	r.logged("the configuration's apps and keys are in force")
	r.logged(`"settings":"queue.lease"`)
	if counts := r.done(n["id"].(string))["counts"].(map[string]any); counts["accepted"] != float64(recipients) {
		t.Errorf("counts %v, want %d accepted", counts, recipients)
	}
	if got := r.sim.Totals().Accepted; got != recipients {
		t.Errorf("the gateway took %d, want each once", got)
	}
	r.apiKey = other
	n = r.call("POST", "/v1/notifications", fmt.Sprintf(`{"to": {"tokens": [%q]}, "aps": {"alert": "Hello"}}`, token(0)), 202)
	r.done(n["id"].(string))
	r.logged(`"msg":"request"`) // at debug

	// The key is gone, and so is the app.
	r.rewrite(func(text string) string { return text[:strings.Index(text, "  - name: another")] })
	r.logged("app is gone")
	r.until("the key is refused", func() bool { return r.status("GET", "/v1/notifications") == 401 })
	r.apiKey = ""
	r.call("GET", "/v1/notifications", "", 200)
	r.stop()
}

// Whoever sends SIGHUP is told what came of it, also where the log has said so before.
func TestHangupIsAnswered(t *testing.T) {
	t.Parallel()
	r := newRig(t, "http2", "sqlite:"+filepath.Join(t.TempDir(), "lhspn.db"))
	r.start()
	good, err := os.ReadFile(r.file)
	if err != nil {
		t.Fatal(err)
	}
	write := func(text string) {
		t.Helper()
		next := r.file + ".next"
		if err := errors.Join(os.WriteFile(next, []byte(text), 0o600), os.Rename(next, r.file)); err != nil {
			t.Fatal(err)
		}
	}
	told := func(line string, times int) {
		t.Helper()
		r.until(fmt.Sprintf("%q is told %d times", line, times), func() bool { return strings.Count(r.logs.String(), line) >= times })
	}
	hangUp := func() {
		t.Helper()
		if err := r.process.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	write(string(good) + "nonsense: 1\n")
	const wrong, asItWas, later = "the configuration file is wrong", "are in force as they were", "at the next start only"
	for times := range 3 {
		hangUp()
		told(wrong, times+1)
	}
	write(strings.Replace(string(good), "queue: {lease: 2s}", "queue: {lease: 3s}", 1))
	for times := range 3 {
		hangUp()
		told(later, times+1)
		told(asItWas, times+1)
	}
	r.stop()
}

// Limits hold from a reload on, in both directions.
func TestReloadOfLimits(t *testing.T) {
	t.Parallel()
	r := newRig(t, "http2", "sqlite:"+filepath.Join(t.TempDir(), "lhspn.db"))
	r.start()
	set := func(limits string) {
		t.Helper()
		r.rewrite(func(text string) string {
			text, _, _ = strings.Cut(text, "api: {")
			return text + "api: {" + limits + "}\n"
		})
	}
	get := func() int { return r.as("").statusWith("GET", "/v1/webpush/key?app=none", "", nil) }
	for range 50 {
		if status := get(); status != 404 {
			t.Fatalf("before: %d", status)
		}
	}
	set("register_rate: 1, max_in_flight: 1, max_connections: 1")
	r.until("the rate holds", func() bool { return get() == 429 })
	r.until("but one connection is closed", func() bool {
		first, err := net.Dial("tcp", r.api[len("http://"):])
		if err != nil {
			t.Fatal(err)
		}
		defer first.Close()
		if status := r.status("GET", "/v1/tokens"); status != 200 { // over another
			t.Fatalf("over one connection: %d", status)
		}
		_ = first.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		_, err = first.Read(make([]byte, 1))
		return errors.Is(err, io.EOF)
	})
	set("register_rate: 0")
	r.until("there is no rate", func() bool { return get() == 404 })
	if strings.Contains(r.logs.String(), "at the next start only") {
		t.Error("a restart is asked for")
	}
	r.stop()
}

// A new file of public keys counts from its change on, and a bad one leaves the good one.
func TestReloadOfProofs(t *testing.T) {
	t.Parallel()
	r := newRig(t, "http2", "sqlite:"+filepath.Join(t.TempDir(), "lhspn.db"))
	jwks := filepath.Join(r.dir, "jwks.json")
	// "k" in base64url, each of 32 bytes.
	set := func(secret string) {
		text := fmt.Sprintf(`{"keys": [{"kty": "oct", "alg": "HS256", "k": %q}]}`, secret)
		if err := os.WriteFile(jwks, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	first, second := strings.Repeat("A", 43), strings.Repeat("A", 42)+"E"
	set(first)
	text, err := os.ReadFile(r.file)
	if err != nil {
		t.Fatal(err)
	}
	register := "a register key of the tests"
	text = append(text, "    user_tokens: {jwks_file: jwks.json}\n"...)
	text = []byte(strings.Replace(string(text), "keys: [", "keys: [{name: mobile, scope: register, sha256: "+config.HashKey(register).String()+"}, ", 1))
	if err := os.WriteFile(r.file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	r.start()
	r.apiKey = register
	n := 0
	proves := func(secret string) bool {
		n++
		return r.statusWith("PUT", "/v1/tokens/"+token(n), `{"user_id": "u"}`, map[string]string{"X-User-Token": userToken(t, secret, "u")}) < 300
	}
	if !proves(first) || proves(second) {
		t.Fatal("proofs are not checked by the file")
	}
	if err := os.WriteFile(jwks, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.logged("an app's new settings cannot be used") // without SIGHUP
	if !proves(first) {
		t.Error("a bad file has taken the good one away")
	}
	set(second)
	r.until("the new key counts", func() bool { return proves(second) })
	if proves(first) {
		t.Error("the former key counts still")
	}
	r.stop()
}

// Another authority in the file that ca_file names is taken up as a new setting is.
func TestReloadOfAuthorities(t *testing.T) {
	t.Parallel()
	r := newRig(t, "http2", "sqlite:"+filepath.Join(t.TempDir(), "lhspn.db"))
	file := filepath.Join(r.dir, "certs", "ca.pem")
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	writeCertificate(t, file, "", time.Hour)
	r.start()
	n := r.call("POST", "/v1/notifications", `{"to": {"tokens": ["`+token(1)+`"]}, "aps": {"alert": "Hello"}}`, 202)
	r.logged("the gateway cannot be reached")
	if err := os.WriteFile(file, good, 0o600); err != nil {
		t.Fatal(err)
	}
	r.until("the notification is sent", func() bool {
		return r.call("GET", "/v1/notifications/"+n["id"].(string), "", 200)["state"] == "done"
	})
	r.stop()
}

// What was given by API is no file: watched as one it would be in the log, with the keys that it has.
func TestOnlyFilesAreWatched(t *testing.T) {
	t.Parallel()
	text := inline.Ref("jwks", []byte(`{"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "a/b"}]}`))
	l := &live{apps: map[string]*liveApp{"fox": {settings: config.App{
		APNs: config.APNs{Topic: "com.example.fox", CAFile: text}, FCM: config.FCM{Credentials: "metadata_server", CAFile: "ca.pem"},
		UserTokens: config.UserTokens{JWKSFile: text},
	}}}}
	if files := l.files(); !slices.Equal(files, []string{"ca.pem"}) {
		t.Errorf("%q", files)
	}
}
