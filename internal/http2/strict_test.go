package http2

import (
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/lhspn/lhspn/internal/http2/http2test"
)

// frameOf is a frame as bytes, whatever the protocol says of it.
func frameOf(typ http2.FrameType, flags http2.Flags, id uint32, payload ...byte) []byte {
	return append(appendFrameHeader(nil, len(payload), typ, flags, id), payload...)
}

func setting(id http2.SettingID, v uint32) []byte {
	return frameOf(http2.FrameSettings, 0, 0, 0, byte(id), byte(v>>24), byte(v>>16), byte(v>>8), byte(v))
}

// TestConnectionErrors: what RFC 9113 calls a connection error ends the connection with that error, and the request
// goes over another. The cases are those of h2spec's sections, as far as they concern a client.
func TestConnectionErrors(t *testing.T) {
	const (
		end = http2.FlagHeadersEndHeaders | http2.FlagHeadersEndStream
		ok  = 0x88 // :status 200
	)
	for _, test := range []struct {
		name string
		sent [][]byte
		code http2.ErrCode
	}{
		{"4.2 SETTINGS larger than allowed", [][]byte{frameOf(http2.FrameSettings, 0, 0, make([]byte, 6*2731)...)}, http2.ErrCodeFrameSize},
		{"4.3 HEADERS between HEADERS and CONTINUATION", [][]byte{frameOf(http2.FrameHeaders, 0, 1, ok), frameOf(http2.FrameHeaders, end, 1, ok)}, http2.ErrCodeProtocol},
		{"4.3 CONTINUATION of another stream", [][]byte{frameOf(http2.FrameHeaders, 0, 1, ok), frameOf(http2.FrameContinuation, 4, 3, ok)}, http2.ErrCodeProtocol},
		{"4.3 unknown frame in a block", [][]byte{frameOf(http2.FrameHeaders, 0, 1, ok), frameOf(0x99, 0, 1, ok)}, http2.ErrCodeProtocol},
		{"4.3 truncated block", [][]byte{frameOf(http2.FrameHeaders, end, 1, 0x48, 3, '2')}, http2.ErrCodeCompression},
		{"5.1 RST_STREAM on an idle stream", [][]byte{frameOf(http2.FrameRSTStream, 0, 9, 0, 0, 0, 8)}, http2.ErrCodeProtocol},
		{"5.1 WINDOW_UPDATE on an idle stream", [][]byte{frameOf(http2.FrameWindowUpdate, 0, 9, 0, 0, 0, 8)}, http2.ErrCodeProtocol},
		{"5.1 DATA on an idle stream", [][]byte{frameOf(http2.FrameData, 0, 9, 'x')}, http2.ErrCodeProtocol},
		{"5.1 DATA after the end of the stream", [][]byte{frameOf(http2.FrameHeaders, end, 1, ok), frameOf(http2.FrameData, 1, 1, 'x')}, http2.ErrCodeStreamClosed},
		{"5.1 HEADERS after the end of the stream", [][]byte{frameOf(http2.FrameHeaders, end, 1, ok), frameOf(http2.FrameHeaders, end, 1, ok)}, http2.ErrCodeStreamClosed},
		{"5.1 DATA after the peer's own RST_STREAM", [][]byte{frameOf(http2.FrameHeaders, 4, 1, ok), frameOf(http2.FrameRSTStream, 0, 1, 0, 0, 0, 0), frameOf(http2.FrameData, 0, 1, 'x')}, http2.ErrCodeStreamClosed},
		{"5.1.1 HEADERS on an even stream", [][]byte{frameOf(http2.FrameHeaders, end, 2, ok)}, http2.ErrCodeProtocol},
		{"6.1 DATA on stream 0", [][]byte{frameOf(http2.FrameData, 1, 0, 'x')}, http2.ErrCodeProtocol},
		{"6.1 padding as long as the frame", [][]byte{frameOf(http2.FrameHeaders, 4, 1, ok), frameOf(http2.FrameData, 8, 1, 2, 'x')}, http2.ErrCodeProtocol},
		{"6.1 padded and empty", [][]byte{frameOf(http2.FrameHeaders, 4, 1, ok), frameOf(http2.FrameData, 8, 1)}, http2.ErrCodeProtocol},
		{"6.2 HEADERS on stream 0", [][]byte{frameOf(http2.FrameHeaders, end, 0, ok)}, http2.ErrCodeProtocol},
		{"6.2 unfinished HEADERS on stream 0", [][]byte{frameOf(http2.FrameHeaders, 0, 0, ok)}, http2.ErrCodeProtocol},
		{"6.2 padding as long as the frame", [][]byte{frameOf(http2.FrameHeaders, end|8, 1, 2, ok)}, http2.ErrCodeProtocol},
		{"6.2 priority that is cut off", [][]byte{frameOf(http2.FrameHeaders, end|0x20, 1, 0, 0, ok)}, http2.ErrCodeFrameSize},
		{"6.3 PRIORITY on stream 0", [][]byte{frameOf(http2.FramePriority, 0, 0, 0, 0, 0, 0, 1)}, http2.ErrCodeProtocol},
		{"6.4 RST_STREAM on stream 0", [][]byte{frameOf(http2.FrameRSTStream, 0, 0, 0, 0, 0, 8)}, http2.ErrCodeProtocol},
		{"6.4 RST_STREAM of three bytes", [][]byte{frameOf(http2.FrameRSTStream, 0, 1, 0, 0, 8)}, http2.ErrCodeFrameSize},
		{"6.5 SETTINGS on a stream", [][]byte{frameOf(http2.FrameSettings, 0, 1)}, http2.ErrCodeProtocol},
		{"6.5 SETTINGS of five bytes", [][]byte{frameOf(http2.FrameSettings, 0, 0, 0, 3, 0, 0, 0)}, http2.ErrCodeFrameSize},
		{"6.5 SETTINGS acknowledged with a value", [][]byte{frameOf(http2.FrameSettings, 1, 0, 0, 3, 0, 0, 0, 1)}, http2.ErrCodeFrameSize},
		{"6.5.2 ENABLE_PUSH of a server", [][]byte{setting(http2.SettingEnablePush, 1)}, http2.ErrCodeProtocol},
		{"6.5.2 ENABLE_PUSH neither 0 nor 1", [][]byte{setting(http2.SettingEnablePush, 2)}, http2.ErrCodeProtocol},
		{"6.5.2 INITIAL_WINDOW_SIZE too large", [][]byte{setting(http2.SettingInitialWindowSize, 1<<31)}, http2.ErrCodeFlowControl},
		{"6.5.2 MAX_FRAME_SIZE too small", [][]byte{setting(http2.SettingMaxFrameSize, 1<<14-1)}, http2.ErrCodeProtocol},
		{"6.5.2 MAX_FRAME_SIZE too large", [][]byte{setting(http2.SettingMaxFrameSize, 1<<24)}, http2.ErrCodeProtocol},
		{"6.6 PUSH_PROMISE", [][]byte{frameOf(http2.FramePushPromise, 4, 1, 0, 0, 0, 2, ok)}, http2.ErrCodeProtocol},
		{"6.7 PING on a stream", [][]byte{frameOf(http2.FramePing, 0, 1, make([]byte, 8)...)}, http2.ErrCodeProtocol},
		{"6.7 PING of six bytes", [][]byte{frameOf(http2.FramePing, 0, 0, make([]byte, 6)...)}, http2.ErrCodeFrameSize},
		{"6.8 GOAWAY on a stream", [][]byte{frameOf(http2.FrameGoAway, 0, 1, make([]byte, 8)...)}, http2.ErrCodeProtocol},
		{"6.9 WINDOW_UPDATE of 0", [][]byte{frameOf(http2.FrameWindowUpdate, 0, 0, 0, 0, 0, 0)}, http2.ErrCodeProtocol},
		{"6.9 WINDOW_UPDATE of three bytes", [][]byte{frameOf(http2.FrameWindowUpdate, 0, 0, 0, 0, 1)}, http2.ErrCodeFrameSize},
		{"6.9.1 window too large", [][]byte{frameOf(http2.FrameWindowUpdate, 0, 0, 0x7f, 0xff, 0xff, 0xff)}, http2.ErrCodeFlowControl},
		{"6.10 CONTINUATION after a complete block", [][]byte{frameOf(http2.FrameHeaders, 4, 1, ok), frameOf(http2.FrameContinuation, 4, 1, ok)}, http2.ErrCodeProtocol},
		{"6.10 CONTINUATION on stream 0", [][]byte{frameOf(http2.FrameContinuation, 4, 0, ok)}, http2.ErrCodeProtocol},
		{"HPACK table size update after a field", [][]byte{frameOf(http2.FrameHeaders, end, 1, ok, 0x20)}, http2.ErrCodeCompression},
		{"HPACK table size update above ours", [][]byte{frameOf(http2.FrameHeaders, end, 1, 0x21, ok)}, http2.ErrCodeCompression},
		{"HPACK index 0", [][]byte{frameOf(http2.FrameHeaders, end, 1, 0x80)}, http2.ErrCodeCompression},
		{"HPACK index beyond the static table", [][]byte{frameOf(http2.FrameHeaders, end, 1, ok, 0x80|62)}, http2.ErrCodeCompression},
		{"HPACK name in wrong Huffman code", [][]byte{frameOf(http2.FrameHeaders, end, 1, ok, 0x10, 0x81, 0x00, 0)}, http2.ErrCodeCompression},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var code *http2.ErrCode
				tr := startClient(t, Config{BackoffMin: time.Millisecond}, func(n int, p *http2test.Peer) {
					p.Settings()
					if n > 0 {
						p.AcceptAll()
						return
					}
					p.Next()
					for _, frame := range test.sent {
						_ = p.WriteRaw(frame)
					}
					for p.GoAway == nil {
						if _, err := p.Frame(); err != nil {
							break
						}
					}
					code = p.GoAway
				})
				b := tr.send(testNote, 0, 1)
				tr.wait()
				tr.want(b, Answered, 200)
				tr.cancel()
				tr.gw.Wait()
				if code == nil || *code != test.code {
					t.Errorf("GOAWAY %v, want %v", code, test.code)
				}
			})
		})
	}
}

// TestMalformedAnswers: an answer that RFC 9113 calls malformed is a stream error; the connection goes on, and the
// request is sent again on it.
func TestMalformedAnswers(t *testing.T) {
	type part struct {
		fields []string // of HEADERS
		data   string   // or of DATA
		end    bool
		raw    []byte // or another frame, on stream 1
	}
	head := func(end bool, fields ...string) part { return part{fields: fields, end: end} }
	largest := frameOf(http2.FrameWindowUpdate, 0, 1, 0x7f, 0xff, 0xff, 0xff)
	for _, test := range []struct {
		name   string
		answer []part
		again  bool // nothing says that it was accepted: it is sent again
	}{
		{"8.1 no status", []part{head(true, "x", "y")}, true},
		{"8.1 interim with an end", []part{head(true, ":status", "103")}, true},
		{"8.1 trailers without an end", []part{head(false, ":status", "200"), head(false, "x", "y")}, false},
		{"8.1 pseudo-header field in trailers", []part{head(false, ":status", "200"), head(true, ":status", "200")}, false},
		{"8.1 DATA before HEADERS", []part{{data: "x", end: true}}, true},
		{"8.1.1 content-length too large", []part{head(false, ":status", "200", "content-length", "3"), {data: "ab", end: true}}, false},
		{"8.1.1 content-length too small", []part{head(false, ":status", "200", "content-length", "3"), {data: "ab"}, {data: "cd", end: true}}, false},
		{"8.1.1 content-length without a body", []part{head(true, ":status", "200", "content-length", "3")}, false},
		{"8.1.1 content-length before trailers", []part{head(false, ":status", "200", "content-length", "3"), {data: "ab"}, head(true, "x", "y")}, false},
		{"8.1.1 content-length that is no number", []part{head(true, ":status", "200", "content-length", "-0")}, false},
		{"8.1.1 two content-lengths", []part{head(false, ":status", "200", "content-length", "2", "content-length", "3"), {data: "abc", end: true}}, false},
		{"8.2 upper-case name", []part{head(true, ":status", "200", "X-Y", "z")}, false},
		{"8.2.1 space in a name", []part{head(true, ":status", "200", "x y", "z")}, false},
		{"8.2.1 empty name", []part{head(true, ":status", "200", "", "z")}, false},
		{"8.2.1 line feed in a value", []part{head(true, ":status", "200", "x", "\n\n\n\n")}, false},
		{"8.2.1 space before a value", []part{head(true, ":status", "200", "retry-after", " 1")}, false},
		{"8.2.1 NUL in a wanted value", []part{head(true, ":status", "200", "retry-after", "1\x002")}, false},
		{"8.2.2 connection", []part{head(true, ":status", "200", "connection", "close")}, false},
		{"8.2.2 transfer-encoding", []part{head(true, ":status", "200", "transfer-encoding", "chunked")}, false},
		{"8.3 pseudo-header field after another", []part{head(true, "x", "y", ":status", "200")}, true},
		{"8.3 pseudo-header field of a request", []part{head(true, ":status", "200", ":path", "/")}, false},
		{"8.3 unknown pseudo-header field", []part{head(true, ":status", "200", ":x", "y")}, false},
		{"8.3.2 two statuses", []part{head(true, ":status", "200", ":status", "200")}, true},
		{"8.3.2 status of two digits", []part{head(true, ":status", "20")}, true},
		{"8.6 status 101", []part{head(false, ":status", "101")}, true},
		{"6.3 PRIORITY of four bytes", []part{{raw: frameOf(http2.FramePriority, 0, 1, 0, 0, 0, 0)}}, true},
		{"6.9 WINDOW_UPDATE of 0", []part{{raw: frameOf(http2.FrameWindowUpdate, 0, 1, 0, 0, 0, 0)}}, true},
		{"6.9.1 window too large", []part{head(false, ":status", "200"), {raw: largest}, {raw: largest}}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				again := false
				tr := startClient(t, Config{AnswerFields: []string{"retry-after"}}, func(_ int, p *http2test.Peer) {
					p.Settings()
					r := p.Next()
					for _, a := range test.answer {
						flags := http2.Flags(0)
						if a.end {
							flags = http2.FlagDataEndStream
						}
						switch {
						case a.fields != nil:
							_ = p.WriteRaw(frameOf(http2.FrameHeaders, flags|http2.FlagHeadersEndHeaders, r.ID, p.Block(a.fields...)...))
						case a.data != "":
							_ = p.WriteRaw(frameOf(http2.FrameData, flags, r.ID, []byte(a.data)...))
						default:
							_ = p.WriteRaw(a.raw)
						}
					}
					for r := p.Next(); r != nil; r = p.Next() {
						again = true
						p.Answer(r.ID, 200, "")
					}
					want := http2.ErrCodeProtocol
					switch raw := test.answer[len(test.answer)-1].raw; {
					case raw == nil:
					case raw[3] == byte(http2.FramePriority):
						want = http2.ErrCodeFrameSize
					case raw[9] != 0:
						want = http2.ErrCodeFlowControl
					}
					if code, reset := p.Resets[r.ID]; !reset || code != want {
						t.Errorf("reset %v, %v", reset, code)
					}
				})
				b := tr.send(testNote, 0, 1)
				tr.wait()
				tr.want(b, Answered, 200)
				if again != test.again || tr.gw.Dials() != 1 {
					t.Errorf("%+v, again %v, over %d connections", b.results[0], again, tr.gw.Dials())
				}
			})
		})
	}
}

// TestTolerated: what looks odd and is allowed.
func TestTolerated(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tr := startClient(t, Config{AnswerFields: []string{"retry-after", "location"}}, func(_ int, p *http2test.Peer) {
			p.Settings()
			r := p.Next()
			for _, frame := range [][]byte{
				frameOf(http2.FramePriority, 0, r.ID, 0, 0, 0, 0, 1),
				frameOf(http2.FramePriority, 0, 99, 0, 0, 0, 0, 1), // of an idle stream (5.1)
				frameOf(0x99, 0xff, 0, 'x'),
				frameOf(http2.FramePing, 0xfe, 0, make([]byte, 8)...), // undefined flags
				setting(http2.SettingEnablePush, 0),
				setting(0x99, 1),
			} {
				_ = p.WriteRaw(frame)
			}
			block := append([]byte{0x20}, p.Block(":status", "201", "content-length", "2", "content-length", "2", "retry-after", "7", "retry-after", "8")...)
			_ = p.WriteRaw(frameOf(http2.FrameHeaders, http2.FlagHeadersEndHeaders, r.ID, block...))
			_ = p.WriteRaw(frameOf(http2.FrameData, 0, r.ID, 'o'))
			_ = p.WriteRaw(frameOf(http2.FrameData, 1, r.ID, 'k'))
			_ = p.WriteRaw(frameOf(http2.FrameWindowUpdate, 0, r.ID, 0, 0, 0, 1)) // on a closed stream (5.1)
			_ = p.WriteRaw(frameOf(http2.FrameRSTStream, 0, r.ID, 0, 0, 0, 0))
			p.AcceptAll()
		})
		b := tr.send(testNote, 0, 1)
		tr.wait()
		tr.want(b, Answered, 201)
		if got := b.results[0]; got.body != "ok" || got.field != "7" {
			t.Errorf("%+v", got)
		}
		b = tr.send(testNote, 1, 20)
		tr.wait()
		tr.want(b, Answered, 200)
		if tr.gw.Dials() != 1 {
			t.Errorf("%d connections", tr.gw.Dials())
		}
	})
}

// TestLateFrames: what comes on streams that we have given up, hundreds at once, ends no connection, and an answer that
// comes before the request was heard to its end is one.
func TestLateFrames(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const late = 300
		tr := startClient(t, Config{StreamTimeout: 20 * time.Second}, func(_ int, p *http2test.Peer) {
			p.Settings()
			given := make([]uint32, 0, late)
			for range late {
				given = append(given, p.Next().ID)
			}
			for len(p.Resets) < late {
				if _, err := p.Frame(); err != nil {
					t.Error(err)
					return
				}
			}
			for _, id := range given {
				_ = p.WriteRaw(frameOf(http2.FrameHeaders, http2.FlagHeadersEndHeaders, id, 0x88))
				_ = p.WriteRaw(frameOf(http2.FrameData, http2.FlagDataEndStream, id, 'x'))
			}
			// The window is used up by now, so that this one's body waits.
			for p.Seen[http2.FrameHeaders] == late {
				if _, err := p.Frame(); err != nil {
					t.Error(err)
					return
				}
			}
			for range 2 {
				_ = p.WriteRaw(frameOf(http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream, 2*late+1, 0x88))
			}
			p.AcceptAll()
		})
		b := tr.send(testNote, 0, late)
		tr.wait()
		tr.want(b, NoAnswer, 0)
		b = tr.send(long(200_000), 0, 1)
		tr.wait()
		tr.want(b, Answered, 200)
		b = tr.send(testNote, 1, 3)
		tr.wait()
		tr.want(b, Answered, 200)
		if tr.gw.Dials() != 1 {
			t.Errorf("%d connections", tr.gw.Dials())
		}
	})
}
