package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/lhspn/lhspn/internal/config"
	"github.com/lhspn/lhspn/internal/database/dbtest"
	"github.com/lhspn/lhspn/internal/simulator"
)

// backend is an app's backend with a webhook, which verifies what it gets by the specification's own library.
type backend struct {
	t       *testing.T
	address string
	url     string

	mu      sync.Mutex
	srv     *httptest.Server
	latency time.Duration
	secrets []string // all of them must verify
	events  []map[string]any
	wrong   []string
}

// newBackend starts one that knows the secrets.
func newBackend(t *testing.T, secrets ...string) *backend {
	t.Helper()
	b := &backend{t: t, address: "127.0.0.1:0", secrets: secrets}
	b.start()
	t.Cleanup(b.kill)
	return b
}

func (b *backend) start() {
	b.t.Helper()
	l, err := net.Listen("tcp", b.address)
	if err != nil {
		b.t.Fatal(err)
	}
	b.address = l.Addr().String()
	b.url = "http://" + b.address + "/hooks?token=hidden"
	srv := httptest.NewUnstartedServer(http.HandlerFunc(b.take))
	srv.Listener = l
	srv.Start()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.srv = srv
}

// kill ends it with all its connections.
func (b *backend) kill() {
	b.mu.Lock()
	srv := b.srv
	b.srv = nil
	b.mu.Unlock()
	if srv != nil {
		srv.Listener.Close()
		srv.CloseClientConnections()
		srv.Close()
	}
}

func (b *backend) take(w http.ResponseWriter, r *http.Request) {
	text, err := io.ReadAll(r.Body)
	select {
	case <-time.After(b.latency):
	case <-r.Context().Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil || b.srv == nil { // it is being killed: an answer would say that it has the event
		panic(http.ErrAbortHandler)
	}
	for _, secret := range b.secrets {
		key, err := standardwebhooks.NewWebhook(secret)
		if err == nil {
			err = key.Verify(text, r.Header)
		}
		if err != nil {
			b.wrong = append(b.wrong, err.Error())
		}
	}
	var event map[string]any
	if err := json.Unmarshal(text, &event); err != nil || event["id"] != r.Header.Get("webhook-id") {
		b.wrong = append(b.wrong, string(text))
	}
	b.events = append(b.events, event)
	w.WriteHeader(http.StatusNoContent)
}

// got are the events until now, each once, in the order in which they came first.
func (b *backend) got() (events []map[string]any, again int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	seen := map[any]bool{}
	for _, e := range b.events {
		if !seen[e["id"]] {
			events = append(events, e)
		}
		seen[e["id"]] = true
	}
	if len(b.wrong) > 0 {
		b.t.Errorf("wrong requests: %v", b.wrong)
		b.wrong = nil
	}
	return events, len(b.events) - len(events)
}

func (b *backend) know(secrets ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.secrets = secrets
}

// asFeed has events of a webhook be as the feed has them.
func asFeed(events []map[string]any) (items []map[string]any) {
	for _, e := range events {
		items = append(items, map[string]any{"id": e["id"], "type": e["type"], "at": e["timestamp"], "data": e["data"]})
	}
	return items
}

// withWebhook writes webhooks into the configuration, before the service starts.
func (r *rig) withWebhook(hooks string) {
	r.t.Helper()
	text, err := os.ReadFile(r.file)
	if err != nil {
		r.t.Fatal(err)
	}
	changed := strings.Replace(string(text), "    keys:", "    webhooks: ["+hooks+"]\n    keys:", 1)
	if err := os.WriteFile(r.file, []byte(changed), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) allow(b *backend) {
	r.t.Helper()
	text, err := os.ReadFile(r.file)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(r.file, append(text, fmt.Sprintf("webhooks: {allowed_origins: ['http://%s']}\n", b.address)...), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// A webhook gets what the feed has, in the same order; its secret is replaced, an app with one is added by API and
// removed again, all while the service runs.
func TestWebhooks(t *testing.T) {
	t.Parallel()
	for name, database := range map[string]func() string{
		"sqlite": func() string { return "sqlite:" + filepath.Join(t.TempDir(), "lhspn.db") },
		"mysql":  func() string { return dbtest.MySQLAddress(t) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if name == "mysql" {
				dbtest.MySQLAddress(t) // skips it where there is none
			}
			testWebhooks(t, database())
		})
	}
}

func testWebhooks(t *testing.T, database string) {
	t.Helper()
	r := newRig(t, "http2", database)
	r.withOperator()
	former, next := config.NewWebhookSecret(), config.NewWebhookSecret()
	b := newBackend(t, former)
	hook := fmt.Sprintf("{url: %q, secret: %s}", b.url, former)
	r.withWebhook(hook)
	r.allow(b)
	text, err := os.ReadFile(r.file)
	if err != nil {
		t.Fatal(err)
	}
	// A webhook is a consumer, whatever events says.
	if err := os.WriteFile(r.file, []byte(strings.Replace(string(text), "  - name: hedgehog\n", "  - name: hedgehog\n    events: false\n", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	r.start()
	gone := simulator.MagicTokenAt(simulator.Unregistered, 1, time.Now().Add(time.Hour)).String()
	r.call("PUT", "/v1/tokens/"+gone, "{}", 201)
	send := func(r *rig, tokens ...string) {
		t.Helper()
		list, _ := json.Marshal(tokens)
		n := r.call("POST", "/v1/notifications", fmt.Sprintf(`{"to": {"tokens": %s}, "aps": {"alert": "Hello"}}`, list), 202)
		r.done(n["id"].(string))
	}
	send(r, token(1), gone)
	r.call("POST", "/v1/feedback/check", "", 200)
	same := func(r *rig, b *backend, least int) {
		t.Helper()
		var want []map[string]any
		r.until("the webhook has what the feed has", func() bool {
			got, _ := b.got()
			want, _ = r.events("")
			return len(want) >= least && len(got) >= len(want)
		})
		got, again := b.got()
		if diff := cmp.Diff(want, asFeed(got)); diff != "" || again > 0 {
			t.Errorf("%d came again; feed and webhook differ: %s", again, diff)
		}
	}
	same(r, b, 3)

	// Both secrets sign while they change.
	r.rewrite(func(text string) string {
		return strings.Replace(text, hook, fmt.Sprintf("{url: %q, secret: %s, previous_secret: %s}", b.url, next, former), 1)
	})
	r.logged("the configuration's apps and keys are in force")
	b.know(former, next)
	send(r, token(1), token(2))
	same(r, b, 4)

	// By API: private addresses are the file's to allow, secrets are never shown and stay where they are left out.
	operator := r.as(operatorKey)
	own := newBackend(t, next)
	entry := func(webhooks string) string {
		return r.entry("")[:len(r.entry(""))-1] + `, "webhooks": ` + webhooks + "}"
	}
	refused := operator.call("PUT", "/v1/apps/fox", entry(fmt.Sprintf(`[{"url": %q, "secret": %q}]`, own.url, next)), 422)
	if text, _ := json.Marshal(refused); !strings.Contains(string(text), "body.webhooks[0].url") || strings.Contains(string(text), "hidden") {
		t.Errorf("a private address is refused with %s", text)
	}
	r.rewrite(func(text string) string {
		return strings.Replace(text, "allowed_origins: [", fmt.Sprintf("allowed_origins: ['http://%s', ", own.address), 1)
	})
	r.until("the origin is allowed", func() bool {
		return operator.statusWith("PUT", "/v1/apps/fox", entry(fmt.Sprintf(`[{"url": %q, "secret": %q}]`, own.url, next)), nil) == 201
	})
	shown, _ := json.Marshal(operator.call("PUT", "/v1/apps/fox", entry(fmt.Sprintf(`[{"url": %q, "in_flight": 4}]`, own.url)), 200))
	if strings.Contains(string(shown), "whsec") || !strings.Contains(string(shown), `"in_flight":4`) {
		t.Errorf("it is shown as %s", shown)
	}
	key := operator.call("POST", "/v1/apps/fox/keys", `{"name": "backend", "scope": "admin"}`, 201)["key"].(string)
	fox := r.as(key)
	r.until("the key is taken", func() bool { return fox.status("GET", "/v1/notifications") == 200 })
	send(fox, token(3), token(4))
	same(fox, own, 1)
	operator.call("DELETE", "/v1/apps/fox", "", 204)
	r.until("the app is gone", func() bool { return operator.status("GET", "/v1/apps/fox") == 404 })
	r.until("its webhook is gone", func() bool {
		return !strings.Contains(r.metrics(), `lhspn_webhooks_deliveries_total{app="fox"`)
	})
	if metrics := r.metrics(); !strings.Contains(metrics, `lhspn_webhooks_deliveries_total{app="hedgehog",result="delivered"}`) ||
		strings.Contains(metrics, "hidden") {
		t.Error("the metrics are not those of the webhooks there are")
	}
	if strings.Contains(r.logs.String(), "hidden") || strings.Contains(r.logs.String(), "whsec") {
		t.Error("the log has a secret")
	}
}

// Service and receiver are killed in turn: every event arrives, each for the first time in the order of the feed.
func TestWebhooksSurviveKills(t *testing.T) {
	t.Parallel()
	r := newRig(t, "http2", "sqlite:"+filepath.Join(t.TempDir(), "lhspn.db"))
	secret := config.NewWebhookSecret()
	b := newBackend(t, secret)
	b.latency = 10 * time.Millisecond // so that something is under way at each kill
	r.withWebhook(fmt.Sprintf("{url: %q, secret: %s}", b.url, secret))
	r.allow(b)
	r.start()
	const rounds, notifications = 4, 50
	for round := range rounds {
		for i := range notifications {
			r.call("POST", "/v1/notifications", fmt.Sprintf(`{"to": {"tokens": [%q, %q]}, "aps": {"alert": "Hello"}}`, token(i), "00"+token(i)[2:]), 202)
		}
		r.until("some are told", func() bool { got, _ := b.got(); return len(got) > round*notifications+5 })
		if round%2 == 0 {
			r.kill()
			r.start()
		} else {
			b.kill()
			b.start()
		}
	}
	var want []map[string]any
	r.until("all is told", func() bool {
		want, _ = r.events("")
		done := 0
		for _, e := range want {
			if e["type"] == "notification.done" {
				done++
			}
		}
		return done == rounds*notifications
	})
	r.until("the webhook has it", func() bool { got, _ := b.got(); return len(got) >= len(want) })
	got, again := b.got()
	if diff := cmp.Diff(want, asFeed(got)); diff != "" {
		t.Errorf("feed and webhook differ: %s", diff)
	}
	if again > 2*notifications {
		t.Errorf("of %d events %d came again, of two kills", len(got), again)
	}
	t.Logf("%d events, %d came again", len(got), again)
}

// The command sends one event to each webhook of the app, and says what came of it.
func TestWebhookTest(t *testing.T) {
	t.Parallel()
	r := newRig(t, "http2", "sqlite:"+filepath.Join(t.TempDir(), "lhspn.db"))
	r.withOperator()
	secret := config.NewWebhookSecret()
	b := newBackend(t, secret)
	away := newBackend(t, secret)
	r.withWebhook(fmt.Sprintf("{url: %q, secret: %s}", b.url, secret))
	r.allow(b)
	r.start() // whose events beside it disturb nothing
	run := func(app string) (string, bool) {
		out, err := exec.Command(filepath.Join(r.dir, "server"), "webhook-test", "--config", r.file, "--app", app).CombinedOutput()
		return string(out), err == nil
	}
	if out, ok := run("hedgehog"); !ok || !strings.Contains(out, "delivered") || strings.Contains(out, "hidden") {
		t.Errorf("%t: %s", ok, out)
	}
	if got, _ := b.got(); len(got) != 1 || got[0]["type"] != "webhook.test" {
		t.Errorf("it got %v", got)
	}
	if out, ok := run(""); !ok || !strings.Contains(out, "delivered") {
		t.Errorf("of the one app there is: %t: %s", ok, out)
	}
	if out, ok := run("nobody"); ok || !strings.Contains(out, "nobody") {
		t.Errorf("of no app: %t: %s", ok, out)
	}
	// An app of the database, with one that is away.
	r.rewrite(func(text string) string {
		return strings.Replace(text, "allowed_origins: [", fmt.Sprintf("allowed_origins: ['http://%s', ", away.address), 1)
	})
	operator := r.as(operatorKey)
	hooks := fmt.Sprintf(`[{"url": %q, "secret": %q}, {"url": %q, "secret": %q}]`, away.url, secret, b.url, secret)
	entry := r.entry("")
	r.until("the origin is allowed", func() bool {
		return operator.statusWith("PUT", "/v1/apps/fox", entry[:len(entry)-1]+`, "webhooks": `+hooks+"}", nil) == 201
	})
	away.kill()
	out, ok := run("fox")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if ok || !slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, away.address) && strings.Contains(l, "unreachable") }) ||
		!slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, b.address) && strings.Contains(l, "delivered") }) {
		t.Errorf("%t: %s", ok, out)
	}
}
