package simulator

// Reason is why the simulator refuses a notification: those that Apple documents for the HTTP/2 API, and the status
// codes of the binary protocol.
type Reason uint8

// The reasons. ReasonNone goes with what was accepted.
const (
	ReasonNone Reason = iota

	// HTTP/2 provider API.
	ReasonBadCertificate
	ReasonBadCertificateEnvironment
	ReasonBadCollapseID
	ReasonBadDeviceToken
	ReasonBadEnvironmentKeyIDInToken
	ReasonBadExpirationDate
	ReasonBadMessageID
	ReasonBadPath
	ReasonBadPriority
	ReasonBadTopic
	ReasonDeviceTokenNotForTopic
	ReasonDuplicateHeaders
	ReasonExpiredProviderToken
	ReasonExpiredToken
	ReasonForbidden
	ReasonIdleTimeout
	ReasonInternalServerError
	ReasonInvalidProviderToken
	ReasonInvalidPushType
	ReasonMethodNotAllowed
	ReasonMissingDeviceToken
	ReasonMissingProviderToken
	ReasonMissingTopic
	ReasonPayloadEmpty
	ReasonPayloadTooLarge
	ReasonServiceUnavailable
	ReasonShutdown
	ReasonTooManyProviderTokenUpdates
	ReasonTooManyRequests
	ReasonTopicDisallowed
	ReasonUnregistered
	ReasonUnrelatedKeyIDInToken

	// Binary protocol, where it has no counterpart above.
	ReasonProcessingError
	ReasonMissingPayload
	ReasonInvalidTokenSize
	ReasonInvalidTopicSize
	ReasonInvalidPayloadSize
	ReasonInvalidToken
	ReasonProtocolError

	// Ours.
	ReasonUnknown // APNs answered something that is in no table

	reasonCount
)

var reasonNames = [reasonCount]string{
	ReasonNone:                        "",
	ReasonBadCertificate:              "BadCertificate",
	ReasonBadCertificateEnvironment:   "BadCertificateEnvironment",
	ReasonBadCollapseID:               "BadCollapseId",
	ReasonBadDeviceToken:              "BadDeviceToken",
	ReasonBadEnvironmentKeyIDInToken:  "BadEnvironmentKeyIdInToken",
	ReasonBadExpirationDate:           "BadExpirationDate",
	ReasonBadMessageID:                "BadMessageId",
	ReasonBadPath:                     "BadPath",
	ReasonBadPriority:                 "BadPriority",
	ReasonBadTopic:                    "BadTopic",
	ReasonDeviceTokenNotForTopic:      "DeviceTokenNotForTopic",
	ReasonDuplicateHeaders:            "DuplicateHeaders",
	ReasonExpiredProviderToken:        "ExpiredProviderToken",
	ReasonExpiredToken:                "ExpiredToken",
	ReasonForbidden:                   "Forbidden",
	ReasonIdleTimeout:                 "IdleTimeout",
	ReasonInternalServerError:         "InternalServerError",
	ReasonInvalidProviderToken:        "InvalidProviderToken",
	ReasonInvalidPushType:             "InvalidPushType",
	ReasonMethodNotAllowed:            "MethodNotAllowed",
	ReasonMissingDeviceToken:          "MissingDeviceToken",
	ReasonMissingProviderToken:        "MissingProviderToken",
	ReasonMissingTopic:                "MissingTopic",
	ReasonPayloadEmpty:                "PayloadEmpty",
	ReasonPayloadTooLarge:             "PayloadTooLarge",
	ReasonServiceUnavailable:          "ServiceUnavailable",
	ReasonShutdown:                    "Shutdown",
	ReasonTooManyProviderTokenUpdates: "TooManyProviderTokenUpdates",
	ReasonTooManyRequests:             "TooManyRequests",
	ReasonTopicDisallowed:             "TopicDisallowed",
	ReasonUnregistered:                "Unregistered",
	ReasonUnrelatedKeyIDInToken:       "UnrelatedKeyIdInToken",
	ReasonProcessingError:             "ProcessingError",
	ReasonMissingPayload:              "MissingPayload",
	ReasonInvalidTokenSize:            "InvalidTokenSize",
	ReasonInvalidTopicSize:            "InvalidTopicSize",
	ReasonInvalidPayloadSize:          "InvalidPayloadSize",
	ReasonInvalidToken:                "InvalidToken",
	ReasonProtocolError:               "ProtocolError",
	ReasonUnknown:                     "Unknown",
}

// String is Apple's spelling for what Apple documents.
func (r Reason) String() string { return reasonNames[r] }

// Reasons lists every reason but ReasonNone, to initialise metrics with.
func Reasons() []Reason {
	all := make([]Reason, 0, reasonCount-1)
	for r := ReasonNone + 1; r < reasonCount; r++ {
		all = append(all, r)
	}
	return all
}
