// Package frame is the codec of Apple's binary provider protocol: the notification frames with command 0, 1 (the
// enhanced format) and 2, the error response, and the tuples of the feedback service. Numbers are big-endian
// throughout.
//
// It turns values into bytes and bytes into values. It does no I/O, starts nothing, keeps no state between two calls,
// and decides nothing about what is sent again or what is a good token; it imports nothing of ours.
package frame

import (
	"encoding/binary"
	"fmt"
)

// The commands, the first byte of every frame.
const (
	Command0     = 0 // the simple format: no identifier, and so no error response
	Command1     = 1 // the enhanced format
	Command2     = 2 // a list of items
	CommandError = 8 // the error response
)

// The items of command 2.
const (
	itemToken      = 1
	itemPayload    = 2
	itemIdentifier = 3
	itemExpiration = 4
	itemPriority   = 5
)

// Sizes in bytes.
const (
	// ErrorResponseSize is the size of an error response.
	ErrorResponseSize = 6
	// MaxToken is the longest device token there is.
	MaxToken = 100
	// MaxPayload is what the length field of a payload can say. What APNs takes is less: see Check.
	MaxPayload = 1<<16 - 1

	command1Fixed = 1 + 4 + 4 + 2 + 2
	itemHead      = 1 + 2
	feedbackHead  = 4 + 2
	// MaxFeedback is the size of the largest feedback tuple that its length field allows.
	MaxFeedback = feedbackHead + 1<<16 - 1
	// maxCommand2 bounds the length a frame of command 2 may claim, so that a reader need not buffer what a hostile
	// number says: every item once, each as long as it may be.
	maxCommand2 = 5*itemHead + MaxToken + MaxPayload + 4 + 4 + 1
)

// Priorities of command 2. Commands 0 and 1 imply PriorityImmediate.
const (
	PriorityImmediate = 10
	PriorityConserve  = 5
)

// ProtocolError says that bytes are no frame. Nothing after them can be understood.
type ProtocolError struct {
	// Identifier is that of the frame where it could be read, else 0.
	Identifier uint32
	// Detail is what was wrong.
	Detail string
}

func (e *ProtocolError) Error() string { return "binary protocol: " + e.Detail }

// A Notification is one decoded frame. Token and Payload point into the bytes it was decoded from.
type Notification struct {
	Command uint8
	// HasIdentifier is false for command 0, and for a command 2 without that item.
	HasIdentifier bool
	Priority      uint8
	Identifier    uint32
	// Expiration is in Unix seconds; 0 means: try once, do not store.
	Expiration uint32
	Token      []byte
	Payload    []byte
}

// AppendCommand0 appends a frame in the simple format. len(token) and len(payload) must fit 16 bits, here and below.
func AppendCommand0[T ~string | ~[]byte](dst []byte, token T, payload []byte) []byte {
	dst = append(dst, Command0, byte(len(token)>>8), byte(len(token)))
	dst = append(dst, token...)
	dst = append(dst, byte(len(payload)>>8), byte(len(payload)))
	return append(dst, payload...)
}

// AppendCommand1 appends a frame in the enhanced format.
func AppendCommand1[T ~string | ~[]byte](dst []byte, identifier, expiration uint32, token T, payload []byte) []byte {
	return append(AppendCommand1Head(dst, identifier, expiration, token, len(payload)), payload...)
}

// AppendCommand1Head appends all of a frame in the enhanced format but its payload, whose payloadLen bytes the caller
// appends next: it may have to assemble them.
func AppendCommand1Head[T ~string | ~[]byte](dst []byte, identifier, expiration uint32, token T,
	payloadLen int) []byte {
	dst = append(dst, Command1,
		byte(identifier>>24), byte(identifier>>16), byte(identifier>>8), byte(identifier),
		byte(expiration>>24), byte(expiration>>16), byte(expiration>>8), byte(expiration),
		byte(len(token)>>8), byte(len(token)))
	dst = append(dst, token...)
	return append(dst, byte(payloadLen>>8), byte(payloadLen))
}

// AppendCommand2 appends a frame with all five items.
func AppendCommand2[T ~string | ~[]byte](dst []byte, identifier, expiration uint32, priority uint8, token T,
	payload []byte) []byte {
	return append(AppendCommand2Head(dst, identifier, expiration, priority, token, len(payload)), payload...)
}

// AppendCommand2Head appends all of a frame with command 2 but its payload, whose payloadLen bytes the caller appends
// next. The identifier comes first, and the token before the payload: a gateway that refuses an item as it reads it has
// then read which notification it is refusing.
func AppendCommand2Head[T ~string | ~[]byte](
	dst []byte, identifier, expiration uint32, priority uint8, token T, payloadLen int,
) []byte {
	size := 5*itemHead + 4 + 4 + 1 + len(token) + payloadLen
	dst = append(dst, Command2, byte(size>>24), byte(size>>16), byte(size>>8), byte(size),
		itemIdentifier, 0, 4, byte(identifier>>24), byte(identifier>>16), byte(identifier>>8), byte(identifier),
		itemExpiration, 0, 4, byte(expiration>>24), byte(expiration>>16), byte(expiration>>8), byte(expiration),
		itemPriority, 0, 1, priority,
		itemToken, byte(len(token)>>8), byte(len(token)))
	dst = append(dst, token...)
	return append(dst, itemPayload, byte(payloadLen>>8), byte(payloadLen))
}

// AppendErrorResponse appends an error response.
func AppendErrorResponse(dst []byte, status Status, identifier uint32) []byte {
	return append(dst, CommandError, byte(status), byte(identifier>>24), byte(identifier>>16), byte(identifier>>8),
		byte(identifier))
}

// AppendFeedback appends a tuple of the feedback service.
func AppendFeedback[T ~string | ~[]byte](dst []byte, unix uint32, token T) []byte {
	dst = append(dst, byte(unix>>24), byte(unix>>16), byte(unix>>8), byte(unix), byte(len(token)>>8), byte(len(token)))
	return append(dst, token...)
}

// Decode reads the frame at the start of b into n and returns its size, 0 where b does not hold all of it yet. The
// error is a *ProtocolError. Lengths are checked as far as they decide where the frame ends; whether token and payload
// are what APNs takes is for Check to say.
func (n *Notification) Decode(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	switch b[0] {
	case Command0:
		*n = Notification{Command: Command0, Priority: PriorityImmediate}
		return n.decodeBody(b, 1)
	case Command1:
		if len(b) < 9 {
			return 0, nil
		}
		*n = Notification{
			Command: Command1, Priority: PriorityImmediate, HasIdentifier: true,
			Identifier: binary.BigEndian.Uint32(b[1:]), Expiration: binary.BigEndian.Uint32(b[5:]),
		}
		return n.decodeBody(b, 9)
	case Command2:
		if len(b) < 5 {
			return 0, nil
		}
		size := binary.BigEndian.Uint32(b[1:])
		if size > maxCommand2 {
			return 0, &ProtocolError{Detail: fmt.Sprintf("a frame of %d bytes", size)}
		}
		if len(b) < 5+int(size) {
			return 0, nil
		}
		*n = Notification{Command: Command2, Priority: PriorityImmediate}
		return 5 + int(size), n.decodeItems(b[5 : 5+int(size) : 5+int(size)])
	default:
		return 0, &ProtocolError{Detail: fmt.Sprintf("command %d", b[0])}
	}
}

// decodeBody reads token and payload, each with its length, which commands 0 and 1 end with.
func (n *Notification) decodeBody(b []byte, at int) (int, error) {
	if len(b) < at+2 {
		return 0, nil
	}
	token := int(binary.BigEndian.Uint16(b[at:]))
	at += 2
	if len(b) < at+token+2 {
		return 0, nil
	}
	n.Token = b[at : at+token : at+token]
	at += token
	payload := int(binary.BigEndian.Uint16(b[at:]))
	at += 2
	if len(b) < at+payload {
		return 0, nil
	}
	n.Payload = b[at : at+payload : at+payload]
	return at + payload, nil
}

// decodeItems reads the items of a whole frame of command 2. The identifier is looked for although an earlier item is
// wrong, so that the error response can name it.
func (n *Notification) decodeItems(b []byte) error {
	var seen [itemPriority + 1]bool
	detail := ""
	fault := func(format string, args ...any) {
		if detail == "" {
			detail = fmt.Sprintf(format, args...)
		}
	}
	for len(b) > 0 {
		if len(b) < itemHead {
			fault("%d bytes after the last item", len(b))
			break
		}
		id, size := b[0], int(binary.BigEndian.Uint16(b[1:]))
		b = b[itemHead:]
		if len(b) < size {
			fault("item %d of %d bytes goes beyond its frame", id, size)
			break
		}
		data := b[:size:size]
		b = b[size:]
		if id < itemToken || id > itemPriority {
			fault("item %d", id)
			continue
		}
		if seen[id] {
			fault("item %d twice", id)
			continue
		}
		seen[id] = true
		switch want := itemSize[id]; {
		case want != 0 && size != want:
			fault("item %d of %d bytes, not %d", id, size, want)
		case id == itemToken:
			n.Token = data
		case id == itemPayload:
			n.Payload = data
		case id == itemIdentifier:
			n.Identifier, n.HasIdentifier = binary.BigEndian.Uint32(data), true
		case id == itemExpiration:
			n.Expiration = binary.BigEndian.Uint32(data)
		case id == itemPriority:
			n.Priority = data[0]
		}
	}
	if detail != "" {
		return &ProtocolError{Identifier: n.Identifier, Detail: detail}
	}
	return nil
}

// itemSize is the size of the items that have a fixed one.
var itemSize = [itemPriority + 1]int{itemIdentifier: 4, itemExpiration: 4, itemPriority: 1}

// Check says what a gateway answers to a notification that it cannot even look up: the status for a token or a payload
// that is missing or of a wrong size, or a priority there is not; StatusNone otherwise.
func (n *Notification) Check(maxPayload int) Status {
	switch {
	case len(n.Token) == 0:
		return StatusMissingToken
	case len(n.Token) > MaxToken:
		return StatusInvalidTokenSize
	case len(n.Payload) == 0:
		return StatusMissingPayload
	case len(n.Payload) > maxPayload:
		return StatusInvalidPayloadSize
	case n.Priority != PriorityImmediate && n.Priority != PriorityConserve:
		return StatusProtocolError
	}
	return StatusNone
}

// An ErrorResponse is what a gateway answers before it closes. Success is silent.
type ErrorResponse struct {
	// Status is as it was received: see Status.Known.
	Status     Status
	Identifier uint32
}

// Decode reads the error response at the start of b and returns its size, 0 where b does not hold all of it yet. The
// error is a *ProtocolError.
func (r *ErrorResponse) Decode(b []byte) (int, error) {
	if len(b) > 0 && b[0] != CommandError {
		return 0, &ProtocolError{Detail: fmt.Sprintf("command %d where an error response should be", b[0])}
	}
	if len(b) < ErrorResponseSize {
		return 0, nil
	}
	r.Status, r.Identifier = Status(b[1]), binary.BigEndian.Uint32(b[2:])
	return ErrorResponseSize, nil
}

// A Feedback is a tuple of the feedback service. Token points into the bytes it was decoded from.
type Feedback struct {
	// Unix is when APNs found the application gone from the device, in seconds.
	Unix  uint32
	Token []byte
}

// Decode reads the tuple at the start of b and returns its size, 0 where b does not hold all of it yet. Any length of
// token is read, one that no token can have too: where the next tuple begins is known all the same.
func (f *Feedback) Decode(b []byte) int {
	if len(b) < feedbackHead {
		return 0
	}
	size := feedbackHead + int(binary.BigEndian.Uint16(b[4:]))
	if len(b) < size {
		return 0
	}
	f.Unix, f.Token = binary.BigEndian.Uint32(b), b[feedbackHead:size:size]
	return size
}
