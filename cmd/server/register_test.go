package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/lhspn/lhspn/internal/config"
)

// Each act of a register key, on the caller's own token (of no user), on another's (of no user either), and on one that
// has a user, without a proof, with another user's and with that user's own.
func TestActsOfARegisterKey(t *testing.T) {
	t.Parallel()
	const mobile, secret = "the key in every copy of the app", "a secret of thirty-two bytes or more"
	r := newRig(t, "http2", "sqlite:"+filepath.Join(t.TempDir(), "lhspn.db"))
	text, err := os.ReadFile(r.file)
	if err != nil {
		t.Fatal(err)
	}
	text = bytes.Replace(text, []byte("    keys: ["), fmt.Appendf(nil, "    user_tokens: {keys: [{secret: %q}]}\n    keys: [{name: mobile, scope: register, sha256: %s}, ",
		secret, config.HashKey(mobile)), 1)
	if err := os.WriteFile(r.file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	r.start()
	proof := func(user string) string {
		signed, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"sub": user, "exp": time.Now().Add(time.Hour).Unix()}).
			SignedString([]byte(secret))
		if err != nil {
			t.Fatal(err)
		}
		return signed
	}
	call := func(method, path, body, proof string) int {
		req, err := http.NewRequestWithContext(t.Context(), method, r.api+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+mobile)
		if proof != "" {
			req.Header.Set("X-User-Token", proof)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusOK {
			return res.StatusCode
		}
		// Of a known token nothing is read back that was not sent, but for what everybody can say.
		var answer map[string]any
		if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
			t.Fatal(err)
		}
		for field, value := range answer {
			sent := strings.Contains(body, `"`+field+`"`) || slices.Contains([]string{"platform", "token", "badge", "last_updated"}, field)
			if list, is := value.([]any); !sent && value != nil && (!is || len(list) > 0) {
				t.Errorf("%s %s %s reads %s: %v", method, path, body, field, value)
			}
		}
		return res.StatusCode
	}
	own, plain, users := "/v1/tokens/"+token(1), "/v1/tokens/"+token(2), "/v1/tokens/"+token(3)
	anna, otto := proof("anna"), proof("otto")
	for _, act := range []struct {
		name, method, path, body string
		// On a token without a user; then on anna's without a proof, with otto's, with anna's.
		free, none, wrong, right int
	}{
		{"refresh", "PUT", "", ``, 200, 200, 200, 200},
		{"describe", "PUT", "", `{"locale": "de", "tags": ["beta"]}`, 200, 200, 200, 200},
		{"name a user", "PUT", "", `{"user_id": "anna"}`, 403, 403, 403, 200},
		{"take over", "PUT", "", `{"user_id": "otto"}`, 403, 403, 403, 403},
		{"sign out", "PUT", "", `{"user_id": null}`, 200, 403, 403, 200},
		{"environment", "PUT", "", `{"environment": "sandbox"}`, 200, 403, 403, 200},
		{"kind", "PUT", "", `{"kind": "voip"}`, 200, 403, 403, 200},
		{"tag of the backend", "PUT", "", `{"tags": ["plan:pro"]}`, 403, 403, 403, 403},
		{"badge", "PUT", "/badge", `{"badge": 1}`, 204, 204, 204, 204},
		{"read", "GET", "", ``, 403, 403, 403, 403},
		{"delete", "DELETE", "", ``, 204, 204, 204, 204},
	} {
		for path, tries := range map[string][]struct {
			proof string
			want  int
		}{
			own: {{"", act.free}}, plain: {{"", act.free}},
			users: {{"", act.none}, {otto, act.wrong}, {anna, act.right}},
		} {
			for _, try := range tries {
				r.call("DELETE", path, "", 204)
				body := `{"environment": "production", "user_id": null, "tags": ["plan:pro"], "device_id": "d", "locale": "fr"}`
				if path == users {
					body = strings.Replace(body, "null", `"anna"`, 1)
				}
				r.call("PUT", path, body, 201)
				if got := call(act.method, path+act.path, act.body, try.proof); got != try.want {
					t.Errorf("%s of %s, proof %v: %d, want %d", act.name, path, try.proof != "", got, try.want)
				}
			}
		}
	}

	// The fault that this is for: one invented token evicts nobody.
	const devices = 30
	for i := range devices {
		r.call("PUT", "/v1/tokens/"+token(100+i), fmt.Sprintf(`{"device_id": "d-%d"}`, i), 201)
	}
	before := len(r.call("GET", "/v1/tokens?limit=1000", "", 200)["items"].([]any))
	for i := range devices {
		call("PUT", "/v1/tokens/"+token(99), fmt.Sprintf(`{"device_id": "d-%d"}`, i), "")
	}
	if after := len(r.call("GET", "/v1/tokens?limit=1000", "", 200)["items"].([]any)); after != before+1 {
		t.Errorf("%d tokens before, %d after", before, after)
	}
	if got := call("PUT", "/v1/tokens/"+token(100), `{"device_id": "d-0", "replaces": "`+token(99)+`"}`, ""); got != 200 {
		t.Error(got)
	}
	if after := len(r.call("GET", "/v1/tokens?limit=1000", "", 200)["items"].([]any)); after != before {
		t.Errorf("%d tokens before, %d after one was replaced by name", before, after)
	}
}
