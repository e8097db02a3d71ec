package binary

import (
	"maps"
	"slices"

	"github.com/lhspn/lhspn/internal/apns"
	"github.com/lhspn/lhspn/internal/apns/frame"
	"github.com/lhspn/lhspn/internal/push"
)

// ofStatus has what each status says that Apple documents and that is a failure.
var ofStatus = map[frame.Status]*push.Reason{
	frame.StatusProcessingError:    apns.ProcessingError,
	frame.StatusMissingToken:       apns.MissingDeviceToken,
	frame.StatusMissingTopic:       apns.MissingTopic,
	frame.StatusMissingPayload:     apns.MissingPayload,
	frame.StatusInvalidTokenSize:   apns.InvalidTokenSize,
	frame.StatusInvalidTopicSize:   apns.InvalidTopicSize,
	frame.StatusInvalidPayloadSize: apns.InvalidPayloadSize,
	frame.StatusInvalidToken:       apns.InvalidToken,
	frame.StatusShutdown:           apns.Shutdown,
	frame.StatusProtocolError:      apns.ProtocolError,
}

// reasons are all that this transport gives.
var reasons = slices.AppendSeq(
	[]*push.Reason{push.UnknownReason, push.ConnectionLost, push.NoAnswer, push.ExpiredReason}, maps.Values(ofStatus))

// reasonOf translates a status; any that Apple does not document is like 255.
func reasonOf(s frame.Status) *push.Reason {
	if r := ofStatus[s]; r != nil {
		return r
	}
	return push.UnknownReason
}

// The results that need no answer.
var (
	notSent = push.Result{Outcome: push.NotSent, Reason: push.ConnectionLost}
	// brokenOff: it was sent, and may even be the cause of the break. So the next to be tried is to be another, which a
	// lost connection would not ask for.
	brokenOff = push.Result{Outcome: push.NotSent, Reason: push.NoAnswer}
)
