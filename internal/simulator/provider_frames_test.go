package simulator

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/lhspn/lhspn/internal/push"
)

func TestProviderFrames(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Provider: "127.0.0.1:0"})
	c := newRawClient(t, s, true)
	c.expect("settings: 1000 streams", connectionUpdate, "settings ack")
	c.must(c.framer.WritePing(false, [8]byte{'p', 'i', 'n', 'g', 'p', 'o', 'n', 'g'}))
	c.expect("ping ack true pingpong")
	c.must(c.framer.WritePriority(3, http2.PriorityParam{Weight: 1}))
	c.must(c.framer.WriteRawFrame(0xbe, 0, 0, []byte("unknown")))
	// A header block in many pieces, with padding and priority; a payload in padded pieces; trailers.
	block := c.headerBlock(plainToken(1), "x-unknown", "value")
	c.must(c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: block[:10], PadLength: 7, Priority: http2.PriorityParam{StreamDep: 1, Weight: 2}}))
	c.must(c.framer.WriteContinuation(3, false, block[10:20]))
	c.must(c.framer.WriteContinuation(3, true, block[20:]))
	c.must(c.framer.WriteDataPadded(3, false, []byte(hello[:5]), make([]byte, 9)))
	c.must(c.framer.WriteData(3, false, []byte(hello[5:])))
	c.buf.Reset()
	c.must(c.enc.WriteField(hpack.HeaderField{Name: "x-trailer", Value: "t"}))
	c.must(c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: bytes.Clone(c.buf.Bytes()), EndHeaders: true, EndStream: true}))
	c.expect("3: status 200")
	if got := s.Received(plainToken(1)); len(got) != 1 || got[0].Payload != hello {
		t.Errorf("received: %+v", got)
	}
}

// TestProviderSaysThatItsHeaderTableIsSmaller: nghttp2 ends the connection where the next block does not begin with
// that.
func TestProviderSaysThatItsHeaderTableIsSmaller(t *testing.T) {
	t.Parallel()
	for name, token := range map[string]push.Token{"accepted": plainToken(1), "refused": MagicToken(Fault(0x0201), 1)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, Config{Provider: "127.0.0.1:0"})
			c := newRawClient(t, s, true)
			c.expect("settings: 1000 streams", connectionUpdate, "settings ack")
			c.framer.ReadMetaHeaders = nil
			updates := func(id uint32) (n int) {
				c.request(id, token)
				f, err := c.framer.ReadFrame()
				c.must(err)
				for _, b := range f.(*http2.HeadersFrame).HeaderBlockFragment() {
					if b != 0x20 {
						break
					}
					n++
				}
				if !f.(*http2.HeadersFrame).StreamEnded() {
					c.next()
				}
				return n
			}
			if n := updates(1); n != 0 {
				t.Errorf("%d updates before any SETTINGS that ask for one", n)
			}
			for _, size := range []uint32{100, 4096, 0} { // of two before one block, too
				c.must(c.framer.WriteSettings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: size}))
				c.expect("settings ack")
			}
			if n := updates(3); n != 1 {
				t.Errorf("%d updates after the table has become smaller", n)
			}
			if n := updates(5); n != 0 {
				t.Errorf("%d updates once it was said", n)
			}
		})
	}
}

func TestProviderEndsAConnectionThatViolatesTheProtocol(t *testing.T) {
	t.Parallel()
	headers := func(c *rawClient, id uint32) {
		c.must(c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: c.headerBlock(plainToken(1)), EndHeaders: true}))
	}
	raw := func(c *rawClient, kind http2.FrameType, id uint32, length int) {
		c.must(c.framer.WriteRawFrame(kind, 0, id, make([]byte, length)))
	}
	setting := func(c *rawClient, id http2.SettingID, value uint32) {
		c.must(c.framer.WriteSettings(http2.Setting{ID: id, Val: value}))
	}
	for name, tt := range map[string]struct {
		send func(c *rawClient)
		want string
	}{
		"even stream":              {func(c *rawClient) { headers(c, 2) }, "goaway 0 PROTOCOL_ERROR HEADERS on a stream that no client may open"},
		"stream reused":            {func(c *rawClient) { c.request(3, plainToken(1)); c.expect("3: status 200"); headers(c, 1) }, "goaway 3 STREAM_CLOSED HEADERS on a closed stream"},
		"idle stream":              {func(c *rawClient) { c.must(c.framer.WriteData(9, true, nil)) }, "goaway 0 PROTOCOL_ERROR DATA on a stream that is not open"},
		"window of an idle stream": {func(c *rawClient) { c.must(c.framer.WriteWindowUpdate(9, 1)) }, "goaway 0 PROTOCOL_ERROR WINDOW_UPDATE on a stream that is not open"},
		"window of a server's stream": {func(c *rawClient) {
			headers(c, 3)
			c.must(c.framer.WriteWindowUpdate(2, 1))
		}, "goaway 3 PROTOCOL_ERROR WINDOW_UPDATE on a stream that is not open"},
		"data after the end": {func(c *rawClient) {
			c.request(1, plainToken(1))
			c.expect("1: status 200")
			c.must(c.framer.WriteData(1, true, nil))
		}, "goaway 1 STREAM_CLOSED DATA on a closed stream"},
		"data after the client's reset": {func(c *rawClient) {
			headers(c, 1)
			c.must(c.framer.WriteRSTStream(1, 0))
			c.must(c.framer.WriteData(1, true, nil))
		}, "goaway 1 STREAM_CLOSED DATA on a closed stream"},
		"goaway on a stream":     {func(c *rawClient) { raw(c, http2.FrameGoAway, 1, 8) }, "goaway 0 PROTOCOL_ERROR GOAWAY on a stream"},
		"ping on a stream":       {func(c *rawClient) { raw(c, http2.FramePing, 1, 8) }, "goaway 0 PROTOCOL_ERROR PING on a stream"},
		"ping of seven bytes":    {func(c *rawClient) { raw(c, http2.FramePing, 0, 7) }, "goaway 0 FRAME_SIZE_ERROR malformed PING"},
		"settings on a stream":   {func(c *rawClient) { raw(c, http2.FrameSettings, 1, 0) }, "goaway 0 PROTOCOL_ERROR SETTINGS on a stream"},
		"settings of five bytes": {func(c *rawClient) { raw(c, http2.FrameSettings, 0, 5) }, "goaway 0 FRAME_SIZE_ERROR malformed SETTINGS"},
		"settings acknowledged with a value": {func(c *rawClient) {
			c.must(c.framer.WriteRawFrame(http2.FrameSettings, http2.FlagSettingsAck, 0, make([]byte, 6)))
		}, "goaway 0 FRAME_SIZE_ERROR malformed SETTINGS"},
		"push neither on nor off": {func(c *rawClient) { setting(c, http2.SettingEnablePush, 2) }, "goaway 0 PROTOCOL_ERROR ENABLE_PUSH neither 0 nor 1"},
		"frames too small":        {func(c *rawClient) { setting(c, http2.SettingMaxFrameSize, 1<<14-1) }, "goaway 0 PROTOCOL_ERROR MAX_FRAME_SIZE out of range"},
		"frames too large":        {func(c *rawClient) { setting(c, http2.SettingMaxFrameSize, 1<<24) }, "goaway 0 PROTOCOL_ERROR MAX_FRAME_SIZE out of range"},
		"a stream's window by SETTINGS": {func(c *rawClient) {
			headers(c, 1)
			c.must(c.framer.WriteWindowUpdate(1, 1<<30))
			setting(c, http2.SettingInitialWindowSize, 1<<30)
		}, "goaway 1 FLOW_CONTROL_ERROR a stream's window too large"},
		"priority of an idle stream on itself": {func(c *rawClient) {
			c.must(c.framer.WritePriority(3, http2.PriorityParam{StreamDep: 3}))
		}, "goaway 0 PROTOCOL_ERROR malformed PRIORITY"},
		"reset of three bytes": {func(c *rawClient) {
			headers(c, 1)
			raw(c, http2.FrameRSTStream, 1, 3)
		}, "goaway 1 FRAME_SIZE_ERROR malformed RST_STREAM"},
		"a stream's window of nothing": {func(c *rawClient) {
			headers(c, 1)
			raw(c, http2.FrameWindowUpdate, 1, 4)
		}, "1: reset PROTOCOL_ERROR"},
		"a stream's window overflow": {func(c *rawClient) {
			headers(c, 1)
			c.must(c.framer.WriteWindowUpdate(1, 1<<31-1))
		}, "1: reset FLOW_CONTROL_ERROR"},
		"priority on itself": {func(c *rawClient) {
			headers(c, 1)
			c.must(c.framer.WritePriority(1, http2.PriorityParam{StreamDep: 1}))
		}, "1: reset PROTOCOL_ERROR"},
		"priority of four bytes": {func(c *rawClient) {
			headers(c, 1)
			raw(c, http2.FramePriority, 1, 4)
		}, "1: reset FRAME_SIZE_ERROR"},
		"opened with a priority on itself": {func(c *rawClient) {
			c.must(c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.headerBlock(plainToken(1)), EndHeaders: true, Priority: http2.PriorityParam{StreamDep: 1}}))
		}, "1: reset PROTOCOL_ERROR"},
		"no path": {func(c *rawClient) {
			c.buf.Reset()
			for _, field := range [][2]string{{":method", "POST"}, {":scheme", "https"}, {":path", ""}} {
				c.must(c.enc.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]}))
			}
			c.must(c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: bytes.Clone(c.buf.Bytes()), EndHeaders: true}))
		}, "1: reset PROTOCOL_ERROR"},
		"reset of an idle": {func(c *rawClient) { c.must(c.framer.WriteRSTStream(9, 0)) }, "goaway 0 PROTOCOL_ERROR RST_STREAM on a stream that was never open"},
		"interrupted": {func(c *rawClient) {
			c.must(c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1}))
			c.must(c.framer.WritePing(false, [8]byte{}))
		}, "goaway 0 PROTOCOL_ERROR a header block was interrupted"},
		"lone continuation": {func(c *rawClient) { c.must(c.framer.WriteContinuation(1, true, nil)) }, "goaway 0 PROTOCOL_ERROR CONTINUATION without HEADERS"},
		"bad HPACK": {func(c *rawClient) {
			c.must(c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0xff, 0xff}, EndHeaders: true}))
		}, "goaway 1 COMPRESSION_ERROR HPACK: malformed header block"},
		"frame too large":   {func(c *rawClient) { c.write([]byte{1, 0, 0, 0, 0, 0, 0, 0, 1}) }, "goaway 0 FRAME_SIZE_ERROR frame too large"},
		"push":              {func(c *rawClient) { c.must(c.framer.WriteRawFrame(http2.FramePushPromise, 0, 1, nil)) }, "goaway 0 PROTOCOL_ERROR PUSH_PROMISE from a client"},
		"window of nothing": {func(c *rawClient) { c.must(c.framer.WriteRawFrame(http2.FrameWindowUpdate, 0, 0, make([]byte, 4))) }, "goaway 0 PROTOCOL_ERROR WINDOW_UPDATE of nothing"},
		"window overflow":   {func(c *rawClient) { c.must(c.framer.WriteWindowUpdate(0, 1<<31-1)) }, "goaway 0 FLOW_CONTROL_ERROR connection window too large"},
		"padding": {func(c *rawClient) {
			c.must(c.framer.WriteRawFrame(http2.FrameHeaders, http2.FlagHeadersPadded, 1, []byte{9}))
		}, "goaway 0 PROTOCOL_ERROR more padding than frame"},
		"header bomb":        {func(c *rawClient) { headerBomb(c) }, "goaway 1 ENHANCE_YOUR_CALM HPACK: header list too large"},
		"continuation flood": {func(c *rawClient) { continuationFlood(c) }, "goaway 0 ENHANCE_YOUR_CALM header block too large"},
		"window overrun":     {func(c *rawClient) { overrun(c) }, "1: reset FLOW_CONTROL_ERROR"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, Config{Provider: "127.0.0.1:0", StreamWindow: 100})
			c := newRawClient(t, s, true)
			c.framer.AllowIllegalWrites = true
			c.expect("settings: 1000 streams", connectionUpdate, "settings ack")
			tt.send(c)
			c.expect(tt.want)
			if !strings.HasPrefix(tt.want, "1: reset") {
				c.expect("error: EOF")
			}
		})
	}
}

func TestProviderEnforcesItsConnectionWindow(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Provider: "127.0.0.1:0", StreamWindow: 1 << 20, ConnectionWindow: 100})
	c := newRawClient(t, s, true)
	c.expect("settings: 1000 streams", "settings ack")
	c.must(c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.headerBlock(plainToken(1)), EndHeaders: true}))
	// A connection begins with 65,535 bytes, whatever the server wishes for.
	for range 4 {
		c.must(c.framer.WriteData(1, false, make([]byte, 16000)))
	}
	c.must(c.framer.WriteData(1, false, make([]byte, 1536)))
	c.expect("goaway 1 FLOW_CONTROL_ERROR the connection's window was overrun")
}

// A client that sends before it has read our SETTINGS finds its window smaller once it has: it waits for an update
// then.
func TestProviderShrinksTheWindowOfEarlyStreams(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Provider: "127.0.0.1:0", StreamWindow: 10})
	c := newRawClient(t, s, true)
	c.silent = true
	c.must(c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.headerBlock(plainToken(1)), EndHeaders: true}))
	c.must(c.framer.WriteData(1, false, []byte(hello[:10])))
	c.expect("settings: 1000 streams", connectionUpdate, "settings ack")
	c.must(c.framer.WriteSettingsAck())
	c.expect("1: window 10")
	c.must(c.framer.WriteData(1, false, []byte(hello[10:20])))
	c.expect("1: window 10")
	c.must(c.framer.WriteData(1, true, []byte(hello[20:])))
	c.expect("1: status 200")
}

// headerBomb refers a thousand times to one large entry of the table.
func headerBomb(c *rawClient) {
	c.buf.Reset()
	c.must(c.enc.WriteField(hpack.HeaderField{Name: "x", Value: strings.Repeat("v", 3000)}))
	block := append(bytes.Clone(c.buf.Bytes()), bytes.Repeat([]byte{0x80 | 62}, 1000)...)
	c.must(c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block, EndHeaders: true}))
}

func continuationFlood(c *rawClient) {
	c.must(c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: make([]byte, 16000)}))
	c.must(c.framer.WriteContinuation(1, false, make([]byte, 16000)))
	c.must(c.framer.WriteContinuation(1, false, make([]byte, 16000)))
}

func overrun(c *rawClient) {
	// A request and its answer first, so that our SETTINGS are surely known to be in force.
	c.must(c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.headerBlock(plainToken(1)), EndHeaders: true}))
	c.must(c.framer.WriteData(1, false, make([]byte, 101)))
}

func TestProviderConnectionFaults(t *testing.T) {
	t.Parallel()
	for fault, check := range map[Fault]func(error) bool{DropOnce: func(err error) bool { return errors.Is(err, io.EOF) }, ResetOnce: isReset} {
		s := start(t, Config{Provider: "127.0.0.1:0"})
		c := newRawClient(t, s, true)
		c.expect("settings: 1000 streams", connectionUpdate, "settings ack")
		c.request(1, MagicToken(fault, 1))
		if _, err := c.framer.ReadFrame(); !check(err) {
			t.Errorf("%#x: %v", fault, err)
		}
		if got := s.Totals(); got.Received != 1 || got.Accepted != 0 {
			t.Errorf("%#x: totals %+v", fault, got)
		}
		if got, _ := post(t, httpClient(t, s, true), s, MagicToken(fault, 1), nil); got.Status != 200 {
			t.Errorf("%#x, second time: %+v", fault, got)
		}
	}
}

// FuzzProviderInput: whatever follows the preface, the connection neither panics nor hangs.
func FuzzProviderInput(f *testing.F) {
	first, rest := requestsFor(3, "bearer x")
	f.Add(append(first, rest...))
	f.Add([]byte{0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0})
	f.Add([]byte{0, 0, 1, 1, 8, 0, 0, 0, 1, 9})
	f.Fuzz(func(t *testing.T, b []byte) {
		c, _ := benchConn(t, RecordAll)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		for len(b) >= 9 {
			length := min(int(b[0])<<16|int(b[1])<<8|int(b[2]), len(b)-9)
			b[0], b[1], b[2] = byte(length>>16), byte(length>>8), byte(length)
			if _, done, err := c.http.Feed(ctx, b[:9+length]); err != nil || done {
				break
			}
			b = b[9+length:]
			if err := c.http.Check(); err != nil {
				t.Fatal(err)
			}
		}
		cancel()
		c.http.Wait()
	})
}

// What breaks HTTP/2's rules for fields ends its stream, whatever else it says.
func TestProviderRefusesMalformedFields(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Provider: "127.0.0.1:0"})
	for name, more := range map[string][]string{
		"capital letters":          {"X-Test", "1"},
		"connection":               {"connection", "close"},
		"te":                       {"te", "gzip"},
		"transfer-encoding":        {"transfer-encoding", "chunked"},
		"late pseudo-header":       {":scheme", "https"},
		"unknown pseudo-header":    {":proto", "x"},
		"content-length too long":  {"content-length", "7"},
		"content-length no number": {"content-length", "seven"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newRawClient(t, s, true)
			c.expect("settings: 1000 streams", connectionUpdate, "settings ack")
			c.request(1, plainToken(1), more...)
			c.expect("1: reset PROTOCOL_ERROR")
			c.request(3, plainToken(1), "te", "trailers") // the connection goes on
			c.expect("3: status 200")
		})
	}
}
