package queue

import "github.com/lhspn/lhspn/internal/push"

// Reasons as a platform would declare them.
var (
	reasonBadDeviceToken  = &push.Reason{Text: "BadDeviceToken", Class: push.ClassToken}
	reasonInvalidToken    = &push.Reason{Text: "InvalidToken", Class: push.ClassToken}
	reasonTooManyRequests = &push.Reason{Text: "TooManyRequests", Class: push.ClassToken}
	reasonUnregistered    = &push.Reason{Text: "Unregistered", Class: push.ClassToken}
	reasonPayloadTooLarge = &push.Reason{Text: "PayloadTooLarge"}
)
