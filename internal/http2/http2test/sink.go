package http2test

import (
	"encoding/binary"
	"io"
	"net"

	"golang.org/x/net/http2"
)

const frameHeaderLen = 9

// Sink serves a connection: it answers each request with 200 and does as little else as it can, so that the client is
// what is measured. It is not HTTP/2 but for this client's own frames.
func Sink(nc net.Conn, streams uint32) {
	defer nc.Close()
	preface := make([]byte, len(http2.ClientPreface))
	if _, err := io.ReadFull(nc, preface); err != nil {
		return
	}
	fr := http2.NewFramer(nc, nil)
	_ = fr.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: streams})
	_ = fr.WriteWindowUpdate(0, 1<<30)
	buf := make([]byte, 256<<10)
	var out []byte
	var received int
	start, end := 0, 0
	for {
		n, err := nc.Read(buf[end:])
		if err != nil {
			return
		}
		end += n
		out = out[:0]
		for end-start >= frameHeaderLen {
			length := int(buf[start])<<16 | int(buf[start+1])<<8 | int(buf[start+2])
			if end-start < frameHeaderLen+length {
				break
			}
			head := buf[start : start+frameHeaderLen]
			start += frameHeaderLen + length
			if http2.FrameType(head[3]) == http2.FrameData {
				received += length
			}
			if http2.FrameType(head[3]) == http2.FrameData && http2.Flags(head[4]).Has(http2.FlagDataEndStream) {
				out = append(out, 0, 0, 1, byte(http2.FrameHeaders), byte(http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream))
				out = append(append(out, head[5:]...), 0x88) // :status 200
			}
		}
		if received > 1<<20 {
			out = append(out, 0, 0, 4, byte(http2.FrameWindowUpdate), 0, 0, 0, 0, 0)
			out = binary.BigEndian.AppendUint32(out, uint32(received))
			received = 0
		}
		if len(out) > 0 {
			if _, err := nc.Write(out); err != nil {
				return
			}
		}
		end = copy(buf, buf[start:end])
		start = 0
	}
}
