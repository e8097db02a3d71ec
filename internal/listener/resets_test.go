package listener

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// Who opens requests over HTTP/2 only to take them back at once loses the connection; one that most of whose requests
// are answered does not, however many it takes back.
func TestRapidResets(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answered int // for each that is taken back
		stays    bool
	}{"nothing else": {0, false}, "mostly else": {3, true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			begun, closed := make(chan struct{}, 1), make(chan struct{})
			l := serve(t, Config{Closed: func() { close(closed) }}, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/long" {
					begun <- struct{}{}
					<-r.Context().Done()
				}
			}))
			p := newPeer(t, l)
			for n := 0; n < 3*mostResets && !p.gone; n++ {
				p.open("/long")
				select {
				case <-begun:
					p.reset()
				case <-closed:
					p.gone = true
				}
				for range c.answered {
					p.open("/")
					p.awaitAnswer()
				}
			}
			if p.gone == c.stays {
				t.Errorf("the connection is gone: %v", p.gone)
			}
		})
	}
}

// peer is a client of HTTP/2 by frames, with one request at a time.
type peer struct {
	conn   net.Conn
	framer *http2.Framer
	stream uint32
	gone   bool // the connection has ended
}

func newPeer(t *testing.T, l *Listener) *peer {
	t.Helper()
	p := &peer{conn: dial(t, l)}
	_ = p.conn.SetDeadline(time.Now().Add(time.Minute))
	fmt.Fprint(p.conn, http2.ClientPreface)
	p.framer = http2.NewFramer(p.conn, p.conn)
	p.gone = p.framer.WriteSettings() != nil
	return p
}

func (p *peer) open(path string) {
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	encoder.SetMaxDynamicTableSize(0)
	for _, field := range [][2]string{{":method", "GET"}, {":path", path}, {":scheme", "http"}, {":authority", "localhost"}} {
		_ = encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]}) // to memory
	}
	p.stream += 1 + p.stream%2 // 1, 3, 5, …
	p.gone = p.gone || p.framer.WriteHeaders(http2.HeadersFrameParam{
		StreamID: p.stream, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true,
	}) != nil
}

func (p *peer) reset() {
	p.gone = p.gone || p.framer.WriteRSTStream(p.stream, http2.ErrCodeCancel) != nil
}

func (p *peer) awaitAnswer() {
	for !p.gone {
		frame, err := p.framer.ReadFrame()
		if err != nil {
			p.gone = true
		} else if h := frame.Header(); h.StreamID == p.stream && h.Type == http2.FrameHeaders {
			return
		}
	}
}
