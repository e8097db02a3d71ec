package h2

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"

	"golang.org/x/net/http2"
)

// frame handles one frame. Every error it returns ends the connection.
func (c *Conn[T]) frame(ctx context.Context, kind http2.FrameType, flags http2.Flags, id uint32, b []byte) error {
	if c.blockID != 0 && (kind != http2.FrameContinuation || id != c.blockID) {
		return Violation{http2.ErrCodeProtocol, "a header block was interrupted"}
	}
	switch kind {
	case http2.FrameData:
		return c.data(ctx, flags, id, b)
	case http2.FrameHeaders:
		return c.headersFrame(ctx, flags, id, b)
	case http2.FrameContinuation:
		if c.blockID == 0 {
			return Violation{http2.ErrCodeProtocol, "CONTINUATION without HEADERS"}
		}
		if len(c.block)+len(b) > maxHeaderBlock {
			return Violation{http2.ErrCodeEnhanceYourCalm, "header block too large"}
		}
		c.block = append(c.block, b...)
		if !flags.Has(http2.FlagContinuationEndHeaders) {
			return nil
		}
		c.blockID = 0
		return c.headerBlock(ctx, id, c.block, c.blockEnds)
	case http2.FrameSettings:
		return c.settings(flags, id, b)
	case http2.FramePing:
		if id != 0 {
			return Violation{http2.ErrCodeProtocol, "PING on a stream"}
		}
		if len(b) != 8 {
			return Violation{http2.ErrCodeFrameSize, "malformed PING"}
		}
		if !flags.Has(http2.FlagPingAck) {
			c.out = appendFrameHead(c.out, 8, http2.FramePing, http2.FlagPingAck, 0)
			c.out = append(c.out, b...)
		}
		return nil
	case http2.FrameWindowUpdate:
		return c.windowUpdate(id, b)
	case http2.FrameRSTStream:
		return c.resetByClient(id, b)
	case http2.FramePushPromise:
		return Violation{http2.ErrCodeProtocol, "PUSH_PROMISE from a client"}
	case http2.FramePriority:
		return c.priority(id, b)
	case http2.FrameGoAway:
		if id != 0 {
			return Violation{http2.ErrCodeProtocol, "GOAWAY on a stream"}
		}
		return nil // the client closes when it has its answers
	default:
		return nil // unknown frames are to be ignored
	}
}

// unpad strips the padding of DATA and HEADERS.
func unpad(b []byte, padded bool) ([]byte, error) {
	if !padded {
		return b, nil
	}
	if len(b) == 0 || int(b[0]) >= len(b) {
		return nil, Violation{http2.ErrCodeProtocol, "more padding than frame"}
	}
	return b[1 : len(b)-int(b[0])], nil
}

func (c *Conn[T]) headersFrame(ctx context.Context, flags http2.Flags, id uint32, b []byte) error {
	if id%2 == 0 {
		return Violation{http2.ErrCodeProtocol, "HEADERS on a stream that no client may open"}
	}
	b, err := unpad(b, flags.Has(http2.FlagHeadersPadded))
	if err != nil {
		return err
	}
	if flags.Has(http2.FlagHeadersPriority) {
		if len(b) < 5 {
			return Violation{http2.ErrCodeFrameSize, "HEADERS too short for its priority"}
		}
		c.dependent = dependsOn(b) == id
		b = b[5:]
	}
	ends := flags.Has(http2.FlagHeadersEndStream)
	if flags.Has(http2.FlagHeadersEndHeaders) {
		return c.headerBlock(ctx, id, b, ends)
	}
	c.blockID, c.blockEnds = id, ends
	c.block = append(c.block[:0], b...)
	return nil
}

// dependsOn is the stream that the priority in b makes another depend on. Priorities are not followed (RFC 9113,
// 5.3.2), but one that makes no sense is refused.
func dependsOn(b []byte) uint32 { return binary.BigEndian.Uint32(b) & maxWindow }

func (c *Conn[T]) priority(id uint32, b []byte) error {
	code := http2.ErrCodeProtocol
	switch {
	case id == 0:
		return Violation{code, "PRIORITY on the connection"}
	case len(b) != 5:
		code = http2.ErrCodeFrameSize
	case dependsOn(b) != id:
		return nil
	}
	st := c.find(id)
	if st == nil { // there is nothing that could be reset
		return Violation{code, "malformed PRIORITY"}
	}
	c.reset(st, code)
	return nil
}

// headerBlock opens a stream, or ends one with trailers. The block is decoded whatever becomes of the stream, since all
// later ones depend on the table.
func (c *Conn[T]) headerBlock(ctx context.Context, id uint32, block []byte, ends bool) error {
	dependent := c.dependent
	c.dependent = false
	if st := c.find(id); st != nil {
		return c.trailers(ctx, st, block, ends)
	}
	if id <= c.maxID {
		if c.onRefused(id, ends) {
			return c.skipBlock(id, block)
		}
		return Violation{http2.ErrCodeStreamClosed, "HEADERS on a closed stream"}
	}
	if c.current != nil {
		c.streams[c.current.ID] = c.current
	}
	c.maxID = id
	st := c.newStream(id)
	c.current = st
	switch err := c.headers.decode(block); {
	case errors.Is(err, errHeaderTooLong):
		return Violation{http2.ErrCodeEnhanceYourCalm, err.Error()}
	case err != nil:
		return Violation{http2.ErrCodeCompression, err.Error()}
	}
	malformed := st.malformed || dependent || !st.Has(HeaderMethod) || !st.Has(HeaderPath) || !st.Has(HeaderScheme)
	tooMany := uint32(c.open) >= c.limit
	if c.goingAway || tooMany || malformed {
		c.current = nil
		c.free = append(c.free, st)
		if !ends {
			c.refuse(id)
		}
	}
	switch {
	case c.goingAway: // above the last stream of the GOAWAY: not processed, and the client knows it
		return nil
	case tooMany:
		c.service.Refused()
		if c.cfg.EndBeyondStreams {
			return Violation{http2.ErrCodeProtocol, "exceeded_max_concurrent_streams"}
		}
		c.out = appendReset(c.out, id, http2.ErrCodeRefusedStream)
		return nil
	case malformed:
		c.out = appendReset(c.out, id, http2.ErrCodeProtocol)
		return nil
	}
	c.open++
	if ends {
		return c.complete(ctx, st, nil)
	}
	return nil
}

// trailers ends a request that has some.
func (c *Conn[T]) trailers(ctx context.Context, st *Stream[T], block []byte, ends bool) error {
	if st.whole {
		return Violation{http2.ErrCodeStreamClosed, "HEADERS after the end of a request"}
	}
	if !ends {
		return Violation{http2.ErrCodeProtocol, "HEADERS in the middle of a request"}
	}
	if err := c.skipBlock(st.ID, block); err != nil {
		return err
	}
	return c.complete(ctx, st, st.body)
}

// skipBlock decodes a header block into a stream that is thrown away.
func (c *Conn[T]) skipBlock(id uint32, block []byte) error {
	current := c.current
	c.current = c.newStream(id)
	err := c.headers.decode(block)
	c.free = append(c.free, c.current)
	c.current = current
	if err != nil {
		return Violation{http2.ErrCodeCompression, err.Error()}
	}
	return nil
}

func (c *Conn[T]) data(ctx context.Context, flags http2.Flags, id uint32, b []byte) error {
	if c.idle(id) {
		return Violation{http2.ErrCodeProtocol, "DATA on a stream that is not open"}
	}
	// All of the frame counts, its padding and what is for closed streams too.
	size := int64(len(b))
	if c.receiveWindow -= size; c.receiveWindow < 0 {
		return Violation{http2.ErrCodeFlowControl, "the connection's window was overrun"}
	}
	b, err := unpad(b, flags.Has(http2.FlagDataPadded))
	if err != nil {
		return err
	}
	ends := flags.Has(http2.FlagDataEndStream)
	st := c.find(id)
	switch {
	case st == nil && c.onRefused(id, ends):
		return nil // the client did not know yet when it sent this
	case st == nil:
		return Violation{http2.ErrCodeStreamClosed, "DATA on a closed stream"}
	case st.whole:
		c.reset(st, http2.ErrCodeStreamClosed)
		return nil
	}
	if st.receiveWindow -= size; st.receiveWindow < 0 {
		c.reset(st, http2.ErrCodeFlowControl)
		return nil
	}
	if ends {
		if len(st.body) == 0 {
			return c.complete(ctx, st, b)
		}
		c.add(st, b)
		return c.complete(ctx, st, st.body)
	}
	c.add(st, b)
	c.replenishStream(st)
	return nil
}

// replenishStream gives the client its window of a stream back.
func (c *Conn[T]) replenishStream(st *Stream[T]) {
	if window := int64(c.cfg.StreamWindow); st.receiveWindow <= window/2 {
		c.out = appendWindowUpdate(c.out, st.ID, window-st.receiveWindow)
		st.receiveWindow = window
	}
}

// shrinkStreams takes back what streams were allowed that were opened before the client knew our SETTINGS: now it goes
// by them for those, too.
func (c *Conn[T]) shrinkStreams() {
	shrink := func(st *Stream[T]) {
		if st != nil && !st.whole {
			st.receiveWindow -= max(0, defaultWindow-int64(c.cfg.StreamWindow))
			c.replenishStream(st)
		}
	}
	shrink(c.current)
	for _, st := range c.streams {
		shrink(st)
	}
}

// replenish gives the client its connection window back.
func (c *Conn[T]) replenish() {
	if window := int64(c.cfg.ConnectionWindow); c.receiveWindow <= window/2 {
		c.out = appendWindowUpdate(c.out, 0, window-c.receiveWindow)
		c.receiveWindow = window
	}
}

func (c *Conn[T]) settings(flags http2.Flags, id uint32, b []byte) error {
	if id != 0 {
		return Violation{http2.ErrCodeProtocol, "SETTINGS on a stream"}
	}
	if len(b)%settingEntry != 0 || flags.Has(http2.FlagSettingsAck) && len(b) > 0 {
		return Violation{http2.ErrCodeFrameSize, "malformed SETTINGS"}
	}
	if flags.Has(http2.FlagSettingsAck) {
		c.settingsAcked()
		return nil
	}
	for ; len(b) > 0; b = b[settingEntry:] {
		value := binary.BigEndian.Uint32(b[2:])
		switch http2.SettingID(binary.BigEndian.Uint16(b)) {
		case http2.SettingInitialWindowSize:
			if value > maxWindow {
				return Violation{http2.ErrCodeFlowControl, "initial window too large"}
			}
			c.peerWindow = int64(value)
			if c.anyAbove(maxWindow - c.peerWindow) {
				return Violation{http2.ErrCodeFlowControl, "a stream's window too large"}
			}
		case http2.SettingHeaderTableSize:
			// Our header blocks are encoded without a table, but that it has become smaller must be said (RFC 7541,
			// 4.2). As 0 it is said once and for all.
			if value < c.peerTable {
				c.peerTable, c.sizeUpdate = 0, []byte{0x20}
			}
		case http2.SettingEnablePush:
			if value > 1 {
				return Violation{http2.ErrCodeProtocol, "ENABLE_PUSH neither 0 nor 1"}
			}
		case http2.SettingMaxFrameSize: // ours are no larger than the least of it
			if value < maxFrame || value > 1<<24-1 {
				return Violation{http2.ErrCodeProtocol, "MAX_FRAME_SIZE out of range"}
			}
		default: // what the client takes of header lists and streams of ours, and what is not known
		}
	}
	c.out = appendFrameHead(c.out, 0, http2.FrameSettings, http2.FlagSettingsAck, 0)
	c.unblock()
	return nil
}

func (c *Conn[T]) windowUpdate(id uint32, b []byte) error {
	if len(b) != 4 {
		return Violation{http2.ErrCodeFrameSize, "malformed WINDOW_UPDATE"}
	}
	n := int64(binary.BigEndian.Uint32(b) & maxWindow)
	if id == 0 {
		if n == 0 {
			return Violation{http2.ErrCodeProtocol, "WINDOW_UPDATE of nothing"}
		}
		if c.sendWindow += n; c.sendWindow > maxWindow {
			return Violation{http2.ErrCodeFlowControl, "connection window too large"}
		}
		c.unblock()
		return nil
	}
	if c.idle(id) {
		return Violation{http2.ErrCodeProtocol, "WINDOW_UPDATE on a stream that is not open"}
	}
	st := c.find(id)
	if st == nil {
		return nil
	}
	st.extraWindow += n
	switch {
	case n == 0:
		c.reset(st, http2.ErrCodeProtocol)
	case c.peerWindow+st.extraWindow > maxWindow:
		c.reset(st, http2.ErrCodeFlowControl)
	default:
		c.unblock()
	}
	return nil
}

// unblock sends of the answers that wait what the client's windows allow now.
func (c *Conn[T]) unblock() {
	c.blocked = slices.DeleteFunc(c.blocked, func(st *Stream[T]) bool {
		if st.rest = c.sendBody(st, st.rest); len(st.rest) > 0 {
			return false
		}
		c.drop(st)
		return true
	})
}

// anyAbove reports whether WINDOW_UPDATEs have added more than that to an open stream's window.
func (c *Conn[T]) anyAbove(extra int64) bool {
	for _, st := range c.streams {
		if st.extraWindow > extra {
			return true
		}
	}
	return c.current != nil && c.current.extraWindow > extra
}

func (c *Conn[T]) resetByClient(id uint32, b []byte) error {
	if len(b) != 4 {
		return Violation{http2.ErrCodeFrameSize, "malformed RST_STREAM"}
	}
	if c.idle(id) {
		return Violation{http2.ErrCodeProtocol, "RST_STREAM on a stream that was never open"}
	}
	delete(c.refused, id)
	if st := c.find(id); st != nil {
		c.end(st)
	}
	return nil
}
