package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lhspn/lhspn/internal/config"
	"github.com/lhspn/lhspn/internal/simulator"
)

// What GET answers of an app is the same app when it is given back to PUT, with its credentials and keys.
func TestAppGivenBack(t *testing.T) {
	t.Parallel()
	r, operator, fox := startWithFox(t)
	operator.call("POST", "/v1/apps/fox/keys", `{"name": "old", "scope": "send", "expires_at": "2100-01-01T00:00:00Z"}`, 201)
	before := operator.call("GET", "/v1/apps/fox", "", 200)
	given, err := json.Marshal(before)
	if err != nil {
		t.Fatal(err)
	}
	operator.call("PUT", "/v1/apps/fox", string(given), 200)
	after := operator.call("GET", "/v1/apps/fox", "", 200)
	if before["updated_at"] == after["updated_at"] {
		t.Error("updated_at is what was given")
	}
	delete(before, "updated_at")
	delete(after, "updated_at")
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("given back it is another app (-), (+):\n%s", diff)
	}
	if got := fox.status("GET", "/v1/notifications"); got != 200 {
		t.Errorf("its key is answered with %d", got)
	}

	// Of what is left out and stays no fault is told beside that of a key.
	status, text := operator.ask("PUT", "/v1/apps/fox", fmt.Sprintf(
		`{"apns": {"topic": %q, "key_id": "ABCDE12345", "team_id": "ABCDE12345"}, "keys": [{"name": "x", "scope": "x", "sha256": "%064d"}]}`,
		simulator.DefaultTopic, 1))
	if status != 422 || !strings.Contains(text, "body.keys[0].scope") || strings.Contains(text, "body.apns") {
		t.Errorf("a wrong key is answered with %d %s", status, text)
	}

	// The key that is kept does not come to another gateway. Given again, it may.
	elsewhere := strings.ReplaceAll(r.entry(""), r.sim.ProviderAddr(), "127.0.0.1:1")
	var entry map[string]map[string]any
	if err := json.Unmarshal([]byte(elsewhere), &entry); err != nil {
		t.Fatal(err)
	}
	delete(entry["apns"], "key")
	kept, err := json.Marshal(entry)
	if err != nil {
		t.Fatal(err)
	}
	status, text = operator.ask("PUT", "/v1/apps/fox", string(kept))
	if status != 422 || !strings.Contains(text, "body.apns.key") || !strings.Contains(text, "must be given again") {
		t.Errorf("another gateway is answered with %d %s", status, text)
	}
	operator.call("PUT", "/v1/apps/fox", elsewhere, 200)
	r.stop()
}

// A key of an app that is not in force would be refused: it is not made.
func TestNoKeyForAnAppThatCannotBeDecrypted(t *testing.T) {
	t.Parallel()
	r, _, _ := startWithFox(t)
	r.stop()
	text, err := os.ReadFile(r.file)
	if err != nil {
		t.Fatal(err)
	}
	other := strings.Replace(string(text), "master_key: ", "master_key: "+config.NewMasterKey()+" #", 1)
	if err := os.WriteFile(r.file, []byte(other), 0o600); err != nil {
		t.Fatal(err)
	}
	r.start()
	operator := r.as(operatorKey)
	status, answer := operator.ask("POST", "/v1/apps/fox/keys", `{"name": "new", "scope": "send"}`)
	if status != 409 || !strings.Contains(answer, "master_key") {
		t.Errorf("%d %s", status, answer)
	}
	operator.call("PUT", "/v1/apps/fox", r.entry(""), 200)
	operator.call("POST", "/v1/apps/fox/keys", `{"name": "new", "scope": "send"}`, 201)
	r.stop()
}
