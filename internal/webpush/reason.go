package webpush

import "github.com/lhspn/lhspn/internal/push"

// The reasons that push services give. Those that have a word for it are Apple's, whose answers alone have one; other
// services' answers get the reason that is nearest
// (https://developer.apple.com/documentation/usernotifications/sending-web-push-notifications-in-web-apps-and-browsers,
// https://mozilla-services.github.io/autopush-rs/errors.html).
var (
	BadAuthorizationHeader = &push.Reason{Text: "BadAuthorizationHeader", Class: push.ClassToken, Remedy: remedyKey}
	BadJwtToken            = &push.Reason{Text: "BadJwtToken", Class: push.ClassToken,
		Remedy: "the push service refuses the VAPID token: check the machine's clock, subject and vapid_key_file"}
	BadPath           = &push.Reason{Text: "BadPath", Class: push.ClassToken}
	BadRequest        = &push.Reason{Text: "BadRequest"}
	BadTTL            = &push.Reason{Text: "BadTtl"}
	BadUrgency        = &push.Reason{Text: "BadUrgency"}
	BadVapidPublicKey = &push.Reason{Text: "BadVapidPublicKey", Class: push.ClassToken, Remedy: remedyKey}
	BadWebPushRequest = &push.Reason{Text: "BadWebPushRequest"}
	BadWebPushTopic   = &push.Reason{Text: "BadWebPushTopic"}
	// Microsoft's word: the device's owner turned notifications off
	Dropped             = &push.Reason{Text: "dropped"}
	ChannelThrottled    = &push.Reason{Text: "channelthrottled"} // and its word for too many to one device
	Forbidden           = &push.Reason{Text: "Forbidden", Class: push.ClassToken, Remedy: remedyKey}
	Gone                = &push.Reason{Text: "Gone", Class: push.ClassToken}
	IdleTimeout         = &push.Reason{Text: "IdleTimeout", Class: push.ClassToken}
	InternalServerError = &push.Reason{Text: "InternalServerError", Class: push.ClassToken}
	MethodNotAllowed    = &push.Reason{Text: "MethodNotAllowed"}
	NotFound            = &push.Reason{Text: "NotFound", Class: push.ClassToken}
	PayloadTooLarge     = &push.Reason{Text: "PayloadTooLarge"}
	Redirected          = &push.Reason{Text: "Redirected"} // never followed: it could lead to an inner network
	ServiceUnavailable  = &push.Reason{Text: "ServiceUnavailable", Class: push.ClassToken}
	Shutdown            = &push.Reason{Text: "Shutdown", Class: push.ClassToken}
	TooManyRequests     = &push.Reason{Text: "TooManyRequests", Class: push.ClassToken}
	Unauthorized        = &push.Reason{Text: "Unauthorized", Class: push.ClassToken, Remedy: remedyKey}
	UnrecognizedAnswer  = &push.Reason{Text: "UnrecognizedAnswer", Class: push.ClassToken,
		Remedy: "something other than a push service answers: check the network between, and allowed_origins"}
	// VapidPkHashMismatch: the service says that the subscription was made with another VAPID key. Of one subscription
	// that is its own fault; of all of them it is the wrong key that is configured.
	VapidPkHashMismatch = &push.Reason{Text: "VapidPkHashMismatch", Class: push.ClassToken, Remedy: remedyOtherKey}
)

// The reasons that are ours: what is found before anything is sent, or without an answer.
var (
	// VapidKeyChanged is VapidPkHashMismatch as we know it ourselves. Nothing is sent, and it counts against no device
	// token: perhaps the key is the wrong one, and comes back.
	VapidKeyChanged = &push.Reason{Text: "VapidKeyChanged", Class: push.ClassKey, Remedy: remedyOtherKey}
	// NotRegistered: what a subscription is, beside its device token, only its registration says.
	NotRegistered = &push.Reason{Text: "NotRegistered",
		Remedy: "no such subscription is registered: what its endpoint and keys are, only its registration says"}
	BadSubscription = &push.Reason{Text: "BadSubscription"} // what is registered cannot be read, or its key is none
	// OriginNotAllowed: it was allowed when the subscription was registered.
	OriginNotAllowed = &push.Reason{Text: "OriginNotAllowed", Class: push.ClassKey,
		Remedy: "the subscription's origin is no known push service: name it in allowed_origins"}
	InnerAddress = &push.Reason{Text: "InnerAddress", Class: push.ClassToken,
		Remedy: "the push service's name leads to an inner network: name its origin in allowed_origins if that is meant"}
	OriginUnreachable = &push.Reason{Text: "OriginUnreachable", Class: push.ClassToken,
		Remedy: "the push service cannot be reached: check name resolution, firewall and its certificate"}
	OriginSilent = &push.Reason{Text: "OriginSilent", Class: push.ClassToken,
		Remedy: "the push service does not answer in time"}
	OriginBusy = &push.Reason{Text: "OriginBusy", Class: push.ClassToken,
		Remedy: "more waits for this push service than it takes"}
	// CredentialsUnusable: there is nothing to sign with.
	CredentialsUnusable = &push.Reason{Text: "CredentialsUnusable", Class: push.ClassRoute,
		Remedy: "the VAPID key cannot be used: see the log, or run server check"}
)

const (
	remedyKey      = "the push service refuses the VAPID key: check vapid_key_file and subject"
	remedyOtherKey = "the subscription was made with another VAPID key: put that one back into vapid_key_file, or have " +
		"browsers subscribe anew"
)

// Reasons lists every reason that the transport gives beside push's own, to initialise metrics with.
func Reasons() []*push.Reason {
	return []*push.Reason{
		BadAuthorizationHeader, BadJwtToken, BadPath, BadRequest, BadTTL, BadUrgency, BadVapidPublicKey, BadWebPushRequest,
		BadWebPushTopic, Dropped, ChannelThrottled, Forbidden, Gone, IdleTimeout, InternalServerError, MethodNotAllowed,
		NotFound,
		PayloadTooLarge, Redirected, ServiceUnavailable, Shutdown, TooManyRequests, Unauthorized, UnrecognizedAnswer,
		VapidPkHashMismatch,
		VapidKeyChanged, NotRegistered, BadSubscription, OriginNotAllowed, InnerAddress, OriginUnreachable, OriginSilent,
		OriginBusy,
		CredentialsUnusable,
	}
}
