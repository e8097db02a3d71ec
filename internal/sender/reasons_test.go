package sender

import "github.com/lhspn/lhspn/internal/push"

// Reasons as a platform would declare them.
var (
	reasonBadDeviceToken       = &push.Reason{Text: "BadDeviceToken", Class: push.ClassToken}
	reasonInternalServerError  = &push.Reason{Text: "InternalServerError"}
	reasonInvalidProviderToken = &push.Reason{Text: "InvalidProviderToken", Class: push.ClassRoute, Remedy: "check key_id"}
	reasonServiceUnavailable   = &push.Reason{Text: "ServiceUnavailable"}
	reasonTopicDisallowed      = &push.Reason{Text: "TopicDisallowed", Class: push.ClassKey, Remedy: "check topic"}
	reasonUnregistered         = &push.Reason{Text: "Unregistered", Class: push.ClassToken}
)
