package api

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
)

// principal is who asks: a key, and by it one app.
type principal struct {
	app  *App
	key  Key
	rate *keyRate // nil: no limit
}

func newPrincipal(app *App, key Key) *principal {
	p := &principal{app: app, key: key}
	if key.Rate > 0 {
		p.rate = newKeyRate(key.Rate, key.Scope == ScopeRegister)
	}
	return p
}

// scopes is a set of scopes.
type scopes uint8

const (
	mayRegister scopes = 1 << iota
	maySend
	mayAdmin
	mayOperate
)

// The sets that the routes ask for. An app backend may do what its mobile app may: it is what knows whose a device is.
const (
	forRegister = mayRegister | maySend | mayAdmin
	forSend     = maySend | mayAdmin
	forAdmin    = mayAdmin
	forOperator = mayOperate
)

func (s Scope) set() scopes {
	switch s {
	case ScopeRegister:
		return mayRegister
	case ScopeSend:
		return maySend
	case ScopeAdmin:
		return mayAdmin
	case ScopeOperator:
		return mayOperate
	}
	return 0
}

func (s scopes) String() string {
	switch s {
	case forRegister:
		return "register, send or admin"
	case forSend:
		return "send or admin"
	case forOperator:
		return "operator"
	default:
		return "admin"
	}
}

// least is the scope of those that may do the least.
func (s scopes) least() Scope {
	for _, scope := range []Scope{ScopeRegister, ScopeSend, ScopeAdmin} {
		if scope.set()&s != 0 {
			return scope
		}
	}
	return ScopeOperator
}

// authorize finds who asks and whether they may.
func (x *exchange) authorize(r *http.Request, allowed scopes) error {
	p := x.api.principal(r)
	if p == nil || p.key.Scope == ScopeRegister {
		if err := x.limitAddress(r); err != nil {
			return err
		}
	}
	switch {
	case p == nil && len(r.Header["Authorization"]) == 0:
		return x.refuseKey(r, refusedMissing, errUnauthorized)
	case p == nil:
		return x.refuseKey(r, refusedUnknown, errUnauthorized)
	}
	x.who = p
	if p.key.expired(x.start) {
		return x.refuseKey(r, refusedExpired, explain(errUnauthorized, "The key has expired."))
	}
	if p.key.Scope.set()&allowed == 0 {
		return x.refuseKey(r, refusedScope, explain(errForbidden, "The key has the scope %s; this asks for %s.", p.key.Scope,
			allowed))
	}
	if p.rate != nil && !p.rate.allow(x.Header(), x.counted(r)) {
		return explain(errRate, "The key may make %s requests a second.", strconv.Itoa(p.key.Rate))
	}
	return nil
}

// limitAddress bounds what anybody can send: with a key that is in every copy of an app, and without one.
func (x *exchange) limitAddress(r *http.Request) error {
	rates := x.api.addresses.Load()
	if rates == nil || rates.allow(x.Header(), x.counted(r)) {
		return nil
	}
	return explain(errRate, "An address may make %d requests a second without a key of scope send or admin.",
		rates.perSecond)
}

// counted is the client's address, as limits count it.
func (x *exchange) counted(r *http.Request) netip.Addr { return x.api.counted(x.address(r)) }

// address is the client's.
func (x *exchange) address(r *http.Request) netip.Addr {
	if !x.client.IsValid() {
		x.client = x.api.client(r)
	}
	return x.client
}

// directClient is the client where no proxy is trusted.
func directClient(r *http.Request) netip.Addr {
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return at.Addr().Unmap()
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
	p := a.directory.Load().keys[hash]
	if p == nil || subtle.ConstantTimeCompare(hash[:], p.key.Hash[:]) != 1 {
		return nil
	}
	return p
}
