package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/lhspn/lhspn/internal/config"
	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/database/dbtest"
	"github.com/lhspn/lhspn/internal/simulator"
)

const operatorKey = "an operator's key of the tests"

// withOperator lets an operator at the service.
func (r *rig) withOperator() {
	r.t.Helper()
	text, err := os.ReadFile(r.file)
	if err != nil {
		r.t.Fatal(err)
	}
	master := base64.StdEncoding.EncodeToString([]byte("a master key of the tests ......"))
	text = append([]byte(fmt.Sprintf("master_key: %s\noperator_keys: [{name: alice, sha256: %s}]\n", master, config.HashKey(operatorKey))), text...)
	if err := os.WriteFile(r.file, text, 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// as calls with another key.
func (r *rig) as(key string) *rig {
	other := *r
	other.apiKey = key
	return &other
}

// replica is another process on the same configuration and simulator.
func (r *rig) replica() *rig {
	other := &rig{t: r.t, dir: r.dir, sim: r.sim, file: r.file}
	r.t.Cleanup(other.kill)
	other.start()
	return other
}

func (r *rig) encoded(file string) string {
	r.t.Helper()
	text, err := os.ReadFile(filepath.Join(r.dir, "certs", file))
	if err != nil {
		r.t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(text)
}

// entry is an app that the simulator takes, by its key.
func (r *rig) entry(more string) string {
	return fmt.Sprintf(`{"apns": {"topic": %q, "gateway": %q, "ca": %q, "key": %q, "key_id": %q, "team_id": %q%s}}`, simulator.DefaultTopic,
		r.sim.ProviderAddr(), r.encoded("ca.pem"), r.encoded("AuthKey_"+simulator.ProviderKeyID+".p8"), simulator.ProviderKeyID, simulator.TeamID, more)
}

// promised is how long after an operator's act has been answered a replica may go by what held before.
const promised = 5 * time.Second

// everywhere waits until ok on each of the replicas. A question that is put later than promised must not be answered as before;
// how long this busy machine takes to ask counts for nothing.
func everywhere(t *testing.T, replicas []*rig, what string, ok func(r *rig) bool) {
	t.Helper()
	since := time.Now()
	waiting := slices.Clone(replicas)
	replicas[0].until(what, func() bool {
		waiting = slices.DeleteFunc(waiting, func(r *rig) bool {
			asked := time.Since(since)
			is := ok(r)
			if !is && asked > promised {
				t.Errorf("%s: not so after %v", what, asked)
			}
			return is
		})
		return len(waiting) == 0
	})
}

// An app is added by API and used; while what it broadcasts is sent, its key is revoked and its credentials are replaced, on whatever
// replica. Nothing is lost, everybody gets it once, and the key is refused everywhere within 5 s.
func TestAppsAtRunTime(t *testing.T) {
	t.Parallel()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		testAppsAtRunTime(t, "sqlite:"+filepath.Join(t.TempDir(), "lhspn.db"), 1)
	})
	t.Run("mysql", func(t *testing.T) {
		t.Parallel()
		testAppsAtRunTime(t, dbtest.MySQLAddress(t), 3)
	})
}

func testAppsAtRunTime(t *testing.T, database string, count int) {
	t.Helper()
	r := newRig(t, "http2", database)
	r.sim.SetFaults(simulator.Faults{Latency: 20 * time.Millisecond})
	r.withOperator()
	r.start()
	replicas := []*rig{r}
	for range count - 1 {
		replicas = append(replicas, r.replica())
	}
	last := replicas[count-1]

	file := filepath.Join(r.dir, "fox.json")
	if err := os.WriteFile(file, []byte(r.entry(`, "max_rate": 500`)), 0o600); err != nil {
		t.Fatal(err)
	}
	r.command("app", "put", "fox", file)
	key, _ := r.command("key", "add", "fox", "backend", "--expires-at", "2100-01-01T00:00:00Z")["key"].(string)
	reader, _ := r.command("key", "add", "fox", "reader")["key"].(string)
	everywhere(t, replicas, "the keys are taken", func(r *rig) bool { return r.as(reader).status("GET", "/v1/notifications") == 200 })
	if listed := r.command("app", "get", "fox"); listed["name"] != "fox" || len(listed["keys"].([]any)) != 2 {
		t.Errorf("the app is shown as %v", listed)
	}
	last.until("the key's end is told", func() bool {
		return last.metric("lhspn_api_key_expiry_timestamp_seconds", `app="fox"`, `key="backend"`) == 4102444800
	})
	if !strings.HasPrefix(key, "lhspn_send_") {
		t.Fatalf("the new key is %q", key)
	}

	const recipients, parts = 6000, 12 // as many notifications, so that all replicas have some
	ids := sendParts(t, replicas, key, recipients, parts)
	r.until("some are sent", func() bool { return r.sim.Totals().Accepted > 0 })
	r.command("key", "revoke", "fox", "backend")
	if got := r.as(key).status("GET", "/v1/notifications"); got != 401 {
		t.Errorf("right after it is revoked, on the replica that was told: %d", got)
	}
	everywhere(t, replicas, "the key is refused", func(r *rig) bool { return r.as(key).status("GET", "/v1/notifications") == 401 })
	// Other credentials, and no limit: a certificate in place of the key.
	r.as(operatorKey).call("PUT", "/v1/apps/fox", fmt.Sprintf(`{"apns": {"topic": %q, "gateway": %q, "ca": %q, "certificate": %q}}`, simulator.DefaultTopic,
		r.sim.ProviderAddr(), r.encoded("ca.pem"), r.encoded("client.pem")), 200)
	if sent := r.sim.Totals().Accepted; sent >= recipients {
		t.Fatalf("all %d were sent before the credentials were replaced", sent)
	}
	for _, id := range ids {
		if counts := last.as(reader).done(id)["counts"].(map[string]any); counts["accepted"] != float64(recipients/parts) {
			t.Errorf("counts %v, want %d accepted", counts, recipients/parts)
		}
	}
	if got := r.sim.Totals(); got.Accepted != recipients || got.TokensAccepted != recipients {
		t.Errorf("the gateway took %d for %d devices, want each of %d once", got.Accepted, got.TokensAccepted, recipients)
	}

	r.logged(`"act":"revoke key","key":"alice"`)
	if logs := r.logs.String(); strings.Contains(logs, key) || strings.Contains(logs, operatorKey) {
		t.Error("a key is in the log")
	}
	for _, replica := range replicas {
		replica.stop()
	}
}

// sendParts sends to recipients in so many notifications, on the replicas by turns.
func sendParts(t *testing.T, replicas []*rig, key string, recipients, parts int) (ids []string) {
	t.Helper()
	for part := range parts {
		var tokens []string
		for i := range recipients / parts {
			tokens = append(tokens, token(part*recipients/parts+i))
		}
		list, err := json.Marshal(tokens)
		if err != nil {
			t.Fatal(err)
		}
		sent := replicas[part%len(replicas)].as(key).call("POST", "/v1/notifications", fmt.Sprintf(`{"to": {"tokens": %s}, "aps": {"alert": "Hello"}}`, list), 202)
		ids = append(ids, sent["id"].(string))
	}
	return ids
}

// What an app has is gone with it: what waits is not sent, and its tokens and notifications are removed.
// startWithFox starts a service on SQLite with an app that an operator has set.
func startWithFox(t *testing.T) (r, operator, admin *rig) {
	t.Helper()
	r = newRig(t, "http2", "sqlite:"+filepath.Join(t.TempDir(), "lhspn.db"))
	r.withOperator()
	r.start()
	operator = r.as(operatorKey)
	return r, operator, r.addFox(operator)
}

func TestAppDeleted(t *testing.T) {
	t.Parallel()
	r, operator, admin := startWithFox(t)
	admin.call("PUT", "/v1/tokens/"+token(1), `{"user_id": "u", "tags": ["a"]}`, 201)
	admin.call("DELETE", "/v1/tokens/fcm:abc", "", 204) // of a platform that it may have had
	later := time.Now().Add(24 * time.Hour).UTC().Format(time.RFC3339)
	admin.call("POST", "/v1/notifications", fmt.Sprintf(`{"to": {"tokens": [%q]}, "aps": {"alert": "Hello"}, "send_at": %q}`, token(1), later), 202)
	admin.call("POST", "/v1/notifications", fmt.Sprintf(`{"to": {"all": true}, "aps": {"alert": "Hello"}, "send_at": %q}`, later), 202)
	operator.call("GET", "/v1/apps/fox/removal", "", 404)
	operator.call("DELETE", "/v1/apps/fox", "", 204)
	if got := admin.status("GET", "/v1/notifications"); got != 401 {
		t.Errorf("its key is answered with %d", got)
	}
	operator.call("GET", "/v1/apps/fox", "", 404)
	operator.call("PUT", "/v1/apps/fox", r.entry(""), 409) // until all is removed
	if got := operator.call("GET", "/v1/apps/fox/removal", "", 200); got["device_tokens"] != 1.0 {
		t.Errorf("left is %v", got)
	}
	r.logged("all that a deleted app had is removed")
	admin = r.addFox(operator)
	for _, list := range []string{"/v1/tokens", "/v1/notifications", "/v1/events"} {
		if items, _ := admin.call("GET", list, "", 200)["items"].([]any); len(items) != 0 {
			t.Errorf("%s has %v still", list, items)
		}
	}
	if got := r.sim.Totals().Received; got != 0 {
		t.Errorf("%d were sent", got)
	}
	r.stop()
}

// While what a deleted app had is being removed the configuration file may get an app of its name: nothing of that is removed.
func TestDeletedAppComesBackInTheFile(t *testing.T) {
	t.Parallel()
	r, _, admin := startWithFox(t)
	admin.call("PUT", "/v1/tokens/"+token(1), "", 201)
	r.stop()
	// It is deleted, and the service stopped before anything is removed.
	stored, err := database.Open(t.Context(), r.database(), database.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := stored.Tx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
		_, err := tx.ExecContext(ctx, "UPDATE apps SET deleting = 1 WHERE name = 'fox'")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	stored.Close()
	text, err := os.ReadFile(r.file)
	if err != nil {
		t.Fatal(err)
	}
	_, entry, _ := strings.Cut(string(text), "  - name: hedgehog\n")
	entry = strings.ReplaceAll(entry, config.HashKey(testKey).String(), config.HashKey("fox-in-the-file").String())
	if err := os.WriteFile(r.file, append(text, "  - name: fox\n"+entry...), 0o600); err != nil {
		t.Fatal(err)
	}
	r.start()
	fox := r.as("fox-in-the-file")
	fox.call("PUT", "/v1/tokens/"+token(2), "", 201)
	r.logged("what is left of the deleted one is not removed")
	for n := 1; n <= 2; n++ {
		fox.call("GET", "/v1/tokens/"+token(n), "", 200)
	}
	r.stop()
}

// The command that deletes an app says how far the removal is until nothing is left. Steps follow each other at once:
// an app with a million device tokens is removed in minutes.
func TestAppDeleteTellsHowFarItIs(t *testing.T) {
	t.Parallel()
	r, operator, admin := startWithFox(t)
	const devices = 20 * removeStep
	var lines strings.Builder
	for i := range devices {
		fmt.Fprintf(&lines, "{\"token\": %q, \"user_id\": \"u\"}\n", token(i))
	}
	if status, text := admin.ask("POST", "/v1/tokens/import", lines.String()); status != 200 {
		t.Fatalf("import: %d %s", status, text)
	}
	later := time.Now().Add(24 * time.Hour).UTC().Format(time.RFC3339)
	admin.call("POST", "/v1/notifications", fmt.Sprintf(`{"to": {"all": true}, "aps": {"alert": "Hello"}, "send_at": %q}`, later), 202)
	key := filepath.Join(r.dir, "operator.key")
	if err := os.WriteFile(key, []byte(operatorKey), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, told strings.Builder
	start := time.Now()
	if status := run([]string{"app", "delete", "fox", "--url", r.api, "--key-file", key}, &out, &told); status != 0 {
		t.Fatalf("status %d: %s", status, &told)
	}
	// The name is free when no replica takes the app's keys any more, and no request is under way (api.timeout).
	const late = pollApps + pollTimeout + 20*time.Second
	if took := time.Since(start); took > late+devices/removeStep*removeEvery || took < late {
		t.Errorf("%d device tokens took %v", devices, took)
	}
	if last := "delete fox: all is removed, in "; !strings.Contains(told.String(), last) {
		t.Errorf("told %q", told.String())
	}
	operator.call("GET", "/v1/apps/fox/removal", "", 404)
	operator.call("PUT", "/v1/apps/fox", r.entry(""), 201)
	r.stop()
}

// What an operator gives wrongly is refused, with the place, and nothing shows a secret.
func TestOperatorsMistakes(t *testing.T) {
	t.Parallel()
	r := newRig(t, "http2", "sqlite:"+filepath.Join(t.TempDir(), "lhspn.db"))
	r.withOperator()
	r.start()
	operator := r.as(operatorKey)
	good := r.entry("")
	operator.call("PUT", "/v1/apps/fox", good, 201)
	hash, guessed := config.HashKey("x").String(), config.HashKey("password").String()
	for _, c := range []struct {
		method, path, body string
		status             int
		says               string
	}{
		{"PUT", "/v1/apps/hedgehog", good, 409, "configuration file"},
		{"DELETE", "/v1/apps/hedgehog", "", 409, "configuration file"},
		{"POST", "/v1/apps/hedgehog/keys", `{"name": "x", "scope": "send"}`, 409, "configuration file"},
		{"PUT", "/v1/apps/Fox", good, 422, "path.app"},
		{"PUT", "/v1/apps/owl", "{", 400, "not-json"},
		{"PUT", "/v1/apps/owl", "{}", 422, "none of apns"},
		{"PUT", "/v1/apps/owl", strings.Replace(good, `"key": "`, `"key": "AAAA`, 1), 422, "body.apns"},
		{"PUT", "/v1/apps/owl", strings.Replace(good, `"ca"`, `"ca_file"`, 1), 422, "body.apns.ca"},
		{"PUT", "/v1/apps/owl", strings.Replace(good, `"topic"`, `"topik"`, 1), 422, "body.apns.topik"},
		{"PUT", "/v1/apps/owl", `{"fcm": {"service_account": "e30=", "service_account": "e30="}}`, 422, "duplicate"},
		{"PUT", "/v1/apps/owl", `{"fcm": {"credentials": "metadata_server", "project_id": "a-project"}}`, 422, "body.fcm.credentials"},
		{"PUT", "/v1/apps/owl", `{"fcm": {"project_id": "a-project", "service_account": "` + base64.StdEncoding.EncodeToString(
			[]byte("\ufeff"+`{"type": "external_account", "credential_source": {"file": "/etc/hostname"}}`)) + `"}}`, 422, "only the configuration file"},
		// A change is judged as a new app is.
		{"PUT", "/v1/apps/owl", strings.Replace(good, `"topic"`, `"connections": "2", "topic"`, 1), 422, "body.apns.connections"},
		{"PUT", "/v1/apps/fox", strings.Replace(good, `"topic"`, `"connections": "2", "topic"`, 1), 422, "body.apns.connections"},
		{"PUT", "/v1/apps/fox", strings.Replace(good, `"topic"`, `"connections": 2.0, "topic"`, 1), 422, "body.apns.connections"},
		{"PUT", "/v1/apps/owl", strings.Replace(good, `{`, `{"keys": [{"name": "a b", "scope": "send", "sha256": "`+hash+`"}], `, 1), 422, "body.keys[0].name"},
		{"PUT", "/v1/apps/owl", strings.Replace(good, `{`, `{"keys": [{"name": "é", "scope": "send", "sha256": "`+hash+`"}], `, 1), 422, "body.keys[0].name"},
		{"GET", "/v1/apps/owl", "", 404, "no such app"},
		{"DELETE", "/v1/apps/owl", "", 404, "no such app"},
		{"POST", "/v1/apps/owl/keys", `{"name": "x", "scope": "send"}`, 404, "no such app"},
		{"POST", "/v1/apps/fox/keys", `{"name": "x"}`, 422, "body.scope"},
		{"POST", "/v1/apps/fox/keys", `{"name": "x", "scope": "operator"}`, 422, "body.scope"},
		{"POST", "/v1/apps/fox/keys", `{"name": "x", "scope": "send", "expires_at": "2001-01-01T00:00:00Z"}`, 422, "body.expires_at"},
		{"POST", "/v1/apps/fox/keys", `{"name": "x", "scope": "send", "sha256": "` + hash + `"}`, 201, hash},
		{"PUT", "/v1/apps/fox", strings.Replace(good, `{`, `{"keys": null, `, 1), 200, hash},
		{"POST", "/v1/apps/fox/keys", `{"name": "x", "scope": "send"}`, 409, ""},
		{"POST", "/v1/apps/fox/keys", `{"name": "y", "scope": "send", "sha256": "` + hash + `"}`, 409, ""},
		{"POST", "/v1/apps/fox/keys", `{"name": "y", "scope": "send", "sha256": "` + config.HashKey(testKey).String() + `"}`, 409, ""},
		// A key that anybody would guess is refused here as in the file.
		{"POST", "/v1/apps/fox/keys", `{"name": "y", "scope": "send", "sha256": "` + guessed + `"}`, 422, "body.sha256"},
		{"PUT", "/v1/apps/fox", strings.Replace(good, `{`, `{"keys": [{"name": "y", "scope": "send", "sha256": "`+guessed+`"}], `, 1), 422,
			"body.keys[0].sha256"},
		{"DELETE", "/v1/apps/fox/keys/y", "", 404, "no such key"},
		{"DELETE", "/v1/apps/fox/keys?name=x", "", 204, ""},
		{"GET", "/v1/notifications", "", 403, "operator"},
		// The credentials are never shown, and so need not be given again.
		{"PUT", "/v1/apps/fox", fmt.Sprintf(`{"apns": {"topic": %q, "gateway": %q, "ca": %q, "key_id": %q, "team_id": %q}}`, simulator.DefaultTopic,
			r.sim.ProviderAddr(), r.encoded("ca.pem"), simulator.ProviderKeyID, simulator.TeamID), 200, simulator.DefaultTopic},
		{"GET", "/v1/apps", "", 200, `"source":"file"`},
	} {
		status, text := operator.ask(c.method, c.path, c.body)
		if status != c.status || !strings.Contains(text, c.says) {
			t.Errorf("%s %s %.60s: %d %s, want %d and %s", c.method, c.path, c.body, status, text, c.status, c.says)
		}
		if strings.Contains(text, r.encoded("AuthKey_" + simulator.ProviderKeyID + ".p8")[60:90]) {
			t.Errorf("%s %s: the answer has the key: %s", c.method, c.path, text)
		}
	}
	r.stop()
	stored, err := os.ReadFile(filepath.Join(strings.TrimPrefix(r.database(), "sqlite:")))
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"PRIVATE KEY", r.encoded("AuthKey_" + simulator.ProviderKeyID + ".p8")[60:90]} {
		if strings.Contains(string(stored), secret) {
			t.Errorf("the database has %q", secret)
		}
	}
	// It is all there after a restart.
	r.start()
	r.as(operatorKey).call("GET", "/v1/apps/fox", "", 200)
	r.stop()
}

// command runs one of the commands app and key, and returns what it prints.
func (r *rig) command(args ...string) map[string]any {
	r.t.Helper()
	file := filepath.Join(r.dir, "operator.key")
	if err := os.WriteFile(file, []byte(operatorKey+"\n"), 0o600); err != nil {
		r.t.Fatal(err)
	}
	var out, errs strings.Builder
	if status := run(append(args, "--url", r.api, "--key-file", file), &out, &errs); status != 0 {
		r.t.Fatalf("server %v: %d: %s", args, status, &errs)
	}
	printed := map[string]any{}
	if out.Len() > 0 {
		if err := json.Unmarshal([]byte(out.String()), &printed); err != nil {
			r.t.Fatalf("server %v printed %s: %v", args, &out, err)
		}
	}
	return printed
}

// ask is a request and what it was answered.
func (r *rig) ask(method, path, body string) (status int, text string) {
	r.t.Helper()
	status, b := r.do(method, path, body, nil)
	return status, string(b)
}

// addFox adds the app fox by the operator's key, and returns who has all of its power.
func (r *rig) addFox(operator *rig) (admin *rig) {
	r.t.Helper()
	operator.call("PUT", "/v1/apps/fox", r.entry(""), 201)
	key, _ := operator.call("POST", "/v1/apps/fox/keys", `{"name": "all", "scope": "admin"}`, 201)["key"].(string)
	return r.as(key)
}

// database is the configuration's.
func (r *rig) database() string {
	r.t.Helper()
	cfg, err := config.Load(r.file, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	return cfg.Database
}
