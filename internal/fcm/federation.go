package fcm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"

	"github.com/lhspn/lhspn/internal/http2"
	"github.com/lhspn/lhspn/internal/push"
)

// externalAccount is the type of the files that gcloud iam workload-identity-pools create-cred-config makes.
const externalAccount = string(google.ExternalAccount)

// federation is workload identity federation: what another cloud, or a cluster, says of this process is exchanged for
// an access token, of a service account where the file names one (https://google.aip.dev/auth/4117).
type federation struct {
	text               []byte // the file, as it is used
	audience, tokenURL string
}

func isFederation(text []byte) bool {
	var f struct {
		Type string `json:"type"`
	}
	return json.Unmarshal(trim(text), &f) == nil && f.Type == externalAccount
}

// asMade is what mends a file of federation.
const asMade = ": take the file as gcloud iam workload-identity-pools create-cred-config makes it"

// parseFederation reads the content of such a file. tokenURL, where it is not empty, wins over what it says.
func parseFederation(text []byte, tokenURL string) (*federation, error) {
	var f struct {
		Audience         string `json:"audience"`
		SubjectTokenType string `json:"subject_token_type"`
		TokenURL         string `json:"token_url"`
		ImpersonationURL string `json:"service_account_impersonation_url"`
		Source           struct {
			File        string          `json:"file"`
			URL         string          `json:"url"`
			Environment string          `json:"environment_id"`
			Executable  json.RawMessage `json:"executable"`
			Certificate json.RawMessage `json:"certificate"`
		} `json:"credential_source"`
	}
	var members map[string]json.RawMessage
	if err := errors.Join(json.Unmarshal(trim(text), &f), json.Unmarshal(trim(text), &members)); err != nil {
		return nil, errors.New("a member of it is of another type" + asMade)
	}
	if tokenURL == "" {
		tokenURL = f.TokenURL
	}
	switch s := f.Source; {
	case f.Audience == "":
		return nil, errors.New(`it has no "audience"` + asMade)
	case f.SubjectTokenType == "":
		return nil, errors.New(`it has no "subject_token_type"` + asMade)
	case tokenURL == "":
		return nil, errors.New(`it has no "token_url"` + asMade)
	case s.Certificate != nil:
		return nil, errors.New(`its "credential_source" is a certificate, which is not supported`)
	case s.File == "" && s.URL == "" && s.Environment == "" && s.Executable == nil:
		return nil, errors.New(`its "credential_source" has none of file, url, environment_id and executable` + asMade)
	}
	if err := CheckTokenURL(tokenURL); err != nil {
		return nil, fmt.Errorf(`its "token_url": %w`, err)
	}
	if f.ImpersonationURL != "" {
		if err := CheckTokenURL(f.ImpersonationURL); err != nil {
			return nil, fmt.Errorf(`its "service_account_impersonation_url": %w`, err)
		}
	}
	var err error
	if members["token_url"], err = json.Marshal(tokenURL); err != nil {
		return nil, err
	}
	if text, err = json.Marshal(members); err != nil {
		return nil, err
	}
	a := &federation{text: text, audience: f.Audience, tokenURL: tokenURL}
	if _, err = a.source(context.Background()); err != nil {
		return nil, errors.New("the library that exchanges it does not take it" + asMade)
	}
	return a, nil
}

// source is the library's; it asks nobody yet.
func (f *federation) source(ctx context.Context) (oauth2.TokenSource, error) {
	c, err := google.CredentialsFromJSONWithType(ctx, f.text, google.ExternalAccount, scope)
	if err != nil {
		return nil, err
	}
	return c.TokenSource, nil
}

func (f *federation) String() string { return f.audience + " at " + f.tokenURL }

func (f *federation) equal(other tokenSource) bool {
	o, same := other.(*federation)
	return same && bytes.Equal(f.text, o.text)
}

func (f *federation) fetch(ctx context.Context, client *http.Client, now time.Time) (*accessToken, error) {
	w := &witness{next: client.Transport, now: now}
	watched := *client
	watched.Transport = w
	ctx, cancel := context.WithTimeout(context.WithValue(ctx, oauth2.HTTPClient, &watched), tokenTimeout)
	defer cancel()
	source, err := f.source(ctx)
	if err != nil {
		return nil, err
	}
	token, err := source.Token()
	if err != nil {
		return nil, w.judge(err)
	}
	return newAccessToken(token.AccessToken, token.TokenType, token.Expiry.Sub(now).Seconds())
}

// witness sees the requests that a library makes on the way to an access token, and how the last of them ended: what
// an error of the library's means is told by that, not by its text.
type witness struct {
	next    http.RoundTripper
	now     time.Time
	asked   bool
	failed  bool        // without an answer
	refusal *tokenError // by the last answer, where it was none of success
}

// RoundTrip makes a request and bounds what is read of its answer.
func (w *witness) RoundTrip(r *http.Request) (*http.Response, error) {
	w.asked, w.failed, w.refusal = true, false, nil
	resp, err := w.next.RoundTrip(r)
	if err != nil {
		w.failed = true
		return nil, err
	}
	body, err := http2.ReadBody(resp, maxTokenAnswer)
	_ = resp.Body.Close()
	if err != nil {
		w.failed = true
		return nil, err
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		w.refusal = judgeToken(resp.StatusCode, body, http2.RetryAfter([]byte(resp.Header.Get("Retry-After")), w.now))
		w.refusal.detail = r.URL.Host + ": " + w.refusal.detail
	}
	return resp, nil
}

// judge is what an error of the library's means.
func (w *witness) judge(err error) error {
	detail := fmt.Sprintf("%.300s", err)
	switch {
	case w.refusal != nil:
		return w.refusal
	case w.failed:
		return fmt.Errorf("ask for an access token: %w", err)
	case w.asked:
		return unrecognized(detail)
	default:
		return &tokenError{push.Result{Outcome: push.Blocked, Reason: SubjectTokenUnavailable}, detail}
	}
}
