package apns

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/lhspn/lhspn/internal/apns/payload"
	"github.com/lhspn/lhspn/internal/push"
)

// http2Mem is a memConn with the one method more that the HTTP/2 client asks for.
type http2Mem struct{ *memConn }

func (c http2Mem) SetDeadline(t time.Time) error {
	_ = c.SetReadDeadline(t)
	return c.SetWriteDeadline(t)
}

// http2Gateway is a scripted gateway below which there is no TLS: serve handles the n-th connection, n from 0, and the
// connection is closed after it.
type http2Gateway struct {
	serve func(n int, p *http2Peer)
	wg    sync.WaitGroup

	mu    sync.Mutex
	dials int
	down  bool
}

func (g *http2Gateway) dial(context.Context) (net.Conn, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.dials++
	if g.down {
		return nil, syscall.ECONNREFUSED
	}
	n := g.dials - 1
	client, server := memPipe(1 << 20)
	g.wg.Go(func() {
		defer server.Close()
		p := newHTTP2Peer(server)
		if p.preface() {
			g.serve(n, p)
		}
	})
	return http2Mem{client}, nil
}

func (g *http2Gateway) setDown(down bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.down = down
}

// http2Peer is the gateway's side of one connection, over x/net's Framer and HPACK, which know nothing of the client's own.
type http2Peer struct {
	*memConn
	fr   *http2.Framer
	dec  *hpack.Decoder
	enc  *hpack.Encoder
	out  bytes.Buffer
	read map[uint32]*http2Request // those whose body is not complete
	// seen are frames of interest to tests, by type.
	seen map[http2.FrameType]int
	// reset are the streams that the client has reset.
	reset map[uint32]http2.ErrCode
	// goAway is the client's code, once it has sent one.
	goAway *http2.ErrCode
	open   int // complete requests without an answer
	most   int
}

type http2Request struct {
	id      uint32
	headers map[string]string
	fields  []hpack.HeaderField
	body    []byte
}

// number is the number in the request's token, as tokenOf wrote it.
func (r *http2Request) number() int {
	t, err := push.ParseToken(strings.TrimPrefix(r.headers[":path"], "/3/device/"))
	if err != nil {
		return -1
	}
	return numberOf([]byte(t))
}

func newHTTP2Peer(c *memConn) *http2Peer {
	p := &http2Peer{
		memConn: c, fr: http2.NewFramer(c, c), read: map[uint32]*http2Request{}, seen: map[http2.FrameType]int{},
		reset: map[uint32]http2.ErrCode{}, dec: hpack.NewDecoder(hpackDefaultTable, nil),
	}
	p.enc = hpack.NewEncoder(&p.out)
	p.enc.SetMaxDynamicTableSizeLimit(0) // as the client's SETTINGS ask
	return p
}

func (p *http2Peer) preface() bool {
	buf := make([]byte, len(http2.ClientPreface))
	_, err := io.ReadFull(p.memConn, buf)
	return err == nil && string(buf) == http2.ClientPreface
}

func (p *http2Peer) settings(s ...http2.Setting) { _ = p.fr.WriteSettings(s...) }

// next is the next complete request, or nil at the connection's end. Other frames are worked off on the way.
func (p *http2Peer) next() *http2Request {
	for {
		r, err := p.frame()
		if err != nil {
			return nil
		}
		if r != nil {
			return r
		}
	}
}

// frame reads one frame; a request that it completes is returned.
func (p *http2Peer) frame() (*http2Request, error) {
	f, err := p.fr.ReadFrame()
	if err != nil {
		return nil, err
	}
	return p.take(f)
}

// take works off one frame.
func (p *http2Peer) take(f http2.Frame) (*http2Request, error) {
	p.seen[f.Header().Type]++
	switch f := f.(type) {
	case *http2.HeadersFrame:
		block := bytes.Clone(f.HeaderBlockFragment())
		for ended := f.HeadersEnded(); !ended; {
			next, err := p.fr.ReadFrame()
			if err != nil {
				return nil, err
			}
			cont, ok := next.(*http2.ContinuationFrame)
			if !ok {
				return nil, errors.New("CONTINUATION expected")
			}
			p.seen[http2.FrameContinuation]++
			block = append(block, cont.HeaderBlockFragment()...)
			ended = cont.HeadersEnded()
		}
		fields, err := p.dec.DecodeFull(block)
		if err != nil {
			return nil, err
		}
		r := &http2Request{id: f.StreamID, fields: fields, headers: map[string]string{}}
		for _, hf := range fields {
			if _, twice := r.headers[hf.Name]; twice {
				return nil, fmt.Errorf("%s twice", hf.Name)
			}
			r.headers[hf.Name] = hf.Value
		}
		p.open++
		p.most = max(p.most, p.open)
		if f.StreamEnded() {
			return r, nil
		}
		p.read[f.StreamID] = r
	case *http2.DataFrame:
		r := p.read[f.StreamID]
		if r == nil {
			return nil, nil
		}
		r.body = append(r.body, f.Data()...)
		_ = p.fr.WriteWindowUpdate(0, uint32(max(1, len(f.Data()))))
		if f.StreamEnded() {
			delete(p.read, f.StreamID)
			return r, nil
		}
	case *http2.SettingsFrame:
		if !f.IsAck() {
			_ = p.fr.WriteSettingsAck()
		}
	case *http2.PingFrame:
		if !f.IsAck() {
			_ = p.fr.WritePing(true, f.Data) // the client may be gone, and what it said last is still to be read
		}
	case *http2.RSTStreamFrame:
		p.reset[f.StreamID] = f.ErrCode
	case *http2.GoAwayFrame:
		p.goAway = &f.ErrCode
	}
	return nil, nil
}

// answer answers a request; an empty body ends the stream with the headers.
func (p *http2Peer) answer(id uint32, status int, body string) {
	p.open--
	_ = p.fr.WriteHeaders(http2.HeadersFrameParam{
		StreamID: id, EndHeaders: true, EndStream: body == "",
		BlockFragment: p.block(":status", fmt.Sprint(status), "apns-id", uuid.NewString()),
	})
	if body != "" {
		_ = p.fr.WriteData(id, true, []byte(body))
	}
}

func (p *http2Peer) block(fields ...string) []byte {
	p.out.Reset()
	for i := 0; i < len(fields); i += 2 {
		_ = p.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return bytes.Clone(p.out.Bytes())
}

// acceptAll answers every request with 200 until the connection ends.
func (p *http2Peer) acceptAll() {
	for r := p.next(); r != nil; r = p.next() {
		p.answer(r.id, 200, "")
	}
}

func reasonBody(reason string) string { return `{"reason":"` + reason + `"}` }

// http2Tester runs an HTTP2 against a gateway and checks that every group is done exactly once.
type http2Tester struct {
	testing.TB
	*ledger
	h      *HTTP2
	gw     *http2Gateway
	cancel context.CancelFunc
	ran    chan error
}

func startHTTP2(tb testing.TB, cfg HTTP2Config, serve func(n int, p *http2Peer)) *http2Tester {
	tb.Helper()
	t := newHTTP2Tester(tb, cfg, &http2Gateway{serve: serve})
	tb.Cleanup(t.stop)
	return t
}

// newHTTP2Tester starts an HTTP2 that the caller stops. Without a gateway it dials as cfg says.
func newHTTP2Tester(tb testing.TB, cfg HTTP2Config, gw *http2Gateway) *http2Tester {
	tb.Helper()
	cfg.App = "test"
	if cfg.Address == "" {
		cfg.Address = "api.push.apple.com:443"
	}
	h := NewHTTP2(cfg, quiet(), NewMetrics(prometheus.NewRegistry()))
	if gw != nil {
		h.open = gw.dial
	}
	ctx, cancel := context.WithCancel(context.Background())
	t := &http2Tester{TB: tb, ledger: newLedger(), h: h, gw: gw, cancel: cancel, ran: make(chan error, 1)}
	go func() { t.ran <- h.Run(ctx) }()
	return t
}

func (t *http2Tester) stop() {
	t.cancel()
	if err := <-t.ran; err != nil {
		t.Errorf("Run: %v", err)
	}
	if t.gw != nil {
		t.gw.wg.Wait()
	}
	t.balanced(t)
	t.h.mu.Lock()
	defer t.h.mu.Unlock()
	if t.h.groups != 0 || t.h.queue.n != 0 || t.h.active != 0 || t.h.opening != 0 {
		t.Errorf("left behind: %d groups, %d queued, %d active, %d opening", t.h.groups, t.h.queue.n, t.h.active, t.h.opening)
	}
	if !t.h.room.TryAcquire(int64(t.h.cfg.MaxInFlight)) {
		t.Error("the bound in flight was not given back")
	}
}

var http2Notification = &push.Notification{
	ID: uuid.MustParse("01890a5d-ac96-774b-bcce-b302099a8057"), Key: "com.example.app", Type: payload.TypeAlert, Priority: 10,
	Payload: push.Payload{JSON: []byte(`{"aps":{"alert":"hello"}}`)},
}

// send hands over a group of the deliveries numbered from to to-1.
func (t *http2Tester) send(n *push.Notification, from, to int) *push.Group {
	t.Helper()
	g := &push.Group{}
	for i := from; i < to; i++ {
		g.Deliveries = append(g.Deliveries, push.Delivery{Notification: n, Recipient: push.Recipient{Token: tokenOf(i)}})
	}
	t.sendGroup(g)
	return g
}

func (t *http2Tester) sendGroup(g *push.Group) {
	t.Helper()
	t.enter(g)
	if err := t.h.Send(context.Background(), g); err != nil {
		t.Errorf("Send: %v", err)
	}
}

// want fails unless every delivery of g has this outcome and reason.
func (t *http2Tester) want(g *push.Group, o push.Outcome, r *push.Reason) {
	t.Helper()
	for i := range g.Deliveries {
		if got := g.Deliveries[i].Result; got.Outcome != o || got.Reason != r {
			t.Errorf("delivery %d: %v %v, want %v %v", i, got.Outcome, got.Reason, o, r)
			return
		}
	}
}
