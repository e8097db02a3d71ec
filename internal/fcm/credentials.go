package fcm

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/lhspn/lhspn/internal/http2"
	"github.com/lhspn/lhspn/internal/inline"
	"github.com/lhspn/lhspn/internal/push"
)

const (
	// scope is the least that sending needs (https://developers.google.com/identity/protocols/oauth2/scopes#fcm).
	scope     = "https://www.googleapis.com/auth/firebase.messaging"
	grantType = "urn:ietf:params:oauth:grant-type:jwt-bearer" // RFC 7523, 2.1
	// assertionLife is the longest that Google takes.
	assertionLife = time.Hour
	// renewAhead is how long before its end an access token is renewed; of a short-lived one, when a quarter is left.
	renewAhead = 5 * time.Minute
	// newToken is the age from which a token that FCM has never taken is replaced where it refuses it.
	newToken = 20 * time.Second
	// longestLife bounds what the endpoint says: Google's tokens live for an hour, with an exception of twelve.
	longestLife = 12 * time.Hour
	// tokenTimeout is for one request to the token endpoint.
	tokenTimeout = 15 * time.Second
	// maxTokenAnswer bounds what is read of its answer.
	maxTokenAnswer = 64 << 10
	// tokenPause and tokenPauseMax space the requests after one that failed. One that was refused for what we are, as
	// with invalid_grant, is mended by people, and comes again after refusedPause.
	tokenPause    = time.Second
	tokenPauseMax = 30 * time.Second
	refusedPause  = 30 * time.Second
)

// CredentialsConfig says with what access tokens are got for one app.
type CredentialsConfig struct {
	App string
	// File is of a service account, or of workload identity federation; empty for the metadata server of Google Cloud.
	File string
	// ProjectID and TokenURL win over what the file says; they may be empty. Only a service account's file has a project.
	ProjectID, TokenURL string
	TLS                 *tls.Config // the roots that the endpoint is checked against; nil for the system's
	Proxy               *url.URL    // an HTTP CONNECT proxy; nil for none. Metadata servers are reached without
	// Dial opens connections to the endpoint; nil for net.Dialer's.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// account is whom we send as. It does not change: a changed file is another account.
type account struct {
	projectID string
	tokens    tokenSource
}

// tokenSource is a way to come by access tokens.
type tokenSource interface {
	// fetch asks for a token, with the client and whatever else it needs. An error that is no *tokenError says that
	// nobody answered.
	fetch(ctx context.Context, client *http.Client, now time.Time) (*accessToken, error)
	// equal reports whether both say the same.
	equal(tokenSource) bool
	// String names it in the log. It holds no secret.
	String() string
}

// Credentials are an account that follows its file, and the access token that it has got. The token is renewed
// ahead, by one request at a time; while that fails the present one stays in use for as long as it lives.
type Credentials struct {
	cfg     CredentialsConfig
	log     *slog.Logger
	client  *http.Client
	account atomic.Pointer[account]
	current atomic.Pointer[accessToken]
	reload  chan struct{} // to Run: the account is another
	metrics tokenMetrics

	// renewing has one element while nobody asks for a token. Its holder also owns the fields below.
	renewing chan struct{}
	failure  *tokenError // of the last request; nil after a success
	failed   *account    // with which it failed: another is tried at once
	retryAt  time.Time
	pauses   *backoff.ExponentialBackOff
}

type accessToken struct {
	account       *account
	authorization string // the header's value
	path          string // of requests for the account's project
	issued        time.Time
	life          time.Duration
	worked        atomic.Bool // FCM has accepted a message with it
}

// age is by whichever clock has gone on further: while a machine is suspended its monotonic one stands still, and
// Google's does not.
func (t *accessToken) age(now time.Time) time.Duration {
	return max(now.Sub(t.issued), now.Round(0).Sub(t.issued.Round(0)))
}

func (t *accessToken) lives(now time.Time) bool { return t.age(now) < t.life }

// renewal is how long after its issue the token is renewed.
func (t *accessToken) renewal() time.Duration { return t.life - min(renewAhead, t.life/4) }

// tokenError is why there is no access token, as the result of what cannot be sent without one.
type tokenError struct {
	result push.Result
	detail string
}

func (e *tokenError) Error() string {
	return "no access token: " + e.result.Reason.Text + ": " + e.detail
}

// NewCredentials reads the file. It starts nothing and asks nobody: Run does.
func NewCredentials(cfg CredentialsConfig, log *slog.Logger) (*Credentials, error) {
	c := &Credentials{
		cfg: cfg, log: log.With("app", cfg.App, "route", Name), renewing: make(chan struct{}, 1),
		reload:  make(chan struct{}, 1),
		metrics: NewMetrics(prometheus.NewRegistry()).credentials(cfg.App), // of nobody, until a transport counts them
	}
	if cfg.TokenURL != "" {
		if err := CheckTokenURL(cfg.TokenURL); err != nil {
			return nil, fmt.Errorf("token_url: %w", err)
		}
	}
	if cfg.ProjectID != "" {
		if err := CheckProjectID(cfg.ProjectID); err != nil {
			return nil, fmt.Errorf("project_id: %w", err)
		}
	}
	account, err := c.load()
	if err != nil {
		return nil, err
	}
	c.account.Store(account)
	c.renewing <- struct{}{}
	c.pauses = backoff.NewExponentialBackOff()
	c.pauses.InitialInterval, c.pauses.MaxInterval = tokenPause, tokenPauseMax
	c.pauses.Reset()
	c.client = newTokenClient(cfg)
	return c, nil
}

func newTokenClient(cfg CredentialsConfig) *http.Client {
	t := &http.Transport{DialContext: cfg.Dial, DisableKeepAlives: true, TLSHandshakeTimeout: tokenTimeout,
		ForceAttemptHTTP2: true}
	if cfg.TLS != nil {
		t.TLSClientConfig = cfg.TLS.Clone()
	}
	if cfg.Proxy != nil {
		direct := cfg.Dial
		if direct == nil {
			direct = new(net.Dialer).DialContext
		}
		// What is encrypted goes through a tunnel, which net/http has, too, but not for proxies that say "100 Continue"
		// first. What is not is asked of the proxy itself.
		t.Proxy = func(r *http.Request) (*url.URL, error) {
			if r.URL.Scheme == "https" || ofThisMachine(r.URL.Hostname()) {
				return nil, nil
			}
			return cfg.Proxy, nil
		}
		t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			host, port, _ := net.SplitHostPort(address)
			if ofThisMachine(host) || port == http2.ProxyPort(cfg.Proxy) && host == cfg.Proxy.Hostname() {
				return direct(ctx, network, address)
			}
			return http2.DialThroughProxy(ctx, direct, cfg.Proxy, address)
		}
	}
	return &http.Client{
		Transport: t, Timeout: tokenTimeout,
		// The assertion is for the endpoint that it names, and for no other.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// ofThisMachine is for what is of this machine alone, as the metadata servers of clouds: no proxy reaches that.
func ofThisMachine(host string) bool {
	ip, err := netip.ParseAddr(host)
	return err == nil && (ip.IsLinkLocalUnicast() || ip.IsLoopback())
}

// load reads the file, with what the configuration says in place of what it says.
func (c *Credentials) load() (*account, error) {
	a, err := c.read()
	if err != nil {
		return nil, err
	}
	if c.cfg.ProjectID != "" {
		a.projectID = c.cfg.ProjectID
	}
	return a, nil
}

func (c *Credentials) read() (*account, error) {
	if c.cfg.File == "" {
		if c.cfg.ProjectID == "" {
			return nil, errors.New("project_id: must be set, for the metadata server does not know the Firebase project")
		}
		return &account{tokens: metadataServer{}}, nil
	}
	text, err := inline.Read(c.cfg.File)
	if err != nil {
		return nil, fmt.Errorf("read the service account: %w", err)
	}
	var a *account
	if isFederation(text) {
		a, err = c.federation(text)
	} else {
		a, err = c.serviceAccount(text)
	}
	if err == nil && a.projectID == "" && c.cfg.ProjectID == "" {
		err = errors.New(`it has no "project_id", and none is configured`)
	}
	if err != nil {
		return nil, fmt.Errorf("service account %s: %w", inline.Name(c.cfg.File), err)
	}
	return a, nil
}

func (c *Credentials) serviceAccount(text []byte) (*account, error) {
	s, err := ParseServiceAccount(text)
	if err != nil {
		return nil, err
	}
	if c.cfg.TokenURL != "" {
		s.TokenURL = c.cfg.TokenURL
	}
	return &account{s.ProjectID, s}, nil
}

// federation has the process prove to others what it is, by its files, addresses and programs: not for whoever may set
// an app while the service runs.
func (c *Credentials) federation(text []byte) (*account, error) {
	if inline.Is(c.cfg.File) {
		return nil, errors.New("only the configuration file may name such a file: it is the identity of the machine")
	}
	f, err := parseFederation(text, c.cfg.TokenURL)
	if err != nil {
		return nil, err
	}
	return &account{tokens: f}, nil
}

// count has the requests for access tokens counted. Before Run only.
func (c *Credentials) count(m tokenMetrics) { c.metrics = m }

// ProjectID is the id of the project that is sent for.
func (c *Credentials) ProjectID() string { return c.account.Load().projectID }

// Reload reads the file again and reports whether it holds another account or key. With an error the present one stays.
func (c *Credentials) Reload() (changed bool, err error) {
	next, err := c.load()
	if err != nil {
		return false, err
	}
	if a := c.account.Load(); a.projectID == next.projectID && a.tokens.equal(next.tokens) {
		return false, nil
	}
	// The present token stays in use until there is one of the new account: the old key may well be deleted an hour
	// later only.
	c.account.Store(next)
	select {
	case c.reload <- struct{}{}:
	default:
	}
	return true, nil
}

// Run renews the access token ahead until ctx ends.
func (c *Credentials) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-c.reload:
		}
		timer.Reset(c.keep(ctx))
	}
}

// keep renews the token if that is due, and returns how long it may be until the next look.
func (c *Credentials) keep(ctx context.Context) time.Duration {
	const look = time.Minute // the clock may be set, or stand still in a suspended machine
	t := c.current.Load()
	if t != nil && t.account == c.account.Load() {
		if due := t.renewal() - t.age(time.Now()); due > 0 {
			return min(due, look)
		}
	}
	var failed *tokenError
	if _, err := c.renew(ctx, t); errors.As(err, &failed) {
		return min(max(failed.result.RetryAfter, tokenPause), look)
	}
	return 0
}

// token is the access token in use. Where there is none it is waited for, with ctx; a *tokenError says why none is to
// be had.
func (c *Credentials) token(ctx context.Context) (*accessToken, error) {
	if t := c.live(time.Now()); t != nil {
		return t, nil
	}
	return c.renew(ctx, c.current.Load())
}

// live is the access token in use; nil where there is none.
func (c *Credentials) live(now time.Time) *accessToken {
	if t := c.current.Load(); t != nil && t.lives(now) {
		return t
	}
	return nil
}

// refused takes in that FCM does not take the token any more. One that has never worked is kept for a while: it is not
// the token that is wrong then, and more of them would only burden the endpoint.
func (c *Credentials) refused(t *accessToken, now time.Time) {
	if t.worked.Load() || t.age(now) >= newToken {
		c.current.CompareAndSwap(t, nil)
	}
}

// renew gets a token in place of old. Who comes while another does that gets the same.
func (c *Credentials) renew(ctx context.Context, old *accessToken) (*accessToken, error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-c.renewing:
	}
	defer func() { c.renewing <- struct{}{} }()
	now, account := time.Now(), c.account.Load()
	if t := c.live(now); t != nil && t != old && t.account == account {
		return t, nil
	}
	if c.failure != nil && c.failed == account {
		if wait := c.retryAt.Sub(now); wait > 0 {
			again := *c.failure
			again.result.RetryAfter = wait
			return nil, &again
		}
	}
	t, err := account.tokens.fetch(ctx, c.client, now)
	var failed *tokenError
	switch {
	case err == nil:
		t.account, t.issued = account, now
		t.path = "/v1/projects/" + account.projectID + "/messages:send"
		if c.failure != nil {
			c.log.Info("the token endpoint gives access tokens again")
		}
		c.failure = nil
		c.pauses.Reset()
		c.current.Store(t)
		c.metrics.ok.Inc()
		c.metrics.expiry.Set(float64(now.Add(t.life).Unix()))
		return t, nil
	case ctx.Err() != nil:
		return nil, ctx.Err() // our own end says nothing of the endpoint
	case !errors.As(err, &failed):
		failed = &tokenError{push.Result{Outcome: push.NotSent, Reason: TokenUnavailable}, err.Error()}
	}
	pause := refusedPause
	if failed.result.Outcome == push.Blocked {
		c.metrics.refused.Inc()
	} else {
		c.metrics.unavailable.Inc()
		pause = c.pauses.NextBackOff()
	}
	failed.result.RetryAfter = max(failed.result.RetryAfter, pause)
	c.retryAt = time.Now().Add(failed.result.RetryAfter)
	if c.failure == nil || c.failure.result.Reason != failed.result.Reason || c.failure.detail != failed.detail {
		c.log.Error("no access token for FCM", "reason", failed.result.Reason.Text, "detail", failed.detail, "remedy",
			failed.result.Reason.Remedy,
			"account", account.tokens.String(), "in_use", c.live(now) != nil)
	}
	c.failure, c.failed = failed, account
	return nil, failed
}
