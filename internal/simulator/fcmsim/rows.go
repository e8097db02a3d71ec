package fcmsim

import (
	"encoding/json"
	"net/http"
	"slices"
	"time"

	"github.com/lhspn/lhspn/internal/simulator/record"
	"github.com/lhspn/lhspn/internal/simulator/web"
)

// failure is an error of FCM's API, in the form that X-GOOG-API-FORMAT-VERSION 2 names.
type failure struct {
	code            int
	status, message string
	errorCode       string // FcmError
	field           string // BadRequest; "message.target" stands for the one in use
	description     string // of the field; the message where it is empty
	info            string // ErrorInfo
	quota           string // QuotaFailure's subject
}

func (f failure) body() []byte {
	type detail map[string]any
	var details []detail
	add := func(kind string, d detail) {
		d["@type"] = "type.googleapis.com/" + kind
		details = append(details, d)
	}
	if f.errorCode != "" {
		add("google.firebase.fcm.v1.FcmError", detail{"errorCode": f.errorCode})
	}
	if f.field != "" {
		if f.description == "" {
			f.description = f.message
		}
		add("google.rpc.BadRequest", detail{"fieldViolations": []detail{{"field": f.field, "description": f.description}}})
	}
	if f.info != "" {
		add("google.rpc.ErrorInfo", detail{"reason": f.info, "domain": "googleapis.com",
			"metadata": map[string]string{"service": "fcm.googleapis.com", "consumer": "projects/" + ProjectNumber}})
	}
	if f.quota != "" {
		add("google.rpc.QuotaFailure", detail{"violations": []detail{{"subject": f.quota, "description": f.message}}})
	}
	body, _ := json.MarshalIndent(map[string]any{"error": struct {
		Code    int      `json:"code"`
		Message string   `json:"message"`
		Status  string   `json:"status"`
		Details []detail `json:"details,omitempty"`
	}{f.code, f.message, f.status, details}}, "", "  ")
	return append(body, '\n')
}

// answer is an answer to a request, and what the record says of it.
type answer struct {
	web.Answer
	verdict record.Verdict
	late    bool
}

var (
	jsonFields      = []web.Field{{Name: "content-type", Value: "application/json; charset=UTF-8"}}
	htmlFields      = []web.Field{{Name: "content-type", Value: "text/html; charset=UTF-8"}}
	challengeFields = append(slices.Clone(jsonFields), web.Field{Name: "www-authenticate",
		Value: `Bearer realm="https://accounts.google.com/"`})
)

func jsonAnswer(status int, v record.Verdict, body []byte) answer {
	return answer{Answer: web.Answer{Status: status, Fields: jsonFields, Body: body}, verdict: v}
}

func (f failure) answer(v record.Verdict) answer {
	a := jsonAnswer(f.code, v, f.body())
	if f.code == http.StatusUnauthorized {
		a.Fields = challengeFields
	}
	return a
}

// The rows: every answer of FCM but the plain 200 (see the protocol's error codes). The numbers are part of the magic
// targets: append only.
const (
	InvalidToken Fault = web.Rows + 1 + iota
	InvalidTokenField
	InvalidField
	TooBig
	PackageMismatch
	AccessTokenExpired
	AccessTokenUnsupported
	ThirdPartyAuthError
	SenderIDMismatch
	PermissionDenied
	ServiceDisabled
	ConsumerSuspended
	Unregistered
	NotFound
	QuotaProjectRetryAfter
	QuotaProject
	QuotaDeviceRetryAfter
	QuotaDevice
	Exhausted
	Internal
	BadGateway
	UnavailableRetryAfter
	Unavailable
	GatewayTimeout
	UnavailableRetryAfterDate
	UnspecifiedError
	UnknownErrorCode
	Garbage
	HTMLNotFound
	HTMLAccepted
)

const (
	invalidTokenText = "The registration token is not a valid FCM registration token"
	deviceQuotaText  = "Quota exceeded for messages to one device."
	projectQuotaText = "Quota exceeded for quota metric 'Send requests' and limit 'Send requests per minute' of " +
		"service 'fcm.googleapis.com'."
)

type row struct {
	fault      Fault
	text       string
	verdict    record.Verdict
	failure    failure
	retryAfter bool
	date       bool   // as an HTTP date
	html       int    // the status of an HTML answer in place of failure
	garbage    string // of an answer with 200
}

var rows = [...]row{
	{fault: InvalidToken, text: "400 INVALID_ARGUMENT, " + invalidTokenText, verdict: vInvalidArgument,
		failure: failure{code: 400, status: "INVALID_ARGUMENT", message: invalidTokenText, errorCode: "INVALID_ARGUMENT"}},
	{fault: InvalidTokenField, text: "400 INVALID_ARGUMENT with a field violation of message.token or message.fid",
		verdict: vInvalidArgument,
		failure: failure{code: 400, status: "INVALID_ARGUMENT", message: "Request contains an invalid argument.",
			field: "message.target"}},
	{fault: InvalidField, text: "400 INVALID_ARGUMENT with a field violation of message.android.ttl",
		verdict: vInvalidArgument,
		failure: failure{code: 400, status: "INVALID_ARGUMENT", message: "Invalid value at 'message.android.ttl'",
			field: "message.android.ttl"}},
	{fault: TooBig, text: "400 INVALID_ARGUMENT, Android message is too big", verdict: vInvalidArgument,
		failure: failure{code: 400, status: "INVALID_ARGUMENT", message: tooBigText, errorCode: "INVALID_ARGUMENT"}},
	{fault: PackageMismatch, text: "400 INVALID_ARGUMENT, the package name does not match", verdict: vInvalidArgument,
		failure: failure{code: 400, status: "INVALID_ARGUMENT", errorCode: "INVALID_ARGUMENT",
			message: "The message's restricted package name does not match the registration token's."}},
	{fault: AccessTokenExpired, text: "401 UNAUTHENTICATED, ACCESS_TOKEN_EXPIRED", verdict: vUnauthenticated,
		failure: accessTokenFailure("ACCESS_TOKEN_EXPIRED")},
	{fault: AccessTokenUnsupported, text: "401 UNAUTHENTICATED, ACCESS_TOKEN_TYPE_UNSUPPORTED", verdict: vUnauthenticated,
		failure: accessTokenFailure("ACCESS_TOKEN_TYPE_UNSUPPORTED")},
	{fault: ThirdPartyAuthError, text: "401 UNAUTHENTICATED, THIRD_PARTY_AUTH_ERROR", verdict: vThirdPartyAuthError,
		failure: failure{code: 401, status: "UNAUTHENTICATED", message: "Auth error from APNS or Web Push Service",
			errorCode: "THIRD_PARTY_AUTH_ERROR"}},
	{fault: SenderIDMismatch, text: "403 PERMISSION_DENIED, SENDER_ID_MISMATCH", verdict: vSenderIDMismatch,
		failure: failure{code: 403, status: "PERMISSION_DENIED", message: "SenderId mismatch",
			errorCode: "SENDER_ID_MISMATCH"}},
	{fault: PermissionDenied, text: "403 PERMISSION_DENIED, cloudmessaging.messages.create is missing",
		verdict: vPermissionDenied,
		failure: failure{code: 403, status: "PERMISSION_DENIED", info: "IAM_PERMISSION_DENIED",
			message: "Permission 'cloudmessaging.messages.create' denied on resource " +
				"'//cloudresourcemanager.googleapis.com/projects/" + ProjectID + "' (or it may not exist)."}},
	{fault: ServiceDisabled, text: "403 PERMISSION_DENIED, SERVICE_DISABLED", verdict: vPermissionDenied,
		failure: failure{code: 403, status: "PERMISSION_DENIED", info: "SERVICE_DISABLED",
			message: "Firebase Cloud Messaging API has not been used in project " + ProjectNumber +
				" before or it is disabled."}},
	{fault: ConsumerSuspended, text: "403 PERMISSION_DENIED, CONSUMER_SUSPENDED", verdict: vPermissionDenied,
		failure: failure{code: 403, status: "PERMISSION_DENIED", info: "CONSUMER_SUSPENDED",
			message: "Permission denied: Consumer 'projects/" + ProjectNumber + "' has been suspended."}},
	{fault: Unregistered, text: "404 NOT_FOUND, UNREGISTERED", verdict: vUnregistered,
		failure: failure{code: 404, status: "NOT_FOUND", message: "Requested entity was not found.",
			errorCode: "UNREGISTERED"}},
	{fault: NotFound, text: "404 NOT_FOUND without UNREGISTERED", verdict: vNotFound,
		failure: failure{code: 404, status: "NOT_FOUND", message: "Requested entity was not found."}},
	{fault: QuotaProjectRetryAfter, text: "429 QUOTA_EXCEEDED of the project, with Retry-After", verdict: vQuotaExceeded,
		retryAfter: true,
		failure:    quotaFailure("project:" + ProjectNumber)},
	{fault: QuotaProject, text: "429 QUOTA_EXCEEDED of the project, without Retry-After", verdict: vQuotaExceeded,
		failure: quotaFailure("project:" + ProjectNumber)},
	{fault: QuotaDeviceRetryAfter, text: "429 QUOTA_EXCEEDED of the device, with Retry-After", verdict: vQuotaExceeded,
		retryAfter: true,
		failure:    quotaFailure("device")},
	{fault: QuotaDevice, text: "429 QUOTA_EXCEEDED of the device, without Retry-After", verdict: vQuotaExceeded,
		failure: quotaFailure("device")},
	{fault: Exhausted, text: "429 RESOURCE_EXHAUSTED without details", verdict: vQuotaExceeded,
		failure: failure{code: 429, status: "RESOURCE_EXHAUSTED",
			message: "Resource has been exhausted (e.g. check quota)."}},
	{fault: Internal, text: "500 INTERNAL", verdict: vInternal,
		failure: failure{code: 500, status: "INTERNAL", message: "Internal error encountered.", errorCode: "INTERNAL"}},
	{fault: BadGateway, text: "502 with an HTML body", verdict: vFrontEnd, html: 502},
	{fault: UnavailableRetryAfter, text: "503 UNAVAILABLE, with Retry-After", verdict: vUnavailable, retryAfter: true,
		failure: unavailable},
	{fault: Unavailable, text: "503 UNAVAILABLE, without Retry-After", verdict: vUnavailable, failure: unavailable},
	{fault: GatewayTimeout, text: "504 with an HTML body", verdict: vFrontEnd, html: 504},
	{fault: UnavailableRetryAfterDate, text: "503 UNAVAILABLE, with Retry-After as a date", verdict: vUnavailable,
		retryAfter: true, date: true, failure: unavailable},
	{fault: UnspecifiedError, text: "500 UNSPECIFIED_ERROR", verdict: vUnspecified,
		failure: failure{code: 500, status: "UNKNOWN", message: "Unknown error.", errorCode: "UNSPECIFIED_ERROR"}},
	{fault: UnknownErrorCode, text: "400 with an errorCode that nobody knows", verdict: vUnspecified,
		failure: failure{code: 400, status: "FAILED_PRECONDITION", message: "Something new.", errorCode: "SOMETHING_NEW"}},
	{fault: Garbage, text: "200 with half a JSON document", verdict: vGarbage, garbage: `{"name": "projects/`},
	{fault: HTMLNotFound, text: "404 with an HTML body", verdict: vFrontEnd, html: 404},
	{fault: HTMLAccepted, text: "200 with an HTML body", verdict: vGarbage, html: 200},
}

func accessTokenFailure(reason string) failure {
	return failure{code: 401, status: "UNAUTHENTICATED", info: reason,
		message: "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other " +
			"valid authentication credential. See https://developers.google.com/identity/sign-in/web/devconsole-project."}
}

func quotaFailure(subject string) failure {
	f := failure{code: 429, status: "RESOURCE_EXHAUSTED", message: projectQuotaText, errorCode: "QUOTA_EXCEEDED",
		quota: subject}
	if subject == "device" {
		f.message = deviceQuotaText
	}
	return f
}

var unavailable = failure{code: 503, status: "UNAVAILABLE", message: "The service is currently unavailable.",
	errorCode: "UNAVAILABLE"}

// The verdicts of the record.
const (
	vInvalidArgument record.Verdict = 1 + iota
	vUnauthenticated
	vThirdPartyAuthError
	vSenderIDMismatch
	vPermissionDenied
	vUnregistered
	vNotFound
	vQuotaExceeded
	vInternal
	vUnavailable
	vFrontEnd
	vUnspecified
	vGarbage
	vValidated
)

var reasonTexts = [...]string{
	vInvalidArgument: "INVALID_ARGUMENT", vUnauthenticated: "UNAUTHENTICATED",
	vThirdPartyAuthError: "THIRD_PARTY_AUTH_ERROR",
	vSenderIDMismatch:    "SENDER_ID_MISMATCH", vPermissionDenied: "PERMISSION_DENIED", vUnregistered: "UNREGISTERED",
	vNotFound: "NOT_FOUND", vQuotaExceeded: "QUOTA_EXCEEDED", vInternal: "INTERNAL", vUnavailable: "UNAVAILABLE",
	vFrontEnd: "HTML", vUnspecified: "UNSPECIFIED_ERROR", vGarbage: "garbage", vValidated: "validated",
}

func reasonText(v record.Verdict) string { return reasonTexts[v] }

// rowOf is the row with the number, nil where there is none.
func rowOf(fault Fault) *row {
	i := int(fault) - int(web.Rows) - 1
	if i < 0 || i >= len(rows) {
		return nil
	}
	return &rows[i]
}

// answer is the row's answer about a target. retryAfter is what those have that carry one.
func (r *row) answer(target target, retryAfter time.Duration, now time.Time) answer {
	var a answer
	switch {
	case r.html != 0:
		a = htmlAnswer(r.html, r.verdict)
	case r.garbage != "":
		a = jsonAnswer(200, r.verdict, []byte(r.garbage))
	default:
		f := r.failure
		if f.field == "message.target" {
			f.field = "message." + target.kind
		}
		a = f.answer(r.verdict)
	}
	if r.retryAfter {
		a.Fields = append(slices.Clone(a.Fields), web.RetryAfter(retryAfter, r.date, now))
	}
	return a
}

// htmlAnswer is what Google's front end says where it does not reach FCM.
func htmlAnswer(status int, v record.Verdict) answer {
	return answer{Answer: web.Answer{Status: status, Fields: htmlFields, Body: web.HTML(status)}, verdict: v}
}
