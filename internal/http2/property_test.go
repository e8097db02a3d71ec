package http2

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"pgregory.net/rapid"

	"github.com/lhspn/lhspn/internal/http2/http2test"
)

// model is what a gateway with random faults has done with each delivery, by number.
type model struct {
	mu        sync.Mutex
	rnd       *rand.Rand
	drops     bool // connections may break with requests processed and not answered
	processed map[int]int
	unheard   map[int]bool // was processed, and the answer may have been lost
}

// verdict is the gateway's fixed answer to a request.
func (m *model) verdict(n int) (status int, body string) {
	switch n % 11 {
	case 3:
		return 410, `{"reason":"Unregistered","timestamp":1650000000123}`
	case 5:
		return 400, reasonBody("BadDeviceToken")
	case 7:
		return 503, reasonBody("ServiceUnavailable")
	default:
		return 200, ""
	}
}

func (m *model) chance(of int) bool { return m.rnd.IntN(of) == 0 }

// serve is one connection: requests are processed in the order they come and answered in any; at random the limits
// change, streams are refused, and the connection ends by a correct GOAWAY or, with drops, without a word.
func (m *model) serve(_ int, p *http2test.Peer) {
	m.mu.Lock()
	p.Settings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: uint32(1 + m.rnd.IntN(40))},
		http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(m.rnd.IntN(60))},
		http2.Setting{ID: http2.SettingHeaderTableSize, Val: uint32(m.rnd.IntN(400))})
	m.mu.Unlock()
	var open []*http2test.Request
	answer := func(i int) {
		r := open[i]
		open = append(open[:i], open[i+1:]...)
		status, body := m.verdict(number(r))
		p.Answer(r.ID, status, body)
	}
	goingAway := false
	var here []int // processed on this connection
	for {
		f, err := p.Framer.ReadFrame()
		if err != nil {
			break
		}
		// Streams' windows are returned as bytes come; the connection's too.
		if d, ok := f.(*http2.DataFrame); ok && d.Length > 0 && !d.StreamEnded() {
			_ = p.Framer.WriteWindowUpdate(d.StreamID, 40)
		}
		if h, ok := f.(*http2.HeadersFrame); ok {
			_ = p.Framer.WriteWindowUpdate(h.StreamID, 40)
		}
		r, err := p.Take(f)
		if err != nil {
			break
		}
		m.mu.Lock()
		switch {
		case r != nil && goingAway:
		case r != nil && m.chance(40):
			_ = p.Framer.WriteRSTStream(r.ID, http2.ErrCodeRefusedStream)
			p.Open--
		case r != nil:
			m.processed[number(r)]++
			open = append(open, r)
			here = append(here, number(r))
		}
		for len(open) > 0 && m.chance(3) {
			answer(m.rnd.IntN(len(open)))
		}
		if r != nil && m.chance(60) {
			p.Settings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: uint32(1 + m.rnd.IntN(40))},
				http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(m.rnd.IntN(60))},
				http2.Setting{ID: http2.SettingHeaderTableSize, Val: 400})
		}
		if m.drops && r != nil && m.chance(100) {
			for _, n := range here {
				m.unheard[n] = true // answers that were written may be lost with it
			}
			destroy := m.chance(2)
			m.mu.Unlock()
			p.Reset(destroy)
			return
		}
		if r != nil && !goingAway && m.chance(80) {
			goingAway = true
			// Everything up to the highest identifier that was read counts as processed; what was refused has its
			// RST_STREAM.
			_ = p.Framer.WriteGoAway(r.ID, http2.ErrCodeNo, []byte(reasonBody("Shutdown")))
		}
		// When nothing more comes by itself, the rest is answered.
		if p.Unread() == 0 {
			for len(open) > 0 {
				answer(m.rnd.IntN(len(open)))
			}
		}
		m.mu.Unlock()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range open {
		m.unheard[number(r)] = true
	}
}

// TestProperty: whatever the gateway does within the rules, every delivery has exactly one result, and it is the
// gateway's own; nothing is processed twice unless a connection broke between the processing and the answer.
func TestProperty(t *testing.T) {
	t.Parallel()
	rounds := 150
	if testing.Short() {
		rounds = 20
	}
	for seed := range rounds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { property(t, uint64(seed)) })
		})
	}
}

func property(t *testing.T, seed uint64) {
	t.Helper()
	m := &model{
		rnd: rand.New(rand.NewPCG(seed, 1)), drops: seed%2 == 1, processed: map[int]int{}, unheard: map[int]bool{},
	}
	rnd := rand.New(rand.NewPCG(seed, 2))
	cfg := Config{Connections: 1 + rnd.IntN(3), BackoffMin: 10 * time.Millisecond, BackoffMax: time.Second, MaxInFlight: 50 + rnd.IntN(400)}
	if rnd.IntN(2) == 0 {
		cfg.OneUntilAccepted = true
	}
	tr := newTester(t, cfg, &http2test.Gateway{Serve: m.serve})
	defer tr.stop()
	const sends = 20
	groups := make([]*batch, 0, sends)
	total := 0
	for range sends {
		n := 1 + rnd.IntN(60)
		n2 := *testNote
		n2.collapse = fmt.Sprint("c", rnd.IntN(5))
		groups = append(groups, tr.send(&n2, total, total+n))
		total += n
	}
	tr.wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	notSent := 0
	for _, g := range groups {
		for i, got := range g.results {
			n := g.from + i
			status, body := m.verdict(n)
			switch {
			case got.outcome == NotSent || got.outcome == Refused || got.outcome == Lost:
				notSent++
				if m.processed[n] > 0 && !m.unheard[n] {
					t.Errorf("%d was answered and is %v", n, got.outcome)
				}
				if m.processed[n] > 0 && got.outcome != Lost {
					t.Errorf("%d was processed and counts as not sent", n)
				}
			case got.outcome != Answered || got.status != status || got.body != body || m.processed[n] == 0:
				t.Errorf("%d: %+v, want %d; processed %d times", n, got, status, m.processed[n])
			}
			if m.processed[n] > 1 && !m.unheard[n] {
				t.Errorf("%d was processed %d times", n, m.processed[n])
			}
		}
	}
	if !m.drops && notSent > total/10 {
		t.Errorf("%d of %d not sent", notSent, total)
	}
}

// TestQueue is a model test of the queue: what comes out is what went in, in order.
func TestQueue(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var q queue
		var want []uint32
		buf := make([]ref, 100)
		groups := map[int]*group{}
		t.Repeat(map[string]func(*rapid.T){
			"group": func(t *rapid.T) {
				n := rapid.IntRange(1, 300).Draw(t, "n")
				if groups[n] == nil {
					groups[n] = &group{}
				}
				q.pushGroup(groups[n], n)
				for i := range n {
					want = append(want, uint32(i))
				}
			},
			"front": func(t *rapid.T) {
				refs := make([]ref, rapid.IntRange(0, 300).Draw(t, "n"))
				front := make([]uint32, len(refs), len(refs)+len(want))
				for i := range refs {
					refs[i].index = uint32(1000 + i)
					front[i] = uint32(1000 + i)
				}
				q.pushFront(refs)
				want = append(front, want...)
			},
			"pop": func(t *rapid.T) {
				n := q.pop(buf[:rapid.IntRange(0, len(buf)).Draw(t, "n")])
				for i := range n {
					if buf[i].index != want[i] {
						t.Fatalf("%d at %d, want %d", buf[i].index, i, want[i])
					}
				}
				want = want[n:]
			},
			"": func(t *rapid.T) {
				if q.Len() != len(want) {
					t.Fatalf("%d in the queue, want %d", q.Len(), len(want))
				}
			},
		})
	})
}

// FuzzPeer feeds whatever a hostile gateway may send to a connection with requests on it: the connection ends or goes
// on, memory stays bounded, and every delivery has one result in the end.
func FuzzPeer(f *testing.F) {
	frames := func(p ...[]byte) (all []byte) {
		for _, b := range p {
			all = append(all, b...)
		}
		return all
	}
	frame := func(t http2.FrameType, flags http2.Flags, id uint32, p ...byte) []byte {
		return append(appendFrameHeader(nil, len(p), t, flags, id), p...)
	}
	f.Add([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
	f.Add(frames(frame(1, 5, 1, 0x88), frame(1, 5, 3, 0x8c), frame(1, 4, 5, 0x8c), frame(0, 1, 5, []byte(`{"reason":"BadTopic"}`)...)))
	f.Add(frames(frame(4, 0, 0, 0, 3, 0, 0, 0, 1), frame(1, 0, 1, 0x88), frame(9, 4, 1), frame(3, 0, 3, 0, 0, 0, 7)))
	f.Add(frames(frame(7, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0), frame(8, 0, 0, 0, 0, 1, 0), frame(6, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8)))
	f.Add(frames(frame(1, 13, 1, 3, 0x88, 0, 0, 0), frame(0, 9, 1, 1, 'x', 0), frame(1, 0x24, 3, 0, 0, 0, 0, 9, 0x88)))
	f.Add(frames(frame(4, 0, 0, 0, 4, 0, 0, 0, 0), frame(8, 0, 1, 0, 0, 0, 1), frame(4, 0, 0, 0, 4, 0x7f, 0xff, 0xff, 0xff)))
	f.Add(frames(frame(1, 4, 1, 0x48, 3, '4', '1', '0'), frame(0, 0, 1, make([]byte, 1000)...), frame(0, 0, 1, make([]byte, 1000)...)))
	f.Fuzz(func(t *testing.T, input []byte) {
		synctest.Test(t, func(t *testing.T) {
			gw := &http2test.Gateway{Serve: func(n int, p *http2test.Peer) {
				if n%2 == 0 {
					p.Settings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 20})
					for range 5 {
						_, _ = p.Framer.ReadFrame()
					}
				}
				// In pieces, so that frames are cut anywhere.
				for b := input; len(b) > 0; {
					k := min(len(b), 1+len(input)/7)
					if p.WriteRaw(b[:k]) != nil {
						return
					}
					synctest.Wait()
					b = b[k:]
				}
				for {
					if _, err := p.Framer.ReadFrame(); err != nil {
						return
					}
				}
			}}
			tr := newTester(t, Config{StreamTimeout: 5 * time.Second, BackoffMin: time.Second, BackoffMax: time.Second}, gw)
			tr.send(testNote, 0, 50)
			tr.wait()
			tr.stop()
		})
	})
}
