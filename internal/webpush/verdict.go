package webpush

import (
	"bytes"
	"encoding/json"
	"time"

	"github.com/lhspn/lhspn/internal/http2"
	"github.com/lhspn/lhspn/internal/push"
)

// action is what an answer asks of the transport, beside the result that it gives its delivery.
type action uint8

const (
	actionNone action = iota
	// actionAuthorization: the service refuses the authorization. Whether that is the key, the clock or this
	// subscription alone only the other answers tell: see peer.refused. The verdict's result is for the last.
	actionAuthorization
	// actionLater: the service may be failing as a whole: see peer.failed.
	actionLater
)

// verdict is what one answer means: for the delivery, and for the service that gave it.
type verdict struct {
	outcome push.Outcome
	reason  *push.Reason
	action  action
}

func (v verdict) result() push.Result { return push.Result{Outcome: v.outcome, Reason: v.reason} }

// verdictRow is one row of the table: an answer, and what it means.
type verdictRow struct {
	// status is the HTTP status; 0 for any of those that have the text.
	status int
	// text is what the body has to have in it, whole for a word in Apple's "reason", in any case; empty for any body.
	text string
	verdict
}

// verdictTable is the only place where the transport judges an answer. The first row that fits counts.
//
// Apple answers {"reason": "…"}, Mozilla {"code", "errno", "error", "message"}, Google text or HTML, Microsoft headers.
var verdictTable = [...]verdictRow{
	{200, "", verdict{push.Accepted, nil, actionNone}},
	{201, "", verdict{push.Accepted, nil, actionNone}}, // RFC 8030, 5
	{202, "", verdict{push.Accepted, nil, actionNone}}, // the same where a receipt is to follow; Mozilla's, formerly

	// Another VAPID key than that of the subscription. It is per subscription: nothing else is held up.
	{0, "VapidPkHashMismatch", verdict{push.Failed, VapidPkHashMismatch, actionNone}},                  // Apple
	{0, "do not correspond to the credentials", verdict{push.Failed, VapidPkHashMismatch, actionNone}}, // Google
	// Mozilla, with 401 and errno 109
	{0, "public key mismatch", verdict{push.Failed, VapidPkHashMismatch, actionNone}},

	// The authorization.
	{0, "BadJwtToken", verdict{push.Failed, BadJwtToken, actionAuthorization}},
	{0, "BadVapidPublicKey", verdict{push.Failed, BadVapidPublicKey, actionAuthorization}},
	{0, "BadAuthorizationHeader", verdict{push.Failed, BadAuthorizationHeader, actionAuthorization}},
	{401, "", verdict{push.Failed, Unauthorized, actionAuthorization}}, // Mozilla's errno 109; Google without VAPID
	{403, "", verdict{push.Failed, Forbidden, actionAuthorization}},

	// The notification's own fault: final.
	{400, "BadTtl", verdict{push.Failed, BadTTL, actionNone}},
	{400, "BadUrgency", verdict{push.Failed, BadUrgency, actionNone}},
	{400, "BadWebPushRequest", verdict{push.Failed, BadWebPushRequest, actionNone}},
	{400, "BadWebPushTopic", verdict{push.Failed, BadWebPushTopic, actionNone}},
	{400, "IdleTimeout", verdict{push.Retry, IdleTimeout, actionNone}}, // Apple's, of the connection
	// Mozilla's errno 101, 110 to 113; Google for too large a body
	{400, "", verdict{push.Failed, BadRequest, actionNone}},
	{405, "", verdict{push.Failed, MethodNotAllowed, actionNone}},
	{413, "", verdict{push.Failed, PayloadTooLarge, actionNone}},

	// What HTTP calls repeatable, as front ends say it: nothing of it is about the message (RFC 9110, 15.5.9 and 15.5.20;
	// RFC 8470, 5.2).
	{408, "", verdict{push.Retry, ServiceUnavailable, actionLater}},
	{421, "", verdict{push.Retry, ServiceUnavailable, actionLater}},
	{425, "", verdict{push.Retry, ServiceUnavailable, actionLater}},

	// The subscription is dead.
	{404, "BadPath", verdict{push.Unregistered, BadPath, actionNone}}, // Apple
	{404, "", verdict{push.Unregistered, NotFound, actionNone}},       // RFC 8030, 7.3; Mozilla's errno 102
	{410, "", verdict{push.Unregistered, Gone, actionNone}},           // all; Mozilla's errno 103, 105, 106

	// Redirects are allowed by RFC 8030, 8.4. An endpoint is a stranger's URL, and so is what it redirects to.
	{301, "", verdict{push.Failed, Redirected, actionNone}},
	{302, "", verdict{push.Failed, Redirected, actionNone}},
	{303, "", verdict{push.Failed, Redirected, actionNone}},
	{307, "", verdict{push.Failed, Redirected, actionNone}},
	{308, "", verdict{push.Failed, Redirected, actionNone}},

	// Later. Too fast is for this destination only.
	{406, "", verdict{push.Retry, TooManyRequests, actionNone}}, // Microsoft
	{429, "", verdict{push.Retry, TooManyRequests, actionNone}},
	{500, "", verdict{push.Retry, InternalServerError, actionLater}},
	{503, "Shutdown", verdict{push.Retry, Shutdown, actionLater}}, // Apple
	{502, "", verdict{push.Retry, ServiceUnavailable, actionLater}},
	{503, "", verdict{push.Retry, ServiceUnavailable, actionLater}}, // Mozilla's errno 201, 202
	{504, "", verdict{push.Retry, ServiceUnavailable, actionLater}},
}

// answer is what a push service answered, by whichever HTTP.
type answer struct {
	status      int
	body        []byte // its beginning
	contentType []byte
	retryAfter  []byte
	wnsStatus   []byte // X-WNS-Status
	at          time.Time
}

// newSubscription is how old a subscription is before a 404 or 410 counts. Services take some seconds until they know a
// new one: of four in eleven the first message was answered 410, and the next one 201 (Chromium, October 2026).
const newSubscription = time.Minute

// judge is the result for an answer, and what it asks of the transport.
func judge(s service, a *answer) (push.Result, action) {
	v := lookUp(s, a)
	r := v.result()
	r.Status = uint16(a.status)
	switch r.Outcome {
	case push.Unregistered:
		// No service says since when. What was registered within the last minute stays; should it be dead all the same,
		// the next message is answered so too.
		r.DeadAt = a.at.Add(-newSubscription).UnixMicro()
	case push.Retry:
		r.RetryAfter = http2.RetryAfter(a.retryAfter, a.at)
	default:
	}
	return r, v.action
}

func lookUp(s service, a *answer) verdict {
	if a.status/100 == 2 && len(a.wnsStatus) > 0 {
		switch { // Microsoft's: a 2xx is not all that it says
		case bytes.EqualFold(a.wnsStatus, []byte(Dropped.Text)):
			return verdict{push.Failed, Dropped, actionNone}
		case bytes.EqualFold(a.wnsStatus, []byte(ChannelThrottled.Text)):
			return verdict{push.Failed, ChannelThrottled, actionNone}
		}
	}
	if foreign(s, a) {
		return verdict{push.Retry, UnrecognizedAnswer, actionLater}
	}
	body, reason := bytes.ToLower(a.body), reasonOf(a)
	for i := range verdictTable {
		row := &verdictTable[i]
		if row.status != a.status && (row.status != 0 || a.status < 400 || a.status >= 500) {
			continue
		}
		if row.text == "" || reason == row.text || reason == "" && len(body) > 0 &&
			bytes.Contains(body, bytes.ToLower([]byte(row.text))) {
			return row.verdict
		}
	}
	switch {
	case a.status >= 500:
		return verdict{push.Retry, ServiceUnavailable, actionLater}
	case a.status >= 400:
		return verdict{push.Failed, push.UnknownReason, actionNone}
	default: // no push service's: 204, 304, 1xx
		return verdict{push.Retry, UnrecognizedAnswer, actionLater}
	}
}

// foreign reports whether it is not the push service that answers, but a proxy, a captive portal or another web server:
// that says nothing of the subscription. A page comes with what only Google uses pages for. What a stranger's server
// calls gone is taken for its word, page or not, and its 5xx are what they are.
func foreign(s service, a *answer) bool {
	if !bytes.HasPrefix(bytes.ToLower(bytes.TrimSpace(a.contentType)), []byte("text/html")) {
		return false
	}
	switch {
	case a.status < 300:
		return true
	case s == serviceGoogle, s == serviceOther, a.status >= 500:
		return false
	default:
		return a.status >= 400
	}
}

// reasonOf is the word in an answer of Apple's.
func reasonOf(a *answer) string {
	if len(a.body) == 0 || a.body[0] != '{' {
		return ""
	}
	var apple struct {
		Reason string `json:"reason"`
	}
	_ = json.Unmarshal(a.body, &apple) // one that does not parse has no word
	return apple.Reason
}
