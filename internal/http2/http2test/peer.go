package http2test

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/lhspn/lhspn/internal/memconn"
)

// Peer is the server's side of one connection, over x/net's Framer and HPACK, which know nothing of the client's own.
type Peer struct {
	*memconn.Conn
	Framer *http2.Framer
	// Decoder has the protocol's initial table size.
	Decoder *hpack.Decoder
	// Seen counts frames by their type.
	Seen map[http2.FrameType]int
	// Resets are the streams that the client has reset.
	Resets map[uint32]http2.ErrCode
	// GoAway is the client's code, once it has sent one.
	GoAway *http2.ErrCode
	// Open is how many complete or incomplete requests have no answer, and Most the most there have been.
	Open, Most int

	rw   io.ReadWriter
	enc  *hpack.Encoder
	out  bytes.Buffer
	read map[uint32]*Request // those whose body is not complete
}

// Request is a request that was read.
type Request struct {
	ID      uint32
	Headers map[string]string
	Fields  []hpack.HeaderField
	Body    []byte
}

func newPeer(c *memconn.Conn, rw io.ReadWriter) *Peer {
	p := &Peer{
		Conn: c, rw: rw, Framer: http2.NewFramer(rw, rw), Decoder: hpack.NewDecoder(4096, nil),
		Seen: map[http2.FrameType]int{}, Resets: map[uint32]http2.ErrCode{}, read: map[uint32]*Request{},
	}
	p.enc = hpack.NewEncoder(&p.out)
	p.enc.SetMaxDynamicTableSizeLimit(0) // as the client's SETTINGS ask
	return p
}

func (p *Peer) preface() bool {
	buf := make([]byte, len(http2.ClientPreface))
	_, err := io.ReadFull(p.rw, buf)
	return err == nil && string(buf) == http2.ClientPreface
}

// Settings sends SETTINGS. A server begins with them.
func (p *Peer) Settings(s ...http2.Setting) { _ = p.Framer.WriteSettings(s...) }

// Next is the next complete request, or nil at the connection's end. Other frames are worked off on the way.
func (p *Peer) Next() *Request {
	for {
		r, err := p.Frame()
		if err != nil {
			return nil
		}
		if r != nil {
			return r
		}
	}
}

// Frame reads one frame; a request that it completes is returned.
func (p *Peer) Frame() (*Request, error) {
	f, err := p.Framer.ReadFrame()
	if err != nil {
		return nil, err
	}
	return p.Take(f)
}

// Take works off one frame.
func (p *Peer) Take(f http2.Frame) (*Request, error) {
	p.Seen[f.Header().Type]++
	switch f := f.(type) {
	case *http2.HeadersFrame:
		return p.headers(f)
	case *http2.DataFrame:
		r := p.read[f.StreamID]
		if r == nil {
			return nil, nil
		}
		r.Body = append(r.Body, f.Data()...)
		_ = p.Framer.WriteWindowUpdate(0, uint32(max(1, len(f.Data()))))
		if f.StreamEnded() {
			delete(p.read, f.StreamID)
			return r, nil
		}
	case *http2.SettingsFrame:
		if !f.IsAck() {
			_ = p.Framer.WriteSettingsAck()
		}
	case *http2.PingFrame:
		if !f.IsAck() {
			_ = p.Framer.WritePing(true, f.Data) // the client may be gone, and what it said last is still to be read
		}
	case *http2.RSTStreamFrame:
		p.Resets[f.StreamID] = f.ErrCode
	case *http2.GoAwayFrame:
		p.GoAway = &f.ErrCode
	}
	return nil, nil
}

func (p *Peer) headers(f *http2.HeadersFrame) (*Request, error) {
	block := bytes.Clone(f.HeaderBlockFragment())
	id, whole := f.StreamID, f.StreamEnded()
	for ended := f.HeadersEnded(); !ended; {
		next, err := p.Framer.ReadFrame()
		if err != nil {
			return nil, err
		}
		cont, ok := next.(*http2.ContinuationFrame)
		if !ok {
			return nil, errors.New("CONTINUATION expected")
		}
		p.Seen[http2.FrameContinuation]++
		block = append(block, cont.HeaderBlockFragment()...)
		ended = cont.HeadersEnded()
	}
	fields, err := p.Decoder.DecodeFull(block)
	if err != nil {
		return nil, err
	}
	r := &Request{ID: id, Fields: fields, Headers: map[string]string{}}
	for _, hf := range fields {
		if _, twice := r.Headers[hf.Name]; twice {
			return nil, fmt.Errorf("%s twice", hf.Name)
		}
		r.Headers[hf.Name] = hf.Value
	}
	p.Open++
	p.Most = max(p.Most, p.Open)
	if whole {
		return r, nil
	}
	p.read[id] = r
	return nil, nil
}

// Answer answers a request; an empty body ends the stream with the headers. fields are names and values.
func (p *Peer) Answer(id uint32, status int, body string, fields ...string) {
	p.Open--
	_ = p.Framer.WriteHeaders(http2.HeadersFrameParam{
		StreamID: id, EndHeaders: true, EndStream: body == "",
		BlockFragment: p.Block(append([]string{":status", fmt.Sprint(status)}, fields...)...),
	})
	if body != "" {
		_ = p.Framer.WriteData(id, true, []byte(body))
	}
}

// Block is a header block of names and values.
func (p *Peer) Block(fields ...string) []byte {
	p.out.Reset()
	for i := 0; i < len(fields); i += 2 {
		_ = p.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return bytes.Clone(p.out.Bytes())
}

// AcceptAll answers every request with 200 until the connection ends.
func (p *Peer) AcceptAll() {
	for r := p.Next(); r != nil; r = p.Next() {
		p.Answer(r.ID, 200, "")
	}
}

// WriteRaw writes bytes as they are.
func (p *Peer) WriteRaw(b []byte) error {
	_, err := p.rw.Write(b)
	return err
}
