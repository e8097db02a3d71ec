package api

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-chi/httprate"
)

// principal is who asks: a key, and by it one app.
type principal struct {
	app     *App
	key     Key
	limiter *httprate.RateLimiter // nil: no limit
}

func newPrincipal(app *App, key Key) *principal {
	p := &principal{app: app, key: key}
	if key.Rate > 0 {
		p.limiter = httprate.NewRateLimiter(key.Rate, time.Second, httprate.WithResponseHeaders(httprate.ResponseHeaders{
			Limit: "X-RateLimit-Limit", Remaining: "X-RateLimit-Remaining", RetryAfter: headerRetryAfter,
		}))
	}
	return p
}

// scopes is a set of scopes.
type scopes uint8

const (
	mayRegister scopes = 1 << iota
	maySend
	mayAdmin
)

// The sets that the routes ask for. An app backend may do what its mobile app may: architecture has it set user_id.
const (
	forRegister = mayRegister | maySend | mayAdmin
	forSend     = maySend | mayAdmin
	forAdmin    = mayAdmin
)

func (s Scope) set() scopes {
	switch s {
	case ScopeRegister:
		return mayRegister
	case ScopeSend:
		return maySend
	case ScopeAdmin:
		return mayAdmin
	}
	return 0
}

func (s scopes) String() string {
	switch s {
	case forRegister:
		return "register, send or admin"
	case forSend:
		return "send or admin"
	default:
		return "admin"
	}
}

// authorize finds who asks and whether they may.
func (x *exchange) authorize(r *http.Request, allowed scopes) error {
	p := x.api.principal(r)
	if p == nil {
		return errUnauthorized
	}
	x.who = p
	if p.key.Scope.set()&allowed == 0 {
		return explain(errForbidden, "The key has the scope %s; this asks for %s.", p.key.Scope, allowed)
	}
	if p.limiter != nil && p.limiter.OnLimit(x, r, "") {
		return explain(errRate, "The key may make %s requests a second.", strconv.Itoa(p.key.Rate))
	}
	return nil
}

// principal is nil where the request has no known key. Keys are 256 random bits, so their hash finds them in a map
// without a timing that would tell anything of another key; the comparison in constant time is the belt to these
// braces.
func (a *API) principal(r *http.Request) *principal {
	values := r.Header["Authorization"]
	if len(values) != 1 {
		return nil
	}
	scheme, key, ok := strings.Cut(values[0], " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return nil
	}
	hash := sha256.Sum256([]byte(strings.TrimSpace(key)))
	p := a.keys[hash]
	if p == nil || subtle.ConstantTimeCompare(hash[:], p.key.Hash[:]) != 1 {
		return nil
	}
	return p
}
