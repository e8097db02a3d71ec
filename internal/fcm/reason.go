package fcm

import "github.com/lhspn/lhspn/internal/push"

// The reasons of FCM, in its spelling: errorCode, status or ErrorInfo.reason of its answers. Where it says one thing of
// two, as INVALID_ARGUMENT of tokens and of messages, the one of the token has the name that the legacy API had for it.
var (
	// Of the device token.
	Unregistered        = &push.Reason{Text: "UNREGISTERED", Class: push.ClassToken}
	InvalidRegistration = &push.Reason{Text: "InvalidRegistration", Class: push.ClassToken,
		Remedy: "FCM does not know such a registration token: is it whole, and of this project?"}
	SenderIDMismatch = &push.Reason{Text: "SENDER_ID_MISMATCH", Class: push.ClassToken,
		Remedy: "the registration token belongs to another Firebase project: check service_account_file and the app's " +
			"google-services.json"}
	DeviceRateExceeded = &push.Reason{Text: "DeviceMessageRateExceeded", Class: push.ClassToken,
		Remedy: "FCM takes 240 messages a minute and 5,000 an hour for one device"}
	ThirdPartyAuthError = &push.Reason{Text: "THIRD_PARTY_AUTH_ERROR", Class: push.ClassToken,
		Remedy: "the project's APNs key or web push certificate is missing or wrong: Firebase console, Project settings, " +
			"Cloud Messaging"}

	// Of the notification, or of nothing in particular.
	InvalidArgument = &push.Reason{Text: "INVALID_ARGUMENT",
		Remedy: "FCM refuses the message: its own words are in the log"}
	Internal         = &push.Reason{Text: "INTERNAL"}
	Unavailable      = &push.Reason{Text: "UNAVAILABLE"}
	UnspecifiedError = &push.Reason{Text: "UNSPECIFIED_ERROR"}
	// Unrecognized is for an answer that is not FCM's own, as of a proxy or of Google's front end.
	Unrecognized = &push.Reason{Text: "UnrecognizedAnswer",
		Remedy: "something other than FCM answers: check gateway, proxy and the network between"}

	// Of the project.
	QuotaExceeded = &push.Reason{Text: "QUOTA_EXCEEDED", Class: push.ClassRoute,
		Remedy: "the project sends more than its quota (600,000 messages a minute): lower max_rate, or have the quota raised"}
	Unauthenticated = &push.Reason{Text: "UNAUTHENTICATED", Class: push.ClassRoute,
		Remedy: "FCM refuses a fresh access token: check the machine's clock, and that service_account_file is of Google " +
			"Cloud"}
	PermissionDenied = &push.Reason{Text: "PERMISSION_DENIED", Class: push.ClassRoute,
		Remedy: "give the service account the role Firebase Cloud Messaging API Admin " +
			"(roles/firebasecloudmessaging.admin) in the project; " +
			"it takes a minute to hold"}
	ServiceDisabled = &push.Reason{Text: "SERVICE_DISABLED", Class: push.ClassRoute,
		Remedy: "enable the Firebase Cloud Messaging API (fcm.googleapis.com) in the project"}
	ConsumerSuspended = &push.Reason{Text: "CONSUMER_SUSPENDED", Class: push.ClassRoute,
		Remedy: "Google has suspended the project: see the Google Cloud console"}
	NotFound = &push.Reason{Text: "NOT_FOUND", Class: push.ClassRoute,
		Remedy: "there is no such project: check project_id and gateway"}
)

// The reasons of the token endpoint, in the spelling of RFC 6749, and what we find there ourselves.
var (
	InvalidGrant = &push.Reason{Text: "invalid_grant", Class: push.ClassRoute,
		Remedy: "Google does not take the service account's signature: check the machine's clock, and that the key and " +
			"the account still exist"}
	InvalidScope = &push.Reason{Text: "invalid_scope", Class: push.ClassRoute,
		Remedy: "the service account may not have access tokens for FCM: check service_account_file"}
	InvalidRequest = &push.Reason{Text: "invalid_request", Class: push.ClassRoute,
		Remedy: "the token endpoint does not understand the request: check token_url"}
	InvalidClient = &push.Reason{Text: "invalid_client", Class: push.ClassRoute,
		Remedy: "Google does not know the service account: check service_account_file"}
	UnauthorizedClient = &push.Reason{Text: "unauthorized_client", Class: push.ClassRoute,
		Remedy: "the service account may not have access tokens: check that it is enabled"}
	TokenRefused = &push.Reason{Text: "AccessTokenRefused", Class: push.ClassRoute,
		Remedy: "the token endpoint gives no access token: its own words are in the log; check service_account_file and " +
			"token_url"}
	TokenUnrecognized = &push.Reason{Text: "UnrecognizedTokenAnswer", Class: push.ClassRoute,
		Remedy: "something other than Google's token endpoint answers: check token_url, proxy and the network between"}
	TokenUnavailable = &push.Reason{Text: "TokenEndpointUnavailable", Class: push.ClassRoute,
		Remedy: "the token endpoint cannot be reached or is overloaded: check token_url, proxy and the network between"}
	// SubjectTokenUnavailable is of workload identity federation: there is nothing to exchange.
	SubjectTokenUnavailable = &push.Reason{Text: "SubjectTokenUnavailable", Class: push.ClassRoute,
		Remedy: "what is to be exchanged for an access token cannot be had: check credential_source in service_account_file"}
)

// Reasons lists every reason that this platform gives, to initialise metrics with and to explain.
func Reasons() []*push.Reason {
	return []*push.Reason{
		Unregistered, InvalidRegistration, SenderIDMismatch, DeviceRateExceeded, ThirdPartyAuthError,
		InvalidArgument, Internal, Unavailable, UnspecifiedError,
		QuotaExceeded, Unauthenticated, PermissionDenied, ServiceDisabled, ConsumerSuspended, NotFound, Unrecognized,
		InvalidGrant, InvalidScope, InvalidRequest, InvalidClient, UnauthorizedClient, TokenRefused, TokenUnrecognized,
		TokenUnavailable,
		SubjectTokenUnavailable,
	}
}
