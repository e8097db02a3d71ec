package http2

import (
	"encoding/binary"

	"golang.org/x/net/http2"
)

// frameHeader is the header of a frame. x/net's Framer allocates a value for each HEADERS frame it reads, so frames are
// taken apart here, in the read buffer, and Framer is left to where nothing depends on its speed.
type frameHeader struct {
	length int
	typ    http2.FrameType
	flags  http2.Flags
	stream uint32
}

func parseFrameHeader(p []byte) frameHeader {
	return frameHeader{
		length: int(p[0])<<16 | int(p[1])<<8 | int(p[2]),
		typ:    http2.FrameType(p[3]),
		flags:  http2.Flags(p[4]),
		stream: binary.BigEndian.Uint32(p[5:]) & maxID,
	}
}

// appendFrameHeader appends the nine bytes before a frame's payload.
func appendFrameHeader(dst []byte, length int, t http2.FrameType, flags http2.Flags, stream uint32) []byte {
	return append(dst, byte(length>>16), byte(length>>8), byte(length), byte(t), byte(flags),
		byte(stream>>24), byte(stream>>16), byte(stream>>8), byte(stream))
}

func putFrameLength(p []byte, length int) {
	p[0], p[1], p[2] = byte(length>>16), byte(length>>8), byte(length)
}

// unpad removes the padding of a DATA or HEADERS frame.
func unpad(p []byte, padded bool) ([]byte, error) {
	if !padded {
		return p, nil
	}
	if len(p) == 0 || int(p[0]) >= len(p) {
		return nil, errProtocol
	}
	return p[1 : len(p)-int(p[0])], nil
}

// Errors that end the connection, with the code that its GOAWAY has (RFC 9113, 5.4.1).
const (
	errProtocol     = http2.ConnectionError(http2.ErrCodeProtocol)
	errFrameSize    = http2.ConnectionError(http2.ErrCodeFrameSize)
	errFlow         = http2.ConnectionError(http2.ErrCodeFlowControl)
	errCompression  = http2.ConnectionError(http2.ErrCodeCompression)
	errStreamClosed = http2.ConnectionError(http2.ErrCodeStreamClosed)
	errCalm         = http2.ConnectionError(http2.ErrCodeEnhanceYourCalm)
)

// resetStreams remembers the streams that we have reset lately: what the peer had sent on them before it knew is no
// fault.
type resetStreams struct {
	ids  [64]uint32
	next int
	// below: of identifiers up to this one nothing is known any more.
	below uint32
}

func (r *resetStreams) add(id uint32) {
	p := &r.ids[r.next%len(r.ids)]
	r.below = max(r.below, *p)
	*p = id
	r.next++
}

// maybe reports whether the stream may have been reset by us.
func (r *resetStreams) maybe(id uint32) bool {
	if id <= r.below {
		return true
	}
	for _, known := range r.ids {
		if known == id {
			return true
		}
	}
	return false
}
