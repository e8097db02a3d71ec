package apns

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"golang.org/x/net/http2"

	"github.com/lhspn/lhspn/internal/apns/payload"
	"github.com/lhspn/lhspn/internal/push"
)

func testTokens(tb testing.TB) *ProviderTokens {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	p, err := NewProviderTokens(key, "ABC123DEFG", "DEF123GHIJ")
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

func TestHTTP2FollowsMaxConcurrentStreams(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tr := startHTTP2(t, HTTP2Config{}, func(_ int, p *http2Peer) {
			p.settings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 5})
			var waiting []*http2Request
			for range 5 {
				waiting = append(waiting, p.next())
			}
			quietPeer(t, p) // there must be no sixth
			// A drop to 1 with five open: no new one until fewer than one is open.
			p.settings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 1})
			for _, r := range waiting {
				quietPeer(t, p)
				p.answer(r.id, 200, "")
			}
			for range 10 {
				r := p.next()
				quietPeer(t, p)
				p.answer(r.id, 200, "")
			}
			// And growth.
			p.settings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 20})
			waiting = waiting[:0]
			for range 20 {
				waiting = append(waiting, p.next())
			}
			quietPeer(t, p)
			for _, r := range waiting {
				p.answer(r.id, 200, "")
			}
			p.acceptAll()
		})
		g := tr.send(http2Notification, 0, 100)
		tr.wait()
		tr.want(g, push.Accepted, nil)
	})
}

// quietPeer fails if a request comes although the client has had all the time it wants.
func quietPeer(t *testing.T, p *http2Peer) {
	t.Helper()
	synctest.Wait()
	before := p.open
	for {
		p.in.mu.Lock()
		n := len(p.in.buf)
		p.in.mu.Unlock()
		if n == 0 {
			break
		}
		r, err := p.frame()
		if err != nil {
			return
		}
		if r != nil || p.open != before {
			t.Errorf("a request came with %d open", before)
			return
		}
		synctest.Wait()
	}
}

func TestHTTP2OneStreamUntilTheTokenIsAccepted(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tr := startHTTP2(t, HTTP2Config{Tokens: testTokens(t)}, func(_ int, p *http2Peer) {
			p.settings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 1000})
			r := p.next()
			quietPeer(t, p)
			p.answer(r.id, 410, `{"reason":"Unregistered","timestamp":1}`) // no proof that the token is good
			r = p.next()
			quietPeer(t, p)
			p.answer(r.id, 200, "")
			waiting := make([]*http2Request, 0, 98)
			for range 98 {
				waiting = append(waiting, p.next())
			}
			for _, r := range waiting {
				p.answer(r.id, 200, "")
			}
			p.acceptAll()
			if p.most != 98 {
				t.Errorf("%d streams at once, want 98", p.most)
			}
		})
		tr.send(http2Notification, 0, 100)
		tr.wait()
	})
}

func TestHTTP2FollowsHeaderTableSize(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tokens := testTokens(t)
		tr := startHTTP2(t, HTTP2Config{Tokens: tokens, MaxStreams: 1}, func(_ int, p *http2Peer) {
			p.settings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: 0})
			p.dec.SetAllowedMaxDynamicTableSize(0)
			first := p.next()
			p.answer(first.id, 200, "")
			check := func() {
				r := p.next()
				if r == nil {
					t.Error("the connection ended")
					return
				}
				h := maps.Clone(r.headers)
				for _, own := range []string{":path", "apns-id"} {
					h[own] = first.headers[own]
				}
				if !maps.Equal(h, first.headers) {
					t.Errorf("headers %v, want %v", h, first.headers)
				}
				p.answer(r.id, 200, "")
			}
			for range 5 {
				check()
			}
			for _, size := range []uint32{4096, 300, 1 << 20, 64, 0, 4096} {
				p.settings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: size})
				p.dec.SetAllowedMaxDynamicTableSize(max(size, 4096))
				for range 5 {
					check()
				}
				p.dec.SetAllowedMaxDynamicTableSize(size)
			}
			// Down and up before the next block: both must be told.
			p.settings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: 0}, http2.Setting{ID: http2.SettingHeaderTableSize, Val: 4096})
			for range 5 {
				check()
			}
			p.acceptAll()
		})
		n := *http2Notification
		n.CollapseID = "c"
		n.Expiration = time.Now().Add(time.Hour)
		g := tr.send(&n, 0, 100)
		tr.wait()
		tr.want(g, push.Accepted, nil)
	})
}

// TestHTTP2Windows serves with windows so small that every body is cut, shrunk below zero and opened again.
func TestHTTP2Windows(t *testing.T) {
	for _, initial := range []uint32{0, 1, 7, 10000} {
		t.Run(fmt.Sprint(initial), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				n := *http2Notification
				n.Payload.JSON = []byte(strings.Repeat("x", 3000))
				tr := startHTTP2(t, HTTP2Config{}, func(_ int, p *http2Peer) {
					p.settings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: initial}, http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 50})
					conn, streams := int64(http2DefaultWindow), map[uint32]int64{}
					window := int64(initial)
					for done := 0; done < 200; {
						f, err := p.fr.ReadFrame()
						if err != nil {
							t.Errorf("after %d: %v", done, err)
							return
						}
						switch f := f.(type) {
						case *http2.HeadersFrame:
							streams[f.StreamID] = window
							_ = p.fr.WriteWindowUpdate(f.StreamID, 100)
							streams[f.StreamID] += 100
							if f.StreamID%20 == 1 {
								// Every stream's window changes by the difference; below 0 for those that have used theirs.
								next := uint32((window + 977) % 2000)
								delta := int64(next) - window
								for id := range streams {
									streams[id] += delta
								}
								window = int64(next)
								p.settings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: next})
							}
						case *http2.DataFrame:
							conn -= int64(f.Length)
							streams[f.StreamID] -= int64(f.Length)
							if conn < 0 {
								t.Error("beyond the connection's window")
							}
							if streams[f.StreamID] < -2000 {
								t.Error("beyond the stream's window")
							}
							if conn < 1000 {
								_ = p.fr.WriteWindowUpdate(0, 1500)
								conn += 1500
							}
							if f.StreamEnded() {
								done++
								p.answer(f.StreamID, 200, "")
								delete(streams, f.StreamID)
							} else if streams[f.StreamID] < 500 {
								_ = p.fr.WriteWindowUpdate(f.StreamID, 1000)
								streams[f.StreamID] += 1000
							}
						}
					}
					p.acceptAll()
				})
				g := tr.send(&n, 0, 200)
				tr.wait()
				tr.want(g, push.Accepted, nil)
			})
		})
	}
}

// TestHTTP2NegativeWindow: a stream that has used its window when the initial one shrinks stays quiet until it is positive again.
func TestHTTP2NegativeWindow(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := *http2Notification
		n.Payload.JSON = []byte(strings.Repeat("x", 1000))
		tr := startHTTP2(t, HTTP2Config{}, func(_ int, p *http2Peer) {
			p.settings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 600})
			synctest.Wait()
			body := func() (n int, ended bool) {
				for {
					p.in.mu.Lock()
					quiet := len(p.in.buf) == 0
					p.in.mu.Unlock()
					if quiet {
						return n, ended
					}
					f, err := p.fr.ReadFrame()
					if err != nil {
						t.Error(err)
						return
					}
					if d, ok := f.(*http2.DataFrame); ok {
						n += len(d.Data())
						ended = d.StreamEnded()
					}
				}
			}
			if n, _ := body(); n != 600 {
				t.Errorf("%d bytes in a window of 600", n)
			}
			p.settings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 100}) // now at -500
			_ = p.fr.WriteWindowUpdate(1, 500)                                      // at 0
			synctest.Wait()
			if n, _ := body(); n != 0 {
				t.Errorf("%d bytes in a window of 0", n)
			}
			_ = p.fr.WriteWindowUpdate(1, 400)
			synctest.Wait()
			if n, ended := body(); n != 400 || !ended {
				t.Errorf("%d bytes, ended %v; want the last 400", n, ended)
			}
			p.answer(1, 200, "")
			p.acceptAll()
		})
		g := tr.send(&n, 0, 1)
		tr.wait()
		tr.want(g, push.Accepted, nil)
	})
}

// TestHTTP2ReturnsItsWindow: the gateway may send more than our window as long as we hear it, also when we have nothing to send.
func TestHTTP2ReturnsItsWindow(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tr := startHTTP2(t, HTTP2Config{}, func(_ int, p *http2Peer) {
			p.settings()
			r := p.next()
			// DATA on streams that the client has long forgotten still counts against the connection's window.
			p.answer(r.id, 200, "")
			window := int64(http2OurConnWindow)
			for range 200 {
				for window < 16000 {
					f, err := p.fr.ReadFrame()
					if err != nil {
						t.Error("no WINDOW_UPDATE:", err)
						return
					}
					if wu, ok := f.(*http2.WindowUpdateFrame); ok && wu.StreamID == 0 {
						window += int64(wu.Increment)
					}
				}
				_ = p.fr.WriteData(r.id, false, make([]byte, 16000))
				window -= 16000
			}
			p.acceptAll()
		})
		tr.send(http2Notification, 0, 1)
		tr.wait()
		synctest.Wait()
	})
}

func TestHTTP2AnswersPing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tr := startHTTP2(t, HTTP2Config{}, func(_ int, p *http2Peer) {
			p.settings()
			r := p.next()
			_ = p.fr.WritePing(false, [8]byte{1, 2, 3, 4, 5, 6, 7, 8})
			for {
				f, err := p.fr.ReadFrame()
				if err != nil {
					t.Error(err)
					return
				}
				if pf, ok := f.(*http2.PingFrame); ok {
					if !pf.IsAck() || pf.Data != [8]byte{1, 2, 3, 4, 5, 6, 7, 8} {
						t.Errorf("%v", pf)
					}
					break
				}
			}
			p.answer(r.id, 200, "")
			p.acceptAll()
		})
		tr.send(http2Notification, 0, 1)
		tr.wait()
	})
}

func TestHTTP2PingsWhatIsSilent(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ended := make(chan time.Duration, 1)
		start := time.Now()
		tr := startHTTP2(t, HTTP2Config{PingInterval: time.Minute, PingTimeout: 10 * time.Second}, func(n int, p *http2Peer) {
			p.settings()
			if n > 0 {
				p.acceptAll()
				return
			}
			r := p.next()
			p.answer(r.id, 200, "")
			for p.seen[http2.FramePing] < 10 { // answered by frame
				if _, err := p.frame(); err != nil {
					t.Error("the connection ended although it answered:", err)
					return
				}
			}
			// From here on it is deaf and dumb.
			for {
				if _, err := p.fr.ReadFrame(); err != nil {
					break
				}
			}
			ended <- time.Since(start)
		})
		tr.send(http2Notification, 0, 1)
		tr.wait()
		if d := <-ended; d != 11*time.Minute+10*time.Second {
			t.Errorf("ended after %v", d)
		}
		g := tr.send(http2Notification, 1, 2)
		tr.wait()
		tr.want(g, push.Accepted, nil)
	})
}

func TestHTTP2SilentWithOpenStreams(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ids := make(chan string, 2)
		tr := startHTTP2(t, HTTP2Config{BackoffMin: time.Millisecond, PingInterval: time.Hour, PingTimeout: 3 * time.Second}, func(n int, p *http2Peer) {
			p.settings()
			r := p.next()
			ids <- r.headers["apns-id"]
			if n > 0 {
				p.answer(r.id, 200, "")
				p.acceptAll()
				return
			}
			for {
				if _, err := p.fr.ReadFrame(); err != nil {
					return
				}
			}
		})
		start := time.Now()
		g := tr.send(http2Notification, 0, 1)
		tr.wait()
		tr.want(g, push.Accepted, nil)
		if d := time.Since(start); d < 6*time.Second || d > 7*time.Second {
			t.Errorf("resent after %v", d)
		}
		if a, b := <-ids, <-ids; a != b {
			t.Errorf("sent again as %s, before as %s", b, a)
		}
	})
}

// TestHTTP2HostilePeer: a peer that breaks the rules loses the connection with the right error, and the deliveries go
// elsewhere.
func TestHTTP2HostilePeer(t *testing.T) {
	raw := func(length int, typ http2.FrameType, flags http2.Flags, stream uint32, payload ...byte) []byte {
		return append(appendFrameHeader(nil, length, typ, flags, stream), payload...)
	}
	endless := func(p *http2Peer, frame []byte) {
		for range 1 << 20 {
			if _, err := p.Write(frame); err != nil {
				return
			}
		}
		t.Error("the client took a million frames")
	}
	tests := []struct {
		name string
		do   func(p *http2Peer)
		code http2.ErrCode
	}{
		{"oversized frame", func(p *http2Peer) { _, _ = p.Write(raw(1<<14+1, http2.FrameData, 0, 1)) }, http2.ErrCodeFrameSize},
		{"header bomb", func(p *http2Peer) {
			_, _ = p.Write(raw(4, http2.FrameHeaders, 0, 1, 0x88, 0x88, 0x88, 0x88))
			endless(p, raw(8192, http2.FrameContinuation, 0, 1, make([]byte, 8192)...))
		}, http2.ErrCodeEnhanceYourCalm},
		{"endless empty continuation", func(p *http2Peer) {
			_, _ = p.Write(raw(0, http2.FrameHeaders, 0, 1))
			endless(p, raw(0, http2.FrameContinuation, 0, 1))
		}, http2.ErrCodeEnhanceYourCalm},
		{"ping flood", func(p *http2Peer) { endless(p, raw(8, http2.FramePing, 0, 0, make([]byte, 8)...)) }, http2.ErrCodeEnhanceYourCalm},
		{"settings flood", func(p *http2Peer) { endless(p, raw(0, http2.FrameSettings, 0, 0)) }, http2.ErrCodeEnhanceYourCalm},
		{"interleaved", func(p *http2Peer) {
			_, _ = p.Write(append(raw(1, http2.FrameHeaders, 0, 1, 0x88), raw(8, http2.FramePing, 0, 0, make([]byte, 8)...)...))
		}, http2.ErrCodeProtocol},
		{"continuation of nothing", func(p *http2Peer) { _, _ = p.Write(raw(1, http2.FrameContinuation, 4, 1, 0x88)) }, http2.ErrCodeProtocol},
		{"push promise", func(p *http2Peer) { _, _ = p.Write(raw(5, http2.FramePushPromise, 4, 1, 0, 0, 0, 2, 0x88)) }, http2.ErrCodeProtocol},
		{"idle stream", func(p *http2Peer) { _, _ = p.Write(raw(1, http2.FrameHeaders, 5, 99, 0x88)) }, http2.ErrCodeProtocol},
		{"even stream", func(p *http2Peer) { _, _ = p.Write(raw(1, http2.FrameHeaders, 5, 2, 0x88)) }, http2.ErrCodeProtocol},
		{"headers on 0", func(p *http2Peer) { _, _ = p.Write(raw(1, http2.FrameHeaders, 5, 0, 0x88)) }, http2.ErrCodeProtocol},
		{"data on 0", func(p *http2Peer) { _, _ = p.Write(raw(1, http2.FrameData, 0, 0, 0)) }, http2.ErrCodeProtocol},
		{"bad index", func(p *http2Peer) { _, _ = p.Write(raw(1, http2.FrameHeaders, 5, 1, 0xff)) }, http2.ErrCodeCompression},
		{"dynamic index", func(p *http2Peer) { _, _ = p.Write(raw(1, http2.FrameHeaders, 5, 1, 0x80|62)) }, http2.ErrCodeCompression},
		{"bad padding", func(p *http2Peer) { _, _ = p.Write(raw(2, http2.FrameHeaders, 5|8, 1, 9, 0x88)) }, http2.ErrCodeProtocol},
		{"short ping", func(p *http2Peer) { _, _ = p.Write(raw(1, http2.FramePing, 0, 0, 1)) }, http2.ErrCodeFrameSize},
		{"short goaway", func(p *http2Peer) { _, _ = p.Write(raw(1, http2.FrameGoAway, 0, 0, 1)) }, http2.ErrCodeFrameSize},
		{"short settings", func(p *http2Peer) { _, _ = p.Write(raw(1, http2.FrameSettings, 0, 0, 1)) }, http2.ErrCodeFrameSize},
		{"settings ack with payload", func(p *http2Peer) { _, _ = p.Write(raw(1, http2.FrameSettings, 1, 0, 1)) }, http2.ErrCodeFrameSize},
		{"bad frame size", func(p *http2Peer) { p.settings(http2.Setting{ID: http2.SettingMaxFrameSize, Val: 5}) }, http2.ErrCodeProtocol},
		{"bad window", func(p *http2Peer) { p.settings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 31}) }, http2.ErrCodeFlowControl},
		{"window of nothing", func(p *http2Peer) { _, _ = p.Write(raw(4, http2.FrameWindowUpdate, 0, 0, 0, 0, 0, 0)) }, http2.ErrCodeProtocol},
		{"window overflow", func(p *http2Peer) { _ = p.fr.WriteWindowUpdate(0, 1<<31-1) }, http2.ErrCodeFlowControl},
		{"data beyond our window", func(p *http2Peer) {
			// More than the window in one go, before any WINDOW_UPDATE can have been read.
			for range 80 {
				_ = p.fr.WriteData(1, false, make([]byte, 1<<14))
			}
		}, http2.ErrCodeStreamClosed /* any: see below */},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var code *http2.ErrCode
				tr := startHTTP2(t, HTTP2Config{BackoffMin: time.Millisecond}, func(n int, p *http2Peer) {
					p.settings()
					if n > 0 {
						p.acceptAll()
						return
					}
					p.next()
					test.do(p)
					for p.goAway == nil {
						if _, err := p.frame(); err != nil {
							break
						}
					}
					code = p.goAway
				})
				g := tr.send(http2Notification, 0, 1)
				tr.wait()
				if test.code == http2.ErrCodeStreamClosed {
					return // what matters is that it ends well
				}
				tr.want(g, push.Accepted, nil)
				tr.cancel()
				tr.gw.wg.Wait()
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

func TestHTTP2AnswersInAllForms(t *testing.T) {
	long := `{"reason":"BadTopic","x":"` + strings.Repeat("x", 20000) + `"}`
	tests := []struct {
		name   string
		answer func(p *http2Peer, id uint32)
		want   push.Outcome
		reason *push.Reason
		reset  bool
	}{
		{"headers alone", func(p *http2Peer, id uint32) { p.answer(id, 200, "") }, push.Accepted, nil, false},
		{"empty data", func(p *http2Peer, id uint32) {
			_ = p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, BlockFragment: p.block(":status", "200")})
			_ = p.fr.WriteData(id, true, nil)
		}, push.Accepted, nil, false},
		{"continued, with padding and priority", func(p *http2Peer, id uint32) {
			block := p.block("x-a", "b", ":status", "413", "x-c", strings.Repeat("d", 300))
			_ = p.fr.WriteHeaders(http2.HeadersFrameParam{
				StreamID: id, BlockFragment: block[:3], PadLength: 9, Priority: http2.PriorityParam{StreamDep: 0, Weight: 9},
			})
			_ = p.fr.WriteContinuation(id, false, block[3:9])
			_ = p.fr.WriteContinuation(id, false, nil)
			_ = p.fr.WriteContinuation(id, true, block[9:])
			_ = p.fr.WriteDataPadded(id, false, []byte(`{"reason":"Paylo`), make([]byte, 17))
			_ = p.fr.WriteDataPadded(id, true, []byte(`adTooLarge"}`), make([]byte, 3))
		}, push.Failed, PayloadTooLarge, false},
		{"interim, then trailers", func(p *http2Peer, id uint32) {
			_ = p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, BlockFragment: p.block(":status", "103")})
			_ = p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, BlockFragment: p.block(":status", "400")})
			_ = p.fr.WriteData(id, false, []byte(reasonBody("BadTopic")))
			_ = p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, EndStream: true, BlockFragment: p.block("x", "y")})
		}, push.Blocked, BadTopic, false},
		{"a body without end", func(p *http2Peer, id uint32) {
			_ = p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, BlockFragment: p.block(":status", "400")})
			for len(long) > 1000 {
				_ = p.fr.WriteData(id, false, []byte(long[:1000]))
				long = long[1000:]
			}
		}, push.Blocked, Unrecognized, true},
		{"a 200 without end", func(p *http2Peer, id uint32) {
			_ = p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, BlockFragment: p.block(":status", "200")})
			for range 10 {
				_ = p.fr.WriteData(id, false, make([]byte, 500))
			}
		}, push.Accepted, nil, true},
		{"without a status", func(p *http2Peer, id uint32) {
			_ = p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, BlockFragment: p.block("x", "y")})
		}, push.Accepted, nil, true},
		{"data before headers", func(p *http2Peer, id uint32) { _ = p.fr.WriteData(id, true, []byte("x")) }, push.Accepted, nil, true},
		{"reset", func(p *http2Peer, id uint32) { _ = p.fr.WriteRSTStream(id, http2.ErrCodeInternal) }, push.Accepted, nil, false},
		{"reset after the headers", func(p *http2Peer, id uint32) {
			_ = p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, BlockFragment: p.block(":status", "200")})
			_ = p.fr.WriteRSTStream(id, http2.ErrCodeNo)
		}, push.Accepted, nil, false},
		{"stream window overflow", func(p *http2Peer, id uint32) { _ = p.fr.WriteWindowUpdate(id, 0) }, push.Accepted, nil, true},
		{"frames of tomorrow", func(p *http2Peer, id uint32) {
			_ = p.fr.WriteRawFrame(0x77, 0xff, id, []byte("whatever"))
			p.settings(http2.Setting{ID: 0x77, Val: 1})
			p.answer(id, 503, reasonBody("Shutdown"))
		}, push.Retry, Shutdown, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				tr := startHTTP2(t, HTTP2Config{}, func(_ int, p *http2Peer) {
					// Framer checks what it writes; here it is to write what it should not.
					p.fr.AllowIllegalWrites = true
					p.settings()
					r := p.next()
					test.answer(p, r.id)
					p.acceptAll()
					if _, reset := p.reset[r.id]; reset != test.reset {
						t.Errorf("reset %v, want %v", reset, test.reset)
					}
				})
				g := tr.send(http2Notification, 0, 1)
				tr.wait()
				tr.want(g, test.want, test.reason)
				g = tr.send(http2Notification, 1, 3) // the connection is as good as before
				tr.wait()
				tr.want(g, push.Accepted, nil)
				if tr.gw.dials != 1 {
					t.Errorf("%d connections", tr.gw.dials)
				}
			})
		})
	}
}

// TestHTTP2KeepsNoBodies: whatever pieces an answer's body comes in, nothing of it stays behind.
func TestHTTP2KeepsNoBodies(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tr := startHTTP2(t, HTTP2Config{}, func(_ int, p *http2Peer) {
			p.settings()
			for r := p.next(); r != nil; r = p.next() {
				_ = p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: r.id, EndHeaders: true, BlockFragment: p.block(":status", "400")})
				body := []byte(reasonBody("BadPriority"))
				cut := r.number() * len(body) / 2
				_ = p.fr.WriteData(r.id, false, body[:cut])
				_ = p.fr.WriteData(r.id, true, body[cut:])
			}
		})
		g := tr.send(http2Notification, 0, 3) // cut before, in and behind the body
		tr.wait()
		tr.want(g, push.Failed, BadPriority)
		c := tr.h.slots[0].conn
		c.mu.Lock()
		defer c.mu.Unlock()
		if len(c.bodies) > 0 {
			t.Errorf("%d bodies are left", len(c.bodies))
		}
	})
}

func TestHTTP2RefusedStreamsAreSentAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		seen := map[string]int{}
		tr := startHTTP2(t, HTTP2Config{}, func(_ int, p *http2Peer) {
			p.settings()
			for r := p.next(); r != nil; r = p.next() {
				id := r.headers["apns-id"]
				if seen[id]++; seen[id] < http2MaxTries && r.number()%2 == 0 || r.number() == 99 {
					_ = p.fr.WriteRSTStream(r.id, http2.ErrCodeRefusedStream)
					continue
				}
				p.answer(r.id, 200, "")
			}
		})
		g := tr.send(http2Notification, 0, 99)
		never := tr.send(http2Notification, 99, 100)
		tr.wait()
		tr.want(g, push.Accepted, nil)
		tr.want(never, push.NotSent, push.ConnectionLost)
		if n := seen[ID(http2Notification.ID, tokenOf(99).Address()).String()]; n != http2MaxTries {
			t.Errorf("tried %d times", n)
		}
	})
}

// TestHTTP2UnansweredAmongAnswered: what a gateway resets or never answers, again and again, has its sends counted where the
// gateway answers others, and only there: else it would be sent for ever, or a gateway in trouble would use up all tries.
func TestHTTP2UnansweredAmongAnswered(t *testing.T) {
	const poison = 7
	for _, test := range []struct {
		name   string
		treat  func(p *http2Peer, id uint32)
		tries  int
		others bool // they are answered
		want   push.Outcome
	}{
		{"reset among answers", func(p *http2Peer, id uint32) { _ = p.fr.WriteRSTStream(id, http2.ErrCodeInternal) }, http2MaxTries, true, push.Retry},
		{"all reset", func(p *http2Peer, id uint32) { _ = p.fr.WriteRSTStream(id, http2.ErrCodeInternal) }, http2MaxTries, false, push.NotSent},
		{"no answer among answers", func(*http2Peer, uint32) {}, 1, true, push.Retry},
		{"no answers", func(*http2Peer, uint32) {}, 1, false, push.NotSent},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				tries := 0
				tr := startHTTP2(t, HTTP2Config{StreamTimeout: 10 * time.Second}, func(_ int, p *http2Peer) {
					p.settings()
					for r := p.next(); r != nil; r = p.next() {
						if r.number() == poison {
							tries++
						}
						if r.number() == poison || !test.others {
							test.treat(p, r.id)
							continue
						}
						p.answer(r.id, 200, "")
					}
				})
				g := tr.send(http2Notification, 0, 20)
				tr.wait()
				if got := g.Deliveries[poison].Result; got != (push.Result{Outcome: test.want, Reason: push.NoAnswer}) {
					t.Errorf("%+v", got)
				}
				if tries != test.tries {
					t.Errorf("tried %d times, want %d", tries, test.tries)
				}
				if o := g.Deliveries[0].Result.Outcome; (o == push.Accepted) != test.others {
					t.Errorf("another one is %v", o)
				}
				if tr.gw.dials != 1 {
					t.Errorf("%d connections", tr.gw.dials)
				}
			})
		})
	}
}

// TestHTTP2UnknownForbidden: a 403 of tomorrow holds the app where nothing is accepted, but is a single notification's where others are.
func TestHTTP2UnknownForbidden(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tr := startHTTP2(t, HTTP2Config{}, func(_ int, p *http2Peer) {
			p.settings()
			for r := p.next(); r != nil; r = p.next() {
				if r.number() < 100 {
					p.answer(r.id, 403, reasonBody("SomethingNew"))
				} else {
					p.answer(r.id, 200, "")
				}
			}
		})
		expect := func(from, to int, want push.Outcome) {
			t.Helper()
			g := tr.send(http2Notification, from, to)
			tr.wait()
			for i := range g.Deliveries {
				if o := g.Deliveries[i].Result.Outcome; o != want {
					t.Errorf("%d: %v, want %v", from+i, o, want)
				}
			}
		}
		expect(0, 3, push.Blocked)
		for range 2 {
			expect(100, 101, push.Accepted)
			expect(0, http2MaxDoubts, push.Retry)
		}
		expect(50, 60, push.Blocked) // since the last that was accepted there have been too many
		expect(100, 101, push.Accepted)
		expect(50, 51, push.Retry)
	})
}

// TestHTTP2GoAway: above the last stream they are sent again on a new connection, below it they are awaited; none is sent twice
// that was processed, and none is lost.
// A gateway, or a proxy, that replaces connections after so many requests is no failing one: however many it replaces, the
// pauses between them do not grow.
func TestHTTP2GoAwayAgainAndAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const each, connections = 20, 30
		tr := startHTTP2(t, HTTP2Config{BackoffMin: time.Second, BackoffMax: time.Minute}, func(_ int, p *http2Peer) {
			p.settings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: each})
			for range each {
				r := p.next()
				if r == nil {
					return
				}
				p.answer(r.id, 200, "")
				if r.id == 2*each-1 {
					_ = p.fr.WriteGoAway(r.id, http2.ErrCodeNo, nil)
				}
			}
			p.next()
		})
		begin := time.Now()
		g := tr.send(http2Notification, 0, each*connections)
		tr.wait()
		tr.want(g, push.Accepted, nil)
		if took := time.Since(begin); took > connections*time.Second {
			t.Errorf("%d connections took %v", connections, took)
		}
	})
}

func TestHTTP2GoAway(t *testing.T) {
	for _, graceful := range []bool{false, true} {
		t.Run(fmt.Sprint(graceful), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var mu sync.Mutex
				accepted := map[int]int{}
				second := make(chan struct{})
				tr := startHTTP2(t, HTTP2Config{}, func(n int, p *http2Peer) {
					p.settings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 20})
					if n > 0 {
						for r := p.next(); r != nil; r = p.next() {
							mu.Lock()
							accepted[r.number()]++
							mu.Unlock()
							if r.number() == 5 {
								close(second)
							}
							p.answer(r.id, 200, "")
						}
						return
					}
					var all []*http2Request
					for range 20 {
						all = append(all, p.next())
					}
					if graceful {
						_ = p.fr.WriteGoAway(1<<31-1, http2.ErrCodeNo, nil)
						synctest.Wait()
					}
					_ = p.fr.WriteGoAway(all[4].id, http2.ErrCodeNo, []byte(reasonBody("Shutdown")))
					<-second // the new connection does not wait for the old one
					for _, r := range all[:5] {
						mu.Lock()
						accepted[r.number()]++
						mu.Unlock()
						p.answer(r.id, 200, "")
					}
					if r := p.next(); r != nil {
						t.Error("a request after GOAWAY")
					}
				})
				g := tr.send(http2Notification, 0, 50)
				tr.wait()
				tr.want(g, push.Accepted, nil)
				mu.Lock()
				defer mu.Unlock()
				if len(accepted) != 50 {
					t.Errorf("%d accepted", len(accepted))
				}
				for n, times := range accepted {
					if times != 1 {
						t.Errorf("%d was accepted %d times", n, times)
					}
				}
			})
		})
	}
}

func TestHTTP2IdentifiersRunOut(t *testing.T) {
	bubble(t, func(t *testing.T) {
		last := make(chan uint32, 1)
		tr := startHTTP2(t, HTTP2Config{MaxStreams: 4}, func(n int, p *http2Peer) {
			p.settings()
			highest := uint32(0)
			for r := p.next(); r != nil; r = p.next() {
				highest = r.id
				p.answer(r.id, 200, "")
			}
			if n == 0 {
				last <- highest
			}
		})
		// The first group opens the connection; then it is aged.
		tr.send(http2Notification, 0, 1)
		tr.wait()
		tr.h.mu.Lock()
		c := tr.h.slots[0].conn
		tr.h.mu.Unlock()
		c.mu.Lock()
		c.nextID = http2MaxID - 10
		c.mu.Unlock()
		g := tr.send(http2Notification, 1, 50)
		tr.wait()
		tr.want(g, push.Accepted, nil)
		if id := <-last; id != http2MaxID {
			t.Errorf("the last identifier was %d", id)
		}
	})
}

func TestHTTP2PeerThatStopsReading(t *testing.T) {
	bubble(t, func(t *testing.T) {
		release := make(chan struct{})
		tr := startHTTP2(t, HTTP2Config{BackoffMin: time.Millisecond, WriteTimeout: 5 * time.Second, PingTimeout: time.Hour, PingInterval: time.Hour},
			func(n int, p *http2Peer) {
				p.settings()
				_ = p.fr.WriteWindowUpdate(0, 1<<30)
				if n > 0 {
					p.acceptAll()
					return
				}
				r := p.next()
				p.answer(r.id, 200, "")
				<-release
			})
		n := *http2Notification
		n.Payload.JSON = []byte(strings.Repeat("x", 4000))
		tr.send(&n, 0, 1)
		tr.wait()
		start := time.Now()
		g := tr.send(&n, 1, 1000)
		tr.wait()
		close(release)
		tr.want(g, push.Accepted, nil)
		if d := time.Since(start); d < 5*time.Second || d > 7*time.Second {
			t.Errorf("took %v", d)
		}
	})
}

func TestHTTP2NeverAnswered(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tr := startHTTP2(t, HTTP2Config{StreamTimeout: 30 * time.Second, MaxStreams: 100, MaxInFlight: 10000}, func(_ int, p *http2Peer) {
			p.settings()
			var silent []uint32
			for r := p.next(); r != nil; r = p.next() {
				if r.number()%1000 == 7 {
					silent = append(silent, r.id)
					continue
				}
				p.answer(r.id, 200, "")
			}
			for _, id := range silent {
				if code, ok := p.reset[id]; !ok || code != http2.ErrCodeCancel {
					t.Errorf("stream %d: reset %v %v", id, ok, code)
				}
			}
		})
		// Many more than the table of streams has places, round the ones that hang.
		start := time.Now()
		g := tr.send(http2Notification, 0, 5000)
		late := tr.send(http2Notification, 5000, 5001)
		for {
			tr.mu.Lock()
			n := tr.done[late]
			tr.mu.Unlock()
			if n > 0 {
				break
			}
			<-tr.wake
		}
		if d := time.Since(start); d > time.Second {
			t.Errorf("what hangs held up the rest for %v", d)
		}
		tr.wait()
		if d := time.Since(start); d < 30*time.Second || d > 35*time.Second {
			t.Errorf("given up after %v", d)
		}
		for i := range g.Deliveries {
			want := push.Result{Outcome: push.Accepted, Status: 200}
			if i%1000 == 7 {
				want = push.Result{Outcome: push.Retry, Reason: push.NoAnswer} // since others were answered
			}
			if g.Deliveries[i].Result != want {
				t.Fatalf("%d: %+v", i, g.Deliveries[i].Result)
			}
		}
		if tr.gw.dials != 1 {
			t.Errorf("%d connections", tr.gw.dials)
		}
	})
}

// TestHTTP2LongLivedConnection: after 50 days a request still has its time to be answered.
func TestHTTP2LongLivedConnection(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tr := startHTTP2(t, HTTP2Config{StreamTimeout: 30 * time.Second, PingInterval: time.Hour}, func(_ int, p *http2Peer) {
			p.settings()
			for r := p.next(); r != nil; r = p.next() {
				if r.number() == 2 { // never answered
					continue
				}
				elapse(8 * time.Second)
				p.answer(r.id, 200, "")
			}
		})
		tr.send(http2Notification, 0, 1)
		tr.wait()
		elapse(50 * 24 * time.Hour)
		g := tr.send(http2Notification, 1, 2)
		tr.wait()
		tr.want(g, push.Accepted, nil)
		elapse(time.Second) // an answer at the same instant would tell that others are answered
		start := time.Now()
		g = tr.send(http2Notification, 2, 3)
		tr.wait()
		tr.want(g, push.NotSent, push.NoAnswer)
		if d := time.Since(start); d < 30*time.Second || d > 35*time.Second {
			t.Errorf("given up after %v", d)
		}
		if tr.gw.dials != 1 {
			t.Errorf("%d connections", tr.gw.dials)
		}
	})
}

func TestHTTP2ExpiredProviderToken(t *testing.T) {
	for _, test := range []struct {
		name  string
		again bool // the new one is refused too
		age   time.Duration
		fresh bool
		want  push.Outcome
	}{
		{"renewed", false, 25 * time.Minute, true, push.Accepted},
		{"renewed in vain", true, 25 * time.Minute, true, push.Blocked},
		{"too young to be replaced", true, 10 * time.Minute, false, push.Blocked},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				expired := ""
				seen := map[string]bool{}
				refused := 0
				tr := startHTTP2(t, HTTP2Config{Tokens: testTokens(t)}, func(_ int, p *http2Peer) {
					p.settings()
					for r := p.next(); r != nil; r = p.next() {
						auth := r.headers["authorization"]
						seen[auth] = true
						if expired != "" && (auth == expired || test.again) {
							refused++
							p.answer(r.id, 403, reasonBody("ExpiredProviderToken"))
							continue
						}
						p.answer(r.id, 200, "")
					}
				})
				tr.send(http2Notification, 0, 1)
				tr.wait()
				for auth := range seen {
					expired = auth
				}
				elapse(test.age)
				g := tr.send(http2Notification, 0, 200)
				tr.wait()
				for i := range g.Deliveries {
					if got := g.Deliveries[i].Result; got.Outcome != test.want {
						t.Fatalf("%+v", got)
					}
				}
				if fresh := len(seen) == 2; fresh != test.fresh || len(seen) > 2 {
					t.Errorf("%d tokens were used", len(seen))
				}
				if test.again && refused != 400 {
					t.Errorf("%d refused, want each one twice", refused)
				}
			})
		})
	}
}

func TestHTTP2AnswersThatAskForANewConnection(t *testing.T) {
	for _, test := range []struct {
		status int
		reason *push.Reason
	}{
		{403, UnrelatedKeyIDInToken}, {429, TooManyProviderTokenUpdates}, {400, IdleTimeout},
	} {
		t.Run(test.reason.String(), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				auth := map[string]bool{}
				tr := startHTTP2(t, HTTP2Config{Tokens: testTokens(t), BackoffMin: time.Millisecond}, func(n int, p *http2Peer) {
					p.settings()
					for r := p.next(); r != nil; r = p.next() {
						auth[r.headers["authorization"]] = true
						if n == 0 {
							p.answer(r.id, test.status, reasonBody(test.reason.String()))
							continue
						}
						p.answer(r.id, 200, "")
					}
				})
				g := tr.send(http2Notification, 0, 1)
				tr.wait()
				tr.want(g, push.NotSent, test.reason)
				g = tr.send(http2Notification, 0, 10)
				tr.wait()
				tr.want(g, push.Accepted, nil)
				if tr.gw.dials != 2 || len(auth) != 1 {
					t.Errorf("%d connections, %d tokens", tr.gw.dials, len(auth))
				}
			})
		})
	}
}

// TestHTTP2GatewayDown: what waits is handed back soon, when it can be cancelled; attempts are spaced, and all is well when it is
// back.
func TestHTTP2GatewayDown(t *testing.T) {
	bubble(t, func(t *testing.T) {
		gw := &http2Gateway{serve: func(_ int, p *http2Peer) { p.settings(); p.acceptAll() }, down: true}
		tr := newHTTP2Tester(t, HTTP2Config{Connections: 4, BackoffMin: time.Second, BackoffMax: time.Minute}, gw)
		t.Cleanup(tr.stop)
		start := time.Now()
		send := func() *push.Group {
			began := time.Now()
			g := tr.send(http2Notification, 0, 2)
			tr.wait()
			if took := time.Since(began); took > http2HandBack {
				t.Errorf("kept for %v", took)
			}
			return g
		}
		for time.Since(start) < 20*time.Minute {
			tr.want(send(), push.NotSent, push.ConnectionLost)
		}
		if gw.dials < 10 || gw.dials > 60 {
			t.Errorf("%d attempts in 20 minutes", gw.dials)
		}
		gw.setDown(false)
		back, g := time.Now(), send()
		for g.Deliveries[0].Result.Outcome != push.Accepted && time.Since(back) < 2*time.Minute { // until the next attempt is due
			tr.want(g, push.NotSent, push.ConnectionLost)
			g = send()
		}
		tr.want(g, push.Accepted, nil)
	})
}

// TestHTTP2ClosedAtOnce: a gateway that takes the connection and closes it, as it does with a certificate for the other
// environment, is tried with growing pauses and not in a loop.
func TestHTTP2ClosedAtOnce(t *testing.T) {
	for _, after := range []string{"handshake", "settings", "request", "goaway"} {
		t.Run(after, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				gw := &http2Gateway{serve: func(_ int, p *http2Peer) {
					if after == "handshake" {
						return
					}
					p.settings()
					if after == "request" {
						p.next()
					}
					if after == "goaway" {
						p.next()
						_ = p.fr.WriteGoAway(0, http2.ErrCodeNo, []byte(reasonBody("BadCertificate")))
					}
				}}
				tr := newHTTP2Tester(t, HTTP2Config{Connections: 2, BackoffMin: time.Second, BackoffMax: time.Minute}, gw)
				t.Cleanup(tr.stop)
				start := time.Now()
				for time.Since(start) < time.Hour {
					g := tr.send(http2Notification, 0, 100)
					tr.wait()
					tr.want(g, push.NotSent, push.ConnectionLost)
				}
				if gw.dials < 20 || gw.dials > 150 {
					t.Errorf("%d connections in an hour", gw.dials)
				}
			})
		})
	}
}

func TestHTTP2StalledGateway(t *testing.T) {
	for name, settings := range map[string]http2.Setting{
		"no streams": {ID: http2.SettingMaxConcurrentStreams, Val: 0},
		"no window":  {ID: http2.SettingInitialWindowSize, Val: 0},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				tr := startHTTP2(t, HTTP2Config{StreamTimeout: 10 * time.Second, BackoffMin: time.Second, BackoffMax: 2 * time.Second}, func(_ int, p *http2Peer) {
					p.settings(settings)
					p.acceptAll()
				})
				start := time.Now()
				g := tr.send(http2Notification, 0, 10)
				tr.wait()
				for i := range g.Deliveries {
					if g.Deliveries[i].Result.Outcome != push.NotSent {
						t.Fatalf("%+v", g.Deliveries[i].Result)
					}
				}
				if d := time.Since(start); d > 2*time.Minute {
					t.Errorf("took %v", d)
				}
			})
		})
	}
}

func TestHTTP2HeadersTooLarge(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tr := startHTTP2(t, HTTP2Config{}, func(_ int, p *http2Peer) {
			p.settings(http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: 1000})
			for r := p.next(); r != nil; r = p.next() {
				size := uint32(0)
				for _, f := range r.fields {
					size += f.Size()
				}
				if size > 1000 {
					t.Errorf("a header list of %d", size)
				}
				p.answer(r.id, 200, "")
			}
		})
		long := *http2Notification
		long.Key = strings.Repeat("t", 1000)
		g := tr.send(&long, 0, 10)
		ok := tr.send(http2Notification, 0, 10)
		tr.wait()
		tr.want(g, push.Blocked, push.UnknownReason)
		tr.want(ok, push.Accepted, nil)
	})
}

func TestHTTP2LongHeadersAreContinued(t *testing.T) {
	bubble(t, func(t *testing.T) {
		long := *http2Notification
		long.Key = strings.Repeat("t", 40000)
		tr := startHTTP2(t, HTTP2Config{}, func(_ int, p *http2Peer) {
			p.dec.SetMaxStringLength(1 << 20)
			p.settings()
			for r := p.next(); r != nil; r = p.next() {
				if r.headers["apns-topic"] != long.Key {
					t.Error("the topic did not come through")
				}
				p.answer(r.id, 200, "")
			}
			if p.seen[http2.FrameContinuation] != 2*10 {
				t.Errorf("%d continuations", p.seen[http2.FrameContinuation])
			}
		})
		g := tr.send(&long, 0, 10)
		tr.wait()
		tr.want(g, push.Accepted, nil)
	})
}

func TestHTTP2Expired(t *testing.T) {
	bubble(t, func(t *testing.T) {
		release := make(chan struct{})
		tr := startHTTP2(t, HTTP2Config{MaxStreams: 1}, func(_ int, p *http2Peer) {
			p.settings()
			r := p.next()
			<-release
			p.answer(r.id, 200, "")
			if p.next() != nil {
				t.Error("an expired notification was sent")
			}
		})
		first := tr.send(http2Notification, 0, 1)
		n := *http2Notification
		n.Expiration = time.Now().Add(time.Second)
		g := tr.send(&n, 1, 10)
		elapse(time.Second)
		close(release)
		tr.wait()
		tr.want(first, push.Accepted, nil)
		tr.want(g, push.Expired, push.ExpiredReason)
	})
}

func TestHTTP2SendWaitsAtTheBound(t *testing.T) {
	bubble(t, func(t *testing.T) {
		release := make(chan struct{})
		tr := startHTTP2(t, HTTP2Config{MaxInFlight: 10}, func(_ int, p *http2Peer) {
			p.settings()
			<-release
			p.acceptAll()
		})
		tr.send(http2Notification, 0, 9)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		g := &push.Group{Deliveries: make([]push.Delivery, 2), Done: func(*push.Group) { t.Error("Done of a group that was not taken") }}
		if err := tr.h.Send(ctx, g); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Send beyond the bound: %v", err)
		}
		close(release)
		large := tr.send(http2Notification, 0, 100) // beyond the bound by itself
		tr.wait()
		tr.want(large, push.Accepted, nil)
		empty := tr.send(http2Notification, 0, 0)
		tr.wait()
		_ = empty
	})
}

func TestHTTP2Drain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		release := make(chan struct{})
		tr := startHTTP2(t, HTTP2Config{}, func(_ int, p *http2Peer) {
			p.settings()
			<-release
			p.acceptAll()
		})
		g := tr.send(http2Notification, 0, 10)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := tr.h.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Drain: %v", err)
		}
		if err := tr.h.Send(t.Context(), &push.Group{Deliveries: make([]push.Delivery, 1)}); err == nil {
			t.Error("Send after Drain")
		}
		close(release)
		if err := tr.h.Drain(t.Context()); err != nil {
			t.Errorf("Drain: %v", err)
		}
		tr.want(g, push.Accepted, nil)
	})
}

func TestHTTP2StopHandsBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tr := startHTTP2(t, HTTP2Config{MaxStreams: 10, Connections: 2}, func(_ int, p *http2Peer) {
			p.settings()
			for p.next() != nil {
			}
			if p.goAway == nil || *p.goAway != http2.ErrCodeNo {
				t.Errorf("no GOAWAY at the end: %v", p.goAway)
			}
		})
		g := tr.send(http2Notification, 0, 100)
		synctest.Wait()
		tr.cancel()
		tr.wait()
		tr.want(g, push.NotSent, push.ConnectionLost)
		if err := tr.h.Send(t.Context(), &push.Group{Deliveries: make([]push.Delivery, 1)}); err == nil {
			t.Error("Send after the end")
		}
	})
}

func TestHTTP2ReconnectForNewCredentials(t *testing.T) {
	bubble(t, func(t *testing.T) {
		release := make(chan struct{})
		tr := startHTTP2(t, HTTP2Config{}, func(n int, p *http2Peer) {
			p.settings()
			r := p.next()
			if n == 0 {
				<-release
			}
			p.answer(r.id, 200, "")
			p.acceptAll()
		})
		old := tr.send(http2Notification, 0, 1)
		synctest.Wait()
		tr.h.Reconnect()
		g := tr.send(http2Notification, 1, 2)
		synctest.Wait()
		tr.want(g, push.Accepted, nil) // on the new connection, while the old one still waits
		close(release)
		tr.wait()
		tr.want(old, push.Accepted, nil)
	})
}

func TestHTTP2ConnectionsOpenWithLoad(t *testing.T) {
	bubble(t, func(t *testing.T) {
		release := make(chan struct{})
		tr := startHTTP2(t, HTTP2Config{Connections: 3}, func(_ int, p *http2Peer) {
			p.settings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 10})
			<-release
			p.acceptAll()
		})
		tr.send(http2Notification, 0, 10)
		synctest.Wait()
		if tr.gw.dials != 1 {
			t.Errorf("%d connections where one suffices", tr.gw.dials)
		}
		tr.send(http2Notification, 10, 100)
		synctest.Wait()
		if tr.gw.dials != 3 {
			t.Errorf("%d connections under load", tr.gw.dials)
		}
		close(release)
		tr.wait()
	})
}

// TestHTTP2ManyNotifications goes through one-recipient notifications that differ in everything, so that HPACK's table turns
// over many times. The peer's decoder is x/net's.
func TestHTTP2ManyNotifications(t *testing.T) {
	bubble(t, func(t *testing.T) {
		want := map[string]*push.Notification{}
		tr := startHTTP2(t, HTTP2Config{Tokens: testTokens(t)}, func(_ int, p *http2Peer) {
			p.settings()
			for r := p.next(); r != nil; r = p.next() {
				n := want[r.headers["apns-id"]]
				if n == nil || r.headers["apns-topic"] != n.Key || r.headers["apns-collapse-id"] != n.CollapseID ||
					r.headers["apns-priority"] != fmt.Sprint(n.Priority) || r.headers["apns-push-type"] != string(n.Type) ||
					r.headers["apns-expiration"] != fmt.Sprint(n.ExpirationUnix()) || string(r.body) != string(n.Payload.JSON) {
					t.Errorf("%v for %+v", r.headers, n)
				}
				for _, f := range r.fields {
					if (f.Name == ":path" || f.Name == "apns-id") && !f.Sensitive {
						t.Errorf("%s may be indexed", f.Name)
					}
				}
				p.answer(r.id, 200, "")
			}
		})
		seed := uint32(1)
		random := func(n uint32) uint32 { seed = seed*1664525 + 1013904223; return (seed >> 8) % n }
		for range 2000 {
			n := &push.Notification{
				ID: uuid.New(), Key: fmt.Sprint("com.example.", random(30)), Type: []push.Type{payload.TypeAlert, payload.TypeVoIP}[random(2)],
				Priority: []uint8{1, 5, 10}[random(3)], Expiration: time.Now().Add(time.Duration(1+random(100)) * time.Hour),
				Payload: push.Payload{JSON: []byte(fmt.Sprint(random(1 << 30)))},
			}
			if random(2) == 0 {
				n.CollapseID = strings.Repeat("c", int(1+random(64)))
			}
			to := int(1 + random(4))
			for i := range to {
				want[ID(n.ID, tokenOf(i).Address()).String()] = n
			}
			tr.send(n, 0, to)
			tr.wait() // the map may be written only while nothing is under way
		}
	})
}

func TestPutUUID(t *testing.T) {
	t.Parallel()
	for range 100 {
		id := uuid.New()
		var b [uuidTextLen]byte
		if putUUID(b[:], id); string(b[:]) != id.String() {
			t.Fatalf("%s, want %s", b, id)
		}
	}
}

func TestHTTP2QueueKeepsOrder(t *testing.T) {
	t.Parallel()
	var q http2Queue
	var want []uint32
	g := &http2Group{group: &push.Group{Deliveries: make([]push.Delivery, 7)}}
	buf := make([]http2Ref, 50)
	for i := range 1000 {
		switch i % 5 {
		case 0, 1:
			q.pushGroup(g)
			want = append(want, 0, 1, 2, 3, 4, 5, 6)
		case 2:
			q.pushFront([]http2Ref{{index: 90}, {index: 91}})
			want = append([]uint32{90, 91}, want...)
		default:
			n := q.pop(buf[:i%9])
			var got []uint32
			for _, r := range buf[:n] {
				got = append(got, r.index)
			}
			if !slices.Equal(got, want[:n]) || n != min(i%9, len(want)) {
				t.Fatalf("step %d: %v, want %v", i, got, want[:n])
			}
			want = want[n:]
		}
	}
}

// One notification whose request ends the connection, in whatever way, is found, and takes no other with it.
func TestHTTP2CulpritIsFound(t *testing.T) {
	const culprit = 7
	for name, end := range map[string]func(p *http2Peer, id uint32){
		"dropped": func(p *http2Peer, _ uint32) { p.Close() },
		"GOAWAY ENHANCE_YOUR_CALM": func(p *http2Peer, _ uint32) {
			_ = p.fr.WriteGoAway(0, http2.ErrCodeEnhanceYourCalm, nil)
			p.Close()
		},
		"30 KB of headers": func(p *http2Peer, id uint32) {
			block := p.block(":status", "200", "x", strings.Repeat("y", 30<<10))
			_ = p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: false, BlockFragment: block[:16000]})
			_ = p.fr.WriteContinuation(id, true, block[16000:])
			for p.next() != nil { // until the client has had enough
				continue
			}
		},
	} {
		for _, first := range []bool{true, false} { // before anything is answered on the connection, or after
			t.Run(fmt.Sprint(name, " first=", first), func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					tr := startHTTP2(t, HTTP2Config{}, func(_ int, p *http2Peer) {
						p.settings()
						var waiting []uint32
						for r := p.next(); r != nil; r = p.next() {
							if r.number()%30 == culprit {
								end(p, r.id)
								return
							}
							if waiting = append(waiting, r.id); !first || r.number()%30 > culprit || len(waiting) == 1 {
								for _, id := range waiting {
									p.answer(id, 200, "")
								}
								waiting = nil
							}
						}
					})
					began := time.Now()
					g := tr.send(http2Notification, 0, 30)
					tr.wait()
					for i, d := range g.Deliveries {
						want := push.Accepted
						if i == culprit {
							want = push.Retry
						}
						if d.Result.Outcome != want {
							t.Errorf("delivery %d: %v %v, want %v", i, d.Result.Outcome, d.Result.Reason, want)
						}
					}
					if took := time.Since(began); took > 20*time.Second {
						t.Errorf("it took %v", took)
					}
				})
			})
		}
	}
}
