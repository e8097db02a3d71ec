package webpushsim

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/lhspn/lhspn/internal/simulator/record"
	"github.com/lhspn/lhspn/internal/simulator/web"
)

// failure is an answer of a push service, in the words of one of them.
type failure struct {
	status  int
	reason  string // Apple: {"reason": …}
	errno   int    // Mozilla: {"code", "errno", "error", "message"}
	text    string // Google's text, and Mozilla's message
	html    bool
	garbage string
	fields  []web.Field
}

var (
	appleFields   = []web.Field{{Name: "content-type", Value: "application/json"}}
	textFields    = []web.Field{{Name: "content-type", Value: "text/plain; charset=UTF-8"}}
	htmlFields    = []web.Field{{Name: "content-type", Value: "text/html; charset=UTF-8"}}
	mozillaFields = []web.Field{{Name: "content-type", Value: "application/json"}}
)

func (f *failure) answer() web.Answer {
	a := web.Answer{Status: f.status}
	switch {
	case f.html:
		a.Fields, a.Body = htmlFields, web.HTML(f.status)
	case f.garbage != "":
		a.Body = []byte(f.garbage)
	case f.reason != "":
		a.Fields = appleFields
		a.Body, _ = json.Marshal(map[string]string{"reason": f.reason})
	case f.errno != 0:
		a.Fields = mozillaFields
		a.Body, _ = json.Marshal(map[string]any{"code": f.status, "errno": f.errno, "error": http.StatusText(f.status),
			"message": f.text})
	case f.text != "":
		a.Fields, a.Body = textFields, []byte(f.text)
	}
	if len(f.fields) > 0 {
		a.Fields = append(slices.Clone(a.Fields), f.fields...)
	}
	return a
}

// What the checks of a request end with.
var (
	failNoVAPID       = failure{status: 401, errno: 109, text: "Request did not validate missing authorization header"}
	failAuthorization = failure{status: 403, reason: "BadAuthorizationHeader"}
	failVAPIDKey      = failure{status: 400, reason: "BadVapidPublicKey"}
	failJWT           = failure{status: 403, reason: "BadJwtToken"}
	failMismatch      = failure{status: 403, reason: "VapidPkHashMismatch"}
	failPath          = failure{status: 404, errno: 102, text: "Request did not validate invalid token"}
	failGone          = failure{status: 410, errno: 106, text: "No such subscription"}
	failMethod        = failure{status: 405, reason: "MethodNotAllowed"}
	failTTL           = failure{status: 400, reason: "BadTtl"}
	failUrgency       = failure{status: 400, reason: "BadUrgency"}
	failTopic         = failure{status: 400, reason: "BadWebPushTopic"}
	failTooLarge      = failure{status: 413, errno: 104, text: "Request payload too large"}
)

// failEncoding is for what no browser could decrypt; why says what is wrong with it. Real services do not look: they
// accept it, and the browser is silent.
func failEncoding(why string) failure {
	return failure{status: 400, errno: 110, text: "Invalid aes128gcm: " + why}
}

// The rows: every answer that push services are known for, but the plain 201. The numbers are part of the endpoints:
// append only.
const (
	BadRequest Fault = web.Rows + 1 + iota
	BadTTL
	BadVAPIDKey
	TooLargeGoogle
	Unauthorized
	UnauthorizedGoogle
	BadJWT
	BadAuthorization
	VAPIDMismatch
	VAPIDMismatchGoogle
	NotFound
	BadPath
	MethodNotAllowed
	Throttled
	ThrottledRetryAfter
	Gone
	GoneApple
	GoneGoogle
	TooLarge
	TooMany
	TooManyRetryAfter
	TooManyRetryAfterDate
	Internal
	BadGateway
	Unavailable
	UnavailableRetryAfter
	Shutdown
	GatewayTimeout
	Moved
	TemporaryRedirect
	PermanentRedirect
	OK
	Accepted
	WNSDropped
	WNSThrottled
	HTML
	HTMLBadGateway
	Garbage
	Teapot
)

type row struct {
	fault      Fault
	name, text string
	failure    failure
	retryAfter bool
	date       bool // as an HTTP date
	redirect   bool
	dropped    bool // the service accepts it, and throws it away
}

func (r *row) accepts() bool { return r.failure.status/100 == 2 && !r.failure.html && !r.dropped }

var rows = [...]row{
	{fault: BadRequest, name: "bad-request", text: "400, Mozilla's errno 110",
		failure: failure{status: 400, errno: 110, text: "Invalid encryption headers"}},
	{fault: BadTTL, name: "bad-ttl", text: "400 BadTtl (Apple)", failure: failTTL},
	{fault: BadVAPIDKey, name: "bad-vapid-key", text: "400 BadVapidPublicKey (Apple)", failure: failVAPIDKey},
	{fault: TooLargeGoogle, name: "too-large-400", text: "400 for a body that is too large (Google)",
		failure: failure{status: 400, text: "The payload is too large: at most 4096 bytes are allowed."}},
	{fault: Unauthorized, name: "unauthorized", text: "401, Mozilla's errno 109", failure: failNoVAPID},
	{fault: UnauthorizedGoogle, name: "unauthorized-text", text: "401 with a text (Google)",
		failure: failure{status: 401, text: "authorization header must be specified."}},
	{fault: BadJWT, name: "bad-jwt", text: "403 BadJwtToken (Apple)", failure: failJWT},
	{fault: BadAuthorization, name: "bad-authorization", text: "403 BadAuthorizationHeader (Apple)",
		failure: failAuthorization},
	{fault: VAPIDMismatch, name: "vapid-mismatch", text: "403 VapidPkHashMismatch (Apple)", failure: failMismatch},
	{fault: VAPIDMismatchGoogle, name: "vapid-mismatch-text", text: "403 with a text (Google)",
		failure: failure{status: 403, text: "the VAPID credentials in the authorization header do not correspond to the " +
			"credentials used to create the subscriptions."}},
	{fault: NotFound, name: "not-found", text: "404, Mozilla's errno 102", failure: failPath},
	{fault: BadPath, name: "bad-path", text: "404 BadPath (Apple)", failure: failure{status: 404, reason: "BadPath"}},
	{fault: MethodNotAllowed, name: "method-not-allowed", text: "405 MethodNotAllowed (Apple)", failure: failMethod},
	{fault: Throttled, name: "throttled", text: "406 (WNS), without Retry-After",
		failure: failure{status: 406, fields: wnsStatus("channelthrottled")}},
	{fault: ThrottledRetryAfter, name: "throttled-retry-after", text: "406 (WNS), with Retry-After", retryAfter: true,
		failure: failure{status: 406, fields: wnsStatus("channelthrottled")}},
	{fault: Gone, name: "gone", text: "410, Mozilla's errno 106", failure: failGone},
	{fault: GoneApple, name: "gone-apple", text: "410 (Apple)", failure: failure{status: 410, reason: "Unregistered"}},
	{fault: GoneGoogle, name: "gone-text", text: "410 with a text (Google)",
		failure: failure{status: 410, text: "push subscription has unsubscribed or expired."}},
	{fault: TooLarge, name: "too-large", text: "413, Mozilla's errno 104", failure: failTooLarge},
	{fault: TooMany, name: "too-many-requests", text: "429 TooManyRequests (Apple), without Retry-After",
		failure: failure{status: 429, reason: "TooManyRequests"}},
	{fault: TooManyRetryAfter, name: "too-many-requests-retry-after",
		text: "429 TooManyRequests (Apple), with Retry-After", retryAfter: true,
		failure: failure{status: 429, reason: "TooManyRequests"}},
	{fault: TooManyRetryAfterDate, name: "too-many-requests-date",
		text: "429 TooManyRequests (Apple), with Retry-After as a date", retryAfter: true, date: true,
		failure: failure{status: 429, reason: "TooManyRequests"}},
	{fault: Internal, name: "internal", text: "500 InternalServerError (Apple)",
		failure: failure{status: 500, reason: "InternalServerError"}},
	{fault: BadGateway, name: "bridge", text: "502, Mozilla's errno 900",
		failure: failure{status: 502, errno: 900, text: "Bridge connection failed"}},
	{fault: Unavailable, name: "unavailable", text: "503, Mozilla's errno 201, without Retry-After",
		failure: failure{status: 503, errno: 201, text: "Use exponential back-off for retries"}},
	{fault: UnavailableRetryAfter, name: "unavailable-retry-after", text: "503, Mozilla's errno 202, with Retry-After",
		retryAfter: true,
		failure:    failure{status: 503, errno: 202, text: "Immediate retry ok"}},
	{fault: Shutdown, name: "shutdown", text: "503 Shutdown (Apple)", failure: failure{status: 503, reason: "Shutdown"}},
	{fault: GatewayTimeout, name: "gateway-timeout", text: "504 with an HTML body",
		failure: failure{status: 504, html: true}},
	{fault: Moved, name: "moved", text: "301 to another path, which accepts everything", redirect: true,
		failure: failure{status: 301}},
	{fault: TemporaryRedirect, name: "redirect", text: "307 to another path, which accepts everything", redirect: true,
		failure: failure{status: 307}},
	{fault: PermanentRedirect, name: "permanent-redirect", text: "308 to another path, which accepts everything",
		redirect: true, failure: failure{status: 308}},
	{fault: OK, name: "ok", text: "200, accepted", failure: failure{status: 200}},
	{fault: Accepted, name: "accepted", text: "202, accepted", failure: failure{status: 202}},
	{fault: WNSDropped, name: "wns-dropped", text: "201 with X-WNS-Status: dropped, and thrown away", dropped: true,
		failure: failure{status: 201, fields: wnsStatus("dropped")}},
	{fault: WNSThrottled, name: "wns-throttled", text: "201 with X-WNS-Status: channelthrottled, and thrown away",
		dropped: true,
		failure: failure{status: 201, fields: wnsStatus("channelthrottled")}},
	{fault: HTML, name: "html", text: "200 with an HTML body", failure: failure{status: 200, html: true}},
	{fault: HTMLBadGateway, name: "html-502", text: "502 with an HTML body", failure: failure{status: 502, html: true}},
	{fault: Garbage, name: "garbage", text: "410 with bytes that mean nothing",
		failure: failure{status: 410, garbage: "\x00\xff{"}},
	{fault: Teapot, name: "teapot", text: "418, which no push service answers", failure: failure{status: 418}},
}

func wnsStatus(status string) []web.Field {
	return []web.Field{{Name: "x-wns-status", Value: status}, {Name: "x-wns-notificationstatus", Value: status}}
}

// answer is the row's answer. retryAfter is what those have that carry one.
func (r *row) answer(origin string, retryAfter time.Duration, now time.Time) web.Answer {
	a := r.failure.answer()
	if r.redirect {
		a.Fields = append(slices.Clone(a.Fields), web.Field{Name: "location", Value: origin + otherPath})
	}
	if r.retryAfter {
		a.Fields = append(slices.Clone(a.Fields), web.RetryAfter(retryAfter, r.date, now))
	}
	return a
}

// The verdicts of the record: the statuses that are no success, and those below.
const (
	vUndecryptable record.Verdict = 198
	vRedirected    record.Verdict = 199 // a redirect was followed
	vDropped       record.Verdict = 197 // accepted, and thrown away
)

var ownVerdicts = map[record.Verdict]string{vUndecryptable: "not decryptable", vRedirected: "redirect followed",
	vDropped: "dropped"}

// statuses are those that the record tells apart, by verdict - 1.
var statuses = []int{200, 301, 307, 308, 400, 401, 403, 404, 405, 406, 410, 413, 418, 429, 500, 502, 503, 504}

func verdictOf(status int) record.Verdict {
	return record.Verdict(slices.Index(statuses, status) + 1) // all are in it
}

func reasonText(v record.Verdict) string {
	if text, own := ownVerdicts[v]; own {
		return text
	}
	if v == 0 || int(v) > len(statuses) {
		return ""
	}
	status := statuses[v-1]
	return strconv.Itoa(status) + " " + http.StatusText(status)
}
