package webpush

import (
	"net/http"
	"testing"
	"time"

	"github.com/lhspn/lhspn/internal/http2"
	"github.com/lhspn/lhspn/internal/push"
)

// page is Google's answer to a message for a subscription that has ended.
const page = "<HTML>\n<HEAD>\n<TITLE>push subscription has unsubscribed or expired.</TITLE>\n</HEAD>\n<BODY></BODY>\n</HTML>"

func TestVerdicts(t *testing.T) {
	t.Parallel()
	const html, text, mime = "text/html; charset=UTF-8", "text/plain", "application/json"
	for _, test := range []struct {
		service     service
		status      int
		contentType string
		body        string
		outcome     push.Outcome
		reason      *push.Reason
		action      action
	}{
		{serviceMozilla, 201, "", "", push.Accepted, nil, actionNone},
		{serviceMozilla, 202, "", "", push.Accepted, nil, actionNone},
		{serviceOther, 200, text, "ok", push.Accepted, nil, actionNone},
		{serviceOther, 200, html, "<html>Log in to the hotel's network", push.Retry, UnrecognizedAnswer, actionLater},
		{serviceApple, 201, html, "", push.Retry, UnrecognizedAnswer, actionLater},
		{serviceOther, 204, "", "", push.Retry, UnrecognizedAnswer, actionLater},
		{serviceOther, 304, "", "", push.Retry, UnrecognizedAnswer, actionLater},
		{serviceOther, 101, "", "", push.Retry, UnrecognizedAnswer, actionLater},

		{serviceApple, 400, mime, `{"reason":"BadTtl"}`, push.Failed, BadTTL, actionNone},
		{serviceApple, 400, mime, `{"reason":"BadUrgency"}`, push.Failed, BadUrgency, actionNone},
		{serviceApple, 400, mime, `{"reason":"BadWebPushRequest"}`, push.Failed, BadWebPushRequest, actionNone},
		{serviceApple, 400, mime, `{"reason":"BadWebPushTopic"}`, push.Failed, BadWebPushTopic, actionNone},
		{serviceApple, 400, mime, `{"reason":"BadVapidPublicKey"}`, push.Failed, BadVapidPublicKey, actionAuthorization},
		{serviceApple, 400, mime, `{"reason":"BadAuthorizationHeader"}`, push.Failed, BadAuthorizationHeader, actionAuthorization},
		{serviceApple, 400, mime, `{"reason":"IdleTimeout"}`, push.Retry, IdleTimeout, actionNone},
		{serviceApple, 400, mime, `{"reason":"SomethingNew"}`, push.Failed, BadRequest, actionNone},
		{serviceApple, 403, mime, `{"reason":"BadJwtToken"}`, push.Failed, BadJwtToken, actionAuthorization},
		{serviceApple, 403, mime, `{"reason":"VapidPkHashMismatch"}`, push.Failed, VapidPkHashMismatch, actionNone},
		{serviceApple, 404, mime, `{"reason":"BadPath"}`, push.Unregistered, BadPath, actionNone},
		{serviceApple, 405, mime, `{"reason":"MethodNotAllowed"}`, push.Failed, MethodNotAllowed, actionNone},
		{serviceApple, 410, mime, `{"reason":"Unregistered"}`, push.Unregistered, Gone, actionNone},
		{serviceApple, 413, mime, `{"reason":"PayloadTooLarge"}`, push.Failed, PayloadTooLarge, actionNone},
		{serviceApple, 429, mime, `{"reason":"TooManyRequests"}`, push.Retry, TooManyRequests, actionNone},
		{serviceApple, 500, mime, `{"reason":"InternalServerError"}`, push.Retry, InternalServerError, actionLater},
		{serviceApple, 503, mime, `{"reason":"ServiceUnavailable"}`, push.Retry, ServiceUnavailable, actionLater},
		{serviceApple, 503, mime, `{"reason":"Shutdown"}`, push.Retry, Shutdown, actionLater},
		{serviceApple, 410, html, page, push.Retry, UnrecognizedAnswer, actionLater},

		{serviceMozilla, 400, mime, `{"code":400,"errno":111,"error":"Bad Request","message":"Missing TTL"}`, push.Failed, BadRequest, actionNone},
		{serviceMozilla, 401, mime, `{"code":401,"errno":109,"error":"Unauthorized","message":"Invalid authorization"}`, push.Failed, Unauthorized, actionAuthorization},
		{serviceMozilla, 401, mime, `{"code":401,"errno":109,"error":"Unauthorized","message":"VAPID public key mismatch"}`, push.Failed, VapidPkHashMismatch, actionNone},
		{serviceMozilla, 404, mime, `{"code":404,"errno":102,"error":"Not Found"}`, push.Unregistered, NotFound, actionNone},
		{serviceMozilla, 404, html, "<html>nginx", push.Retry, UnrecognizedAnswer, actionLater},
		{serviceMozilla, 410, mime, `{"code":410,"errno":106,"error":"Gone"}`, push.Unregistered, Gone, actionNone},
		{serviceMozilla, 413, mime, `{"code":413,"errno":104}`, push.Failed, PayloadTooLarge, actionNone},
		{serviceMozilla, 502, mime, `{"code":502,"errno":900}`, push.Retry, ServiceUnavailable, actionLater},
		{serviceMozilla, 503, mime, `{"code":503,"errno":201}`, push.Retry, ServiceUnavailable, actionLater},

		{serviceGoogle, 400, html, "<HTML>body too large", push.Failed, BadRequest, actionNone},
		{serviceGoogle, 401, html, "<HTML>authorization missing", push.Failed, Unauthorized, actionAuthorization},
		{serviceGoogle, 403, text, "the VAPID credentials in the authorization header do not correspond to the credentials used to create the subscriptions.\n",
			push.Failed, VapidPkHashMismatch, actionNone},
		{serviceGoogle, 403, html, "<HTML>permission denied: invalid JWT provided", push.Failed, Forbidden, actionAuthorization},
		{serviceGoogle, 404, html, page, push.Unregistered, NotFound, actionNone},
		{serviceGoogle, 410, html, page, push.Unregistered, Gone, actionNone},
		{serviceGoogle, 502, html, "<html>Error 502", push.Retry, ServiceUnavailable, actionLater},
		{serviceGoogle, 504, html, "<html>Error 504", push.Retry, ServiceUnavailable, actionLater},

		{serviceMicrosoft, 406, "", "", push.Retry, TooManyRequests, actionNone},
		{serviceMicrosoft, 410, "", "", push.Unregistered, Gone, actionNone},

		{serviceOther, 302, html, "", push.Failed, Redirected, actionNone},
		{serviceOther, 301, "", "", push.Failed, Redirected, actionNone},
		{serviceOther, 303, "", "", push.Failed, Redirected, actionNone},
		{serviceOther, 307, "", "", push.Failed, Redirected, actionNone},
		{serviceOther, 308, "", "", push.Failed, Redirected, actionNone},
		{serviceOther, 404, html, "<html>", push.Unregistered, NotFound, actionNone},
		{serviceOther, 418, "", "", push.Failed, push.UnknownReason, actionNone},
		{serviceOther, 408, "", "", push.Retry, ServiceUnavailable, actionLater},
		{serviceOther, 421, "", "", push.Retry, ServiceUnavailable, actionLater},
		{serviceOther, 425, "", "", push.Retry, ServiceUnavailable, actionLater},
		{serviceOther, 599, "", "\x00\xff", push.Retry, ServiceUnavailable, actionLater},
		{serviceOther, 403, mime, `{"reason":`, push.Failed, Forbidden, actionAuthorization},
		{serviceOther, 500, mime, `{"reason":"VapidPkHashMismatch"}`, push.Retry, InternalServerError, actionLater},
		{serviceOther, 201, mime, `{"reason":"VapidPkHashMismatch"}`, push.Accepted, nil, actionNone},
	} {
		a := &answer{status: test.status, contentType: []byte(test.contentType), body: []byte(test.body), at: subscribedAt}
		r, act := judge(test.service, a)
		if r.Outcome != test.outcome || r.Reason != test.reason || act != test.action || int(r.Status) != test.status {
			t.Errorf("%s, %d %s: %s %s, action %d, status %d", test.service, test.status, test.body, r.Outcome, r.Reason, act, r.Status)
		}
		if (r.Outcome == push.Unregistered) != r.Timestamp().Equal(subscribedAt.Add(-time.Minute)) {
			t.Errorf("%s, %d: dead since %s", test.service, test.status, r.Timestamp())
		}
	}
}

func TestMicrosoftThrowsAway(t *testing.T) {
	t.Parallel()
	for status, want := range map[string]*push.Reason{"received": nil, "": nil, "dropped": Dropped, "channelThrottled": ChannelThrottled} {
		r, _ := judge(serviceMicrosoft, &answer{status: 201, wnsStatus: []byte(status)})
		if r.Reason != want || (r.Outcome == push.Accepted) != (want == nil) {
			t.Errorf("%q: %s %s", status, r.Outcome, r.Reason)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]time.Duration{
		"":                     0,
		"120":                  2 * time.Minute,
		"0":                    0,
		"9999":                 time.Hour,
		"-1":                   0,
		"1.5":                  0,
		"soon":                 0,
		"99999999999999999999": time.Hour,
		"1 ":                   0,
		subscribedAt.Add(90 * time.Second).Format(http.TimeFormat): 90 * time.Second,
		subscribedAt.Add(-time.Hour).Format(http.TimeFormat):       0,
		subscribedAt.Add(24 * time.Hour).Format(http.TimeFormat):   time.Hour,
		"Thursday, 26-Nov-26 12:00:30 GMT":                         30 * time.Second,
	} {
		r, _ := judge(serviceOther, &answer{status: 429, retryAfter: []byte(value), at: subscribedAt})
		if r.RetryAfter != want {
			t.Errorf("%q: %s, not %s", value, r.RetryAfter, want)
		}
	}
	if r, _ := judge(serviceOther, &answer{status: 410, retryAfter: []byte("120"), at: subscribedAt}); r.RetryAfter != 0 {
		t.Error("what is final waits")
	}
}

func TestReasonsAreListed(t *testing.T) {
	t.Parallel()
	listed := map[*push.Reason]bool{push.UnknownReason: true}
	texts := map[string]bool{}
	for _, r := range Reasons() {
		if listed[r] || texts[r.Text] {
			t.Errorf("%s is listed twice", r)
		}
		listed[r], texts[r.Text] = true, true
	}
	for _, row := range verdictTable {
		if row.reason != nil && !listed[row.reason] {
			t.Errorf("%s is not listed", row.reason)
		}
	}
}

func FuzzJudge(f *testing.F) {
	f.Add(uint8(1), 410, []byte(page), []byte("text/html"), []byte("1"))
	f.Add(uint8(3), 403, []byte(`{"reason":"BadJwtToken"}`), []byte("application/json"), []byte(""))
	f.Fuzz(func(t *testing.T, s uint8, status int, body, contentType, wait []byte) {
		a := &answer{status: status, body: body, contentType: contentType, retryAfter: wait, wnsStatus: contentType, at: subscribedAt}
		r, _ := judge(service(int(s)%len(serviceNames)), a)
		if r.Outcome == push.Pending || r.RetryAfter < 0 || r.RetryAfter > http2.MaxRetryAfter {
			t.Fatalf("%+v", r)
		}
		if r.Outcome == push.Accepted && status/100 != 2 || r.Outcome == push.Unregistered && status != 404 && status != 410 {
			t.Fatalf("%d is %s", status, r.Outcome)
		}
	})
}
