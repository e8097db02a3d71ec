package fcm

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lhspn/lhspn/internal/inline"
	"github.com/lhspn/lhspn/internal/push"
)

// clouds answers by host, and notes what it is asked.
type clouds struct {
	answers map[string]string // "200 body" by host
	asked   []string          // "host form-or-query"
	headers http.Header       // of the last request
	err     error
}

func (c *clouds) RoundTrip(r *http.Request) (*http.Response, error) {
	body := r.URL.RawQuery
	if r.Body != nil {
		sent, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		body = string(sent)
	}
	c.asked = append(c.asked, r.URL.Host+r.URL.Path+" "+body)
	c.headers = r.Header
	if c.err != nil {
		return nil, c.err
	}
	answer, known := c.answers[r.URL.Host]
	if !known {
		return nil, fmt.Errorf("no such host: %s", r.URL.Host)
	}
	var status int
	if _, err := fmt.Sscanf(answer, "%d", &status); err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(answer[4:])), Request: r}, nil
}

// federationJSON is a file of federation whose subject token is in the file subject, with members changed, or removed
// where nil.
func federationJSON(t *testing.T, subject string, change map[string]any) string {
	t.Helper()
	members := map[string]any{
		"type": "external_account", "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/providers/cluster",
		"subject_token_type": "urn:ietf:params:oauth:token-type:jwt", "token_url": "https://sts.googleapis.com/v1/token",
		"credential_source": map[string]any{"file": subject}, "universe_domain": "googleapis.com",
	}
	maps.Copy(members, change)
	maps.DeleteFunc(members, func(_ string, v any) bool { return v == nil })
	text, err := json.Marshal(members)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// federated are credentials of such a file.
func federated(t *testing.T, c *clouds, change map[string]any) (*Credentials, error) {
	t.Helper()
	folder := t.TempDir()
	subject, file := filepath.Join(folder, "subject"), filepath.Join(folder, "federation.json")
	if err := os.WriteFile(subject, []byte("the-cluster-says-so"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(federationJSON(t, subject, change)), 0o600); err != nil {
		t.Fatal(err)
	}
	credentials, err := NewCredentials(CredentialsConfig{App: "hedgehog", File: file, ProjectID: "hedgehog-4711"}, slog.New(slog.DiscardHandler))
	if err == nil {
		credentials.client.Transport = c
	}
	return credentials, err
}

const stsToken = `200 {"access_token": "ya29.sts", "issued_token_type": "urn:ietf:params:oauth:token-type:access_token", "token_type": "Bearer", "expires_in": 3599}`

func TestFederation(t *testing.T) {
	t.Parallel()
	cloud := &clouds{answers: map[string]string{"sts.googleapis.com": stsToken}}
	c, err := federated(t, cloud, nil)
	if err != nil {
		t.Fatal(err)
	}
	mustToken(t, c, "ya29.sts")
	token := c.live(time.Now())
	if token.path != "/v1/projects/hedgehog-4711/messages:send" || token.life < 59*time.Minute || token.life > time.Hour {
		t.Errorf("path %s, life %v", token.path, token.life)
	}
	if len(cloud.asked) != 1 || !strings.Contains(cloud.asked[0], "subject_token=the-cluster-says-so") ||
		!strings.Contains(cloud.asked[0], "scope=https%3A%2F%2Fwww.googleapis.com%2Fauth%2Ffirebase.messaging") {
		t.Error(cloud.asked)
	}
	if changed, err := c.Reload(); changed || err != nil {
		t.Errorf("the same file: %v, %v", changed, err)
	}
	if err := os.WriteFile(c.cfg.File, []byte(federationJSON(t, "/elsewhere", nil)), 0o600); err != nil {
		t.Fatal(err)
	}
	if changed, err := c.Reload(); !changed || err != nil {
		t.Errorf("another file: %v, %v", changed, err)
	}
}

// TestFederationActsAsServiceAccount: the exchanged token is exchanged again, and its end is the service account's.
func TestFederationActsAsServiceAccount(t *testing.T) {
	t.Parallel()
	cloud := &clouds{answers: map[string]string{
		"sts.googleapis.com":            stsToken,
		"iamcredentials.googleapis.com": `200 {"accessToken": "ya29.account", "expireTime": "` + time.Now().Add(30*time.Minute).UTC().Format(time.RFC3339) + `"}`,
	}}
	c, err := federated(t, cloud, map[string]any{
		"service_account_impersonation_url": "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/push@hedgehog-4711.iam.gserviceaccount.com:generateAccessToken",
	})
	if err != nil {
		t.Fatal(err)
	}
	mustToken(t, c, "ya29.account")
	if life := c.live(time.Now()).life; life < 29*time.Minute || life > 31*time.Minute {
		t.Errorf("life %v", life)
	}
	if got := cloud.headers.Get("Authorization"); got != "Bearer ya29.sts" {
		t.Errorf("authorization %q", got)
	}
}

// TestFederationOfURL: the subject token is had from another cloud's server.
func TestFederationOfURL(t *testing.T) {
	t.Parallel()
	cloud := &clouds{answers: map[string]string{"169.254.169.254": `200 {"access_token": "azure"}`, "sts.example": stsToken}}
	c, err := federated(t, cloud, map[string]any{
		"token_url": "https://sts.example/v1/token",
		"credential_source": map[string]any{
			"url": "http://169.254.169.254/metadata/identity/oauth2/token", "headers": map[string]string{"Metadata": "True"},
			"format": map[string]string{"type": "json", "subject_token_field_name": "access_token"},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	mustToken(t, c, "ya29.sts")
	if len(cloud.asked) != 2 || !strings.Contains(cloud.asked[1], "subject_token=azure") {
		t.Error(cloud.asked)
	}
}

func TestFederationRefusals(t *testing.T) {
	t.Parallel()
	impersonate := map[string]any{"service_account_impersonation_url": "https://iamcredentials.googleapis.com/v1/x:generateAccessToken"}
	for _, test := range []struct {
		name    string
		answers map[string]string
		err     error
		change  map[string]any
		outcome push.Outcome
		reason  *push.Reason
		detail  string
	}{
		{"the pool takes no such token", map[string]string{"sts.googleapis.com": `400 {"error": "invalid_grant", "error_description": "The issuer is another."}`}, nil, nil,
			push.Blocked, InvalidGrant, "The issuer is another."},
		{"an unknown pool", map[string]string{"sts.googleapis.com": `400 {"error": "invalid_target"}`}, nil, nil, push.Blocked, TokenRefused, "invalid_target"},
		{"overload", map[string]string{"sts.googleapis.com": "503 <html>"}, nil, nil, push.NotSent, TokenUnavailable, "503"},
		{"no connection", nil, errors.New("connection refused"), nil, push.NotSent, TokenUnavailable, "connection refused"},
		{"a page", map[string]string{"sts.googleapis.com": "200 <html>"}, nil, nil, push.Blocked, TokenUnrecognized, ""},
		{"what is no header", map[string]string{"sts.googleapis.com": `200 {"access_token": "a\r\nb", "expires_in": 60}`}, nil, nil, push.Blocked, TokenUnrecognized, "printable"},
		{"not allowed to act as the account", map[string]string{"sts.googleapis.com": stsToken,
			"iamcredentials.googleapis.com": `403 {"error": {"code": 403, "message": "Permission 'iam.serviceAccounts.getAccessToken' denied", "status": "PERMISSION_DENIED"}}`},
			nil, impersonate, push.Blocked, TokenRefused, "iam.serviceAccounts.getAccessToken"},
		{"no subject token", nil, nil, map[string]any{"credential_source": map[string]any{"file": "/does/not/exist"}}, push.Blocked, SubjectTokenUnavailable, "/does/not/exist"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c, err := federated(t, &clouds{answers: test.answers, err: test.err}, test.change)
			if err != nil {
				t.Fatal(err)
			}
			_, err = c.token(t.Context())
			var failed *tokenError
			if !errors.As(err, &failed) {
				t.Fatal(err)
			}
			if r := failed.result; r.Outcome != test.outcome || r.Reason != test.reason || !strings.Contains(failed.detail, test.detail) {
				t.Errorf("%+v: %v", r, err)
			}
			if strings.Contains(err.Error(), "the-cluster-says-so") {
				t.Errorf("the error repeats a secret: %v", err)
			}
		})
	}
}

// What an app is set to while the service runs names no files and addresses of the host, whatever is around its text.
func TestFederationIsTheFilesAlone(t *testing.T) {
	t.Parallel()
	text := federationJSON(t, "/etc/hostname", nil)
	for _, around := range []string{"", "\ufeff", "\u00a0", "\n"} {
		_, err := NewCredentials(CredentialsConfig{
			App: "hedgehog", File: inline.Ref("fcm.service_account", []byte(around+text)), ProjectID: "hedgehog-4711",
		}, slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), "only the configuration file") {
			t.Errorf("after %q: %v", around, err)
		}
	}
}

func TestFederationFileRefused(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		change map[string]any
		want   string
	}{
		{"no audience", map[string]any{"audience": nil}, `it has no "audience"`},
		{"no type of the subject token", map[string]any{"subject_token_type": nil}, `it has no "subject_token_type"`},
		{"no token_url", map[string]any{"token_url": nil}, `it has no "token_url"`},
		{"token_url over http", map[string]any{"token_url": "http://sts.googleapis.com/v1/token"}, `its "token_url": must be an https URL`},
		{"impersonation over http", map[string]any{"service_account_impersonation_url": "http://x/y"}, `its "service_account_impersonation_url": must be an https URL`},
		{"no source", map[string]any{"credential_source": nil}, `its "credential_source" has none of`},
		{"a certificate", map[string]any{"credential_source": map[string]any{"certificate": map[string]any{}}}, "a certificate, which is not supported"},
		{"another type", map[string]any{"audience": 1}, "a member of it is of another type"},
	} {
		if _, err := federated(t, nil, test.change); err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "federation.json") {
			t.Errorf("%s: %v", test.name, err)
		}
	}
	file := filepath.Join(t.TempDir(), "federation.json")
	if err := os.WriteFile(file, []byte(federationJSON(t, "/x", nil)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := NewCredentials(CredentialsConfig{File: file}, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "project_id") {
		t.Errorf("without a project: %v", err)
	}
}

func TestMetadataServer(t *testing.T) {
	t.Parallel()
	cloud := &clouds{answers: map[string]string{"169.254.169.254": `200 {"access_token": "ya29.machine", "expires_in": 600, "token_type": "Bearer"}`}}
	c, err := NewCredentials(CredentialsConfig{App: "hedgehog", ProjectID: "hedgehog-4711"}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	c.client.Transport = cloud
	mustToken(t, c, "ya29.machine")
	if want := "169.254.169.254/computeMetadata/v1/instance/service-accounts/default/token " +
		"scopes=https%3A%2F%2Fwww.googleapis.com%2Fauth%2Ffirebase.messaging"; len(cloud.asked) != 1 || cloud.asked[0] != want {
		t.Error(cloud.asked)
	}
	if cloud.headers.Get("Metadata-Flavor") != "Google" {
		t.Error(cloud.headers)
	}
	if changed, err := c.Reload(); changed || err != nil {
		t.Error(changed, err)
	}
	if _, err := NewCredentials(CredentialsConfig{}, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "project_id") {
		t.Errorf("without a project: %v", err)
	}
}

func TestMetadataServerRefusals(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		answer  string
		err     error
		outcome push.Outcome
		reason  *push.Reason
	}{
		{"no service account", "404 not found", nil, push.Blocked, TokenUnrecognized},
		{"garbage", "200 <html>", nil, push.Blocked, TokenUnrecognized},
		{"not in Google Cloud", "", errors.New("no route to host"), push.NotSent, TokenUnavailable},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c, err := NewCredentials(CredentialsConfig{App: "hedgehog", ProjectID: "hedgehog-4711"}, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			c.client.Transport = &clouds{answers: map[string]string{"169.254.169.254": test.answer}, err: test.err}
			_, err = c.token(t.Context())
			var failed *tokenError
			if !errors.As(err, &failed) || failed.result.Outcome != test.outcome || failed.result.Reason != test.reason {
				t.Error(err)
			}
		})
	}
}

// TestProxyIsNotAskedForTheMachinesOwn: no proxy reaches a metadata server.
func TestProxyIsNotAskedForTheMachinesOwn(t *testing.T) {
	t.Parallel()
	const proxy = "proxy.example:3128"
	for target, want := range map[string]string{
		"https://oauth2.googleapis.com/token": proxy, "https://10.1.2.3/token": proxy, "http://subject.example/token": proxy,
		"http://169.254.169.254/x": "169.254.169.254:80", "http://127.0.0.1:1/x": "127.0.0.1:1", "https://127.0.0.1/x": "127.0.0.1:443",
	} {
		dialled := ""
		client := newTokenClient(CredentialsConfig{Proxy: mustURL(t, "http://"+proxy), Dial: func(_ context.Context, _, address string) (net.Conn, error) {
			dialled = address
			return nil, errors.New("dialled enough")
		}})
		if res, err := client.Get(target); err == nil {
			res.Body.Close()
			t.Error("an answer from nowhere")
		}
		if dialled != want {
			t.Errorf("%s: dialled %s, want %s", target, dialled, want)
		}
	}
}

// TestTokenThroughProxy: the token endpoint is reached through the proxy as the service is, also where that first says
// that it goes on; what is not encrypted is asked of the proxy itself.
func TestTokenThroughProxy(t *testing.T) {
	t.Parallel()
	endpoint := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Host) }))
	t.Cleanup(endpoint.Close)
	client := endpoint.Client().Transport.(*http.Transport).TLSClientConfig
	dial := func(_ context.Context, _, address string) (net.Conn, error) {
		if address != "proxy.example:3128" {
			return nil, fmt.Errorf("dialled %s", address)
		}
		here, there := net.Pipe()
		go func() {
			defer there.Close()
			in := bufio.NewReader(there)
			r, err := http.ReadRequest(in)
			switch {
			case err != nil:
			case r.Header.Get("Proxy-Authorization") == "":
				_, _ = io.WriteString(there, "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
			case r.Method != http.MethodConnect:
				_, _ = fmt.Fprintf(there, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(r.URL.String()), r.URL)
			default:
				up, err := net.Dial("tcp", endpoint.Listener.Addr().String())
				if err != nil {
					return
				}
				_, _ = io.WriteString(there, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 Connection established\r\n\r\n")
				go func() { _, _ = io.Copy(up, in); up.Close() }()
				_, _ = io.Copy(there, up)
			}
		}()
		return here, nil
	}
	c := newTokenClient(CredentialsConfig{Proxy: mustURL(t, "http://user:pass@proxy.example:3128"), TLS: client, Dial: dial})
	for target, want := range map[string]string{"https://example.com/token": "example.com", "http://example.com/token": "http://example.com/token"} {
		res, err := c.Get(target)
		if err != nil {
			t.Errorf("%s: %v", target, err)
			continue
		}
		text, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || string(text) != want {
			t.Errorf("%s: %q, %v", target, text, err)
		}
	}
}

func mustURL(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}
