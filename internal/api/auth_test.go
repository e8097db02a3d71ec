package api

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"

	"github.com/lhspn/lhspn/internal/push"
)

// routes are all of them, with the least scope that each takes.
var routes = []struct {
	method, path, body string
	scope              Scope
}{
	{http.MethodPost, "/v1/tokens", `{"platform": "apns", "token": "` + token1 + `"}`, ScopeRegister},
	{http.MethodPut, "/v1/tokens/" + token1, `{}`, ScopeRegister},
	{http.MethodPut, "/v1/tokens/" + token1 + "/badge", `{"badge": 0}`, ScopeRegister},
	{http.MethodDelete, "/v1/tokens/" + token2, "", ScopeRegister},
	{http.MethodGet, "/v1/tokens/" + token1, "", ScopeSend},
	{http.MethodGet, "/v1/tokens", "", ScopeAdmin},
	{http.MethodPost, "/v1/tokens/import", "{}", ScopeAdmin},
	{http.MethodGet, "/v1/tokens/export", "", ScopeAdmin},
	{http.MethodPost, "/v1/notifications", `{` + toOne + `, "aps": {}}`, ScopeSend},
	{http.MethodPost, "/v1/notifications/batch", `{"notifications": [{` + toOne + `, "aps": {}}]}`, ScopeSend},
	{http.MethodGet, "/v1/notifications", "", ScopeSend},
	{http.MethodGet, "/v1/notifications/01890a5d-ac96-774b-bcce-b302099a8057", "", ScopeSend},
	{http.MethodGet, "/v1/notifications/01890a5d-ac96-774b-bcce-b302099a8057/failures", "", ScopeSend},
	{http.MethodGet, "/v1/notifications/01890a5d-ac96-774b-bcce-b302099a8057/recipients/" + token1, "", ScopeSend},
	{http.MethodPost, "/v1/notifications/01890a5d-ac96-774b-bcce-b302099a8057/cancel", "", ScopeSend},
	{http.MethodGet, "/v1/feedback", "", ScopeAdmin},
	{http.MethodPost, "/v1/feedback/check", "", ScopeAdmin},
	{http.MethodGet, "/v1/events", "", ScopeSend},
}

func TestScopes(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.statuses = []push.Status{{ID: mustID(t, "01890a5d-ac96-774b-bcce-b302099a8057")}}
	f.recipients = []push.RecipientStatus{{Failure: push.Failure{Token: mustToken(t, token1)}}}
	rank := map[Scope]int{ScopeRegister: 0, ScopeSend: 1, ScopeAdmin: 2}
	for _, r := range routes {
		for scope, key := range map[Scope]string{ScopeRegister: registerKey, ScopeSend: sendKey, ScopeAdmin: adminKey} {
			w := f.call(key, r.method, r.path, r.body)
			if rank[scope] < rank[r.scope] {
				wantProblem(t, w, 403, "forbidden")
			} else if w.Code >= 300 {
				t.Errorf("%s %s with %s: %d %s", r.method, r.path, scope, w.Code, w.Body)
			}
		}
	}
}

func TestUnauthorized(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, r := range routes {
		for _, header := range []string{"", "Bearer", "Bearer ", "Bearer wrong-key", "Basic " + adminKey, adminKey, "Bearer " + keyHashText(adminKey), "Bearer " + adminKey + "x"} {
			req := httptest.NewRequest(r.method, r.path, strings.NewReader(r.body))
			if header != "" {
				req.Header.Set("Authorization", header)
			}
			w := httptest.NewRecorder()
			f.ServeHTTP(w, req)
			wantProblem(t, w, 401, "unauthorized")
			if w.Header().Get("WWW-Authenticate") != "Bearer" {
				t.Error("no WWW-Authenticate")
			}
		}
	}
	if len(f.devices)+len(f.requests) > 0 {
		t.Error("something was done")
	}
	r := httptest.NewRequest(http.MethodGet, "/v1/tokens", nil)
	r.Header["Authorization"] = []string{"bearer " + adminKey} // the scheme has no case
	w := httptest.NewRecorder()
	f.ServeHTTP(w, r)
	wantStatus(t, w, 200)
}

func keyHashText(key string) string {
	h := keyHash(key)
	return string(h[:])
}

func TestKeysBelongToOneApp(t *testing.T) {
	t.Parallel()
	c := Config{Tokens: newStores(), Notifications: queue{newStores()}, Feedback: inbox{newStores()}, Events: newFakeFeed(), Log: newFixture(t).API.log}
	for name, apps := range map[string][]App{
		"the same key twice": {{Keys: []Key{{Scope: ScopeSend}}}, {Keys: []Key{{Scope: ScopeSend}}}},
		"an unknown scope":   {{Keys: []Key{{Scope: "root"}}}},
	} {
		c.Apps = apps
		c.Metrics = newRegistry()
		if _, err := New(c); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	if _, err := New(Config{}); err == nil {
		t.Error("nothing at all was taken")
	}
}

func TestRate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		path := "/v1/notifications"
		for range 3 {
			wantStatus(t, f.call(slowKey, http.MethodGet, path, ""), 200)
		}
		w := f.call(slowKey, http.MethodGet, path, "")
		wantProblem(t, w, 429, "over-the-rate")
		if w.Header().Get("Retry-After") != "1" {
			t.Errorf("Retry-After %q", w.Header().Get("Retry-After"))
		}
		wantStatus(t, f.call(sendKey, http.MethodGet, path, ""), 200) // another key's rate is its own
		time.Sleep(2 * time.Second)                                   //nolint:forbidigo // synctest's time
		wantStatus(t, f.call(slowKey, http.MethodGet, path, ""), 200)
	})
}

func sign(t *testing.T, method jwt.SigningMethod, key, kid any, claims jwt.MapClaims) string {
	t.Helper()
	token := jwt.NewWithClaims(method, claims)
	if kid != "" {
		token.Header["kid"] = kid
	}
	s, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestUserProof(t *testing.T) {
	t.Parallel()
	put := func(f *fixture, key, user, proof string) *httptest.ResponseRecorder {
		return f.call(key, http.MethodPut, "/v1/tokens/"+token1, `{"user_id": "`+user+`"}`, "X-User-Token", proof)
	}
	later := time.Now().Add(time.Hour).Unix()
	good := sign(t, jwt.SigningMethodHS256, []byte(proofSecret), "", jwt.MapClaims{"sub": "anna", "exp": time.Now().Add(time.Hour).Unix()})
	f := newFixture(t)
	wantStatus(t, put(f, registerKey, "anna", good), 201)
	wantStatus(t, put(f, sendKey, "otto", ""), 200) // an app backend may say so outright
	for name, c := range map[string]struct{ proof, want string }{
		"none":            {"", "missing"},
		"another user's":  {sign(t, jwt.SigningMethodHS256, []byte(proofSecret), "", jwt.MapClaims{"sub": "otto", "exp": later}), "another user"},
		"no subject":      {sign(t, jwt.SigningMethodHS256, []byte(proofSecret), "", jwt.MapClaims{"exp": later}), "no sub"},
		"expired":         {sign(t, jwt.SigningMethodHS256, []byte(proofSecret), "", jwt.MapClaims{"sub": "anna", "exp": time.Now().Add(-61 * time.Second).Unix()}), "expired"},
		"not yet":         {sign(t, jwt.SigningMethodHS256, []byte(proofSecret), "", jwt.MapClaims{"sub": "anna", "exp": later, "nbf": time.Now().Add(time.Hour).Unix()}), "not valid yet"},
		"wrong secret":    {sign(t, jwt.SigningMethodHS256, []byte("another"), "", jwt.MapClaims{"sub": "anna"}), "none of the configured keys"},
		"other algorithm": {sign(t, jwt.SigningMethodHS512, []byte(proofSecret), "", jwt.MapClaims{"sub": "anna"}), "none of the configured keys"},
		"none algorithm":  {sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, "", jwt.MapClaims{"sub": "anna"}), "none of the configured keys"},
		"garbage":         {"abc", "not a JWT"},
		"no exp":          {sign(t, jwt.SigningMethodHS256, []byte(proofSecret), "", jwt.MapClaims{"sub": "anna"}), "no exp"},
		"exp is a string": {sign(t, jwt.SigningMethodHS256, []byte(proofSecret), "", jwt.MapClaims{"sub": "anna", "exp": "later"}), "type"},
		// Claims have the case that RFC 7519 gives them.
		"EXP":            {sign(t, jwt.SigningMethodHS256, []byte(proofSecret), "", jwt.MapClaims{"sub": "anna", "EXP": later}), "no exp"},
		"SUB":            {sign(t, jwt.SigningMethodHS256, []byte(proofSecret), "", jwt.MapClaims{"SUB": "anna", "exp": later}), "no sub"},
		"EXP beside exp": {sign(t, jwt.SigningMethodHS256, []byte(proofSecret), "", jwt.MapClaims{"sub": "anna", "exp": 1, "EXP": later}), "expired"},
		"SUB beside sub": {sign(t, jwt.SigningMethodHS256, []byte(proofSecret), "", jwt.MapClaims{"sub": "otto", "SUB": "anna", "exp": later}), "another user"},
		"iat too far":    {sign(t, jwt.SigningMethodHS256, []byte(proofSecret), "", jwt.MapClaims{"sub": "anna", "exp": later, "iat": time.Now().Add(2 * time.Minute).Unix()}), "not valid yet"},
		// Times that no clock has are not long ago.
		"nbf of never":     {sign(t, jwt.SigningMethodHS256, []byte(proofSecret), "", jwt.MapClaims{"sub": "anna", "exp": later, "nbf": 1e300}), "type"},
		"nbf overflows":    {sign(t, jwt.SigningMethodHS256, []byte(proofSecret), "", jwt.MapClaims{"sub": "anna", "exp": later, "nbf": 9223372036854775000}), "type"},
		"iat of never":     {sign(t, jwt.SigningMethodHS256, []byte(proofSecret), "", jwt.MapClaims{"sub": "anna", "exp": later, "iat": 1e300}), "type"},
		"exp overflows":    {sign(t, jwt.SigningMethodHS256, []byte(proofSecret), "", jwt.MapClaims{"sub": "anna", "exp": 9223372036854775807}), "type"},
		"exp is 0":         {sign(t, jwt.SigningMethodHS256, []byte(proofSecret), "", jwt.MapClaims{"sub": "anna", "exp": 0}), "expired"},
		"kid is no string": {sign(t, jwt.SigningMethodHS256, []byte(proofSecret), 7, jwt.MapClaims{"sub": "anna", "exp": later}), "none of the configured keys"},
	} {
		p := wantProblem(t, put(f, registerKey, "anna", c.proof), 403, "forbidden")
		if !strings.Contains(p.Detail, c.want) || c.proof != "" && strings.Contains(p.Detail, c.proof) {
			t.Errorf("%s: %s", name, p.Detail)
		}
	}
	if got := f.devices["hedgehog"][mustToken(t, token1)].UserID; got != "otto" {
		t.Errorf("the user has become %q", got)
	}
	wantProblem(t, put(f, "other-register-key", "anna", good), 403, "forbidden") // that app has no keys to check proofs with

	// The clocks of others are a minute off.
	for _, claims := range []jwt.MapClaims{
		{"sub": "anna", "exp": later, "iat": time.Now().Add(30 * time.Second).Unix()},
		{"sub": "anna", "exp": later, "nbf": time.Now().Add(30 * time.Second).Unix()},
		{"sub": "anna", "exp": time.Now().Add(-30 * time.Second).Unix()},
	} {
		wantStatus(t, put(f, registerKey, "anna", sign(t, jwt.SigningMethodHS256, []byte(proofSecret), "", claims)), 200)
	}
	r := httptest.NewRequest(http.MethodPut, "/v1/tokens/"+token1, strings.NewReader(`{"user_id": "anna"}`))
	r.Header.Set("Authorization", "Bearer "+registerKey)
	r.Header[headerUserToken] = []string{good, good}
	w := httptest.NewRecorder()
	f.ServeHTTP(w, r)
	if p := wantProblem(t, w, 403, "forbidden"); !strings.Contains(p.Detail, "more than once") {
		t.Error(p.Detail)
	}
}

func TestUserProofMaxAgeAndNewKeys(t *testing.T) {
	t.Parallel()
	u, err := NewUserTokens([]UserTokenKey{{Algorithm: algHS256, Key: []byte(proofSecret)}}, "", "", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	claims := func(iat, exp time.Duration) jwt.MapClaims {
		return jwt.MapClaims{"sub": "anna", "iat": time.Now().Add(iat).Unix(), "exp": time.Now().Add(exp).Unix()}
	}
	other := strings.Repeat("another secret ", 3)
	for _, c := range []struct {
		secret string
		claims jwt.MapClaims
		good   bool
	}{
		{proofSecret, claims(0, time.Hour), true},
		{proofSecret, claims(-time.Hour, time.Minute), true},
		{proofSecret, claims(-2*time.Hour, time.Minute), false},
		{proofSecret, claims(0, 24*time.Hour), false},
		{proofSecret, jwt.MapClaims{"sub": "anna", "exp": time.Now().Add(24 * time.Hour).Unix()}, false},
		{proofSecret, jwt.MapClaims{"sub": "anna", "iat": 0, "exp": time.Now().Add(time.Minute).Unix()}, false},
		{other, claims(0, time.Hour), false},
	} {
		if _, err := u.Verify(sign(t, jwt.SigningMethodHS256, []byte(c.secret), "", c.claims)); (err == nil) != c.good {
			t.Errorf("%v: %v", c.claims, err)
		}
	}
	if u.Replace(nil) == nil || u.Replace([]UserTokenKey{{Algorithm: algHS256, Key: []byte("short")}}) == nil {
		t.Error("wrong keys were taken")
	}
	if err := u.Replace([]UserTokenKey{{Algorithm: algHS256, Key: []byte(other)}}); err != nil {
		t.Fatal(err)
	}
	if _, err := u.Verify(sign(t, jwt.SigningMethodHS256, []byte(other), "", claims(0, time.Hour))); err != nil {
		t.Errorf("the new key: %v", err)
	}
	if _, err := u.Verify(sign(t, jwt.SigningMethodHS256, []byte(proofSecret), "", claims(0, time.Hour))); err == nil {
		t.Error("the old key is still good")
	}
}

func TestUserTokenKeys(t *testing.T) {
	t.Parallel()
	ec, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ec384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	rs, _ := rsa.GenerateKey(rand.Reader, 2048)
	weak, _ := rsa.GenerateKey(rand.Reader, 1024)
	edPublic, ed, _ := ed25519.GenerateKey(rand.Reader)
	pemOf := func(key any) []byte {
		der, err := x509.MarshalPKIXPublicKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	}
	keys := make([]UserTokenKey, 0, 3)
	for algorithm, public := range map[string]crypto.PublicKey{algES256: &ec.PublicKey, algRS256: &rs.PublicKey, algEdDSA: edPublic} {
		key, err := ParsePublicKey(pemOf(public))
		if err != nil || key.Algorithm != algorithm {
			t.Fatalf("%s: %v, %v", algorithm, key.Algorithm, err)
		}
		if marked, err := ParsePublicKey(append([]byte("\ufeff"), pemOf(public)...)); err != nil || marked.Algorithm != algorithm {
			t.Errorf("%s, with a byte-order mark: %v", algorithm, err)
		}
		keys = append(keys, key)
	}
	for name, file := range map[string][]byte{"P-384": pemOf(&ec384.PublicKey), "1024 bits": pemOf(&weak.PublicKey), "no PEM": []byte("x"), "a private key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY"}), "garbage": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte("x")})} {
		if _, err := ParsePublicKey(file); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	if _, err := NewUserTokens([]UserTokenKey{{Algorithm: algHS256, Key: []byte("short")}}, "", "", 0); err == nil {
		t.Error("a short secret was taken")
	}
	if _, err := NewUserTokens([]UserTokenKey{{Algorithm: algHS256, Key: &rs.PublicKey}}, "", "", 0); err == nil {
		t.Error("a public key was taken as a shared secret")
	}
	u, err := NewUserTokens(keys, "us", "lhspn", 0)
	if err != nil {
		t.Fatal(err)
	}
	later := time.Now().Add(time.Hour).Unix()
	claims := jwt.MapClaims{"sub": "anna", "iss": "us", "aud": "lhspn", "exp": later}
	for _, c := range []struct {
		method jwt.SigningMethod
		key    any
	}{{jwt.SigningMethodES256, ec}, {jwt.SigningMethodRS256, rs}, {jwt.SigningMethodEdDSA, ed}} {
		if sub, err := u.Verify(sign(t, c.method, c.key, "", claims)); err != nil || sub != "anna" {
			t.Errorf("%s: %q, %v", c.method.Alg(), sub, err)
		}
	}
	// The oldest trick: the public key as the shared secret.
	if _, err := u.Verify(sign(t, jwt.SigningMethodHS256, pemOf(&rs.PublicKey), "", claims)); err == nil {
		t.Error("a proof signed with the public key was taken")
	}
	for _, wrong := range []jwt.MapClaims{
		{"sub": "anna", "exp": later, "iss": "them", "aud": "lhspn"}, {"sub": "anna", "exp": later, "iss": "us", "aud": "x"},
		{"sub": "anna", "exp": later},
	} {
		if _, err := u.Verify(sign(t, jwt.SigningMethodES256, ec, "", wrong)); err == nil || !strings.Contains(err.Error(), "another issuer") {
			t.Errorf("%v: %v", wrong, err)
		}
	}
	critical := jwt.NewWithClaims(jwt.SigningMethodES256, claims)
	critical.Header["crit"], critical.Header["b64"] = []string{"b64"}, true
	proof, err := critical.SignedString(ec)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := u.Verify(proof); err == nil || !strings.Contains(err.Error(), "crit") {
		t.Errorf("with a critical header: %v", err)
	}
}

// A proof may come without the id of its key: each key of its algorithm is tried. One that names a key is that key's.
func TestProofWithoutKeyID(t *testing.T) {
	t.Parallel()
	var keys []UserTokenKey
	var private []*ecdsa.PrivateKey
	for _, id := range []string{"2025", "2026", ""} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		private = append(private, key)
		keys = append(keys, UserTokenKey{ID: id, Algorithm: algES256, Key: &key.PublicKey})
	}
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	u, err := NewUserTokens(keys, "", "", 0)
	if err != nil {
		t.Fatal(err)
	}
	claims := jwt.MapClaims{"sub": "anna", "exp": time.Now().Add(time.Hour).Unix()}
	for _, c := range []struct {
		key  *ecdsa.PrivateKey
		id   string
		good bool
	}{
		{private[0], "", true}, {private[1], "", true}, {private[2], "", true}, {stranger, "", false},
		{private[1], "2026", true}, {private[1], "2025", false}, {private[1], "2027", false},
		{private[2], "2027", true}, // a key that is configured without an id
	} {
		if _, err := u.Verify(sign(t, jwt.SigningMethodES256, c.key, c.id, claims)); (err == nil) != c.good {
			t.Errorf("kid %q: %v, want good: %v", c.id, err, c.good)
		}
	}
}

func TestJWKS(t *testing.T) {
	t.Parallel()
	ec, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	var set jwkset.JWKSMarshal
	for kid, key := range map[string]any{"a": ec.Public(), "b": ed.Public()} {
		jwk, err := jwkset.NewJWKFromKey(key, jwkset.JWKOptions{Metadata: jwkset.JWKMetadataOptions{KID: kid}})
		if err != nil {
			t.Fatal(err)
		}
		set.Keys = append(set.Keys, jwk.Marshal())
	}
	// What else an identity provider has: other kinds and algorithms are left out.
	ec384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	rs, _ := rsa.GenerateKey(rand.Reader, 2048)
	for key, alg := range map[any]jwkset.ALG{ec384.Public(): jwkset.AlgES384, rs.Public(): jwkset.AlgRS512} {
		jwk, err := jwkset.NewJWKFromKey(key, jwkset.JWKOptions{Metadata: jwkset.JWKMetadataOptions{KID: "other", ALG: alg}})
		if err != nil {
			t.Fatal(err)
		}
		set.Keys = append(set.Keys, jwk.Marshal())
	}
	set.Keys = append(set.Keys, jwkset.JWKMarshal{KTY: "XYZ"})
	others, err := json.Marshal(jwkset.JWKSMarshal{Keys: set.Keys[2:]})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseJWKS(others); err == nil || !strings.Contains(err.Error(), "it is for RS512, not RS256") || !strings.Contains(err.Error(), "XYZ") {
		t.Errorf("only others: %v", err)
	}
	file, err := json.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := ParseJWKS(file)
	if err != nil || len(keys) != 2 {
		t.Fatalf("%v, %v", keys, err)
	}
	if marked, err := ParseJWKS(append([]byte("\ufeff"), file...)); err != nil || len(marked) != 2 {
		t.Errorf("with a byte-order mark: %v", err)
	}
	u, err := NewUserTokens(keys, "", "", 0)
	if err != nil {
		t.Fatal(err)
	}
	claims := jwt.MapClaims{"sub": "anna", "exp": time.Now().Add(time.Hour).Unix()}
	if sub, err := u.Verify(sign(t, jwt.SigningMethodES256, ec, "a", claims)); err != nil || sub != "anna" {
		t.Errorf("%q, %v", sub, err)
	}
	if _, err := u.Verify(sign(t, jwt.SigningMethodES256, ec, "b", claims)); err == nil {
		t.Error("another key's id was taken")
	}
	for _, bad := range []string{``, `{}`, `{"keys": []}`, `{"keys": [{"kty": "EC"}]}`} {
		if _, err := ParseJWKS([]byte(bad)); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
}

// slowBody says what it is read.
type slowBody struct {
	io.Reader
	read func()
}

func (b slowBody) Read(p []byte) (int, error) {
	b.read()
	return b.Reader.Read(p)
}

// A key that is revoked while the body comes does nothing any more.
func TestAKeyIsRevokedWhileTheBodyComes(t *testing.T) {
	t.Parallel()
	for path, body := range map[string]string{
		"/v1/notifications": `{"to": {"tokens": ["` + token1 + `"]}, "aps": {"alert": "x"}}`,
		"/v1/tokens":        `{"platform": "apns", "token": "` + token1 + `"}`,
		"/v1/tokens/import": `{"token": "` + token1 + `"}`,
	} {
		f := newFixture(t)
		r := httptest.NewRequest(http.MethodPost, path, slowBody{strings.NewReader(body), func() {
			if err := f.SetApps([]App{{Name: "hedgehog", Platforms: apple("com.example.hedgehog")}}, nil); err != nil {
				t.Error(err)
			}
		}})
		if path == "/v1/tokens/import" {
			r.Header.Set("Content-Type", ndjson)
		}
		r.Header.Set("Authorization", "Bearer "+adminKey)
		w := httptest.NewRecorder()
		f.ServeHTTP(w, r)
		wantProblem(t, w, 401, "unauthorized")
	}
}
