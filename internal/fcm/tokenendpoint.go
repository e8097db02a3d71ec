package fcm

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/lhspn/lhspn/internal/http2"
	"github.com/lhspn/lhspn/internal/push"
)

// fetch exchanges a signed assertion for an access token
// (https://developers.google.com/identity/protocols/oauth2/service-account).
func (a *ServiceAccount) fetch(ctx context.Context, client *http.Client, now time.Time) (*accessToken, error) {
	assertion := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims{
		"iss": a.Email, "scope": scope, "aud": a.TokenURL, "iat": now.Unix(), "exp": now.Add(assertionLife).Unix(),
	})
	assertion.Header["kid"] = a.KeyID
	signed, err := assertion.SignedString(a.key)
	if err != nil {
		return nil, fmt.Errorf("sign the assertion: %w", err)
	}
	form := url.Values{"grant_type": {grantType}, "assertion": {signed}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.TokenURL, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, fmt.Errorf("ask the token endpoint: %w", err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the token endpoint: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := http2.ReadBody(resp, maxTokenAnswer)
	if err != nil {
		return nil, fmt.Errorf("read the token endpoint's answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, judgeToken(resp.StatusCode, body, http2.RetryAfter([]byte(resp.Header.Get("Retry-After")), now))
	}
	return readAccessToken(body)
}

// readAccessToken reads the endpoint's 200 (RFC 6749, 5.1).
func readAccessToken(body []byte) (*accessToken, error) {
	var answer struct {
		AccessToken string  `json:"access_token"`
		TokenType   string  `json:"token_type"`
		ExpiresIn   float64 `json:"expires_in"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, unrecognized("the answer is not the JSON of an access token")
	}
	return newAccessToken(answer.AccessToken, answer.TokenType, answer.ExpiresIn)
}

// unrecognized is for a 200 that holds no access token.
func unrecognized(detail string) error {
	return &tokenError{push.Result{Outcome: push.Blocked, Reason: TokenUnrecognized, Status: http.StatusOK}, detail}
}

// newAccessToken checks what is to become a header field. seconds is how long it lives.
func newAccessToken(token, kind string, seconds float64) (*accessToken, error) {
	const longest = 8 << 10
	switch {
	case token == "" || len(token) > longest:
		return nil, unrecognized("the answer has no access_token")
	case kind != "" && !strings.EqualFold(kind, "Bearer"):
		return nil, unrecognized("the access token is not of the type Bearer")
	case seconds < 1:
		return nil, unrecognized("the access token has no expires_in")
	}
	for i := range len(token) {
		if c := token[i]; c <= ' ' || c > '~' {
			return nil, unrecognized("the access token is not printable ASCII")
		}
	}
	life := longestLife
	if seconds < longestLife.Seconds() {
		life = time.Duration(seconds * float64(time.Second))
	}
	return &accessToken{authorization: "Bearer " + token, life: life}, nil
}

// tokenTable is what the endpoint's errors mean (RFC 6749, 5.2). What is not in it is judged by its status: see
// judgeToken.
var tokenTable = map[string]*push.Reason{
	"invalid_grant":       InvalidGrant,
	"invalid_scope":       InvalidScope,
	"invalid_request":     InvalidRequest,
	"invalid_client":      InvalidClient,
	"deleted_client":      InvalidClient,
	"disabled_client":     InvalidClient,
	"unauthorized_client": UnauthorizedClient,
}

// judgeToken is what an answer of the endpoint that is not a 200 means: the route is blocked until the configuration is
// mended, or the endpoint is to be asked again later.
func judgeToken(status int, body []byte, retryAfter time.Duration) *tokenError {
	e := &tokenError{result: push.Result{Outcome: push.Blocked, Status: uint16(status), RetryAfter: retryAfter}}
	if status == http.StatusTooManyRequests || status >= 500 {
		e.result.Outcome, e.result.Reason = push.NotSent, TokenUnavailable
		e.detail = fmt.Sprintf("the token endpoint answers %d", status)
		return e
	}
	code, description := tokenWords(body)
	if code == "" {
		e.result.Reason = TokenUnrecognized
		e.detail = fmt.Sprintf("the token endpoint answers %d without an error of OAuth", status)
		return e
	}
	e.result.Reason = tokenTable[code]
	if e.result.Reason == nil {
		e.result.Reason = TokenRefused
	}
	e.detail = fmt.Sprintf("the token endpoint answers %d %.80q: %.300q", status, code, description)
	return e
}

// tokenWords are those of an error: OAuth's, or Google's own where a service account is impersonated.
func tokenWords(body []byte) (code, description string) {
	var oauth struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}
	if json.Unmarshal(body, &oauth) == nil {
		return oauth.Error, oauth.Description
	}
	var google struct {
		Error struct {
			Status  string `json:"status"`
			Message string `json:"message"`
		} `json:"error"`
	}
	if json.Unmarshal(body, &google) == nil {
		return google.Error.Status, google.Error.Message
	}
	return "", ""
}
