package provider

import (
	"encoding/json"
	"time"

	"github.com/lhspn/lhspn/internal/apns"
	"github.com/lhspn/lhspn/internal/push"
)

// action is what an answer asks of the transport, beside the result it gives its delivery.
type action uint8

const (
	actionNone action = iota
	// actionRenewToken: a new provider token, as far as APNs' limit on them allows, and the delivery is sent once more
	// by the transport itself; the verdict's result holds only when that fails too.
	actionRenewToken
	// actionReconnect: this connection takes no further notification; the next ones go over a new one.
	actionReconnect
	// actionDoubt: whether it is the app's configuration or this one notification only the other answers tell. The
	// verdict's result is for the former; see Transport.doubt.
	actionDoubt
)

// verdict is what one answer of APNs means: for the delivery, and for the connection it came on.
type verdict struct {
	outcome push.Outcome
	reason  *push.Reason
	action  action
}

// verdictRow is one row of the table: the status, the reason in APNs' spelling, and what they mean.
type verdictRow struct {
	status int
	text   string
	verdict
}

// verdictTable is the only place that says what a reason of APNs means. For what is not in it the
// status decides: see verdictOf.
var verdictTable = [...]verdictRow{
	// The notification's own fault: final.
	{400, "BadCollapseId", verdict{push.Failed, apns.BadCollapseID, actionNone}},
	{400, "BadDeviceToken", verdict{push.Failed, apns.BadDeviceToken, actionNone}},
	{400, "BadExpirationDate", verdict{push.Failed, apns.BadExpirationDate, actionNone}},
	{400, "BadMessageId", verdict{push.Failed, apns.BadMessageID, actionNone}},
	{400, "BadPriority", verdict{push.Failed, apns.BadPriority, actionNone}},
	{400, "DeviceTokenNotForTopic", verdict{push.Failed, apns.DeviceTokenNotForTopic, actionNone}},
	{400, "DuplicateHeaders", verdict{push.Failed, apns.DuplicateHeaders, actionNone}},
	{400, "InvalidPushType", verdict{push.Failed, apns.InvalidPushType, actionNone}},
	{400, "MissingDeviceToken", verdict{push.Failed, apns.MissingDeviceToken, actionNone}},
	{400, "PayloadEmpty", verdict{push.Failed, apns.PayloadEmpty, actionNone}},
	{404, "BadPath", verdict{push.Failed, apns.BadPath, actionNone}},
	{405, "MethodNotAllowed", verdict{push.Failed, apns.MethodNotAllowed, actionNone}},
	{413, "PayloadTooLarge", verdict{push.Failed, apns.PayloadTooLarge, actionNone}},

	// The token is dead since the answer's timestamp.
	{410, "Unregistered", verdict{push.Unregistered, apns.Unregistered, actionNone}},
	{410, "ExpiredToken", verdict{push.Unregistered, apns.ExpiredToken, actionNone}},

	// The app's configuration: nothing of this app gets through until it is mended.
	{400, "BadTopic", verdict{push.Blocked, apns.BadTopic, actionNone}},
	{400, "MissingTopic", verdict{push.Blocked, apns.MissingTopic, actionNone}},
	{400, "TopicDisallowed", verdict{push.Blocked, apns.TopicDisallowed, actionNone}},
	{403, "BadCertificate", verdict{push.Blocked, apns.BadCertificate, actionNone}},
	{403, "BadCertificateEnvironment", verdict{push.Blocked, apns.BadCertificateEnvironment, actionNone}},
	{403, "BadEnvironmentKeyIdInToken", verdict{push.Blocked, apns.BadEnvironmentKeyIDInToken, actionNone}},
	// Apple spells it both ways
	{403, "BadEnvironmentKeyInToken", verdict{push.Blocked, apns.BadEnvironmentKeyIDInToken, actionNone}},
	{403, "Forbidden", verdict{push.Blocked, apns.Forbidden, actionNone}},
	{403, "InvalidProviderToken", verdict{push.Blocked, apns.InvalidProviderToken, actionNone}},
	{403, "MissingProviderToken", verdict{push.Blocked, apns.MissingProviderToken, actionNone}},

	// The provider token and the connection it was used on.
	{403, "ExpiredProviderToken", verdict{push.Blocked, apns.ExpiredProviderToken, actionRenewToken}},
	{403, "UnrelatedKeyIdInToken", verdict{push.NotSent, apns.UnrelatedKeyIDInToken, actionReconnect}},
	{429, "TooManyProviderTokenUpdates", verdict{push.NotSent, apns.TooManyProviderTokenUpdates, actionReconnect}},
	{400, "IdleTimeout", verdict{push.NotSent, apns.IdleTimeout, actionReconnect}},

	// Later.
	{429, "TooManyRequests", verdict{push.Retry, apns.TooManyRequests, actionNone}},
	{500, "InternalServerError", verdict{push.Retry, apns.InternalServerError, actionNone}},
	{503, "ServiceUnavailable", verdict{push.Retry, apns.ServiceUnavailable, actionNone}},
	{503, "Shutdown", verdict{push.Retry, apns.Shutdown, actionNone}},
}

var verdictByReason = func() map[string]verdictRow {
	m := make(map[string]verdictRow, len(verdictTable))
	for _, row := range verdictTable {
		m[row.text] = row
	}
	return m
}()

// verdictOf is the verdict on a status with a reason. A reason in the table counts with any status of its class, except
// that only a 410 makes a token dead. With another reason the status decides, for APNs adds some without notice;
// without any it is not APNs that answered.
func verdictOf(status int, reason string) verdict {
	if row, ok := verdictByReason[reason]; ok {
		if row.status == status || row.status/100 == status/100 && row.outcome != push.Unregistered {
			return row.verdict
		}
	}
	switch {
	case status == 429:
		return verdict{push.Retry, apns.TooManyRequests, actionNone}
	case status >= 500:
		return verdict{push.Retry, push.UnknownReason, actionNone} // it can pass
	case status == 403:
		// Every 403 there is so far is about the credentials: a new one must not cost the app its notifications.
		return verdict{push.Blocked, push.UnknownReason, actionDoubt}
	case reason == "" || status < 400:
		// It is not APNs that answers so: a proxy, or another server. That says nothing of the notification or its
		// token.
		return verdict{push.Blocked, apns.Unrecognized, actionDoubt}
	case status == 410:
		return verdict{push.Unregistered, apns.Unregistered, actionNone}
	default:
		return verdict{push.Failed, push.UnknownReason, actionNone}
	}
}

// readRefusal reads the body of an answer that is not a 200. Where that of a 410 gives no timestamp, or one that is
// still to come, the token counts as dead at the moment of the answer: a peer's clock that is ahead, or garbage in its
// place, must not remove what registers until then, and a year of six digits no database keeps.
func readRefusal(status int, body []byte, now time.Time) (push.Result, action) {
	var answer struct {
		Reason    string `json:"reason"`
		Timestamp int64  `json:"timestamp"` // milliseconds
	}
	// A body that does not parse leaves the reason unknown; the status decides then.
	_ = json.Unmarshal(body, &answer)
	if status == 410 && answer.Reason == "" && answer.Timestamp > 0 {
		answer.Reason = apns.Unregistered.Text // nobody else says since when
	}
	v := verdictOf(status, answer.Reason)
	r := push.Result{Outcome: v.outcome, Reason: v.reason, Status: uint16(status)}
	if at := time.UnixMilli(answer.Timestamp); v.outcome == push.Unregistered && answer.Timestamp > 0 && at.Before(now) {
		r.DeadAt = at.UnixMicro() // without one it counts as dead when it was sent to
	}
	return r, v.action
}

// reasons are all that the transport gives.
func reasons() []*push.Reason {
	all := []*push.Reason{
		push.UnknownReason, push.ConnectionLost, push.NoAnswer, push.ExpiredReason, push.CancelledReason,
		apns.Unrecognized, push.CredentialsUnusable,
	}
	for _, row := range verdictTable {
		all = append(all, row.reason)
	}
	return all
}
