package apns

import "github.com/lhspn/lhspn/internal/push"

// The reasons of the HTTP/2 provider API, in Apple's spelling.
var (
	BadCollapseID       = &push.Reason{Text: "BadCollapseId"}
	BadExpirationDate   = &push.Reason{Text: "BadExpirationDate"}
	BadMessageID        = &push.Reason{Text: "BadMessageId"}
	BadPath             = &push.Reason{Text: "BadPath"}
	BadPriority         = &push.Reason{Text: "BadPriority"}
	DuplicateHeaders    = &push.Reason{Text: "DuplicateHeaders"}
	IdleTimeout         = &push.Reason{Text: "IdleTimeout"}
	InternalServerError = &push.Reason{Text: "InternalServerError"}
	InvalidPushType     = &push.Reason{Text: "InvalidPushType"}
	MethodNotAllowed    = &push.Reason{Text: "MethodNotAllowed"}
	MissingDeviceToken  = &push.Reason{Text: "MissingDeviceToken"}
	PayloadEmpty        = &push.Reason{Text: "PayloadEmpty"}
	PayloadTooLarge     = &push.Reason{Text: "PayloadTooLarge"}
	ServiceUnavailable  = &push.Reason{Text: "ServiceUnavailable"}
	Shutdown            = &push.Reason{Text: "Shutdown"}
	// Unrecognized is for an answer that is not APNs' own, as of a proxy, or of which the status alone says nothing.
	Unrecognized = &push.Reason{Text: "UnrecognizedAnswer", Class: push.ClassRoute,
		Remedy: "something other than APNs answers: check gateway, proxy and the network between"}
	UnrelatedKeyIDInToken = &push.Reason{Text: "UnrelatedKeyIdInToken", Class: push.ClassRoute,
		Remedy: "the key is of another team than the one this connection began with: check key_id and team_id"}
	TooManyProviderTokenUpdates = &push.Reason{Text: "TooManyProviderTokenUpdates", Class: push.ClassRoute,
		Remedy: "provider tokens were made too often, by restarts or by another program with the same key: wait"}

	// Of the device token. The first two say "wrong token" as well as "wrong environment or topic".
	BadDeviceToken         = &push.Reason{Text: "BadDeviceToken", Class: push.ClassToken}
	DeviceTokenNotForTopic = &push.Reason{Text: "DeviceTokenNotForTopic", Class: push.ClassToken}
	ExpiredToken           = &push.Reason{Text: "ExpiredToken", Class: push.ClassToken}
	TooManyRequests        = &push.Reason{Text: "TooManyRequests", Class: push.ClassToken}
	Unregistered           = &push.Reason{Text: "Unregistered", Class: push.ClassToken}

	// Of the topic.
	BadTopic = &push.Reason{Text: "BadTopic", Class: push.ClassKey,
		Remedy: "the topic is not a bundle id as APNs expects it: check topic"}
	MissingTopic = &push.Reason{Text: "MissingTopic", Class: push.ClassKey,
		Remedy: "the certificate covers several topics: set topic"}
	TopicDisallowed = &push.Reason{Text: "TopicDisallowed", Class: push.ClassKey,
		Remedy: "these credentials may not send to the topic: check topic, team_id and the certificate"}

	// Of the credentials.
	BadCertificate = &push.Reason{Text: "BadCertificate", Class: push.ClassRoute,
		Remedy: "the certificate is not one that APNs issued or still accepts: check certificate_file"}
	BadCertificateEnvironment = &push.Reason{Text: "BadCertificateEnvironment", Class: push.ClassRoute,
		Remedy: "the certificate is for the other environment: check environment and certificate_file"}
	BadEnvironmentKeyIDInToken = &push.Reason{Text: "BadEnvironmentKeyIdInToken", Class: push.ClassRoute,
		Remedy: "the key is for the other environment: check environment, key_file and key_id"}
	ExpiredProviderToken = &push.Reason{Text: "ExpiredProviderToken", Class: push.ClassRoute,
		Remedy: "APNs calls a new provider token expired: check the machine's clock"}
	Forbidden = &push.Reason{Text: "Forbidden", Class: push.ClassRoute,
		Remedy: "APNs refuses these credentials: check key_file, key_id and team_id, or certificate_file"}
	InvalidProviderToken = &push.Reason{Text: "InvalidProviderToken", Class: push.ClassRoute,
		Remedy: "the provider token is not valid: check key_file, key_id, team_id and the machine's clock"}
	MissingProviderToken = &push.Reason{Text: "MissingProviderToken", Class: push.ClassRoute,
		Remedy: "no credentials were sent: set key_file, key_id and team_id, or certificate_file"}
)

// The reasons of the binary protocol that have no counterpart in the HTTP/2 provider API.
var (
	ProcessingError    = &push.Reason{Text: "ProcessingError"}
	MissingPayload     = &push.Reason{Text: "MissingPayload"}
	InvalidTokenSize   = &push.Reason{Text: "InvalidTokenSize"}
	InvalidTopicSize   = &push.Reason{Text: "InvalidTopicSize"}
	InvalidPayloadSize = &push.Reason{Text: "InvalidPayloadSize"}
	InvalidToken       = &push.Reason{Text: "InvalidToken", Class: push.ClassToken}
	ProtocolError      = &push.Reason{Text: "ProtocolError"}
)

// Reasons lists every reason that Apple gives, to initialise metrics with.
func Reasons() []*push.Reason {
	return []*push.Reason{
		BadCertificate, BadCertificateEnvironment, BadCollapseID, BadDeviceToken, BadEnvironmentKeyIDInToken,
		BadExpirationDate, BadMessageID, BadPath, BadPriority, BadTopic, DeviceTokenNotForTopic, DuplicateHeaders,
		ExpiredProviderToken, ExpiredToken, Forbidden, IdleTimeout, InternalServerError, InvalidProviderToken,
		InvalidPushType, MethodNotAllowed, MissingDeviceToken, MissingProviderToken, MissingTopic, PayloadEmpty,
		PayloadTooLarge, ServiceUnavailable, Shutdown, TooManyProviderTokenUpdates, TooManyRequests,
		TopicDisallowed, Unrecognized, Unregistered, UnrelatedKeyIDInToken,
		ProcessingError, MissingPayload, InvalidTokenSize, InvalidTopicSize, InvalidPayloadSize, InvalidToken, ProtocolError,
	}
}
