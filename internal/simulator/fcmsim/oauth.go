package fcmsim

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/lhspn/lhspn/internal/simulator/record"
)

const (
	tokenPath   = "/token"
	jwtBearer   = "urn:ietf:params:oauth:grant-type:jwt-bearer" //nolint:gosec // no credential
	maxLife     = 65 * time.Minute                              // of an assertion: an hour, and clocks that differ
	maxSkew     = 5 * time.Minute
	maxBearers  = 1000
	bearerStart = "ya29.c.sim-" //nolint:gosec // nor this
)

// otherTokenPaths are those that Google has or had besides. Libraries with a fixed token endpoint use them.
var otherTokenPaths = []string{"/oauth2/v4/token", "/o/oauth2/token"}

// googleAudiences are what libraries write that do not ask the service account for its token_uri.
var googleAudiences = []string{
	"https://oauth2.googleapis.com/token", "https://www.googleapis.com/oauth2/v4/token",
	"https://accounts.google.com/o/oauth2/token",
}

// scopes are those that allow sending.
var scopes = []string{"https://www.googleapis.com/auth/firebase.messaging",
	"https://www.googleapis.com/auth/cloud-platform"}

// oauthError is an error of the token endpoint (RFC 6749, 5.2).
type oauthError struct {
	status            int
	code, description string
}

// tokenAnswer is the answer to a request for an access token.
func (s *Simulator) tokenAnswer(contentType string, body []byte, now time.Time) answer {
	if refused := s.checkGrant(contentType, body, now); refused != nil {
		text, _ := json.Marshal(map[string]string{"error": refused.code, "error_description": refused.description})
		return jsonAnswer(refused.status, record.Accepted, text)
	}
	text, _ := json.Marshal(map[string]any{
		"access_token": s.bearers.issue(now, s.cfg.TokenLife), "expires_in": int(s.cfg.TokenLife.Seconds()),
		"token_type": "Bearer",
	})
	return jsonAnswer(200, record.Accepted, text)
}

func (s *Simulator) checkGrant(contentType string, body []byte, now time.Time) *oauthError {
	switch fault := s.faults.Load().TokenError; fault {
	case "":
	case "429", "500", "503":
		return &oauthError{int(fault[0]-'0')*100 + int(fault[1]-'0')*10 + int(fault[2]-'0'), "internal_failure",
			"The service is currently unavailable."}
	case "invalid_client":
		return &oauthError{401, fault, "The OAuth client was not found."}
	default:
		return &oauthError{400, fault, "As the simulator was told to answer."}
	}
	if media, _, _ := strings.Cut(contentType, ";"); strings.TrimSpace(media) != "application/x-www-form-urlencoded" {
		return &oauthError{400, "invalid_request", "Bad Request: the content type is application/x-www-form-urlencoded"}
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return &oauthError{400, "invalid_request", "Bad Request"}
	}
	switch grant := form.Get("grant_type"); {
	case grant == "":
		return &oauthError{400, "invalid_request", "Required parameter is missing: grant_type"}
	case grant != jwtBearer:
		return &oauthError{400, "unsupported_grant_type", "Invalid grant_type: " + grant}
	case form.Get("assertion") == "":
		return &oauthError{400, "invalid_request", "Required parameter is missing: assertion"}
	}
	return s.account.check(form.Get("assertion"), now)
}

// check verifies a service account's assertion: an RS256 JWT of an hour at most.
func (a *account) check(assertion string, now time.Time) *oauthError {
	grant := func(format string, args ...any) *oauthError {
		return &oauthError{400, "invalid_grant", fmt.Sprintf(format, args...)}
	}
	parts := strings.Split(assertion, ".")
	var head struct{ Alg, Kid string }
	var claims struct {
		Iss, Aud, Scope string
		Iat, Exp        float64
	}
	if len(parts) != 3 || !decodePart(parts[0], &head) || !decodePart(parts[1], &claims) {
		return grant("Bad Request: the assertion is no JWT")
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	switch {
	case err != nil:
		return grant("Bad Request: the assertion is no JWT")
	case head.Alg != "RS256":
		return grant("Invalid JWT: the algorithm is RS256, not %s", head.Alg)
	case claims.Iss != a.Email:
		return grant("Invalid grant: account not found")
	case head.Kid != "" && head.Kid != a.KeyID: // it may be left out: then each of the account's keys is tried
		return grant("Invalid JWT Signature.")
	}
	hash := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	if rsa.VerifyPKCS1v15(a.key, crypto.SHA256, hash[:], signature) != nil {
		return grant("Invalid JWT Signature.")
	}
	issued, expires := time.Unix(int64(claims.Iat), 0), time.Unix(int64(claims.Exp), 0)
	switch {
	case claims.Iat <= 0 || claims.Exp <= 0 || expires.Sub(issued) > maxLife || expires.Before(now) ||
		issued.After(now.Add(maxSkew)):
		return grant("Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. " +
			"Check your iat and exp values in the JWT claim.")
	case claims.Aud != a.tokenURI && !slices.Contains(googleAudiences, claims.Aud):
		return grant("Invalid JWT: Failed audience check. The right audience is %s", a.tokenURI)
	case !slices.ContainsFunc(strings.Fields(claims.Scope), func(scope string) bool {
		return slices.Contains(scopes,
			scope)
	}):
		return &oauthError{400, "invalid_scope", "Invalid OAuth scope or ID token audience provided."}
	}
	return nil
}

func decodePart(part string, into any) bool {
	b, err := base64.RawURLEncoding.DecodeString(part)
	return err == nil && json.Unmarshal(b, into) == nil
}

// bearers are the access tokens that were given out.
type bearers struct {
	mu    sync.Mutex
	known map[string]*bearer
}

// bearer is one of them.
type bearer struct {
	mu      sync.Mutex
	expires time.Time
}

func (b *bearer) good(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return now.Before(b.expires)
}

// issue gives out an access token, about as long as Google's.
func (b *bearers) issue(now time.Time, life time.Duration) string {
	random := make([]byte, 150)
	_, _ = rand.Read(random) // it does not fail
	token := bearerStart + base64.RawURLEncoding.EncodeToString(random)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.known == nil || len(b.known) >= maxBearers {
		b.known = map[string]*bearer{}
	}
	b.known[token] = &bearer{expires: now.Add(life)}
	return token
}

// find looks up the token of an authorization header; nil for what was never given out.
func (b *bearers) find(authorization []byte) *bearer {
	const scheme = "bearer "
	if len(authorization) < len(scheme) || !bytes.EqualFold(authorization[:len(scheme)], []byte(scheme)) {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.known[string(authorization[len(scheme):])]
}

func (b *bearers) expire() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, one := range b.known {
		one.mu.Lock()
		one.expires = time.Time{}
		one.mu.Unlock()
	}
}
