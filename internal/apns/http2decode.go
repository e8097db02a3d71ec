package apns

import (
	"bytes"

	"golang.org/x/net/http2/hpack"
)

// hpackStatus reads the :status from a response's header block, and skips all else: a stream's identifier already says
// which notification the answer is for. It needs no state, for our SETTINGS allow the peer no dynamic table, and it
// allocates nothing. ok is false where the block breaks HPACK's rules, which ends the connection (RFC 9113, 4.3).
func hpackStatus(block []byte, huffman *hpackScratch) (status int, ok bool) {
	for len(block) > 0 {
		b := block[0]
		var index uint64
		switch {
		case b&0x80 != 0: // indexed
			if index, block, ok = readHPACKInt(block, 7); !ok || index == 0 || index > hpackStaticLen {
				return 0, false
			}
			if index >= 8 && index <= 14 {
				status = hpackStaticStatus[index-8]
			}
			continue
		case b&0xe0 == hpackTableSize:
			if index, block, ok = readHPACKInt(block, 5); !ok || index != 0 {
				return 0, false
			}
			continue
		case b&0xc0 == hpackIncremental:
			index, block, ok = readHPACKInt(block, 6)
		default: // without indexing, never indexed
			index, block, ok = readHPACKInt(block, 4)
		}
		if !ok || index > hpackStaticLen {
			return 0, false
		}
		isStatus := index >= 8 && index <= 14
		var s []byte
		var coded bool
		if index == 0 {
			if s, coded, block, ok = readHPACKString(block); !ok {
				return 0, false
			}
			isStatus = string(s) == ":status" && !coded || coded && bytes.Equal(s, hpackStatusCoded)
		}
		if s, coded, block, ok = readHPACKString(block); !ok {
			return 0, false
		}
		if isStatus {
			if len(s) > len(":status") {
				return 0, false
			}
			if status, ok = statusCode(huffman.text(s, coded)); !ok {
				return 0, false
			}
		}
	}
	return status, true
}

// hpackStatusCoded is the name in Huffman coding, of which there is but one.
var hpackStatusCoded = hpack.AppendHuffmanString(nil, ":status")

var hpackStaticStatus = [...]int{200, 204, 206, 304, 400, 404, 500}

// statusCode reads exactly three digits.
func statusCode(s []byte) (int, bool) {
	if len(s) != 3 || s[0] < '1' || s[0] > '9' || s[1] < '0' || s[1] > '9' || s[2] < '0' || s[2] > '9' {
		return 0, false
	}
	return int(s[0]-'0')*100 + int(s[1]-'0')*10 + int(s[2]-'0'), true
}

// hpackScratch decodes Huffman-coded strings without allocating.
type hpackScratch struct{ buf bytes.Buffer }

// text is the string s, valid until the next call; empty where the coding is wrong.
func (h *hpackScratch) text(s []byte, coded bool) []byte {
	if !coded {
		return s
	}
	h.buf.Reset()
	if _, err := hpack.HuffmanDecode(&h.buf, s); err != nil {
		return nil
	}
	return h.buf.Bytes()
}

func readHPACKInt(p []byte, prefix uint8) (n uint64, rest []byte, ok bool) {
	if len(p) == 0 {
		return 0, nil, false
	}
	most := uint64(1)<<prefix - 1
	n = uint64(p[0]) & most
	p = p[1:]
	if n < most {
		return n, p, true
	}
	for shift := 0; shift <= 28 && len(p) > 0; shift += 7 {
		b := p[0]
		p = p[1:]
		n += uint64(b&0x7f) << shift
		if b&0x80 == 0 {
			return n, p, true
		}
	}
	return 0, nil, false
}

func readHPACKString(p []byte) (s []byte, coded bool, rest []byte, ok bool) {
	if len(p) == 0 {
		return nil, false, nil, false
	}
	coded = p[0]&0x80 != 0
	n, p, ok := readHPACKInt(p, 7)
	if !ok || n > uint64(len(p)) {
		return nil, false, nil, false
	}
	return p[:n], coded, p[n:], true
}
