package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A token that the service has never accepted goes when its time is over, and is told; one that it has accepted stays.
func TestNeverAccepted(t *testing.T) {
	t.Parallel()
	r := newRig(t, "http2", "sqlite:"+filepath.Join(t.TempDir(), "lhspn.db"))
	text, err := os.ReadFile(r.file)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "\nfeedback:") {
		t.Fatal("the configuration has a feedback part already")
	}
	if err := os.WriteFile(r.file, append(text, "feedback: {never_accepted_after: 1s}\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	r.start()
	for i := range 2 {
		if status := r.status("PUT", "/v1/tokens/"+token(i)); status != 201 {
			t.Fatalf("registered: %d", status)
		}
	}
	n := r.call("POST", "/v1/notifications", fmt.Sprintf(`{"to": {"tokens": [%q]}, "aps": {"alert": "Hello"}}`, token(0)), 202)
	r.done(n["id"].(string))
	r.until("the token that was never accepted is gone", func() bool {
		r.call("POST", "/v1/feedback/check", "", 200)
		return r.status("GET", "/v1/tokens/"+token(1)) == 404
	})
	r.call("POST", "/v1/feedback/check", "", 200)
	if status := r.status("GET", "/v1/tokens/"+token(0)); status != 200 {
		t.Errorf("the accepted one: %d", status)
	}
	if n := r.metric("lhspn_tokens_removals_total", `source="never_accepted"`); n != 1 {
		t.Errorf("%v are counted", n)
	}
	items, _ := r.events("")
	told := false
	for _, item := range items {
		data, _ := item["data"].(map[string]any)
		told = told || item["type"] == "token.removed" && data["token"] == token(1) && data["reason"] == "NeverAccepted" &&
			data["source"] == "never_accepted"
	}
	if !told {
		t.Errorf("not told: %v", items)
	}
}
