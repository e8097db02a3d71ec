package http2

import (
	"maps"
	"strings"
	"testing"
	"testing/synctest"

	"golang.org/x/net/http2"

	"github.com/lhspn/lhspn/internal/http2/http2test"
)

func TestFollowsMaxConcurrentStreams(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tr := startClient(t, Config{}, func(_ int, p *http2test.Peer) {
			p.Settings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 5})
			var waiting []*http2test.Request
			for range 5 {
				waiting = append(waiting, p.Next())
			}
			quietPeer(t, p) // there must be no sixth
			// A drop to 1 with five open: no new one until fewer than one is open.
			p.Settings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 1})
			for _, r := range waiting {
				quietPeer(t, p)
				p.Answer(r.ID, 200, "")
			}
			for range 10 {
				r := p.Next()
				quietPeer(t, p)
				p.Answer(r.ID, 200, "")
			}
			// And growth.
			p.Settings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 20})
			waiting = waiting[:0]
			for range 20 {
				waiting = append(waiting, p.Next())
			}
			quietPeer(t, p)
			for _, r := range waiting {
				p.Answer(r.ID, 200, "")
			}
			p.AcceptAll()
		})
		g := tr.send(testNote, 0, 100)
		tr.wait()
		tr.want(g, Answered, 200)
	})
}

// quietPeer fails if a request comes although the client has had all the time it wants.
func quietPeer(t *testing.T, p *http2test.Peer) {
	t.Helper()
	synctest.Wait()
	before := p.Open
	for p.Unread() > 0 {
		r, err := p.Frame()
		if err != nil {
			return
		}
		if r != nil || p.Open != before {
			t.Errorf("a request came with %d open", before)
			return
		}
		synctest.Wait()
	}
}

func TestOneStreamUntilAccepted(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tr := startClient(t, Config{OneUntilAccepted: true}, func(_ int, p *http2test.Peer) {
			p.Settings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 1000})
			r := p.Next()
			quietPeer(t, p)
			p.Answer(r.ID, 410, "") // nothing is accepted yet
			r = p.Next()
			quietPeer(t, p)
			p.Answer(r.ID, 200, "")
			waiting := make([]*http2test.Request, 0, 98)
			for range 98 {
				waiting = append(waiting, p.Next())
			}
			for _, r := range waiting {
				p.Answer(r.ID, 200, "")
			}
			p.AcceptAll()
			if p.Most != 98 {
				t.Errorf("%d streams at once, want 98", p.Most)
			}
		})
		tr.send(testNote, 0, 100)
		tr.wait()
	})
}

func TestFollowsHeaderTableSize(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tr := startClient(t, Config{MaxStreams: 1}, func(_ int, p *http2test.Peer) {
			p.Settings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: 0})
			p.Decoder.SetAllowedMaxDynamicTableSize(0)
			first := p.Next()
			p.Answer(first.ID, 200, "")
			check := func() {
				r := p.Next()
				if r == nil {
					t.Error("the connection ended")
					return
				}
				h := maps.Clone(r.Headers)
				for _, own := range []string{":path", "apns-id"} {
					h[own] = first.Headers[own]
				}
				if !maps.Equal(h, first.Headers) {
					t.Errorf("headers %v, want %v", h, first.Headers)
				}
				p.Answer(r.ID, 200, "")
			}
			for range 5 {
				check()
			}
			for _, size := range []uint32{4096, 300, 1 << 20, 64, 0, 4096} {
				p.Settings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: size})
				p.Decoder.SetAllowedMaxDynamicTableSize(max(size, 4096))
				for range 5 {
					check()
				}
				p.Decoder.SetAllowedMaxDynamicTableSize(size)
			}
			// Down and up before the next block: both must be told.
			p.Settings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: 0}, http2.Setting{ID: http2.SettingHeaderTableSize, Val: 4096})
			for range 5 {
				check()
			}
			p.AcceptAll()
		})
		n := *testNote
		n.collapse = "c"
		n.number = 1900000000
		g := tr.send(&n, 0, 100)
		tr.wait()
		tr.want(g, Answered, 200)
	})
}

func TestHeadersTooLarge(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tr := startClient(t, Config{}, func(_ int, p *http2test.Peer) {
			p.Settings(http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: 1000})
			for r := p.Next(); r != nil; r = p.Next() {
				size := uint32(0)
				for _, f := range r.Fields {
					size += f.Size()
				}
				if size > 1000 {
					t.Errorf("a header list of %d", size)
				}
				p.Answer(r.ID, 200, "")
			}
		})
		long := *testNote
		long.topic = strings.Repeat("t", 1000)
		g := tr.send(&long, 0, 10)
		ok := tr.send(testNote, 0, 10)
		tr.wait()
		tr.want(g, Unsendable, 0)
		tr.want(ok, Answered, 200)
	})
}

func TestLongHeadersAreContinued(t *testing.T) {
	bubble(t, func(t *testing.T) {
		long := *testNote
		long.topic = strings.Repeat("t", 40000)
		tr := startClient(t, Config{}, func(_ int, p *http2test.Peer) {
			p.Decoder.SetMaxStringLength(1 << 20)
			p.Settings()
			for r := p.Next(); r != nil; r = p.Next() {
				if r.Headers["apns-topic"] != long.topic {
					t.Error("the topic did not come through")
				}
				p.Answer(r.ID, 200, "")
			}
			if p.Seen[http2.FrameContinuation] != 2*10 {
				t.Errorf("%d continuations", p.Seen[http2.FrameContinuation])
			}
		})
		g := tr.send(&long, 0, 10)
		tr.wait()
		tr.want(g, Answered, 200)
	})
}
