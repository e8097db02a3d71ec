package api

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/lhspn/lhspn/internal/push"
)

// matrix has a row for each route of the router: the scopes whose keys are let in, and a body that is right. "anybody"
// needs no key.
var matrix = map[string]struct{ who, body string }{
	"GET /v1/apps":                     {"operator", ""},
	"GET /v1/apps/{app}":               {"operator", ""},
	"PUT /v1/apps/{app}":               {"operator", `{}`},
	"DELETE /v1/apps/{app}":            {"operator", ""},
	"GET /v1/apps/{app}/removal":       {"operator", ""},
	"GET /v1/apps/{app}/keys":          {"operator", ""},
	"POST /v1/apps/{app}/keys":         {"operator", `{"name": "k", "scope": "send"}`},
	"DELETE /v1/apps/{app}/keys":       {"operator", ""},
	"DELETE /v1/apps/{app}/keys/{key}": {"operator", ""},

	"POST /v1/tokens":              {"register send admin", `{"platform": "apns", "token": "` + token1 + `"}`},
	"PUT /v1/tokens/{token}":       {"register send admin", `{}`},
	"PUT /v1/tokens/{token}/badge": {"register send admin", `{"badge": 1}`},
	"DELETE /v1/tokens/{token}":    {"register send admin", ""},
	"GET /v1/tokens/{token}":       {"send admin", ""},
	"GET /v1/tokens":               {"admin", ""},
	"POST /v1/tokens/import":       {"admin", `{}`},
	"GET /v1/tokens/export":        {"admin", ""},
	"GET /v1/webpush/key":          {"anybody", ""},

	"POST /v1/notifications":                        {"send admin", `{` + toOne + `, "aps": {}}`},
	"POST /v1/notifications/batch":                  {"send admin", `{"notifications": [{` + toOne + `, "aps": {}}]}`},
	"GET /v1/notifications":                         {"send admin", ""},
	"GET /v1/notifications/{id}":                    {"send admin", ""},
	"GET /v1/notifications/{id}/failures":           {"send admin", ""},
	"GET /v1/notifications/{id}/recipients/{token}": {"send admin", ""},
	"POST /v1/notifications/{id}/cancel":            {"send admin", ""},
	"GET /v1/feedback":                              {"admin", ""},
	"POST /v1/feedback/check":                       {"admin", ""},
	"GET /v1/events":                                {"send admin", ""},
	"POST /v1/receipts":                             {"anybody", `{"ticket": "x", "event": "opened"}`},
	"GET /openapi.json":                             {"anybody", ""},
	"GET /docs":                                     {"anybody", ""},
	"GET /docs/*":                                   {"anybody", ""},
}

// Each route with each kind of key: its scopes, no key, a wrong one, one that has expired, and another app's.
func TestMatrix(t *testing.T) {
	t.Parallel()
	operated := &fakeApps{}
	f := newFixtureOperated(t, operated)
	f.statuses = []push.Status{{ID: mustID(t, "01890a5d-ac96-774b-bcce-b302099a8057")}}
	f.recipients = []push.RecipientStatus{{Failure: push.Failure{Token: mustToken(t, token1)}}}
	apps := []App{
		{Name: "hedgehog", Platforms: apple("com.example.hedgehog")}, {Name: "other", Platforms: apple("com.example.other")},
	}
	keys := map[string]string{"none": "", "wrong": "a wrong key"}
	for i := range apps {
		for _, scope := range []Scope{ScopeRegister, ScopeSend, ScopeAdmin} {
			name := apps[i].Name + " " + string(scope)
			keys[name] = name
			apps[i].Keys = append(apps[i].Keys, Key{Name: string(scope), Scope: scope, Hash: keyHash(name)})
			keys["expired "+name] = "old " + name
			apps[i].Keys = append(apps[i].Keys, Key{Name: "old", Scope: scope, Hash: keyHash("old " + name), ExpiresAt: time.Now().Add(-time.Minute)})
		}
	}
	keys["hedgehog operator"], keys["expired hedgehog operator"] = "an operator", "an old operator"
	if err := f.SetApps(apps, []Key{
		{Name: "ada", Scope: ScopeOperator, Hash: keyHash("an operator")},
		{Name: "old", Scope: ScopeOperator, Hash: keyHash("an old operator"), ExpiresAt: time.Now().Add(-time.Minute)},
	}); err != nil {
		t.Fatal(err)
	}
	var address uint32 // another one each time: who goes on with wrong keys is slowed down
	f.client = func(*http.Request) netip.Addr {
		address++
		return netip.AddrFrom4([4]byte{10, byte(address >> 16), byte(address >> 8), byte(address)})
	}
	kept := func() {
		f.put("hedgehog", push.Device{Token: mustToken(t, token1), UserID: "anna"})
		f.put("hedgehog", push.Device{Token: mustToken(t, token2), UserID: "otto"})
	}
	seen := map[string]bool{}
	err := chi.Walk(f.router, func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		if strings.HasPrefix(route, "/docs/") {
			route = "/docs/*"
		}
		name := method + " " + route
		row, there := matrix[name]
		if !there {
			t.Errorf("%s has no row in the matrix", name)
			return nil
		}
		if seen[name] { // one file of the page is as good as another
			return nil
		}
		seen[name] = true
		path := strings.NewReplacer("{token}", token1, "{id}", "01890a5d-ac96-774b-bcce-b302099a8057", "{app}", "fox", "{key}", "k",
			"/docs/*", "/docs/swagger-ui.css").Replace(route)
		for of, key := range keys {
			kept()
			operated.calls = 0
			done := len(f.requests) + len(f.registered)
			w := f.call(key, method, path, row.body)
			words := strings.Fields(of)
			scope := words[len(words)-1]
			want := 0
			switch {
			case row.who == "anybody":
			case words[0] == "none", words[0] == "wrong", words[0] == "expired":
				want = http.StatusUnauthorized
			case !strings.Contains(" "+row.who+" ", " "+scope+" "):
				want = http.StatusForbidden
			}
			refused := w.Code == http.StatusUnauthorized || w.Code == http.StatusForbidden
			if want != 0 && w.Code != want || want == 0 && (refused || w.Code >= 500 || w.Code == 405) {
				t.Errorf("%s with %s: %d, want %d\n%s", name, of, w.Code, want, w.Body)
			}
			if want != 0 && (operated.calls > 0 || len(f.requests)+len(f.registered) > done || strings.Contains(w.Body.String(), token1)) {
				t.Errorf("%s with %s was refused, and done", name, of)
			}
			if words[0] == "other" && want == 0 && !strings.Contains(route, "{id}") {
				if strings.Contains(w.Body.String(), "anna") || len(f.devices["hedgehog"]) != 2 || f.devices["hedgehog"][mustToken(t, token1)].UserID != "anna" {
					t.Errorf("%s with %s reaches what is another app's: %s", name, of, w.Body)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name := range matrix {
		if !seen[name] && name != "POST /v1/receipts" { // which is there where the service has receipts
			t.Errorf("the row %s is of no route", name)
		}
	}
}

// fakeApps has no app, and counts how often it is asked.
type fakeApps struct{ calls int }

func (a *fakeApps) ListApps(context.Context) ([]json.RawMessage, error) {
	a.calls++
	return nil, nil
}

func (a *fakeApps) GetApp(context.Context, string) (json.RawMessage, error) {
	a.calls++
	return nil, push.ErrNotFound
}

func (a *fakeApps) PutApp(context.Context, string, push.JSON) (json.RawMessage, bool, error) {
	a.calls++
	return json.RawMessage(`{}`), true, nil
}

func (a *fakeApps) DeleteApp(context.Context, string) error {
	a.calls++
	return nil
}

func (a *fakeApps) AppRemoval(context.Context, string) (AppRemoval, error) {
	a.calls++
	return AppRemoval{}, nil
}

func (a *fakeApps) Keys(context.Context, string) ([]AppKey, error) {
	a.calls++
	return nil, nil
}

func (a *fakeApps) AddKey(_ context.Context, _ string, k Key) (AppKey, error) {
	a.calls++
	return AppKey{Key: k}, nil
}

func (a *fakeApps) DeleteKey(context.Context, string, string) error {
	a.calls++
	return nil
}

func (a *fakeApps) NewKey(Scope) (key string, hash [sha256.Size]byte) { return "new", keyHash("new") }
