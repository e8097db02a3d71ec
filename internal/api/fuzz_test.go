package api

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"

	"github.com/lhspn/lhspn/internal/push"
)

// Nobody without the secret has a proof taken, whatever its header and claims are.
func FuzzUserToken(f *testing.F) {
	u, err := NewUserTokens([]UserTokenKey{{ID: "a", Algorithm: algHS256, Key: []byte(proofSecret)}}, "us", "lhspn", time.Hour)
	if err != nil {
		f.Fatal(err)
	}
	claims := jwt.MapClaims{"sub": "anna", "iss": "us", "aud": "lhspn", "exp": time.Now().Add(time.Hour).Unix()}
	good, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(proofSecret))
	if err != nil {
		f.Fatal(err)
	}
	unsigned, err := jwt.NewWithClaims(jwt.SigningMethodNone, claims).SignedString(jwt.UnsafeAllowNoneSignatureType)
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{good, unsigned, good + "=", "e30.e30.", "..", "eyJhbGciOiJIUzI1NiIsImNyaXQiOlsiZXhwIl19.e30.", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, proof string) {
		if user, err := u.verifyHeader([]string{proof}); (err == nil) != (user != "") || err == nil && user != "anna" {
			t.Errorf("%q proves %q, %v", proof, user, err)
		}
	})
}

// What a query gives to a handler is text that was checked, or the default.
func FuzzQuery(f *testing.F) {
	for _, seed := range []string{
		"", "limit=10&cursor=YQ", "user_id=50%&limit=1", "tag=%00", "a=1;b=2", "limit=1&limit=2", "idle_days=99999999999999999999", "user_id=%ff", "x=1",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		for _, known := range [][]parameter{listTokensQuery, listNotificationsQuery, listFeedbackQuery, eventsQuery, publicKeyQuery} {
			q, err := readQuery(raw, known)
			if err != nil {
				problemOf(err).write(httptest.NewRecorder())
				continue
			}
			given, _ := url.ParseQuery(raw)
			for _, p := range known {
				if value, there := q[p.name]; there && (!utf8.ValidString(value) || p.check(value) != "" || value != given.Get(p.name) && value != p.otherwise) {
					t.Errorf("%q gives %q for %s", raw, value, p.name)
				}
				delete(given, p.name)
			}
			if len(given) > 0 {
				t.Errorf("of %q nobody has read %v", raw, given)
			}
		}
		if since, err := sinceTime(raw); err == nil && (since.Year() > 9999 || !since.IsZero() && since.Unix() < 0) {
			t.Errorf("%q is the time %v", raw, since)
		}
		_, _ = eventTypes(raw)
		acceptsStream(http.Header{"Accept": {raw}})
	})
}

// A cursor leads to a place between tokens, and has one written form.
func FuzzTokenCursor(f *testing.F) {
	for _, token := range []push.Token{push.HexToken("abababababababababababababababab"), push.TextToken("fcm", "x"), "hex:fcm:x", ""} {
		f.Add(tokenCursor(token))
	}
	f.Add("%")
	f.Fuzz(func(t *testing.T, cursor string) {
		token, err := parseTokenCursor(cursor)
		if err == nil && (tokenCursor(token) != cursor || cursor != "" && !token.Valid()) {
			t.Errorf("%q is taken for %q", cursor, token)
		}
	})
}

// FuzzPath has any path and key asked for: the answer is a problem, or there is none.
func FuzzPath(f *testing.F) {
	fixture := newFixture(f)
	for _, seed := range []string{"/v1/tokens/" + token1, "/v1/tokens/fcm:%2e%2e", "/v1/notifications/%00/failures", "//v1/tokens", "/v1/tokens/%ff", "/docs/../v1"} {
		f.Add(seed, adminKey)
	}
	f.Fuzz(func(t *testing.T, path, key string) {
		u, err := url.ParseRequestURI(path)
		if err != nil || u.Path == "" {
			return
		}
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.URL, r.RequestURI = u, path
		r.Header["Authorization"] = []string{"Bearer " + key}
		w := httptest.NewRecorder()
		fixture.ServeHTTP(w, r)
		if w.Code >= 500 {
			t.Errorf("%q: %d %s", path, w.Code, w.Body)
		}
	})
}

// FuzzBody sends any body to any route that takes one: what is wrong with it is the caller's fault, and a problem.
func FuzzBody(f *testing.F) {
	fixture := newFixtureOperated(f, &fakeApps{})
	operators := []Key{{Name: "ada", Scope: ScopeOperator, Hash: keyHash("an operator")}}
	if err := fixture.SetApps([]App{threePlatforms()}, operators); err != nil {
		f.Fatal(err)
	}
	var withBody []string
	for route, row := range matrix {
		if row.body != "" {
			withBody = append(withBody, route)
		}
	}
	slices.Sort(withBody)
	for i, route := range withBody {
		f.Add(uint8(i), matrix[route].body)
	}
	f.Add(uint8(0), `{"keys": [null, {"name": "k", "scope": "send", "sha256": "x", "expires_at": "0000-01-01T00:00:00Z"}]}`)
	f.Fuzz(func(t *testing.T, i uint8, body string) {
		route := withBody[int(i)%len(withBody)]
		method, path, _ := strings.Cut(route, " ")
		path = strings.NewReplacer("{token}", token1, "{name}", "fox").Replace(path)
		key := threeKey
		if matrix[route].who == "operator" {
			key = "an operator"
		}
		w := fixture.call(key, method, path, body)
		if w.Code >= 500 || w.Code >= 400 && w.Header().Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s with %q: %d %s", route, body, w.Code, w.Body)
		}
		clear(fixture.devices) // nothing gathers
		fixture.requests, fixture.registered = nil, nil
	})
}
