package http2

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/lhspn/lhspn/internal/http2/http2test"
)

func TestAnswersPing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tr := startClient(t, Config{}, func(_ int, p *http2test.Peer) {
			p.Settings()
			r := p.Next()
			_ = p.Framer.WritePing(false, [8]byte{1, 2, 3, 4, 5, 6, 7, 8})
			for {
				f, err := p.Framer.ReadFrame()
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
			p.Answer(r.ID, 200, "")
			p.AcceptAll()
		})
		tr.send(testNote, 0, 1)
		tr.wait()
	})
}

func TestPingsWhatIsSilent(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ended := make(chan time.Duration, 1)
		start := time.Now()
		tr := startClient(t, Config{PingInterval: time.Minute, PingTimeout: 10 * time.Second}, func(n int, p *http2test.Peer) {
			p.Settings()
			if n > 0 {
				p.AcceptAll()
				return
			}
			r := p.Next()
			p.Answer(r.ID, 200, "")
			for p.Seen[http2.FramePing] < 10 { // answered by frame
				if _, err := p.Frame(); err != nil {
					t.Error("the connection ended although it answered:", err)
					return
				}
			}
			// From here on it is deaf and dumb.
			for {
				if _, err := p.Framer.ReadFrame(); err != nil {
					break
				}
			}
			ended <- time.Since(start)
		})
		tr.send(testNote, 0, 1)
		tr.wait()
		if d := <-ended; d != 11*time.Minute+10*time.Second {
			t.Errorf("ended after %v", d)
		}
		g := tr.send(testNote, 1, 2)
		tr.wait()
		tr.want(g, Answered, 200)
	})
}

func TestSilentWithOpenStreams(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ids := make(chan string, 2)
		tr := startClient(t, Config{BackoffMin: time.Millisecond, PingInterval: time.Hour, PingTimeout: 3 * time.Second}, func(n int, p *http2test.Peer) {
			p.Settings()
			r := p.Next()
			ids <- r.Headers["apns-id"]
			if n > 0 {
				p.Answer(r.ID, 200, "")
				p.AcceptAll()
				return
			}
			for {
				if _, err := p.Framer.ReadFrame(); err != nil {
					return
				}
			}
		})
		start := time.Now()
		g := tr.send(testNote, 0, 1)
		tr.wait()
		tr.want(g, Answered, 200)
		if d := time.Since(start); d < 6*time.Second || d > 7*time.Second {
			t.Errorf("resent after %v", d)
		}
		if a, b := <-ids, <-ids; a != b {
			t.Errorf("sent again as %s, before as %s", b, a)
		}
	})
}

func TestPeerThatStopsReading(t *testing.T) {
	bubble(t, func(t *testing.T) {
		release := make(chan struct{})
		tr := startClient(t, Config{BackoffMin: time.Millisecond, WriteTimeout: 5 * time.Second, PingTimeout: time.Hour, PingInterval: time.Hour},
			func(n int, p *http2test.Peer) {
				p.Settings()
				_ = p.Framer.WriteWindowUpdate(0, 1<<30)
				if n > 0 {
					p.AcceptAll()
					return
				}
				r := p.Next()
				p.Answer(r.ID, 200, "")
				<-release
			})
		n := *testNote
		n.body = strings.Repeat("x", 4000)
		tr.send(&n, 0, 1)
		tr.wait()
		start := time.Now()
		g := tr.send(&n, 1, 1000)
		tr.wait()
		close(release)
		tr.want(g, Answered, 200)
		if d := time.Since(start); d < 5*time.Second || d > 7*time.Second {
			t.Errorf("took %v", d)
		}
	})
}

func TestNeverAnswered(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tr := startClient(t, Config{StreamTimeout: 30 * time.Second, MaxStreams: 100, MaxInFlight: 10000}, func(_ int, p *http2test.Peer) {
			p.Settings()
			var silent []uint32
			for r := p.Next(); r != nil; r = p.Next() {
				if number(r)%1000 == 7 {
					silent = append(silent, r.ID)
					continue
				}
				p.Answer(r.ID, 200, "")
			}
			for _, id := range silent {
				if code, ok := p.Resets[id]; !ok || code != http2.ErrCodeCancel {
					t.Errorf("stream %d: reset %v %v", id, ok, code)
				}
			}
		})
		// Many more than the table of streams has places, round the ones that hang.
		start := time.Now()
		g := tr.send(testNote, 0, 5000)
		late := tr.send(testNote, 5000, 5001)
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
		for i, got := range g.results {
			want := Answered
			if i%1000 == 7 {
				want = Ignored // since others were answered
			}
			if got.outcome != want {
				t.Fatalf("%d: %+v", i, got)
			}
		}
		if tr.gw.Dials() != 1 {
			t.Errorf("%d connections", tr.gw.Dials())
		}
	})
}

// TestLongLivedConnection: after 50 days a request still has its time to be answered.
func TestLongLivedConnection(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tr := startClient(t, Config{StreamTimeout: 30 * time.Second, PingInterval: time.Hour}, func(_ int, p *http2test.Peer) {
			p.Settings()
			for r := p.Next(); r != nil; r = p.Next() {
				if number(r) == 2 { // never answered
					continue
				}
				elapse(8 * time.Second)
				p.Answer(r.ID, 200, "")
			}
		})
		tr.send(testNote, 0, 1)
		tr.wait()
		elapse(50 * 24 * time.Hour)
		g := tr.send(testNote, 1, 2)
		tr.wait()
		tr.want(g, Answered, 200)
		elapse(time.Second) // an answer at the same instant would tell that others are answered
		start := time.Now()
		g = tr.send(testNote, 2, 3)
		tr.wait()
		tr.want(g, NoAnswer, 0)
		if d := time.Since(start); d < 30*time.Second || d > 35*time.Second {
			t.Errorf("given up after %v", d)
		}
		if tr.gw.Dials() != 1 {
			t.Errorf("%d connections", tr.gw.Dials())
		}
	})
}

// TestWhatOthersSentStallsNone: a connection that may open no streams is no stalled one when another has sent what waited.
func TestWhatOthersSentStallsNone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		start := time.Now()
		tr := startClient(t, Config{Connections: 2, StreamTimeout: 10 * time.Second}, func(n int, p *http2test.Peer) {
			if n == 0 {
				p.Settings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 0})
			} else {
				p.Settings()
			}
			p.AcceptAll()
			if d := time.Since(start); d < 20*time.Second {
				t.Errorf("connection %d ended after %v", n, d)
			}
		})
		g := tr.send(testNote, 0, 10)
		tr.wait()
		tr.want(g, Answered, 200)
		elapse(20 * time.Second)
	})
}

func TestStalledGateway(t *testing.T) {
	for name, settings := range map[string]http2.Setting{
		"no streams": {ID: http2.SettingMaxConcurrentStreams, Val: 0},
		"no window":  {ID: http2.SettingInitialWindowSize, Val: 0},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				tr := startClient(t, Config{StreamTimeout: 10 * time.Second, BackoffMin: time.Second, BackoffMax: 2 * time.Second}, func(_ int, p *http2test.Peer) {
					p.Settings(settings)
					p.AcceptAll()
				})
				start := time.Now()
				g := tr.send(testNote, 0, 10)
				tr.wait()
				for _, got := range g.results {
					if got.outcome != NotSent && got.outcome != NoAnswer {
						t.Fatalf("%+v", got)
					}
				}
				if d := time.Since(start); d > 2*time.Minute {
					t.Errorf("took %v", d)
				}
			})
		})
	}
}
