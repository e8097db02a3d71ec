package fcm

import (
	"bytes"
	"time"

	"github.com/lhspn/lhspn/internal/push"
)

// action is what an answer asks of the transport beside the result that it gives its delivery.
type action uint8

const (
	actionNone action = iota
	// actionRenew: a new access token, and the delivery is sent once more, which does not count. The result holds only
	// when that is refused too.
	actionRenew
)

const (
	// retryPause is the least before a message that FCM could not take is sent again (scale-fcm: "wait at least 10
	// seconds").
	retryPause = 10 * time.Second
	// quotaPause is for a quota that is exceeded where FCM does not say how long (the error codes, QUOTA_EXCEEDED).
	quotaPause = time.Minute
	// thirdPartyPause: the project's credentials for another service are mended by people.
	thirdPartyPause = 5 * time.Minute
)

// verdict is what an answer means. pause is the least to wait before the next, where the answer says less or nothing.
type verdict struct {
	outcome push.Outcome
	reason  *push.Reason
	pause   time.Duration
	action  action
}

// match is a condition on an answer; its empty fields hold for any.
type match struct {
	http     int    // the status; of another class than 4xx and 5xx only here
	above    int    // the status is not below
	code     string // FcmError.errorCode
	token    bool   // the answer is about the target: see answer.blamesToken
	device   bool   // the quota is that of a device
	info     string // ErrorInfo.reason
	status   string // error.status
	coded    bool   // there is an FcmError, whatever it says
	isFCM    bool   // the body is an error of Google's APIs
	accepted bool   // the body is that of a message that was accepted
}

func (m *match) matches(http int, a *answer, body []byte) bool {
	return (m.http == 0 || m.http == http) && http >= m.above &&
		(m.code == "" || m.code == a.errorCode) && (m.info == "" || m.info == a.info) &&
		(m.status == "" || m.status == a.status) &&
		(!m.token || a.blamesToken()) && (!m.device || a.device) && (!m.coded || a.errorCode != "") &&
		(!m.isFCM || a.isFCM) &&
		(!m.accepted || isAccepted(body, a.truncated))
}

// isAccepted tells FCM's own 200, {"name": "projects/…/messages/…"}, from that of something that answers 200 to all. Of
// a truncated one what came may be little: FCM's own is short, so the answer broke off.
func isAccepted(body []byte, truncated bool) bool {
	body = bytes.Trim(body, " \r\n\t")
	if truncated {
		return len(body) == 0 || len(body) < longestAccepted && body[0] == '{'
	}
	return len(body) > 0 && body[0] == '{' && body[len(body)-1] == '}' && bytes.Contains(body, []byte(`"name"`))
}

// longestAccepted is more bytes than FCM's answer to an accepted message has.
const longestAccepted = 1 << 10

// verdictTable is the only place where the transport judges an answer: the first row that matches. It goes by what the
// details of the error say, then by the violated field, by ErrorInfo, by the status's name, and by the HTTP status
// last: that alone cannot tell a dead token from a project that is not there.
var verdictTable = []struct {
	match
	verdict
}{
	{match{http: 200, accepted: true}, verdict{push.Accepted, nil, 0, actionNone}},

	// FcmError.errorCode. Only a 404 that says UNREGISTERED makes a token dead.
	{match{http: 404, code: "UNREGISTERED"}, verdict{push.Unregistered, Unregistered, 0, actionNone}},
	{match{code: "UNREGISTERED"}, verdict{push.Failed, Unregistered, 0, actionNone}},
	{match{code: "SENDER_ID_MISMATCH"}, verdict{push.Failed, SenderIDMismatch, 0, actionNone}},
	{match{code: "THIRD_PARTY_AUTH_ERROR"}, verdict{push.Blocked, ThirdPartyAuthError, thirdPartyPause, actionNone}},
	{match{code: "QUOTA_EXCEEDED", device: true}, verdict{push.Retry, DeviceRateExceeded, quotaPause, actionNone}},
	{match{code: "QUOTA_EXCEEDED"}, verdict{push.NotSent, QuotaExceeded, quotaPause, actionNone}},
	{match{code: "INVALID_ARGUMENT", token: true}, verdict{push.Failed, InvalidRegistration, 0, actionNone}},
	{match{code: "INVALID_ARGUMENT"}, verdict{push.Failed, InvalidArgument, 0, actionNone}},
	{match{code: "UNAVAILABLE"}, verdict{push.Retry, Unavailable, retryPause, actionNone}},
	{match{code: "INTERNAL"}, verdict{push.Retry, Internal, retryPause, actionNone}},
	// UNSPECIFIED_ERROR, and what is new
	{match{coded: true}, verdict{push.Retry, UnspecifiedError, retryPause, actionNone}},

	// BadRequest, without an FcmError.
	{match{http: 400, isFCM: true, token: true}, verdict{push.Failed, InvalidRegistration, 0, actionNone}},

	// ErrorInfo.reason: of the project.
	{match{info: "SERVICE_DISABLED"}, verdict{push.Blocked, ServiceDisabled, 0, actionNone}},
	{match{info: "CONSUMER_SUSPENDED"}, verdict{push.Blocked, ConsumerSuspended, 0, actionNone}},
	{match{info: "CONSUMER_INVALID"}, verdict{push.Blocked, NotFound, 0, actionNone}},
	{match{info: "ACCESS_TOKEN_EXPIRED"}, verdict{push.Blocked, Unauthenticated, 0, actionRenew}},
	{match{info: "ACCESS_TOKEN_TYPE_UNSUPPORTED"}, verdict{push.Blocked, Unauthenticated, 0, actionRenew}},

	// error.status.
	{match{status: "INVALID_ARGUMENT"}, verdict{push.Failed, InvalidArgument, 0, actionNone}},
	{match{status: "UNAUTHENTICATED"}, verdict{push.Blocked, Unauthenticated, 0, actionRenew}},
	{match{status: "PERMISSION_DENIED"}, verdict{push.Blocked, PermissionDenied, 0, actionNone}},
	{match{status: "NOT_FOUND"}, verdict{push.Blocked, NotFound, 0, actionNone}},
	{match{status: "RESOURCE_EXHAUSTED", device: true}, verdict{push.Retry, DeviceRateExceeded, quotaPause, actionNone}},
	{match{status: "RESOURCE_EXHAUSTED"}, verdict{push.NotSent, QuotaExceeded, quotaPause, actionNone}},
	{match{status: "INTERNAL"}, verdict{push.Retry, Internal, retryPause, actionNone}},
	{match{status: "UNAVAILABLE"}, verdict{push.Retry, Unavailable, retryPause, actionNone}},

	// The HTTP status, as of Google's front end, which answers in HTML.
	{match{http: 401}, verdict{push.Blocked, Unauthenticated, 0, actionRenew}},
	{match{http: 403}, verdict{push.Blocked, PermissionDenied, 0, actionNone}},
	{match{http: 404}, verdict{push.Blocked, NotFound, 0, actionNone}},
	{match{http: 429}, verdict{push.NotSent, QuotaExceeded, quotaPause, actionNone}},
	{match{http: 500}, verdict{push.Retry, Internal, retryPause, actionNone}},
	{match{above: 500}, verdict{push.Retry, Unavailable, retryPause, actionNone}},
	{match{isFCM: true, above: 400}, verdict{push.Retry, UnspecifiedError, retryPause, actionNone}},
	// Not FCM's: a proxy, a page, a redirect, a 200 to all. It may be this message or all of them; the sender's count
	// of attempts ends the former, and it sees the latter as an outage.
	{match{}, verdict{push.Retry, Unrecognized, retryPause, actionNone}},
}

// judge is the result for an answer, and what it asks of the transport. retryAfter is the answer's own header. FCM does
// not say since when a token is dead, and so it counts as dead when it was sent to. The answer that was read comes with
// it.
func judge(status int, body []byte, truncated bool, retryAfter time.Duration) (r push.Result, act action, a answer) {
	if status != 200 {
		a = parseAnswer(body)
	}
	a.truncated = truncated
	for i := range verdictTable {
		row := &verdictTable[i]
		if !row.matches(status, &a, body) {
			continue
		}
		r = push.Result{Outcome: row.outcome, Reason: row.reason, Status: uint16(status)}
		switch row.outcome {
		case push.Retry:
			r.RetryAfter = max(retryAfter, row.pause)
		case push.NotSent:
			// The service says when; where it says nothing, the documented minute.
			if r.RetryAfter = retryAfter; retryAfter == 0 {
				r.RetryAfter = row.pause
			}
		case push.Blocked:
			r.RetryAfter = row.pause
		default:
		}
		return r, row.action, a
	}
	panic("the table's last row matches everything")
}
