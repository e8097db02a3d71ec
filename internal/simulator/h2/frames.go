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
		if id != 0 || len(b) != 8 {
			return Violation{http2.ErrCodeProtocol, "malformed PING"}
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
		if id == 0 || len(b) != 5 {
			return Violation{http2.ErrCodeProtocol, "malformed PRIORITY"}
		}
		return nil
	case http2.FrameGoAway:
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

// headerBlock opens a stream, or ends one with trailers. The block is decoded whatever becomes of the stream, since all
// later ones depend on the table.
func (c *Conn[T]) headerBlock(ctx context.Context, id uint32, block []byte, ends bool) error {
	if st := c.find(id); st != nil {
		return c.trailers(ctx, st, block, ends)
	}
	if id <= c.maxID {
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
	switch {
	case c.goingAway:
		// Above the last stream of the GOAWAY: not processed, and the client knows it.
		c.current = nil
		c.free = append(c.free, st)
		return nil
	case uint32(c.open) >= c.limit:
		c.current = nil
		c.free = append(c.free, st)
		c.service.Refused()
		if c.cfg.EndBeyondStreams {
			return Violation{http2.ErrCodeProtocol, "exceeded_max_concurrent_streams"}
		}
		c.out = appendReset(c.out, id, http2.ErrCodeRefusedStream)
		return nil
	}
	if st.malformed || !st.Has(HeaderMethod) || !st.Has(HeaderPath) || !st.Has(HeaderScheme) {
		c.current = nil
		c.free = append(c.free, st)
		c.out = appendReset(c.out, id, http2.ErrCodeProtocol)
		return nil
	}
	c.open++
	if ends {
		return c.complete(ctx, st, nil)
	}
	return nil
}

// trailers ends a request that has some. They are decoded into a stream that is thrown away.
func (c *Conn[T]) trailers(ctx context.Context, st *Stream[T], block []byte, ends bool) error {
	if !ends || st.whole {
		return Violation{http2.ErrCodeProtocol, "HEADERS in the middle of a request"}
	}
	current := c.current
	c.current = c.newStream(st.ID)
	err := c.headers.decode(block)
	c.free = append(c.free, c.current)
	c.current = current
	if err != nil {
		return Violation{http2.ErrCodeCompression, err.Error()}
	}
	return c.complete(ctx, st, st.body)
}

func (c *Conn[T]) data(ctx context.Context, flags http2.Flags, id uint32, b []byte) error {
	if id == 0 || id > c.maxID {
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
	st := c.find(id)
	if st == nil || st.whole {
		return nil // refused, reset or not processed: the client did not know yet when it sent this
	}
	if st.receiveWindow -= size; st.receiveWindow < 0 {
		c.drop(st)
		c.out = appendReset(c.out, id, http2.ErrCodeFlowControl)
		return nil
	}
	if flags.Has(http2.FlagDataEndStream) {
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
	if id != 0 || len(b)%settingEntry != 0 {
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
		case http2.SettingHeaderTableSize:
			// Our header blocks are encoded without a table, but that it has become smaller must be said (RFC 7541,
			// 4.2). As 0 it is said once and for all.
			if value < c.peerTable {
				c.peerTable, c.sizeUpdate = 0, []byte{0x20}
			}
		default: // our frames are small
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
	if n == 0 {
		return Violation{http2.ErrCodeProtocol, "WINDOW_UPDATE of nothing"}
	}
	if id == 0 {
		if c.sendWindow += n; c.sendWindow > maxWindow {
			return Violation{http2.ErrCodeFlowControl, "connection window too large"}
		}
	} else if st := c.find(id); st != nil {
		st.extraWindow += n
	}
	for i := range c.blocked {
		if id != 0 && c.blocked[i].id == id {
			c.blocked[i].extra += n
		}
	}
	c.unblock()
	return nil
}

func (c *Conn[T]) unblock() {
	c.blocked = slices.DeleteFunc(c.blocked, c.sendBody)
}

func (c *Conn[T]) resetByClient(id uint32, b []byte) error {
	if id == 0 || id > c.maxID || len(b) != 4 {
		return Violation{http2.ErrCodeProtocol, "RST_STREAM on a stream that was never open"}
	}
	c.blocked = slices.DeleteFunc(c.blocked, func(d blockedBody) bool { return d.id == id })
	if st := c.find(id); st != nil {
		c.delayed = slices.DeleteFunc(c.delayed, func(d delayedAnswer[T]) bool { return d.stream == st })
		c.drop(st)
	}
	return nil
}
