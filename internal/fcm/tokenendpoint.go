package fcm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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
func (c *Credentials) fetch(ctx context.Context, account *ServiceAccount, now time.Time) (*accessToken, error) {
	assertion := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims{
		"iss": account.Email, "scope": scope, "aud": account.TokenURL, "iat": now.Unix(), "exp": now.Add(assertionLife).Unix(),
	})
	assertion.Header["kid"] = account.KeyID
	signed, err := assertion.SignedString(account.key)
	if err != nil {
		return nil, fmt.Errorf("sign the assertion: %w", err)
	}
	form := url.Values{"grant_type": {grantType}, "assertion": {signed}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, account.TokenURL, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, fmt.Errorf("ask the token endpoint: %w", err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := c.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the token endpoint: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxTokenAnswer))
	if err != nil {
		return nil, fmt.Errorf("read the token endpoint's answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, judgeToken(resp.StatusCode, body, http2.RetryAfter([]byte(resp.Header.Get("Retry-After")), now))
	}
	t, err := parseAccessToken(body)
	if err != nil {
		return nil, &tokenError{push.Result{Outcome: push.Blocked, Reason: TokenUnrecognized, Status: http.StatusOK}, err.Error()}
	}
	t.account, t.issued = account, now
	t.path = "/v1/projects/" + account.ProjectID + "/messages:send"
	return t, nil
}

// parseAccessToken reads the endpoint's 200 (RFC 6749, 5.1).
func parseAccessToken(body []byte) (*accessToken, error) {
	var answer struct {
		AccessToken string  `json:"access_token"`
		TokenType   string  `json:"token_type"`
		ExpiresIn   float64 `json:"expires_in"`
	}
	const longest = 8 << 10
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, errors.New("the answer is not the JSON of an access token")
	}
	switch {
	case answer.AccessToken == "" || len(answer.AccessToken) > longest:
		return nil, errors.New("the answer has no access_token")
	case answer.TokenType != "" && !strings.EqualFold(answer.TokenType, "Bearer"):
		return nil, errors.New("the access token is not of the type Bearer")
	case answer.ExpiresIn < 1:
		return nil, errors.New("the access token has no expires_in")
	}
	for i := range len(answer.AccessToken) {
		if c := answer.AccessToken[i]; c <= ' ' || c > '~' { // it becomes a header field
			return nil, errors.New("the access token is not printable ASCII")
		}
	}
	life := longestLife
	if answer.ExpiresIn < longestLife.Seconds() {
		life = time.Duration(answer.ExpiresIn * float64(time.Second))
	}
	return &accessToken{authorization: "Bearer " + answer.AccessToken, life: life}, nil
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
	var answer struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}
	if json.Unmarshal(body, &answer) != nil || answer.Error == "" {
		e.result.Reason = TokenUnrecognized
		e.detail = fmt.Sprintf("the token endpoint answers %d without an error of OAuth", status)
		return e
	}
	e.result.Reason = tokenTable[answer.Error]
	if e.result.Reason == nil {
		e.result.Reason = TokenRefused
	}
	e.detail = fmt.Sprintf("the token endpoint answers %d %.80q: %.300q", status, answer.Error, answer.Description)
	return e
}
