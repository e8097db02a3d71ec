package http2

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/lhspn/lhspn/internal/http2/http2test"
)

// TestHostilePeer: a peer that breaks the rules loses the connection with the right error, and the deliveries go
// elsewhere.
func TestHostilePeer(t *testing.T) {
	raw := func(length int, typ http2.FrameType, flags http2.Flags, stream uint32, payload ...byte) []byte {
		return append(appendFrameHeader(nil, length, typ, flags, stream), payload...)
	}
	endless := func(p *http2test.Peer, frame []byte) {
		for range 1 << 20 {
			if _, err := p.Write(frame); err != nil {
				return
			}
		}
		t.Error("the client took a million frames")
	}
	tests := []struct {
		name string
		do   func(p *http2test.Peer)
		code http2.ErrCode
	}{
		{"oversized frame", func(p *http2test.Peer) { _ = p.WriteRaw(raw(1<<14+1, http2.FrameData, 0, 1)) }, http2.ErrCodeFrameSize},
		{"header bomb", func(p *http2test.Peer) {
			_ = p.WriteRaw(raw(4, http2.FrameHeaders, 0, 1, 0x88, 0x88, 0x88, 0x88))
			endless(p, raw(8192, http2.FrameContinuation, 0, 1, make([]byte, 8192)...))
		}, http2.ErrCodeEnhanceYourCalm},
		{"endless empty continuation", func(p *http2test.Peer) {
			_ = p.WriteRaw(raw(0, http2.FrameHeaders, 0, 1))
			endless(p, raw(0, http2.FrameContinuation, 0, 1))
		}, http2.ErrCodeEnhanceYourCalm},
		{"ping flood", func(p *http2test.Peer) { endless(p, raw(8, http2.FramePing, 0, 0, make([]byte, 8)...)) }, http2.ErrCodeEnhanceYourCalm},
		{"settings flood", func(p *http2test.Peer) { endless(p, raw(0, http2.FrameSettings, 0, 0)) }, http2.ErrCodeEnhanceYourCalm},
		{"interleaved", func(p *http2test.Peer) {
			_ = p.WriteRaw(append(raw(1, http2.FrameHeaders, 0, 1, 0x88), raw(8, http2.FramePing, 0, 0, make([]byte, 8)...)...))
		}, http2.ErrCodeProtocol},
		{"continuation of nothing", func(p *http2test.Peer) { _ = p.WriteRaw(raw(1, http2.FrameContinuation, 4, 1, 0x88)) }, http2.ErrCodeProtocol},
		{"push promise", func(p *http2test.Peer) { _ = p.WriteRaw(raw(5, http2.FramePushPromise, 4, 1, 0, 0, 0, 2, 0x88)) }, http2.ErrCodeProtocol},
		{"idle stream", func(p *http2test.Peer) { _ = p.WriteRaw(raw(1, http2.FrameHeaders, 5, 99, 0x88)) }, http2.ErrCodeProtocol},
		{"even stream", func(p *http2test.Peer) { _ = p.WriteRaw(raw(1, http2.FrameHeaders, 5, 2, 0x88)) }, http2.ErrCodeProtocol},
		{"headers on 0", func(p *http2test.Peer) { _ = p.WriteRaw(raw(1, http2.FrameHeaders, 5, 0, 0x88)) }, http2.ErrCodeProtocol},
		{"data on 0", func(p *http2test.Peer) { _ = p.WriteRaw(raw(1, http2.FrameData, 0, 0, 0)) }, http2.ErrCodeProtocol},
		{"bad index", func(p *http2test.Peer) { _ = p.WriteRaw(raw(1, http2.FrameHeaders, 5, 1, 0xff)) }, http2.ErrCodeCompression},
		{"dynamic index", func(p *http2test.Peer) { _ = p.WriteRaw(raw(1, http2.FrameHeaders, 5, 1, 0x80|62)) }, http2.ErrCodeCompression},
		{"bad padding", func(p *http2test.Peer) { _ = p.WriteRaw(raw(2, http2.FrameHeaders, 5|8, 1, 9, 0x88)) }, http2.ErrCodeProtocol},
		{"short ping", func(p *http2test.Peer) { _ = p.WriteRaw(raw(1, http2.FramePing, 0, 0, 1)) }, http2.ErrCodeFrameSize},
		{"short goaway", func(p *http2test.Peer) { _ = p.WriteRaw(raw(1, http2.FrameGoAway, 0, 0, 1)) }, http2.ErrCodeFrameSize},
		{"short settings", func(p *http2test.Peer) { _ = p.WriteRaw(raw(1, http2.FrameSettings, 0, 0, 1)) }, http2.ErrCodeFrameSize},
		{"settings ack with payload", func(p *http2test.Peer) { _ = p.WriteRaw(raw(1, http2.FrameSettings, 1, 0, 1)) }, http2.ErrCodeFrameSize},
		{"bad frame size", func(p *http2test.Peer) { p.Settings(http2.Setting{ID: http2.SettingMaxFrameSize, Val: 5}) }, http2.ErrCodeProtocol},
		{"bad window", func(p *http2test.Peer) { p.Settings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 31}) }, http2.ErrCodeFlowControl},
		{"window of nothing", func(p *http2test.Peer) { _ = p.WriteRaw(raw(4, http2.FrameWindowUpdate, 0, 0, 0, 0, 0, 0)) }, http2.ErrCodeProtocol},
		{"window overflow", func(p *http2test.Peer) { _ = p.Framer.WriteWindowUpdate(0, 1<<31-1) }, http2.ErrCodeFlowControl},
		{"data beyond our window", func(p *http2test.Peer) {
			// More than the window in one go, before any WINDOW_UPDATE can have been read.
			for range 80 {
				_ = p.Framer.WriteData(1, false, make([]byte, 1<<14))
			}
		}, http2.ErrCodeStreamClosed /* any: see below */},
	}
	for _, test := range tests {
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
					test.do(p)
					for p.GoAway == nil {
						if _, err := p.Frame(); err != nil {
							break
						}
					}
					code = p.GoAway
				})
				g := tr.send(testNote, 0, 1)
				tr.wait()
				if test.code == http2.ErrCodeStreamClosed {
					return // what matters is that it ends well
				}
				tr.want(g, Answered, 200)
				tr.cancel()
				tr.gw.Wait()
				// A peer that floods loses the last words with the rest of what it has not read.
				if code == nil && !strings.Contains(test.name, "flood") && !strings.Contains(test.name, "endless") && !strings.Contains(test.name, "bomb") {
					t.Error("no GOAWAY")
				}
				if code != nil && *code != test.code {
					t.Errorf("GOAWAY %v, want %v", *code, test.code)
				}
			})
		})
	}
}

func TestAnswersInAllForms(t *testing.T) {
	endless := `{"reason":"BadTopic","x":"` + strings.Repeat("x", 20000) + `"}`
	tests := []struct {
		name   string
		answer func(p *http2test.Peer, id uint32)
		status int
		body   string
		reset  bool
	}{
		{"headers alone", func(p *http2test.Peer, id uint32) { p.Answer(id, 200, "") }, 200, "", false},
		{"empty data", func(p *http2test.Peer, id uint32) {
			_ = p.Framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, BlockFragment: p.Block(":status", "200")})
			_ = p.Framer.WriteData(id, true, nil)
		}, 200, "", false},
		{"continued, with padding and priority", func(p *http2test.Peer, id uint32) {
			block := p.Block(":status", "413", "x-a", "b", "x-c", strings.Repeat("d", 300))
			_ = p.Framer.WriteHeaders(http2.HeadersFrameParam{
				StreamID: id, BlockFragment: block[:3], PadLength: 9, Priority: http2.PriorityParam{StreamDep: 0, Weight: 9},
			})
			_ = p.Framer.WriteContinuation(id, false, block[3:9])
			_ = p.Framer.WriteContinuation(id, false, nil)
			_ = p.Framer.WriteContinuation(id, true, block[9:])
			_ = p.Framer.WriteDataPadded(id, false, []byte(`{"reason":"Paylo`), make([]byte, 17))
			_ = p.Framer.WriteDataPadded(id, true, []byte(`adTooLarge"}`), make([]byte, 3))
		}, 413, reasonBody("PayloadTooLarge"), false},
		{"interim, then trailers", func(p *http2test.Peer, id uint32) {
			_ = p.Framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, BlockFragment: p.Block(":status", "103")})
			_ = p.Framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, BlockFragment: p.Block(":status", "400")})
			_ = p.Framer.WriteData(id, false, []byte(reasonBody("BadTopic")))
			_ = p.Framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, EndStream: true, BlockFragment: p.Block("x", "y")})
		}, 400, reasonBody("BadTopic"), false},
		{"a body without end", func(p *http2test.Peer, id uint32) {
			_ = p.Framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, BlockFragment: p.Block(":status", "400")})
			for rest := endless; len(rest) > 1000; {
				_ = p.Framer.WriteData(id, false, []byte(rest[:1000]))
				rest = rest[1000:]
			}
		}, 400, endless[:1024], true},
		{"a 200 without end", func(p *http2test.Peer, id uint32) {
			_ = p.Framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, BlockFragment: p.Block(":status", "200")})
			for range 10 {
				_ = p.Framer.WriteData(id, false, make([]byte, 500))
			}
		}, 200, strings.Repeat("\x00", 1024), true},
		{"without a status", func(p *http2test.Peer, id uint32) {
			_ = p.Framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, BlockFragment: p.Block("x", "y")})
		}, 200, "", true},
		{"data before headers", func(p *http2test.Peer, id uint32) { _ = p.Framer.WriteData(id, true, []byte("x")) }, 200, "", true},
		{"reset", func(p *http2test.Peer, id uint32) { _ = p.Framer.WriteRSTStream(id, http2.ErrCodeInternal) }, 200, "", false},
		{"reset after the headers", func(p *http2test.Peer, id uint32) {
			_ = p.Framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, BlockFragment: p.Block(":status", "200")})
			_ = p.Framer.WriteRSTStream(id, http2.ErrCodeNo)
		}, 200, "", false},
		{"stream window overflow", func(p *http2test.Peer, id uint32) { _ = p.Framer.WriteWindowUpdate(id, 0) }, 200, "", true},
		{"frames of tomorrow", func(p *http2test.Peer, id uint32) {
			_ = p.Framer.WriteRawFrame(0x77, 0xff, id, []byte("whatever"))
			p.Settings(http2.Setting{ID: 0x77, Val: 1})
			p.Answer(id, 503, reasonBody("Shutdown"))
		}, 503, reasonBody("Shutdown"), false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				tr := startClient(t, Config{}, func(_ int, p *http2test.Peer) {
					// Framer checks what it writes; here it is to write what it should not.
					p.Framer.AllowIllegalWrites = true
					p.Settings()
					r := p.Next()
					test.answer(p, r.ID)
					p.AcceptAll()
					if _, reset := p.Resets[r.ID]; reset != test.reset {
						t.Errorf("reset %v, want %v", reset, test.reset)
					}
				})
				g := tr.send(testNote, 0, 1)
				tr.wait()
				if got := g.results[0]; got.status != test.status || got.body != test.body {
					t.Errorf("%+v", got)
				}
				g = tr.send(testNote, 1, 3) // the connection is as good as before
				tr.wait()
				tr.want(g, Answered, 200)
				if tr.gw.Dials() != 1 {
					t.Errorf("%d connections", tr.gw.Dials())
				}
			})
		})
	}
}

// TestKeepsNoBodies: whatever pieces an answer's body comes in, nothing of it stays behind.
func TestKeepsNoBodies(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tr := startClient(t, Config{}, func(_ int, p *http2test.Peer) {
			p.Settings()
			for r := p.Next(); r != nil; r = p.Next() {
				_ = p.Framer.WriteHeaders(http2.HeadersFrameParam{StreamID: r.ID, EndHeaders: true, BlockFragment: p.Block(":status", "400")})
				body := []byte(reasonBody("BadPriority"))
				cut := number(r) * len(body) / 2
				_ = p.Framer.WriteData(r.ID, false, body[:cut])
				_ = p.Framer.WriteData(r.ID, true, body[cut:])
			}
		})
		g := tr.send(testNote, 0, 3) // cut before, in and behind the body
		tr.wait()
		for _, r := range g.results {
			if r.status != 400 || r.body != reasonBody("BadPriority") {
				t.Errorf("%+v", r)
			}
		}
		c := tr.cl.slots[0].conn
		c.mu.Lock()
		defer c.mu.Unlock()
		if len(c.streams.kept) > 0 {
			t.Errorf("%d bodies are left", len(c.streams.kept))
		}
	})
}
