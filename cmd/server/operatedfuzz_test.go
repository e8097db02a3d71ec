package main

import (
	"encoding/json"
	"testing"

	"github.com/lhspn/lhspn/internal/config"
	"github.com/lhspn/lhspn/internal/push"
)

// FuzzEntry gives an app any entry after any other. What is taken can be shown, and given back as it was shown.
func FuzzEntry(f *testing.F) {
	const before = `{"apns": {"topic": "com.example.app", "key": "S0VZ", "key_id": "ABC123DEFG", "team_id": "DEF123GHIJ"},
		"fcm": {"service_account": "e30="}, "user_tokens": {"keys": [{"id": "a", "secret": "0123456789abcdef0123456789abcdef"}]},
		"webhooks": [{"url": "https://example.com/", "secret": "x"}]}`
	f.Add(`{"source": "api", "keys": [{"name": "k", "scope": "send", "sha256": "", "created_at": "2020-01-01T00:00:00Z"}]}`, before)
	f.Add(`{"webpush": {"subject": "mailto:a@example.com"}, "quotas": {"max_tokens": 1e9}}`, `{}`)
	f.Add(`{"keys": [null], "user_tokens": {"keys": [[]], "jwks": "e30="}}`, before)
	f.Fuzz(func(t *testing.T, text, stored string) {
		entry, err := push.ParseJSON([]byte(text))
		if err != nil || !entry.IsObject() {
			return
		}
		given := settable(entry)
		if !json.Valid(given) {
			t.Fatalf("%q became %q", text, given)
		}
		doc := []byte(given)
		if old, err := push.ParseJSON([]byte(stored)); err == nil && old.IsObject() {
			if doc, err = config.MergeApp(given, old); err != nil {
				t.Fatal(err)
			}
		}
		app, faults := config.ParseGivenApp("fox", doc)
		if len(faults) > 0 || tryEntry(&app) != nil {
			return
		}
		shown, err := json.Marshal(app.Describe())
		if err != nil {
			t.Fatal(err)
		}
		again, err := config.MergeApp(shown, doc)
		if err != nil {
			t.Fatal(err)
		}
		if _, faults := config.ParseGivenApp("fox", again); len(faults) > 0 {
			t.Errorf("%q is shown as %q, which is refused: %v", text, shown, faults)
		}
	})
}
