package http2

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/net/http2"
)

// receive counts a whole frame of DATA against the connection's window: padding and what comes on a closed stream does
// too.
func (c *conn) receive(n int) error {
	if c.received += int64(n); c.received > ourConnWindow {
		return errFlow
	}
	if c.received > ourConnWindow/2 {
		c.control = appendFrameHeader(c.control, 4, http2.FrameWindowUpdate, 0, 0)
		c.control = binary.BigEndian.AppendUint32(c.control, uint32(c.received))
		c.received = 0
	}
	return nil
}

func (c *conn) onReset(id uint32, p []byte) error {
	if len(p) != 4 {
		return errFrameSize
	}
	s, err := c.known(id)
	if err != nil || s == nil {
		return err
	}
	switch code := http2.ErrCode(binary.BigEndian.Uint32(p)); {
	case code == http2.ErrCodeRefusedStream && s.status/100 != 2:
		// Not processed, that much is certain (RFC 9113, 8.7), unless its answer has said otherwise.
		refused, _ := c.take(id)
		refused.ref.tries++
		c.resend = append(c.resend, refused.ref)
	case code == http2.ErrCodeNo && s.status != 0:
		// The answer was complete but for its end.
		k := c.streams.kept[id]
		c.answered(s, k.body, k.fields, false)
	case code == http2.ErrCodeHTTP11Required && s.status == 0:
		refused, _ := c.take(id)
		c.readDone.without(refused.ref, NotHTTP2, c.lastRead)
	default:
		c.abandoned(id, code != http2.ErrCodeEnhanceYourCalm)
	}
	return nil
}

// onSettings follows the peer's SETTINGS, which may come at any moment, and acknowledges them.
func (c *conn) onSettings(flags http2.Flags, p []byte) error {
	if flags.Has(http2.FlagSettingsAck) {
		if len(p) != 0 {
			return errFrameSize
		}
		return nil
	}
	if len(p)%6 != 0 {
		return errFrameSize
	}
	for ; len(p) > 0; p = p[6:] {
		if err := c.onSetting(http2.SettingID(binary.BigEndian.Uint16(p)), binary.BigEndian.Uint32(p[2:])); err != nil {
			return err
		}
	}
	c.control = appendFrameHeader(c.control, 0, http2.FrameSettings, http2.FlagSettingsAck, 0)
	return nil
}

func (c *conn) onSetting(id http2.SettingID, v uint32) error {
	switch id {
	case http2.SettingHeaderTableSize:
		c.head.table.resize(v)
	case http2.SettingEnablePush:
		if v != 0 { // a server has no other value (RFC 9113, 6.5.2)
			return errProtocol
		}
	case http2.SettingMaxConcurrentStreams:
		c.maxStreams = v
	case http2.SettingInitialWindowSize:
		if v > maxWindow {
			return errFlow
		}
		// It changes the windows of open streams too, and may make them negative (RFC 9113, 6.9.2).
		delta := int64(v) - c.initialWindow
		for i := range c.partial {
			if c.partial[i].window += delta; c.partial[i].window > maxWindow {
				return errFlow
			}
		}
		c.initialWindow = int64(v)
	case http2.SettingMaxFrameSize:
		if v < defaultFrame || v > 1<<24-1 {
			return errProtocol
		}
		c.maxFrame = int(v)
	case http2.SettingMaxHeaderListSize:
		c.maxHeaderList = v
	default: // what is not known yet (RFC 9113, 6.5.2)
	}
	return nil
}

func (c *conn) onPing(f frameHeader, p []byte) error {
	if f.stream != 0 {
		return errProtocol
	}
	if len(p) != 8 {
		return errFrameSize
	}
	if !f.flags.Has(http2.FlagPingAck) {
		c.control = appendFrameHeader(c.control, 8, http2.FramePing, http2.FlagPingAck, 0)
		c.control = append(c.control, p...)
	}
	return nil
}

// onPriority checks what is then ignored: priorities are a thing of the past (RFC 9113, 5.3.2 and 6.3).
func (c *conn) onPriority(id uint32, p []byte) error {
	if id == 0 {
		return errProtocol
	}
	if s := c.streams.find(id); s != nil && len(p) != 5 {
		c.resetStream(id, http2.ErrCodeFrameSize)
	}
	return nil
}

func (c *conn) onWindowUpdate(id uint32, p []byte) error {
	if len(p) != 4 {
		return errFrameSize
	}
	n := int64(binary.BigEndian.Uint32(p) & maxID)
	if id == 0 {
		if n == 0 {
			return errProtocol
		}
		if c.sendWindow += n; c.sendWindow > maxWindow {
			return errFlow
		}
		return nil
	}
	s, err := c.known(id)
	if err != nil || s == nil {
		return err
	}
	if n == 0 {
		c.resetStream(id, http2.ErrCodeProtocol)
		return nil
	}
	if c.raise(s, n) > maxWindow {
		c.resetStream(id, http2.ErrCodeFlowControl)
	}
	return nil
}

// mostBody is longer than any body.
const mostBody = 1 << 24

// raise raises a stream's window by n, and returns it. Only a body that waits cares for it. Where the body is written,
// its length is not known any more, and the window returned is too small by up to mostBody; it is 0 where n is no more
// than peers give back for what they have read.
func (c *conn) raise(s *stream, n int64) int64 {
	if !s.partial {
		if n <= mostBody {
			return 0
		}
		c.streams.raised[s.id] += n
		return c.initialWindow + c.streams.raised[s.id] - mostBody
	}
	i := slices.IndexFunc(c.partial, func(p partial) bool { return p.id == s.id })
	c.partial[i].window += n
	return c.partial[i].window
}

// onGoAway retires the connection. What is above the peer's last stream was not processed and is sent again at once;
// the rest is awaited. A first GOAWAY often names the highest identifier there is, and a second one the real one.
func (c *conn) onGoAway(id uint32, p []byte) error {
	if id != 0 {
		return errProtocol
	}
	if len(p) < 8 {
		return errFrameSize
	}
	last, code := binary.BigEndian.Uint32(p)&maxID, http2.ErrCode(binary.BigEndian.Uint32(p[4:]))
	debug := printable(p[8:])
	if !c.goAway {
		c.cl.saidGoAway(debug, code)
	}
	c.goAway = true
	c.retire(fmt.Errorf("GOAWAY %v %s", code, debug))
	for _, id := range c.streams.ids(func(s *stream) bool { return s.id > last && s.status/100 == 2 }) {
		c.heard(id, &c.readDone)
	}
	for _, r := range c.takeAbove(last) {
		r.tries++
		if code != http2.ErrCodeNo {
			r.breaks++
		}
		c.resend = append(c.resend, r)
	}
	return nil
}

// printable is the beginning of what a peer says for a log.
func printable(p []byte) string {
	const most = 128
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '.'
		}
		return r
	}, string(p[:min(len(p), most)]))
}
