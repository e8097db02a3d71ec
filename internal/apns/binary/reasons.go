package binary

import (
	"github.com/lhspn/lhspn/internal/apns"
	"github.com/lhspn/lhspn/internal/apns/frame"
	"github.com/lhspn/lhspn/internal/push"
)

// reasons are all that this transport gives.
var reasons = []*push.Reason{
	apns.ProcessingError, apns.MissingDeviceToken, apns.MissingTopic, apns.MissingPayload, apns.InvalidTokenSize,
	apns.InvalidTopicSize, apns.InvalidPayloadSize, apns.InvalidToken, apns.Shutdown, apns.ProtocolError, push.UnknownReason,
	push.ConnectionLost, push.NoAnswer, push.ExpiredReason,
}

// reasonOf translates a status; any that Apple does not document is like 255.
func reasonOf(s frame.Status) *push.Reason {
	switch s {
	case frame.StatusProcessingError:
		return apns.ProcessingError
	case frame.StatusMissingToken:
		return apns.MissingDeviceToken
	case frame.StatusMissingTopic:
		return apns.MissingTopic
	case frame.StatusMissingPayload:
		return apns.MissingPayload
	case frame.StatusInvalidTokenSize:
		return apns.InvalidTokenSize
	case frame.StatusInvalidTopicSize:
		return apns.InvalidTopicSize
	case frame.StatusInvalidPayloadSize:
		return apns.InvalidPayloadSize
	case frame.StatusInvalidToken:
		return apns.InvalidToken
	case frame.StatusShutdown:
		return apns.Shutdown
	case frame.StatusProtocolError:
		return apns.ProtocolError
	default:
		return push.UnknownReason
	}
}

// The results that need no answer.
var (
	notSent = push.Result{Outcome: push.NotSent, Reason: push.ConnectionLost}
	// brokenOff: it was sent, and may even be the cause of the break. So the next to be tried is to be another, which a
	// lost connection would not ask for.
	brokenOff = push.Result{Outcome: push.NotSent, Reason: push.NoAnswer}
)
