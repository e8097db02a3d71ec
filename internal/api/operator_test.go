package api

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestOperatorsByKeyAndID(t *testing.T) {
	t.Parallel()
	f := newFixtureOperated(t, nil)
	from := netip.MustParseAddr("192.0.2.1")
	if f.HasOperators() {
		t.Error("there are operators before any is set")
	}
	apps := []App{{Name: "hedgehog", Platforms: apple("com.example.hedgehog"), Keys: []Key{{Name: "admin", Scope: ScopeAdmin, Hash: keyHash(adminKey)}}}}
	expired := Key{Name: "old", Hash: keyHash("old"), ExpiresAt: time.Now().Add(-time.Hour)}
	if err := f.SetApps(apps, []Key{{Name: "ada", Hash: keyHash("ops")}, expired}); err != nil {
		t.Fatal(err)
	}
	id, name, err := f.Operator(" ops\n", from)
	if err != nil || name != "ada" || !f.HasOperators() {
		t.Errorf("%q, %v", name, err)
	}
	if name, ok := f.StillOperator(id); !ok || name != "ada" {
		t.Errorf("%q, %v", name, ok)
	}
	for key, status := range map[string]int{"nonsense": 401, "": 401, "old": 401, adminKey: 403} {
		if _, _, err := f.Operator(key, from); err == nil || ProblemOf(err).Status != status || ProblemOf(err).Detail == "" {
			t.Errorf("%q: %v", key, err)
		}
	}
	if strings.Contains(f.log.String(), adminKey) || !strings.Contains(f.log.String(), "key refused") {
		t.Errorf("the log: %s", f.log)
	}
	for range refusedBurst {
		_, _, _ = f.Operator("nonsense", from)
	}
	if _, _, err := f.Operator("nonsense", from); ProblemOf(err).Status != 429 {
		t.Errorf("one who guesses: %v", err)
	}
	if err := f.SetApps(apps, nil); err != nil {
		t.Fatal(err)
	}
	if _, ok := f.StillOperator(id); ok {
		t.Error("a revoked key is an operator's still")
	}
}

func TestSubmit(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	id, err := f.Submit(t.Context(), "hedgehog", []byte(`{"to": {"tokens": ["`+token1+`"]}, "message": {"title": "Test"}}`))
	if err != nil || len(f.requests) != 1 || f.requests[0].App != "hedgehog" || f.requests[0].Submissions[0].Notification.ID != id ||
		len(f.requests[0].Submissions[0].Tokens) != 1 {
		t.Errorf("%v, %v", f.requests, err)
	}
	for body, status := range map[string]int{`{`: 400, `{"to": {"tokens": ["xyz"]}, "message": {"title": "Test"}}`: 422} {
		if _, err := f.Submit(t.Context(), "hedgehog", []byte(body)); err == nil || ProblemOf(err).Status != status {
			t.Errorf("%s: %v", body, err)
		}
	}
	if _, err := f.Submit(t.Context(), "nobody", []byte(`{}`)); ProblemOf(err).Status != 404 {
		t.Error(err)
	}
	if len(f.requests) != 1 {
		t.Error("what is wrong was accepted")
	}
}
