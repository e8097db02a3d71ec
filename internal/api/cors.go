package api

import (
	"net/http"
	"strings"
	"time"

	"github.com/go-chi/cors"
)

// pages lets the pages of any origin do what a register key may, and send receipts, so that a browser can register
// although its page is not where the API is. That gives nobody a power: a key goes into a header that a page must have
// itself, and no cookie is looked at. Everything else is for backends, which need no leave of a browser.
func pages() func(http.Handler) http.Handler {
	allow := cors.Handler(cors.Options{
		AllowedOrigins: []string{"*"},
		AllowedMethods: []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete},
		AllowedHeaders: []string{"Authorization", "Content-Type", headerUserToken, headerRequestID},
		ExposedHeaders: []string{"Location", headerRequestID, headerRetryAfter, headerRateLimit, headerRateLimitPolicy},
		MaxAge:         int((2 * time.Hour).Seconds()),
	})
	return func(next http.Handler) http.Handler {
		shared := allow(next)
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header["Origin"] != nil && forPages(r) {
				shared.ServeHTTP(w, r)
				return
			}
			next.ServeHTTP(w, r)
		})
	}
}

// forPages reports whether the request, or what its preflight asks for, is of those that a register key may make.
func forPages(r *http.Request) bool {
	method := r.Method
	if method == http.MethodOptions {
		method = r.Header.Get("Access-Control-Request-Method")
	}
	rest, token := strings.CutPrefix(r.URL.Path, "/v1/tokens/")
	switch {
	case r.URL.Path == pathReceipts:
		return method == http.MethodPost
	case r.URL.Path == pathPublicKey:
		return method == http.MethodGet
	case r.URL.Path == "/v1/tokens":
		return method == http.MethodPost
	case token && rest != "import" && rest != "export":
		return method == http.MethodPut || method == http.MethodDelete
	}
	return false
}
