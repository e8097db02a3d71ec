package http2

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"golang.org/x/net/http2"

	"github.com/lhspn/lhspn/internal/http2/http2test"
)

// TestWindows serves with windows so small that every body is cut, shrunk below zero and opened again.
func TestWindows(t *testing.T) {
	for _, initial := range []uint32{0, 1, 7, 10000} {
		t.Run(fmt.Sprint(initial), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				n := *testNote
				n.body = strings.Repeat("x", 3000)
				tr := startClient(t, Config{}, func(_ int, p *http2test.Peer) {
					p.Settings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: initial}, http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 50})
					conn, streams := int64(defaultWindow), map[uint32]int64{}
					window := int64(initial)
					for done := 0; done < 200; {
						f, err := p.Framer.ReadFrame()
						if err != nil {
							t.Errorf("after %d: %v", done, err)
							return
						}
						switch f := f.(type) {
						case *http2.HeadersFrame:
							streams[f.StreamID] = window
							_ = p.Framer.WriteWindowUpdate(f.StreamID, 100)
							streams[f.StreamID] += 100
							if f.StreamID%20 == 1 {
								// Every stream's window changes by the difference; below 0 for those that have used
								// theirs.
								next := uint32((window + 977) % 2000)
								delta := int64(next) - window
								for id := range streams {
									streams[id] += delta
								}
								window = int64(next)
								p.Settings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: next})
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
								_ = p.Framer.WriteWindowUpdate(0, 1500)
								conn += 1500
							}
							if f.StreamEnded() {
								done++
								p.Answer(f.StreamID, 200, "")
								delete(streams, f.StreamID)
							} else if streams[f.StreamID] < 500 {
								_ = p.Framer.WriteWindowUpdate(f.StreamID, 1000)
								streams[f.StreamID] += 1000
							}
						}
					}
					p.AcceptAll()
				})
				g := tr.send(&n, 0, 200)
				tr.wait()
				tr.want(g, Answered, 200)
			})
		})
	}
}

// TestNegativeWindow: a stream that has used its window when the initial one shrinks stays quiet until it is positive
// again.
func TestNegativeWindow(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := *testNote
		n.body = strings.Repeat("x", 1000)
		tr := startClient(t, Config{}, func(_ int, p *http2test.Peer) {
			p.Settings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 600})
			synctest.Wait()
			body := func() (n int, ended bool) {
				for {
					if p.Unread() == 0 {
						return n, ended
					}
					f, err := p.Framer.ReadFrame()
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
			p.Settings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 100}) // now at -500
			_ = p.Framer.WriteWindowUpdate(1, 500)                                  // at 0
			synctest.Wait()
			if n, _ := body(); n != 0 {
				t.Errorf("%d bytes in a window of 0", n)
			}
			_ = p.Framer.WriteWindowUpdate(1, 400)
			synctest.Wait()
			if n, ended := body(); n != 400 || !ended {
				t.Errorf("%d bytes, ended %v; want the last 400", n, ended)
			}
			p.Answer(1, 200, "")
			p.AcceptAll()
		})
		g := tr.send(&n, 0, 1)
		tr.wait()
		tr.want(g, Answered, 200)
	})
}

// TestReturnsItsWindow: the gateway may send more than our window as long as we hear it, also when we have nothing to
// send.
func TestReturnsItsWindow(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tr := startClient(t, Config{}, func(_ int, p *http2test.Peer) {
			p.Settings()
			r := p.Next()
			// DATA on a stream that the client has had enough of still counts against the connection's window.
			_ = p.Framer.WriteHeaders(http2.HeadersFrameParam{StreamID: r.ID, EndHeaders: true, BlockFragment: p.Block(":status", "200")})
			window := int64(ourConnWindow)
			for range 200 {
				for window < 16000 {
					f, err := p.Framer.ReadFrame()
					if err != nil {
						t.Error("no WINDOW_UPDATE:", err)
						return
					}
					if wu, ok := f.(*http2.WindowUpdateFrame); ok && wu.StreamID == 0 {
						window += int64(wu.Increment)
					}
				}
				_ = p.Framer.WriteData(r.ID, false, make([]byte, 16000))
				window -= 16000
			}
			p.AcceptAll()
		})
		tr.send(testNote, 0, 1)
		tr.wait()
		synctest.Wait()
	})
}
