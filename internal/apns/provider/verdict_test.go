package provider

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lhspn/lhspn/internal/apns"
	"github.com/lhspn/lhspn/internal/push"
)

// TestVerdicts states the whole table once more, in words of its own: a row that is changed, dropped or added in only
// one of the two places fails.
func TestVerdicts(t *testing.T) {
	t.Parallel()
	now := time.UnixMilli(1700000000000).UTC()
	dead := time.UnixMilli(1650000000123).UTC()
	var none time.Time
	tests := []struct {
		status int
		body   string
		want   push.Outcome
		reason string
		action action
		at     time.Time
	}{

		{410, `{"reason":"Unregistered","timestamp":1650000000123}`, push.Unregistered, "Unregistered", actionNone, dead},
		{410, `{"reason":"ExpiredToken","timestamp":1650000000123}`, push.Unregistered, "ExpiredToken", actionNone, dead},
		{410, `{"reason":"Unregistered"}`, push.Unregistered, "Unregistered", actionNone, none},
		{410, `{"timestamp":1650000000123}`, push.Unregistered, "Unregistered", actionNone, dead},
		{410, `{"reason":"SomethingNew","timestamp":1650000000123}`, push.Unregistered, "Unregistered", actionNone, dead},
		{410, fmt.Sprintf(`{"reason":"Unregistered","timestamp":%d}`, now.Add(time.Hour).UnixMilli()), push.Unregistered, "Unregistered", actionNone, none}, // a clock that is ahead
		{410, `{"reason":"Unregistered","timestamp":8782345678901234567}`, push.Unregistered, "Unregistered", actionNone, none},
		{410, `{"reason":"Unregistered","timestamp":-1}`, push.Unregistered, "Unregistered", actionNone, none},
		{410, ``, push.Blocked, "UnrecognizedAnswer", actionDoubt, none}, // not APNs': it removes no token
		{410, `<html>Gone</html>`, push.Blocked, "UnrecognizedAnswer", actionDoubt, none},

		{400, `{"reason":"BadDeviceToken"}`, push.Failed, "BadDeviceToken", actionNone, none},
		{400, `{"reason":"DeviceTokenNotForTopic"}`, push.Failed, "DeviceTokenNotForTopic", actionNone, none},
		{400, `{"reason":"BadCollapseId"}`, push.Failed, "BadCollapseId", actionNone, none},
		{400, `{"reason":"BadExpirationDate"}`, push.Failed, "BadExpirationDate", actionNone, none},
		{400, `{"reason":"BadMessageId"}`, push.Failed, "BadMessageId", actionNone, none},
		{400, `{"reason":"BadPriority"}`, push.Failed, "BadPriority", actionNone, none},
		{400, `{"reason":"DuplicateHeaders"}`, push.Failed, "DuplicateHeaders", actionNone, none},
		{400, `{"reason":"InvalidPushType"}`, push.Failed, "InvalidPushType", actionNone, none},
		{400, `{"reason":"MissingDeviceToken"}`, push.Failed, "MissingDeviceToken", actionNone, none},
		{400, `{"reason":"PayloadEmpty"}`, push.Failed, "PayloadEmpty", actionNone, none},
		{404, `{"reason":"BadPath"}`, push.Failed, "BadPath", actionNone, none},
		{405, `{"reason":"MethodNotAllowed"}`, push.Failed, "MethodNotAllowed", actionNone, none},
		{413, `{"reason":"PayloadTooLarge"}`, push.Failed, "PayloadTooLarge", actionNone, none},

		{400, `{"reason":"BadTopic"}`, push.Blocked, "BadTopic", actionNone, none},
		{400, `{"reason":"MissingTopic"}`, push.Blocked, "MissingTopic", actionNone, none},
		{400, `{"reason":"TopicDisallowed"}`, push.Blocked, "TopicDisallowed", actionNone, none},
		{403, `{"reason":"BadCertificate"}`, push.Blocked, "BadCertificate", actionNone, none},
		{403, `{"reason":"BadCertificateEnvironment"}`, push.Blocked, "BadCertificateEnvironment", actionNone, none},
		{403, `{"reason":"BadEnvironmentKeyIdInToken"}`, push.Blocked, "BadEnvironmentKeyIdInToken", actionNone, none},
		{403, `{"reason":"BadEnvironmentKeyInToken"}`, push.Blocked, "BadEnvironmentKeyIdInToken", actionNone, none},
		{403, `{"reason":"Forbidden"}`, push.Blocked, "Forbidden", actionNone, none},
		{403, `{"reason":"InvalidProviderToken"}`, push.Blocked, "InvalidProviderToken", actionNone, none},
		{403, `{"reason":"MissingProviderToken"}`, push.Blocked, "MissingProviderToken", actionNone, none},

		{403, `{"reason":"ExpiredProviderToken"}`, push.Blocked, "ExpiredProviderToken", actionRenewToken, none},
		{403, `{"reason":"UnrelatedKeyIdInToken"}`, push.NotSent, "UnrelatedKeyIdInToken", actionReconnect, none},
		{429, `{"reason":"TooManyProviderTokenUpdates"}`, push.NotSent, "TooManyProviderTokenUpdates", actionReconnect, none},
		{400, `{"reason":"IdleTimeout"}`, push.NotSent, "IdleTimeout", actionReconnect, none},

		{429, `{"reason":"TooManyRequests"}`, push.Retry, "TooManyRequests", actionNone, none},
		{500, `{"reason":"InternalServerError"}`, push.Retry, "InternalServerError", actionNone, none},
		{503, `{"reason":"ServiceUnavailable"}`, push.Retry, "ServiceUnavailable", actionNone, none},
		{503, `{"reason":"Shutdown"}`, push.Retry, "Shutdown", actionNone, none},

		// What is in no table.
		{400, `{"reason":"SomethingNew"}`, push.Failed, "Unknown", actionNone, none},
		{403, `{"reason":"SomethingNew"}`, push.Blocked, "Unknown", actionDoubt, none},
		{403, ``, push.Blocked, "Unknown", actionDoubt, none},
		{400, `<html>`, push.Blocked, "UnrecognizedAnswer", actionDoubt, none},
		{400, ``, push.Blocked, "UnrecognizedAnswer", actionDoubt, none},
		{404, ``, push.Blocked, "UnrecognizedAnswer", actionDoubt, none},
		{429, ``, push.Retry, "TooManyRequests", actionNone, none},
		{500, ``, push.Retry, "Unknown", actionNone, none},
		{503, `{"reason":"SomethingNew"}`, push.Retry, "Unknown", actionNone, none},
		{502, `<html>Bad gateway</html>`, push.Retry, "Unknown", actionNone, none},
		{302, ``, push.Blocked, "UnrecognizedAnswer", actionDoubt, none},
		{204, ``, push.Blocked, "UnrecognizedAnswer", actionDoubt, none},

		// Known reasons with another status than theirs: the class counts, and only a 410 kills a token.
		{403, `{"reason":"TopicDisallowed"}`, push.Blocked, "TopicDisallowed", actionNone, none},
		{400, `{"reason":"Unregistered","timestamp":1650000000123}`, push.Failed, "Unknown", actionNone, none},
		{500, `{"reason":"BadDeviceToken"}`, push.Retry, "Unknown", actionNone, none},
		{503, `{"reason":"Unregistered","timestamp":1650000000123}`, push.Retry, "Unknown", actionNone, none},
	}
	covered := map[string]bool{}
	for _, test := range tests {
		t.Run(fmt.Sprint(test.status, test.body), func(t *testing.T) {
			t.Parallel()
			got, action := readRefusal(test.status, []byte(test.body), now)
			if got.Outcome != test.want || got.Reason.String() != test.reason || action != test.action ||
				int(got.Status) != test.status || !got.Timestamp().Equal(test.at) {
				t.Errorf("%v %v at %v, action %v", got.Outcome, got.Reason, got.Timestamp(), action)
			}
		})
		// Where the status alone would give the same, only this tells that the row is gone.
		if _, ok := verdictByReason[test.reason]; !ok && strings.Contains(test.body, strconv.Quote(test.reason)) {
			t.Errorf("%d %s is tested and not in the table", test.status, test.reason)
		}
		for _, row := range verdictTable {
			key := fmt.Sprintf(`{"reason":%q`, row.text)
			if row.status == test.status && len(test.body) >= len(key) && test.body[:len(key)] == key {
				covered[row.text] = true
			}
		}
	}
	for _, row := range verdictTable {
		if !covered[row.text] {
			t.Errorf("%d %s is in the table and in no test", row.status, row.text)
		}
	}
}

// TestVerdictReasons: every reason of the table is in the list of Apple's, and one that blocks says what to do.
func TestVerdictReasons(t *testing.T) {
	t.Parallel()
	known := apns.Reasons()
	for _, row := range verdictTable {
		if !slices.Contains(known, row.reason) {
			t.Errorf("%s is not in the list", row.reason)
		}
		if row.outcome == push.Blocked && row.reason.Remedy == "" {
			t.Errorf("%s blocks a route or topic, and has no remedy", row.reason)
		}
	}
}

// Only a 410 makes a token dead, and not from a time that is still to come; only a 400 calls one bad.
func FuzzReadRefusal(f *testing.F) {
	f.Add(410, []byte(`{"reason":"Unregistered","timestamp":1650000000123}`))
	f.Add(410, []byte(`{"reason":"ExpiredToken","timestamp":-9223372036854775808}`))
	f.Add(400, []byte(`{"reason":"BadDeviceToken"}`))
	f.Add(500, []byte(`{"reason":["x"],"timestamp":1e400}`))
	now := time.Unix(1_700_000_000, 0)
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		if status < 201 || status > 999 { // another is no refusal, or not of three digits
			return
		}
		r, _ := readRefusal(status, body, now)
		if r.Outcome == push.Pending || r.Outcome == push.Accepted || r.Reason == nil || int(r.Status) != status {
			t.Errorf("%d %q: %+v", status, body, r)
		}
		if r.Outcome == push.Unregistered && status != 410 || r.BadToken() && status/100 != 4 {
			t.Errorf("%d %q speaks against the token: %+v", status, body, r)
		}
		if at := r.Timestamp(); !at.IsZero() && (r.Outcome != push.Unregistered || at.After(now)) {
			t.Errorf("%d %q: dead since %v", status, body, at)
		}
	})
}
