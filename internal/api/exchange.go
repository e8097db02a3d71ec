package api

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/lhspn/lhspn/internal/push"
)

// exchange is one request with its answer. It stands in for the ResponseWriter, so that what belongs to the request is
// at hand without going through the context, and so that its end is seen once, with the status.
type exchange struct {
	http.ResponseWriter
	api    *API
	route  *routeMetrics
	id     string
	who    *principal // nil before authorize
	query  query
	client netip.Addr // zero before address
	token  string     // the device token in the path, shortened, for the log
	target string     // the app in the path
	about  string     // what else an act is on, for the audit log
	status int        // 0 before the header was written
	start  time.Time
	err    error
	span   push.Span // nil: the request is not traced
}

// Unwrap is for http.ResponseController.
func (x *exchange) Unwrap() http.ResponseWriter { return x.ResponseWriter }

// WriteHeader notes the status.
func (x *exchange) WriteHeader(status int) {
	if x.status == 0 {
		x.status = status
	}
	x.ResponseWriter.WriteHeader(status)
}

func (x *exchange) Write(b []byte) (int, error) {
	if x.status == 0 {
		x.status = http.StatusOK
	}
	return x.ResponseWriter.Write(b)
}

// fail answers with the problem that err is.
func (x *exchange) fail(err error) {
	x.err = err
	problemOf(err).write(x)
}

var contentTypeJSON = []string{"application/json"}

// answer writes v as JSON.
func (x *exchange) answer(status int, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("marshal the answer: %w", err)
	}
	x.answerBytes(status, append(b, '\n'))
	return nil
}

func (x *exchange) answerBytes(status int, b []byte) {
	x.Header()["Content-Type"] = contentTypeJSON
	x.WriteHeader(status)
	_, _ = x.Write(b) // the client may be gone
}

// finish ends every request: a panic becomes a fixed answer, and metrics and log learn of it.
func (x *exchange) finish(r *http.Request) {
	if v := recover(); v != nil {
		if err, ok := v.(error); ok && errors.Is(err, http.ErrAbortHandler) { // an answer that is cut off on purpose
			x.observe(r)
			panic(v)
		}
		x.api.log.Error("request panicked", "request_id", x.id, "route", x.route.pattern, "panic", fmt.Sprint(v),
			"stack", string(debug.Stack()))
		x.err = nil // it is in the log
		if x.status != 0 {
			x.status = http.StatusInternalServerError
			x.observe(r)
			panic(http.ErrAbortHandler) // the header is out: only a cut tells the client
		}
		problemOf(errInternal).write(x)
	}
	x.observe(r)
}

// A request that its client gives up sooner than any waits for an answer has not failed by the service's fault,
// whatever then went wrong with it: anybody could have the service look sick by taking requests back. It is counted
// with a status of its own, as other servers do; nobody is answered with it.
const (
	givenUp       = 250 * time.Millisecond
	statusGivenUp = 499
)

func (x *exchange) observe(r *http.Request) {
	if x.status == 0 {
		x.status = http.StatusOK // what net/http sends for a handler that writes nothing
	}
	took := time.Since(x.start)
	if x.err != nil && x.status >= http.StatusInternalServerError && took < givenUp && r.Context().Err() != nil {
		x.status = statusGivenUp
	}
	x.route.observe(x.status, took)
	log := x.api.log
	if x.status >= http.StatusInternalServerError && x.err != nil {
		x.logFailure(r)
	}
	if x.status < 300 && x.who != nil && x.api.unavailable.Load() && x.api.unavailable.Swap(false) {
		log.Info("requests are served again")
	}
	x.logRequest(r, took)
	if x.span != nil {
		x.span.End(slog.String("http.request.method", r.Method), slog.String("http.route", x.route.pattern),
			slog.Int("http.response.status_code", x.status), slog.String("request_id", x.id),
			slog.String("app", x.who.app.Name))
	}
}

// trace begins the request's span, where it is traced: only when its key is known to be good, since the caller may have
// it sampled.
func (x *exchange) trace(r *http.Request) {
	if x.api.tracer == nil {
		return
	}
	var traceparent string
	if given := r.Header["Traceparent"]; len(given) == 1 {
		traceparent = given[0]
	}
	x.span = x.api.tracer.Begin(traceparent, r.Method+" "+x.route.pattern, x.start)
}

// The lines of failed requests are bounded: an outage fails every request.
const (
	failuresLogged      = 10 // a second
	failuresLoggedBurst = 100
)

// logFailure writes a line for a request that we could not serve, by which its X-Request-Id finds the reason.
func (x *exchange) logFailure(r *http.Request) {
	log, err := x.api.log, x.err
	if errors.Is(err, push.ErrUnavailable) && !x.api.unavailable.Swap(true) {
		log.Warn("requests are refused: a dependency is away", "request_id", x.id, "route", x.route.pattern, "error", err)
		return
	}
	if !x.api.failureLines.Allow() {
		x.api.unlogged.Add(1)
		return
	}
	level := slog.LevelWarn
	if x.status == http.StatusInternalServerError {
		level = slog.LevelError
	}
	attrs := []any{"request_id", x.id, "route", x.route.pattern, "status", x.status, "client", x.address(r), "error", err}
	if n := x.api.unlogged.Swap(0); n > 0 {
		attrs = append(attrs, "others_not_logged", n)
	}
	log.Log(r.Context(), level, "request failed", attrs...)
}

const headerRequestID = "X-Request-Id"

// requestIDs makes an id for each request that brings none: random for the process, then counted.
type requestIDs struct {
	prefix string
	last   *atomic.Uint64
}

func newRequestIDs() requestIDs {
	var b [10]byte
	_, _ = rand.Read(b[:]) // it cannot fail
	return requestIDs{strings.ToLower(base32.StdEncoding.EncodeToString(b[:])) + "-", new(atomic.Uint64)}
}

// of is the caller's own id, if it sent one that can be part of a log line.
func (ids requestIDs) of(r *http.Request) string {
	if given := r.Header[headerRequestID]; len(given) == 1 && isRequestID(given[0]) {
		return given[0]
	}
	return ids.next()
}

func (ids requestIDs) next() string { return ids.prefix + strconv.FormatUint(ids.last.Add(1), 36) }

func isRequestID(s string) bool {
	if s == "" || len(s) > 128 {
		return false
	}
	for i := 0; i < len(s); i++ {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
