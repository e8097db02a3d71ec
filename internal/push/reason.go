package push

// Reason is why a delivery was not accepted. It is a closed enum: the reasons Apple documents for the HTTP/2 API, the
// status codes of the binary protocol, and our own. Its text is what the API and the metrics show.
type Reason uint8

// The reasons. ReasonNone goes with what was accepted.
const (
	ReasonNone Reason = iota

	// HTTP/2 provider API.
	BadCertificate
	BadCertificateEnvironment
	BadCollapseID
	BadDeviceToken
	BadEnvironmentKeyIDInToken
	BadExpirationDate
	BadMessageID
	BadPath
	BadPriority
	BadTopic
	DeviceTokenNotForTopic
	DuplicateHeaders
	ExpiredProviderToken
	ExpiredToken
	Forbidden
	IdleTimeout
	InternalServerError
	InvalidProviderToken
	InvalidPushType
	MethodNotAllowed
	MissingDeviceToken
	MissingProviderToken
	MissingTopic
	PayloadEmpty
	PayloadTooLarge
	ServiceUnavailable
	Shutdown
	TooManyProviderTokenUpdates
	TooManyRequests
	TopicDisallowed
	UnregisteredReason
	UnrelatedKeyIDInToken

	// Binary protocol, where it has no counterpart above.
	ProcessingError
	MissingPayload
	InvalidTokenSize
	InvalidTopicSize
	InvalidPayloadSize
	InvalidToken
	ProtocolError

	// Ours.
	UnknownReason // APNs answered something that is in no table
	ConnectionLost
	NoAnswer
	ExpiredReason
	CancelledReason

	reasonCount
)

var reasonNames = [reasonCount]string{
	ReasonNone:                  "",
	BadCertificate:              "BadCertificate",
	BadCertificateEnvironment:   "BadCertificateEnvironment",
	BadCollapseID:               "BadCollapseId",
	BadDeviceToken:              "BadDeviceToken",
	BadEnvironmentKeyIDInToken:  "BadEnvironmentKeyIdInToken",
	BadExpirationDate:           "BadExpirationDate",
	BadMessageID:                "BadMessageId",
	BadPath:                     "BadPath",
	BadPriority:                 "BadPriority",
	BadTopic:                    "BadTopic",
	DeviceTokenNotForTopic:      "DeviceTokenNotForTopic",
	DuplicateHeaders:            "DuplicateHeaders",
	ExpiredProviderToken:        "ExpiredProviderToken",
	ExpiredToken:                "ExpiredToken",
	Forbidden:                   "Forbidden",
	IdleTimeout:                 "IdleTimeout",
	InternalServerError:         "InternalServerError",
	InvalidProviderToken:        "InvalidProviderToken",
	InvalidPushType:             "InvalidPushType",
	MethodNotAllowed:            "MethodNotAllowed",
	MissingDeviceToken:          "MissingDeviceToken",
	MissingProviderToken:        "MissingProviderToken",
	MissingTopic:                "MissingTopic",
	PayloadEmpty:                "PayloadEmpty",
	PayloadTooLarge:             "PayloadTooLarge",
	ServiceUnavailable:          "ServiceUnavailable",
	Shutdown:                    "Shutdown",
	TooManyProviderTokenUpdates: "TooManyProviderTokenUpdates",
	TooManyRequests:             "TooManyRequests",
	TopicDisallowed:             "TopicDisallowed",
	UnregisteredReason:          "Unregistered",
	UnrelatedKeyIDInToken:       "UnrelatedKeyIdInToken",
	ProcessingError:             "ProcessingError",
	MissingPayload:              "MissingPayload",
	InvalidTokenSize:            "InvalidTokenSize",
	InvalidTopicSize:            "InvalidTopicSize",
	InvalidPayloadSize:          "InvalidPayloadSize",
	InvalidToken:                "InvalidToken",
	ProtocolError:               "ProtocolError",
	UnknownReason:               "Unknown",
	ConnectionLost:              "ConnectionLost",
	NoAnswer:                    "NoAnswer",
	ExpiredReason:               "Expired",
	CancelledReason:             "Cancelled",
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

// BadToken reports whether the reason says "wrong token or wrong environment or topic". Such an answer removes nothing by
// itself: a wrong gateway in the configuration gives it for every token there is.
func (r Reason) BadToken() bool {
	return r == BadDeviceToken || r == DeviceTokenNotForTopic || r == InvalidToken
}
