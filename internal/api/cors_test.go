package api

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

// A page of another origin may do what a register key may, and nothing else.
func TestPagesOfOtherOrigins(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, c := range []struct {
		method, path string
		allowed      bool
	}{
		{http.MethodGet, "/v1/webpush/key", true},
		{http.MethodPost, "/v1/tokens", true},
		{http.MethodPut, "/v1/tokens/fcm:x", true},
		{http.MethodPut, "/v1/tokens/fcm:x/badge", true},
		{http.MethodDelete, "/v1/tokens/fcm:x", true},
		{http.MethodGet, "/v1/tokens", false},
		{http.MethodGet, "/v1/tokens/fcm:x", false},
		{http.MethodPost, "/v1/tokens/import", false},
		{http.MethodGet, "/v1/tokens/export", false},
		{http.MethodPost, "/v1/notifications", false},
		{http.MethodGet, "/v1/notifications", false},
	} {
		preflight := httptest.NewRequestWithContext(t.Context(), http.MethodOptions, c.path, nil)
		preflight.Header.Set("Origin", "https://www.example.com")
		preflight.Header.Set("Access-Control-Request-Method", c.method)
		preflight.Header.Set("Access-Control-Request-Headers", "authorization,content-type")
		w := httptest.NewRecorder()
		f.ServeHTTP(w, preflight)
		if got := w.Header().Get("Access-Control-Allow-Origin") == "*" && w.Code/100 == 2; got != c.allowed {
			t.Errorf("preflight of %s %s: %d %v", c.method, c.path, w.Code, w.Header())
		}
		w = f.call("", c.method, c.path, "", "Origin", "https://www.example.com")
		if got := w.Header().Get("Access-Control-Allow-Origin") == "*"; got != c.allowed {
			t.Errorf("%s %s: %d %v", c.method, c.path, w.Code, w.Header())
		}
		if w.Header().Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("%s %s lets cookies in", c.method, c.path)
		}
	}
}
