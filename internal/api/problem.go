package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/lhspn/lhspn/internal/push"
)

// What is wrong with a request, as far as internal/push has no sentinel for it.
var (
	errIncomplete       = errors.New("incomplete body")
	errUnauthorized     = errors.New("no or unknown key")
	errForbidden        = errors.New("scope")
	errNoRoute          = errors.New("no such path")
	errMethodNotAllowed = errors.New("method not allowed")
	errMediaType        = errors.New("media type")
	errMisdirected      = errors.New("the request is for another host")
	errBusy             = errors.New("too many requests wait")
	errRate             = errors.New("over the rate")
	errMalformed        = errors.New("no HTTP request")
	errHeaderTooLarge   = errors.New("header too large")
	errNotImplemented   = errors.New("unknown transfer encoding")
	errHTTPVersion      = errors.New("unknown version of HTTP")
	errExpectation      = errors.New("unknown expectation")
	errInternal         = errors.New("internal error")
)

// kind is a row of the table below.
type kind struct {
	err        error
	slug       string
	status     int
	title      string
	detail     string // where the error has none that may be shown
	retryAfter int    // seconds; 0: repeating it will not help
}

// kinds maps each sentinel to its answer, and is the only place that does. The first that matches counts; what matches
// none is the last, so that nothing inside leaks out.
var kinds = []kind{
	{push.ErrNotJSON, "not-json", 400, "The body is not JSON", "", 0},
	{errIncomplete, "incomplete-body", 400, "The body ended early", "The connection gave less than the request announced.",
		0},
	{errUnauthorized, "unauthorized", 401, "No or unknown key", "Send a key of this service as Authorization: Bearer KEY.",
		0},
	{errForbidden, "forbidden", 403, "The key may not do this", "", 0},
	{errMisdirected, "misdirected", 421, "The request is for another host",
		"This listener answers to localhost and to addresses.", 0},
	{errNoRoute, "no-such-path", 404, "There is nothing at this path",
		"The paths are listed in /openapi.json and /docs, where these are served.",
		0},
	{push.ErrNotFound, "not-found", 404, "Not found", "The app has no such token or notification.", 0},
	{errMethodNotAllowed, "method-not-allowed", 405, "The path does not take this method",
		"The header Allow names those it takes.", 0},
	{push.ErrGone, "gone", 410, "It is kept no longer", "", 0},
	{push.ErrConflict, "conflict", 409, "Conflict", "", 0},
	{push.ErrTooLarge, "too-large", 413, "Too large", "", 0},
	{errMediaType, "unsupported-media-type", 415, "Unsupported media type", "", 0},
	{push.ErrInvalid, "invalid", 422, "Something in the request is wrong", "The errors say what, and where.", 0},
	{errRate, "over-the-rate", 429, "Too many requests", "The key's rate is used up.", 1},
	{push.ErrQuota, "quota-exceeded", 429, "The app has reached a quota", "The app has as many as it may.", 60},
	{errBusy, "unavailable", 503, "Temporarily unavailable", "Too many requests wait.", 1},
	{push.ErrBacklogFull, "backlog-full", 503, "The backlog is full",
		"As many recipients wait as the service is set to keep.", 10},
	{push.ErrUnavailable, "unavailable", 503, "Temporarily unavailable", "The service cannot do this just now.", 5},
	{context.DeadlineExceeded, "unavailable", 503, "Temporarily unavailable", "It took too long.", 5},
	{context.Canceled, "unavailable", 503, "Temporarily unavailable", "The request was given up.", 5},
	{errMalformed, "malformed-request", 400, "The request is not HTTP", "It cannot be read as a request of HTTP/1.1.", 0},
	{errHeaderTooLarge, "header-too-large", 431, "The header is too large",
		"The header may have about 32 KiB, and a device token or cursor at most a few hundred bytes.", 0},
	{errNotImplemented, "not-implemented", 501, "Unknown transfer encoding",
		"A body comes with Content-Length, or chunked.", 0},
	{errHTTPVersion, "http-version", 505, "Unknown version of HTTP", "The versions are 1.0, 1.1 and, over TLS, 2.", 0},
	{errExpectation, "expectation-failed", 417, "Unknown expectation", "Of Expect only 100-continue is known.", 0},
	{errInternal, "internal", 500, "Internal error",
		"The service failed. Its log has the reason under this answer's X-Request-Id.", 0},
}

// Misdirected answers requests whose Host is of another service.
func (a *API) Misdirected(w http.ResponseWriter, r *http.Request) {
	w.Header()[headerRequestID] = []string{a.ids.of(r)}
	problemOf(errMisdirected).write(w)
}

// explained is an error with a text that was made for the caller to read.
type explained struct {
	error
	detail string
}

func (e explained) Unwrap() error { return e.error }

// explain gives err a text for the caller.
func explain(err error, format string, args ...any) error {
	return explained{err, fmt.Sprintf(format, args...)}
}

// Explain gives an error of one of the stores a text for the caller.
func Explain(err error, detail string) error { return explained{err, detail} }

// explainIf gives an error of the kind its text, and leaves others, and one that has its own, as they are.
func explainIf(err, kind error, detail string) error {
	if _, is := errors.AsType[explained](err); !is && errors.Is(err, kind) {
		return explained{err, detail}
	}
	return err
}

// maxFaults is the number of faults that an answer lists: a request can have one in each of 10,000 tokens.
const maxFaults = 100

// Problem is the body of every answer that is not a success: RFC 9457.
type Problem struct {
	Type   string         `json:"type" doc:"Which problem it is, for programs: urn:lhspn:problem: and a name listed in docs/errors.md"`
	Title  string         `json:"title" doc:"The same, for people"`
	Status int            `json:"status" doc:"The HTTP status"`
	Detail string         `json:"detail,omitempty" doc:"This occurrence of it"`
	Errors []ProblemFault `json:"errors,omitempty" nullable:"false" doc:"With 422, one for each fault, 100 at the most"`
	// LinesTaken is for imports only.
	LinesTaken *int64 `json:"lines_taken,omitempty" doc:"With an import that was broken off: the lines that were dealt with before"`

	retryAfter int
	cause      error
}

// ProblemFault is one fault. It never repeats the value, which may be a device token.
type ProblemFault struct {
	Location string `json:"location" example:"body.to.tokens[3]"`
	Message  string `json:"message"`
}

const problemType = "urn:lhspn:problem:"

// problemOf makes the answer to an error. A nil error has none.
func problemOf(err error) *Problem {
	var p *Problem
	if errors.As(err, &p) {
		return p
	}
	k := kinds[len(kinds)-1]
	for _, row := range kinds {
		if errors.Is(err, row.err) {
			k = row
			break
		}
	}
	p = &Problem{
		Type: problemType + k.slug, Title: k.title, Status: k.status, Detail: k.detail, retryAfter: k.retryAfter, cause: err,
	}
	if over, is := errors.AsType[*push.QuotaError](err); is {
		p.Detail = overQuota(over)
	}
	var with explained
	if errors.As(err, &with) {
		p.Detail = with.detail
	}
	if faults, is := errors.AsType[push.Faults](err); is {
		for i, f := range faults {
			if i == maxFaults {
				p.Detail = fmt.Sprintf("More than %d things are wrong; the first ones are listed.", maxFaults)
				break
			}
			p.Errors = append(p.Errors, ProblemFault{Location: f.Location, Message: f.Message})
		}
	}
	return p
}

// quotaNames says what the limits are of.
var quotaNames = map[string]string{
	"max_tokens": "device tokens", "max_waiting": "waiting recipients", "max_scheduled": "scheduled recipients",
	"max_idempotency_keys": "idempotency keys",
}

// sharedNames are the settings of what all apps share.
var sharedNames = map[string]string{"waiting": "max_backlog", "scheduled": "max_scheduled"}

// overQuota names the limit and the numbers; of other apps' it says nothing.
func overQuota(over *push.QuotaError) string {
	if over.Asked > over.Limit && over.Shared {
		return fmt.Sprintf("The request by itself has %d %s recipients, and the service keeps at most %d for all apps "+
			"(queue.%s): divide it.", over.Asked, over.Quota, over.Limit, sharedNames[over.Quota])
	}
	if over.Asked > over.Limit {
		return fmt.Sprintf("The request by itself would add %d, and the app may have %d %s (%s): divide it.", over.Asked,
			over.Limit, quotaNames[over.Quota], over.Quota)
	}
	if over.Shared {
		return fmt.Sprintf("All apps together have as many %s recipients as the service is set to keep, and this app more "+
			"than its share.", over.Quota)
	}
	return fmt.Sprintf("The app may have %d %s (%s); it has %d, and this would add %d.", over.Limit,
		quotaNames[over.Quota], over.Quota, over.Used, over.Asked)
}

// Error is the cause's text, for the log.
func (p *Problem) Error() string {
	if p.cause != nil {
		return p.cause.Error()
	}
	return p.Title
}

// Unwrap is what caused it.
func (p *Problem) Unwrap() error { return p.cause }

func (p *Problem) headers(h http.Header) {
	if p.retryAfter > 0 && h.Get(headerRetryAfter) == "" {
		h.Set(headerRetryAfter, strconv.Itoa(p.retryAfter))
	}
	if p.Status == http.StatusUnauthorized {
		h.Set(headerAuthenticate, "Bearer")
	}
}

// Refusal is the whole answer, as it goes over the connection, to what cannot be read as a request.
func (a *API) Refusal(status int, why string) []byte {
	err := map[int]error{
		417: errExpectation, 431: errHeaderTooLarge, 501: errNotImplemented, 505: errHTTPVersion,
	}[status]
	if err == nil {
		err = errMalformed
	}
	p := problemOf(err)
	if errors.Is(err, errMalformed) && why != "" {
		p.Detail = "It cannot be read as a request: " + why + "."
	}
	body, _ := json.Marshal(p) // it is all strings and numbers
	return fmt.Appendf(nil, "HTTP/1.1 %d %s\r\nContent-Type: application/problem+json\r\n%s: %s\r\nContent-Length: %d\r\n"+
		"Connection: close\r\n\r\n%s\n", p.Status, http.StatusText(p.Status), headerRequestID, a.ids.next(), len(body)+1,
		body)
}

func (p *Problem) write(w http.ResponseWriter) {
	b, err := json.Marshal(p)
	if err != nil { // it is all strings and numbers
		b = []byte(`{"type":"urn:lhspn:problem:internal","title":"Internal error","status":500}`)
	}
	h := w.Header()
	p.headers(h)
	h["Content-Type"] = []string{"application/problem+json"}
	w.WriteHeader(p.Status)
	_, _ = w.Write(append(b, '\n')) // the client may be gone
}
