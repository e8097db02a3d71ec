package frame

import "strconv"

// Status is the status byte of an error response.
type Status uint8

// The statuses Apple documents.
const (
	StatusNone               Status = 0 // no error; seen as an acknowledgement
	StatusProcessingError    Status = 1
	StatusMissingToken       Status = 2
	StatusMissingTopic       Status = 3
	StatusMissingPayload     Status = 4
	StatusInvalidTokenSize   Status = 5
	StatusInvalidTopicSize   Status = 6
	StatusInvalidPayloadSize Status = 7
	StatusInvalidToken       Status = 8
	StatusShutdown           Status = 10
	StatusProtocolError      Status = 128
	StatusUnknown            Status = 255
)

var statusNames = map[Status]string{
	StatusNone:               "no error",
	StatusProcessingError:    "processing error",
	StatusMissingToken:       "missing device token",
	StatusMissingTopic:       "missing topic",
	StatusMissingPayload:     "missing payload",
	StatusInvalidTokenSize:   "invalid token size",
	StatusInvalidTopicSize:   "invalid topic size",
	StatusInvalidPayloadSize: "invalid payload size",
	StatusInvalidToken:       "invalid token",
	StatusShutdown:           "shutdown",
	StatusProtocolError:      "protocol error",
	StatusUnknown:            "unknown",
}

// Statuses lists all of them, to initialise metrics with.
func Statuses() []Status {
	return []Status{
		StatusNone, StatusProcessingError, StatusMissingToken, StatusMissingTopic, StatusMissingPayload,
		StatusInvalidTokenSize,
		StatusInvalidTopicSize, StatusInvalidPayloadSize, StatusInvalidToken, StatusShutdown, StatusProtocolError,
		StatusUnknown,
	}
}

// Known is s where Apple documents it, and StatusUnknown for any other number.
func (s Status) Known() Status {
	if _, ok := statusNames[s]; ok {
		return s
	}
	return StatusUnknown
}

// String is Apple's description.
func (s Status) String() string {
	if name, ok := statusNames[s]; ok {
		return name
	}
	return "status " + strconv.Itoa(int(s))
}
