package fcm

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/lhspn/lhspn/internal/push"
)

const (
	typeFCM   = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
	typeBad   = "type.googleapis.com/google.rpc.BadRequest"
	typeInfo  = "type.googleapis.com/google.rpc.ErrorInfo"
	typeQuota = "type.googleapis.com/google.rpc.QuotaFailure"
)

func fcmError(code string) string {
	return fmt.Sprintf(`{"@type": %q, "errorCode": %q}`, typeFCM, code)
}

func badRequest(fields ...string) string {
	var all []string
	for _, f := range fields {
		all = append(all, fmt.Sprintf(`{"field": %q, "description": "Invalid value"}`, f))
	}
	return fmt.Sprintf(`{"@type": %q, "fieldViolations": [%s]}`, typeBad, strings.Join(all, ","))
}

func errorInfo(reason string) string {
	return fmt.Sprintf(`{"@type": %q, "reason": %q, "domain": "googleapis.com", "metadata": {"service": "fcm.googleapis.com"}}`, typeInfo, reason)
}

func quotaFailure(subject, description string) string {
	return fmt.Sprintf(`{"@type": %q, "violations": [{"subject": %q, "description": %q}]}`, typeQuota, subject, description)
}

// failure is an error's body as FCM writes it.
func failure(code int, status, message string, details ...string) string {
	text := fmt.Sprintf(`{"error": {"code": %d, "message": %q, "status": %q`, code, message, status)
	if len(details) > 0 {
		text += `, "details": [` + strings.Join(details, ", ") + "]"
	}
	return text + "}}"
}

// TestVerdicts has every answer that FCM is known to give, and what others give in its place.
func TestVerdicts(t *testing.T) {
	t.Parallel()
	const page = "<!DOCTYPE html>\n<html lang=en><title>Error</title>"
	for _, test := range []struct {
		name    string
		status  int
		body    string
		outcome push.Outcome
		reason  *push.Reason
		after   time.Duration
		action  action
	}{
		{"accepted", 200, `{"name": "projects/hedgehog/messages/0:1500415314455276%31bd1c9631bd1c96"}`, push.Accepted, nil, 0, actionNone},
		{"accepted with space before", 200, "\n{\n  \"name\": \"projects/hedgehog/messages/1\"\n}\n", push.Accepted, nil, 0, actionNone},

		{"a malformed token by its text", 400, failure(400, "INVALID_ARGUMENT", "The registration token is not a valid FCM registration token", fcmError("INVALID_ARGUMENT")),
			push.Failed, InvalidRegistration, 0, actionNone},
		{"a malformed token by its field", 400, failure(400, "INVALID_ARGUMENT", "Invalid value", fcmError("INVALID_ARGUMENT"), badRequest("message.token")),
			push.Failed, InvalidRegistration, 0, actionNone},
		{"a malformed installation id", 400, failure(400, "INVALID_ARGUMENT", "Invalid value", badRequest("message.fid")), push.Failed, InvalidRegistration, 0, actionNone},
		{"another field", 400, failure(400, "INVALID_ARGUMENT", "Invalid value at 'message.data[0].value'", fcmError("INVALID_ARGUMENT"), badRequest("message.data[0].value")),
			push.Failed, InvalidArgument, 0, actionNone},
		{"a field beside the token", 400, failure(400, "INVALID_ARGUMENT", "Invalid value", badRequest("message.token", "message.android.ttl")), push.Failed, InvalidArgument, 0, actionNone},
		{"too big", 400, failure(400, "INVALID_ARGUMENT", "Message is too big", fcmError("INVALID_ARGUMENT")), push.Failed, InvalidArgument, 0, actionNone},
		{"a reserved key", 400, failure(400, "INVALID_ARGUMENT", "Invalid data payload key: from"), push.Failed, InvalidArgument, 0, actionNone},
		{"an unknown name", 400, failure(400, "INVALID_ARGUMENT", `Invalid JSON payload received. Unknown name "x" at 'message'`, badRequest("message")), push.Failed, InvalidArgument, 0, actionNone},

		{"an expired access token", 401, failure(401, "UNAUTHENTICATED", "Request had invalid authentication credentials.", errorInfo("ACCESS_TOKEN_EXPIRED")),
			push.Blocked, Unauthenticated, 0, actionRenew},
		{"another kind of token", 401, failure(401, "UNAUTHENTICATED", "Request had invalid authentication credentials.", errorInfo("ACCESS_TOKEN_TYPE_UNSUPPORTED")),
			push.Blocked, Unauthenticated, 0, actionRenew},
		{"no details", 401, failure(401, "UNAUTHENTICATED", "Request is missing required authentication credential."), push.Blocked, Unauthenticated, 0, actionRenew},
		{"a page with 401", 401, page, push.Blocked, Unauthenticated, 0, actionRenew},
		{"the key of APNs is wrong", 401, failure(401, "UNAUTHENTICATED", "Auth error from APNS or Web Push Service", fcmError("THIRD_PARTY_AUTH_ERROR")),
			push.Blocked, ThirdPartyAuthError, thirdPartyPause, actionNone},

		{"another project's token", 403, failure(403, "PERMISSION_DENIED", "SenderId mismatch", fcmError("SENDER_ID_MISMATCH")), push.Failed, SenderIDMismatch, 0, actionNone},
		{"no permission", 403, failure(403, "PERMISSION_DENIED", "Permission 'cloudmessaging.messages.create' denied on resource '//cloudresourcemanager.googleapis.com/projects/x'",
			errorInfo("IAM_PERMISSION_DENIED")), push.Blocked, PermissionDenied, 0, actionNone},
		{"the API is disabled", 403, failure(403, "PERMISSION_DENIED", "Firebase Cloud Messaging API has not been used in project 1", errorInfo("SERVICE_DISABLED")),
			push.Blocked, ServiceDisabled, 0, actionNone},
		{"the project is suspended", 403, failure(403, "PERMISSION_DENIED", "Consumer has been suspended.", errorInfo("CONSUMER_SUSPENDED")), push.Blocked, ConsumerSuspended, 0, actionNone},
		{"a page with 403", 403, page, push.Blocked, PermissionDenied, 0, actionNone},

		{"unregistered", 404, failure(404, "NOT_FOUND", "Requested entity was not found.", fcmError("UNREGISTERED")), push.Unregistered, Unregistered, 0, actionNone},
		{"no such project", 404, failure(404, "NOT_FOUND", "Requested entity was not found."), push.Blocked, NotFound, 0, actionNone},
		{"no such path", 404, page, push.Blocked, NotFound, 0, actionNone},
		{"nothing with 404", 404, "", push.Blocked, NotFound, 0, actionNone},
		{"unregistered with another status", 400, failure(400, "INVALID_ARGUMENT", "", fcmError("UNREGISTERED")), push.Failed, Unregistered, 0, actionNone},

		{"the project's quota", 429, failure(429, "RESOURCE_EXHAUSTED", "Quota exceeded", fcmError("QUOTA_EXCEEDED"), quotaFailure("project:hedgehog", "Message rate of the project, all devices")),
			push.NotSent, QuotaExceeded, time.Minute, actionNone},
		{"a quota that is not named", 429, failure(429, "RESOURCE_EXHAUSTED", "Quota exceeded", fcmError("QUOTA_EXCEEDED")), push.NotSent, QuotaExceeded, time.Minute, actionNone},
		{"a device's quota", 429, failure(429, "RESOURCE_EXHAUSTED", "Quota exceeded", fcmError("QUOTA_EXCEEDED"), quotaFailure("device:abc", "Device message rate exceeded")),
			push.Retry, DeviceRateExceeded, time.Minute, actionNone},
		{"a device's quota by its description", 429, failure(429, "RESOURCE_EXHAUSTED", "Quota exceeded", quotaFailure("", "Device message rate exceeded")),
			push.Retry, DeviceRateExceeded, time.Minute, actionNone},
		{"a quota without details", 429, failure(429, "RESOURCE_EXHAUSTED", "Quota exceeded"), push.NotSent, QuotaExceeded, time.Minute, actionNone},
		{"a page with 429", 429, page, push.NotSent, QuotaExceeded, time.Minute, actionNone},

		{"an internal error", 500, failure(500, "INTERNAL", "Internal error encountered.", fcmError("INTERNAL")), push.Retry, Internal, retryPause, actionNone},
		{"an internal error without details", 500, failure(500, "INTERNAL", "Internal error encountered."), push.Retry, Internal, retryPause, actionNone},
		{"a page with 500", 500, page, push.Retry, Internal, retryPause, actionNone},
		{"a page with 502", 502, page, push.Retry, Unavailable, retryPause, actionNone},
		{"a page with 504", 504, page, push.Retry, Unavailable, retryPause, actionNone},
		{"unavailable", 503, failure(503, "UNAVAILABLE", "The service is currently unavailable.", fcmError("UNAVAILABLE")), push.Retry, Unavailable, retryPause, actionNone},
		{"unavailable without details", 503, failure(503, "UNAVAILABLE", "The service is currently unavailable."), push.Retry, Unavailable, retryPause, actionNone},
		{"nothing with 503", 503, "", push.Retry, Unavailable, retryPause, actionNone},

		{"unspecified", 400, failure(400, "INVALID_ARGUMENT", "", fcmError("UNSPECIFIED_ERROR")), push.Retry, UnspecifiedError, retryPause, actionNone},
		{"a new code", 404, failure(404, "NOT_FOUND", "", fcmError("HIBERNATED")), push.Retry, UnspecifiedError, retryPause, actionNone},
		{"a new status", 409, failure(409, "ABORTED", ""), push.Retry, UnspecifiedError, retryPause, actionNone},

		{"a page with 200", 200, page, push.Retry, Unrecognized, retryPause, actionNone},
		{"nothing with 200", 200, "", push.Retry, Unrecognized, retryPause, actionNone},
		{"another's JSON with 200", 200, `{"ok": true}`, push.Retry, Unrecognized, retryPause, actionNone},
		{"half a JSON with 200", 200, `{"name": "projects/`, push.Retry, Unrecognized, retryPause, actionNone},
		{"a page with 400", 400, page, push.Retry, Unrecognized, retryPause, actionNone},
		{"a redirect", 302, "", push.Retry, Unrecognized, retryPause, actionNone},
		{"what no one gives", 299, "{", push.Retry, Unrecognized, retryPause, actionNone},
		{"half an answer", 404, failure(404, "NOT_FOUND", "", fcmError("UNREGISTERED"))[:120], push.Blocked, NotFound, 0, actionNone},
		{"garbage beside the code", 404, `{"error": {"code": "x", "status": 5, "details": [1, null, {"@type": 7}, ` + fcmError("UNREGISTERED") + `]}}`, push.Unregistered, Unregistered, 0, actionNone},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r, action, _ := judge(test.status, []byte(test.body), false, 0)
			want := push.Result{Outcome: test.outcome, Reason: test.reason, Status: uint16(test.status), RetryAfter: test.after}
			if r != want || action != test.action {
				t.Errorf("%+v (%s), action %d\nwant %+v (%s), action %d", r, r.Reason, action, want, want.Reason, test.action)
			}
		})
	}
}

// TestVerdictsWait: what FCM says counts, but 10 seconds are the least for what it could not take.
func TestVerdictsWait(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		status int
		code   string
		header time.Duration
		want   time.Duration
	}{
		{429, "QUOTA_EXCEEDED", 30 * time.Second, 30 * time.Second},
		{429, "QUOTA_EXCEEDED", 5 * time.Minute, 5 * time.Minute},
		{503, "UNAVAILABLE", time.Second, 10 * time.Second},
		{503, "UNAVAILABLE", time.Minute, time.Minute},
		{500, "INTERNAL", 0, 10 * time.Second},
	} {
		if r, _, _ := judge(test.status, []byte(failure(test.status, "", "", fcmError(test.code))), false, test.header); r.RetryAfter != test.want {
			t.Errorf("%d with %v: %v, want %v", test.status, test.header, r.RetryAfter, test.want)
		}
	}
}

// TestReasons: the list is whole, each has its text once, and an operator is told what to do about what blocks a route.
func TestReasons(t *testing.T) {
	t.Parallel()
	listed := map[*push.Reason]bool{}
	texts := map[string]bool{}
	for _, r := range Reasons() {
		if texts[r.Text] {
			t.Errorf("%s is there twice", r.Text)
		}
		texts[r.Text], listed[r] = true, true
		if r.Class == push.ClassRoute && r.Remedy == "" {
			t.Errorf("%s has no remedy", r.Text)
		}
	}
	for _, row := range verdictTable {
		if row.reason != nil && !listed[row.reason] {
			t.Errorf("%s is not listed", row.reason)
		}
		if row.outcome == push.Blocked && !row.reason.Is(push.ClassRoute) && row.reason != ThirdPartyAuthError {
			t.Errorf("%s blocks, and not the route", row.reason)
		}
	}
	for _, r := range tokenTable {
		if !listed[r] {
			t.Errorf("%s is not listed", r)
		}
	}
}

func FuzzJudge(f *testing.F) {
	f.Add(404, []byte(failure(404, "NOT_FOUND", "", fcmError("UNREGISTERED"))))
	f.Add(400, []byte(failure(400, "INVALID_ARGUMENT", "", badRequest("message.token"), errorInfo("x"), quotaFailure("a", "b"))))
	f.Add(200, []byte(`{"name": "x"}`))
	f.Add(429, []byte(`{"error": {"details": [{"violations": [null, {"subject": 1}]}]}}`))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		if status < 0 || status > 999 { // the HTTP/2 client takes three digits
			return
		}
		r, _, _ := judge(status, body, false, 0)
		if r.Outcome == push.Unregistered && (status != 404 || !json.Valid(body) || !strings.Contains(string(body), "UNREGISTERED")) {
			t.Errorf("%d %q makes a token dead", status, body)
		}
		if r.Outcome == push.Accepted && status != 200 {
			t.Errorf("%d is accepted", status)
		}
		if r.Outcome == push.Pending || (r.Outcome != push.Accepted) != (r.Reason != nil) {
			t.Errorf("%+v", r)
		}
	})
}

// An answer that broke off says by its status that the message was accepted.
func TestAcceptedInPart(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]push.Outcome{
		"": push.Accepted, "{\n  \"na": push.Accepted, "<html>": push.Retry, "{" + strings.Repeat("x", 2000): push.Retry,
	} {
		if r, _, _ := judge(200, []byte(body), true, 0); r.Outcome != want {
			t.Errorf("%.10q: %v", body, r.Outcome)
		}
	}
}
