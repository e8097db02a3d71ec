package fcm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/lhspn/lhspn/internal/http2"
	"github.com/lhspn/lhspn/internal/push"
)

// fakeEndpoint is Google's token endpoint. What it answers can be changed while it is asked.
type fakeEndpoint struct {
	mu      sync.Mutex
	asked   int
	forms   []string
	status  int
	body    string // empty: a new token each time
	header  http.Header
	err     error
	latency time.Duration
}

func (e *fakeEndpoint) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.asked++
	e.forms = append(e.forms, r.URL.String()+"?"+string(body))
	if e.latency > 0 {
		timer := time.NewTimer(e.latency)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
	if e.err != nil {
		return nil, e.err
	}
	text, status := e.body, max(e.status, 200)
	if text == "" {
		text = fmt.Sprintf(`{"access_token": "ya29.%d", "expires_in": 3599, "token_type": "Bearer"}`, e.asked)
	}
	return &http.Response{StatusCode: status, Header: e.header, Body: io.NopCloser(strings.NewReader(text)), Request: r}, nil
}

func (e *fakeEndpoint) set(status int, body string, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.status, e.body, e.err = status, body, err
}

func (e *fakeEndpoint) count() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.asked
}

func writeAccount(t *testing.T, file string, change map[string]any) {
	t.Helper()
	if err := os.WriteFile(file, []byte(accountJSON(change)), 0o600); err != nil {
		t.Fatal(err)
	}
}

func testCredentials(t *testing.T, e *fakeEndpoint) *Credentials {
	t.Helper()
	file := filepath.Join(t.TempDir(), "firebase.json")
	writeAccount(t, file, nil)
	c, err := NewCredentials(CredentialsConfig{App: "hedgehog", File: file}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	c.client.Transport = e
	return c
}

func mustToken(t *testing.T, c *Credentials, want string) {
	t.Helper()
	token, err := c.token(t.Context())
	if err != nil || token.authorization != "Bearer "+want {
		t.Fatalf("%+v, %v; want %s", token, err, want)
	}
}

// running runs the credentials for the rest of the bubble.
func running(t *testing.T, c *Credentials) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = c.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
}

func TestAssertion(t *testing.T) {
	t.Parallel()
	e := &fakeEndpoint{}
	c := testCredentials(t, e)
	mustToken(t, c, "ya29.1")
	form, found := strings.CutPrefix(e.forms[0], "https://oauth2.googleapis.com/token?assertion=")
	signed, found2 := strings.CutSuffix(form, "&grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer")
	if !found || !found2 {
		t.Fatal(e.forms[0])
	}
	claims := jwt.MapClaims{}
	parsed, err := jwt.ParseWithClaims(signed, claims, func(*jwt.Token) (any, error) { return &testKey().PublicKey, nil },
		jwt.WithValidMethods([]string{"RS256"}), jwt.WithAudience("https://oauth2.googleapis.com/token"), jwt.WithIssuedAt())
	if err != nil {
		t.Fatal(err)
	}
	issued, _ := claims.GetIssuedAt()
	expires, _ := claims.GetExpirationTime()
	if parsed.Header["kid"] != "0123456789abcdef" || parsed.Header["typ"] != "JWT" || claims["scope"] != scope ||
		claims["iss"] != "push@hedgehog-4711.iam.gserviceaccount.com" || expires.Sub(issued.Time) != time.Hour {
		t.Errorf("%v %v", parsed.Header, claims)
	}
	token, _ := c.token(t.Context())
	if token.path != "/v1/projects/hedgehog-4711/messages:send" || e.count() != 1 {
		t.Errorf("path %s, asked %d times", token.path, e.count())
	}
}

func TestTokenIsRenewedAhead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := &fakeEndpoint{}
		c := testCredentials(t, e)
		running(t, c)
		synctest.Wait()
		mustToken(t, c, "ya29.1")
		time.Sleep(54 * time.Minute) //nolint:forbidigo // in a synctest bubble
		synctest.Wait()
		mustToken(t, c, "ya29.1")
		time.Sleep(2 * time.Minute) //nolint:forbidigo // in a synctest bubble
		synctest.Wait()
		mustToken(t, c, "ya29.2")
		if e.count() != 2 {
			t.Errorf("asked %d times", e.count())
		}
	})
}

// TestOldTokenStaysWhileItLives: an endpoint that is away for minutes is not noticed.
func TestOldTokenStaysWhileItLives(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := &fakeEndpoint{}
		c := testCredentials(t, e)
		running(t, c)
		synctest.Wait()
		e.set(503, "<html>", nil)
		time.Sleep(59 * time.Minute) //nolint:forbidigo // in a synctest bubble
		synctest.Wait()
		mustToken(t, c, "ya29.1")
		if n := e.count(); n < 5 || n > 40 {
			t.Errorf("asked %d times in four minutes; want growing pauses of up to half a minute", n)
		}
		time.Sleep(time.Minute) //nolint:forbidigo // in a synctest bubble
		synctest.Wait()
		_, err := c.token(t.Context())
		var failed *tokenError
		if !errors.As(err, &failed) || failed.result.Outcome != push.NotSent || failed.result.Reason != TokenUnavailable {
			t.Fatalf("after its end: %v", err)
		}
		e.set(200, "", nil)
		time.Sleep(time.Minute) //nolint:forbidigo // in a synctest bubble
		synctest.Wait()
		if _, err := c.token(t.Context()); err != nil {
			t.Errorf("the endpoint is back: %v", err)
		}
	})
}

func TestOneRenewalAtATime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := &fakeEndpoint{latency: time.Second}
		c := testCredentials(t, e)
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				if token, err := c.token(t.Context()); err != nil || token.authorization != "Bearer ya29.1" {
					t.Errorf("%v, %v", token, err)
				}
			})
		}
		all.Wait()
		if e.count() != 1 {
			t.Errorf("asked %d times", e.count())
		}
		// FCM refuses it: again one request for all.
		first := c.live(time.Now())
		if c.refused(first, time.Now()); c.live(time.Now()) != first {
			t.Error("a new token is dropped that has never worked")
		}
		first.worked.Store(true)
		for range 20 {
			all.Go(func() {
				c.refused(first, time.Now())
				if token, err := c.token(t.Context()); err != nil || token.authorization != "Bearer ya29.2" {
					t.Errorf("%v, %v", token, err)
				}
			})
		}
		all.Wait()
		if e.count() != 2 {
			t.Errorf("asked %d times", e.count())
		}
	})
}

// TestFailureIsRemembered: many groups without a token are no storm at the endpoint.
func TestFailureIsRemembered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := &fakeEndpoint{status: 400, body: `{"error": "invalid_grant", "error_description": "Invalid JWT Signature."}`}
		c := testCredentials(t, e)
		for range 100 {
			_, err := c.token(t.Context())
			var failed *tokenError
			if !errors.As(err, &failed) || failed.result.Reason != InvalidGrant || failed.result.Outcome != push.Blocked ||
				!strings.Contains(err.Error(), "Invalid JWT Signature.") {
				t.Fatal(err)
			}
		}
		if e.count() != 1 {
			t.Errorf("asked %d times", e.count())
		}
		time.Sleep(30 * time.Second) //nolint:forbidigo // in a synctest bubble
		e.set(200, "", nil)
		mustToken(t, c, "ya29.2")
	})
}

// TestRefusedAccountIsProbed: while the endpoint refuses what we are, it is asked every 30 seconds, and at once with
// another account.
func TestRefusedAccountIsProbed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := &fakeEndpoint{status: 400, body: `{"error": "invalid_grant", "error_description": "Invalid JWT Signature."}`}
		c := testCredentials(t, e)
		running(t, c)
		for range 145 { // seconds
			_, _ = c.token(t.Context())
			time.Sleep(time.Second) //nolint:forbidigo // in a synctest bubble
		}
		if n := e.count(); n != 5 {
			t.Errorf("asked %d times in 145 seconds", n)
		}
		e.set(200, "", nil)
		writeAccount(t, c.cfg.File, map[string]any{"private_key_id": "another"})
		if changed, err := c.Reload(); !changed || err != nil {
			t.Fatalf("another key: %v, %v", changed, err)
		}
		synctest.Wait()
		mustToken(t, c, "ya29.6")
	})
}

func TestRunEndsWhileAsking(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := &fakeEndpoint{latency: time.Hour}
		c := testCredentials(t, e)
		running(t, c)
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := c.token(ctx); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

func TestReload(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := &fakeEndpoint{}
		c := testCredentials(t, e)
		running(t, c)
		synctest.Wait()
		if changed, err := c.Reload(); changed || err != nil {
			t.Fatalf("the same file: %v, %v", changed, err)
		}
		if err := os.WriteFile(c.cfg.File, []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
		if changed, err := c.Reload(); changed || err == nil {
			t.Fatalf("half a file: %v, %v", changed, err)
		}
		mustToken(t, c, "ya29.1")
		writeAccount(t, c.cfg.File, map[string]any{"private_key_id": "another", "project_id": "hedgehog-4712"})
		e.set(500, "", nil)
		if changed, err := c.Reload(); !changed || err != nil {
			t.Fatalf("another key: %v, %v", changed, err)
		}
		synctest.Wait()
		mustToken(t, c, "ya29.1") // until there is a new one
		if token := c.live(time.Now()); !strings.Contains(token.path, "4711") {
			t.Errorf("the old token is sent for %s", token.path)
		}
		e.set(200, "", nil)
		time.Sleep(time.Minute) //nolint:forbidigo // in a synctest bubble
		synctest.Wait()
		if token := c.live(time.Now()); token.authorization == "Bearer ya29.1" || !strings.Contains(token.path, "4712") || c.ProjectID() != "hedgehog-4712" {
			t.Errorf("%+v", token)
		}
	})
}

func TestConfiguredProject(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "firebase.json")
	writeAccount(t, file, map[string]any{"project_id": nil})
	log := slog.New(slog.DiscardHandler)
	for _, test := range []struct {
		project, url, err string
	}{
		{"", "", `it has no "project_id", and none is configured`},
		{"hedgehog", "", ""},
		{"a/b", "", "project_id: must be the id of a project"},
		{"hedgehog", "http://e.example/token", "token_url: must be an https URL"},
		{"hedgehog", "https://e.example/token", ""},
	} {
		c, err := NewCredentials(CredentialsConfig{File: file, ProjectID: test.project, TokenURL: test.url}, log)
		if test.err != "" {
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("%+v: %v", test, err)
			}
			continue
		}
		if err != nil || c.ProjectID() != test.project {
			t.Fatalf("%+v: %v", test, err)
		}
		if a := c.account.Load().tokens.(*ServiceAccount); test.url != "" && a.TokenURL != test.url {
			t.Errorf("%+v: %v", test, a)
		}
	}
}

// TestTokenAnswers is the table of the token endpoint's answers.
func TestTokenAnswers(t *testing.T) {
	t.Parallel()
	oauth := func(code string) string { return `{"error": "` + code + `", "error_description": "why"}` }
	for _, test := range []struct {
		name    string
		status  int
		body    string
		header  http.Header
		err     error
		outcome push.Outcome
		reason  *push.Reason
		after   time.Duration // at least
	}{
		{"a wrong signature", 400, oauth("invalid_grant"), nil, nil, push.Blocked, InvalidGrant, 0},
		{"a wrong scope", 400, oauth("invalid_scope"), nil, nil, push.Blocked, InvalidScope, 0},
		{"a wrong request", 400, oauth("invalid_request"), nil, nil, push.Blocked, InvalidRequest, 0},
		{"an unknown account", 401, oauth("invalid_client"), nil, nil, push.Blocked, InvalidClient, 0},
		{"a deleted account", 401, oauth("deleted_client"), nil, nil, push.Blocked, InvalidClient, 0},
		{"an account without right", 401, oauth("unauthorized_client"), nil, nil, push.Blocked, UnauthorizedClient, 0},
		{"another error", 403, oauth("access_denied"), nil, nil, push.Blocked, TokenRefused, 0},
		{"a page", 404, "<html>", nil, nil, push.Blocked, TokenUnrecognized, 0},
		{"a redirect", 302, "", http.Header{"Location": {"https://e.example"}}, nil, push.Blocked, TokenUnrecognized, 0},
		{"too many", 429, "", http.Header{"Retry-After": {"120"}}, nil, push.NotSent, TokenUnavailable, 2 * time.Minute},
		{"an error of Google's", 500, "", nil, nil, push.NotSent, TokenUnavailable, 0},
		{"overload", 503, oauth("invalid_grant"), nil, nil, push.NotSent, TokenUnavailable, 0},
		{"no connection", 0, "", nil, errors.New("connection refused"), push.NotSent, TokenUnavailable, 0},
		{"garbage", 200, "<html>", nil, nil, push.Blocked, TokenUnrecognized, 0},
		{"no token", 200, `{"expires_in": 3599}`, nil, nil, push.Blocked, TokenUnrecognized, 0},
		{"another type", 200, `{"access_token": "a", "expires_in": 3599, "token_type": "mac"}`, nil, nil, push.Blocked, TokenUnrecognized, 0},
		{"no end", 200, `{"access_token": "a"}`, nil, nil, push.Blocked, TokenUnrecognized, 0},
		{"what is no header", 200, `{"access_token": "a\r\nb: c", "expires_in": 3599}`, nil, nil, push.Blocked, TokenUnrecognized, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			body := test.body
			if body == "" {
				body = "-"
			}
			c := testCredentials(t, &fakeEndpoint{status: test.status, body: body, header: test.header, err: test.err})
			_, err := c.token(t.Context())
			var failed *tokenError
			if !errors.As(err, &failed) {
				t.Fatal(err)
			}
			if r := failed.result; r.Outcome != test.outcome || r.Reason != test.reason || r.RetryAfter < test.after || r.RetryAfter == 0 {
				t.Errorf("%+v, reason %s", r, r.Reason)
			}
		})
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"": 0, "0": 0, "30": 30 * time.Second, "-1": 0, "1.5": 0, "soon": 0, "99999": time.Hour, "99999999999999999999": time.Hour,
		"Thu, 26 Nov 2026 12:02:00 GMT": 2 * time.Minute, "Thu, 26 Nov 2026 11:00:00 GMT": 0, "Fri, 27 Nov 2026 12:02:00 GMT": time.Hour,
	} {
		if got := http2.RetryAfter([]byte(value), now); got != want {
			t.Errorf("%q: %v, want %v", value, got, want)
		}
	}
}
