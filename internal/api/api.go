// Package api serves the REST contract of docs/api.md: routes, keys and scopes, the strict reading of requests, the one
// table that makes problems of errors, the OpenAPI document and its page, and the operators' endpoints.
//
// It keeps nothing that must survive a restart, and has no SQL. The stores are reached through the interfaces below,
// whose values are those of internal/push, and it imports nothing else of ours.
package api

import (
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"github.com/lhspn/lhspn/internal/push"
)

// What the listener in front of the handler should be set to. ReadTimeout and WriteTimeout hold for a whole request;
// import and export move theirs on as they make progress.
const (
	ReadHeaderTimeout = 10 * time.Second
	ReadTimeout       = 30 * time.Second
	WriteTimeout      = 60 * time.Second
	IdleTimeout       = 2 * time.Minute
	MaxHeaderBytes    = 32 << 10
)

// Tokens is the registry of device tokens. Errors are, or wrap, the sentinels of internal/push.
type Tokens interface {
	// Register stores or refreshes a token and reports whether it was new.
	Register(ctx context.Context, app string, r push.Registration) (push.Device, bool, error)
	// SetBadge gives push.ErrNotFound where the token is unknown.
	SetBadge(ctx context.Context, app string, t push.Token, badge uint32) error
	// Delete is without error where the token is unknown.
	Delete(ctx context.Context, app string, t push.Token) error
	Get(ctx context.Context, app string, t push.Token) (push.Device, error)
	// List returns up to limit devices whose tokens come after after, in the tokens' order, and what the next page
	// comes after: empty after the last one. A page may be short without being the last.
	List(ctx context.Context, app string, filter push.DeviceFilter, after push.Token, limit int) (
		page []push.Device, next push.Token, err error)
	// Import stores a page of devices as they are, in one transaction. LastUpdated and CreatedAt are set.
	Import(ctx context.Context, app string, page []push.Device) error
	// CountAudience counts an audience's members by their platforms' names, as far as a bounded time allows: exact is
	// false where there may be more.
	CountAudience(ctx context.Context, app string, a push.Audience) (byPlatform map[string]int, exact bool, err error)
}

// Notifications is the queue.
type Notifications interface {
	// Accept is durable when it returns. A non-nil replay is the answer that an earlier request with the same
	// idempotency key got; nothing was accepted then. push.ErrConflict: the key was used for another request.
	Accept(ctx context.Context, r *push.Request) (replay []byte, err error)
	// Replayed is the answer to a repetition, nil where the request is none; it accepts nothing.
	Replayed(ctx context.Context, r *push.Request) (replay []byte, err error)
	// LookUp fills in Empty and Only of a submission to an audience that is sent to now.
	LookUp(ctx context.Context, s *push.Submission) error
	Get(ctx context.Context, app string, id uuid.UUID) (push.Status, error)
	// List returns the newest before the given one (the zero UUID: from the newest on); state may be empty.
	List(ctx context.Context, app string, state push.State, before uuid.UUID, limit int) ([]push.Status, uuid.UUID, error)
	Failures(ctx context.Context, app string, id uuid.UUID, after push.Token, limit int) ([]push.Failure, error)
	// Receive counts a receipt, once for each recipient and kind. A ticket that is none is no error. push.ErrBacklogFull:
	// too many wait to be counted.
	Receive(ctx context.Context, ticket string, kind push.ReceiptKind) error
	// Recipient tells what became of one recipient. push.ErrNotFound: it is none, as far as is known.
	Recipient(ctx context.Context, app string, id uuid.UUID, t push.Token) (push.RecipientStatus, error)
	// Cancel stops what is not sent yet; push.ErrConflict where the notification is done.
	Cancel(ctx context.Context, app string, id uuid.UUID) (push.Status, error)
}

// Feedback is the history of dead tokens and the job that makes it.
type Feedback interface {
	// List pages through what was checked at or after since, oldest first; an empty next cursor is the end. A cursor
	// that List did not make gives push.ErrNotFound.
	List(ctx context.Context, app string, since time.Time, cursor string, limit int) (
		items []push.CheckedInvalidation, next string, err error)
	// Check runs a pass of the job for the app now and returns what it decided. confirmed has it believe that tokens
	// are unregistered however many are called so.
	Check(ctx context.Context, app string, confirmed bool) ([]push.CheckedInvalidation, error)
}

// Scope is what an API key may do. It is a closed enum.
type Scope string

// The scopes. A register key is in every copy of a mobile app, so it reads nothing. An operator's key is of no app.
const (
	ScopeRegister Scope = "register"
	ScopeSend     Scope = "send"
	ScopeAdmin    Scope = "admin"
	ScopeOperator Scope = "operator"
)

// Valid reports whether s is one of the three of an app.
func (s Scope) Valid() bool { return s == ScopeRegister || s == ScopeSend || s == ScopeAdmin }

// Key is an API key as the configuration has it.
type Key struct {
	Name  string // for logs
	Scope Scope
	Hash  [sha256.Size]byte // of the key's text
	Rate  int               // requests a second; 0 means no limit

	ExpiresAt time.Time // from when on it is refused; zero means never
}

// App is one app as far as the API must know it.
type App struct {
	Name       string
	Platforms  []Platform // at least one, each name once
	Keys       []Key
	UserTokens *UserTokens // what proves a user_id to a register key; nil: nothing does
	// RegisterTags are the beginnings of the tags that a register key may set and remove; without any it may those that
	// have no colon.
	RegisterTags []string
}

// Config is what the API is made of. Zero limits take the defaults.
type Config struct {
	Apps          []App // see SetApps
	Operators     []Key
	Platforms     []string // the names of all that there are; each app has some of them
	Operated      Apps     // nil: apps cannot be set while the service runs
	Tokens        Tokens
	Notifications Notifications
	Feedback      Feedback
	Events        Events
	Log           *slog.Logger
	Metrics       prometheus.Registerer
	Version       string
	// MaxBody is the length in bytes of a request's body, imports excepted; default 8 MiB.
	MaxBody int64
	// RegisterRate is how many requests a second an address may make with register keys, or without a good key, and ten
	// times that at once; 0: no limit.
	RegisterRate int
	// MaxInFlight is how many requests with a body are worked on at the same time, where one of every 4 KiB counts as
	// one more; 0: no limit.
	MaxInFlight int
	// Client is the address that a request comes from; nil: its connection's.
	Client func(*http.Request) netip.Addr
	// Counted is the address that limits count a client's as; nil: itself.
	Counted func(netip.Addr) netip.Addr
	// DevKeys are those of dev mode, an app's and an operator's, which everybody knows: /docs names them then, and the
	// root leads there.
	DevKeys []string
	// NoDocs leaves out /openapi.json and /docs.
	NoDocs bool
	// Timeout is how long a request may take, imports, exports and feedback checks excepted; default 20 s.
	Timeout time.Duration
	// RequestLog has requests logged at info: a sample of them under load.
	RequestLog bool
	// Tracer records the requests that send notifications; nil: none.
	Tracer push.Tracer
}

// API is the public listener's handler.
type API struct {
	tokens        Tokens
	notifications Notifications
	feedback      Feedback
	directory     atomic.Pointer[directory]
	platforms     []string
	operated      Apps
	refusals      *refusals
	events        Events
	followers     followers
	ending        chan struct{} // closed when those who wait for events are to be answered
	endOnce       sync.Once
	log           *slog.Logger
	metrics       *metrics
	maxBody       int64
	timeout       time.Duration
	router        *chi.Mux
	document      document
	ids           requestIDs
	addresses     atomic.Pointer[addressRates] // nil: no limit
	gate          *gate
	pace          *pace
	client        func(*http.Request) netip.Addr
	counted       func(netip.Addr) netip.Addr
	noDocs, dev   bool
	// unavailable is whether the last answer said that a dependency is away: that is a line of its own, once.
	unavailable  atomic.Bool
	failureLines *rate.Limiter // of the lines on failed requests
	unlogged     atomic.Int64  // failed requests that it allowed no line

	tracer           push.Tracer
	requestLog       bool // at info; at debug there is one anyway
	requestLines     *rate.Limiter
	requestsUnlogged atomic.Int64
}

// New makes the handler and starts nothing.
func New(c Config) (*API, error) {
	if c.Tokens == nil || c.Notifications == nil || c.Feedback == nil || c.Events == nil || c.Log == nil ||
		c.Metrics == nil {
		return nil, errors.New("api: a store, the log or the metrics are missing")
	}
	a := &API{
		tokens:        c.Tokens,
		platforms:     c.Platforms,
		tracer:        c.Tracer,
		notifications: c.Notifications,
		feedback:      c.Feedback,
		events:        c.Events,
		ending:        make(chan struct{}),
		log:           c.Log,
		metrics:       newMetrics(c.Metrics),
		maxBody:       c.MaxBody,
		timeout:       c.Timeout,
		document:      newDocument(c.Version, c.DevKeys),
		ids:           newRequestIDs(),
		operated:      c.Operated,
		refusals:      newRefusals(),
		failureLines:  rate.NewLimiter(failuresLogged, failuresLoggedBurst),
		requestLog:    c.RequestLog,
		requestLines:  rate.NewLimiter(requestsLogged, requestsLoggedBurst),
	}
	a.gate, a.pace, a.client, a.noDocs = newGate(c.MaxInFlight), newPace(), c.Client, c.NoDocs
	a.SetLimits(c.RegisterRate, c.MaxInFlight)
	a.dev = len(c.DevKeys) > 0
	if a.counted = c.Counted; a.counted == nil {
		a.counted = func(client netip.Addr) netip.Addr { return client }
	}
	if a.client == nil {
		a.client = directClient
	}
	if a.maxBody == 0 {
		a.maxBody = 8 << 20
	}
	if a.timeout == 0 {
		a.timeout = 20 * time.Second
	}
	if err := a.SetApps(c.Apps, c.Operators); err != nil {
		return nil, err
	}
	a.route()
	return a, nil
}

// OpenAPI is the document that /openapi.json serves.
func (a *API) OpenAPI() *huma.OpenAPI { return a.document.OpenAPI }

// ServeHTTP serves one request of the public listener.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := &exchange{ResponseWriter: w, api: a, start: time.Now(), route: a.metrics.unmatched}
	x.id = a.ids.of(r)
	w.Header()[headerRequestID] = []string{x.id}
	defer x.finish(r)
	a.router.ServeHTTP(x, r)
}
