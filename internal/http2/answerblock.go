package http2

import (
	"bytes"
	"encoding/binary"
	"strconv"

	"golang.org/x/net/http2/hpack"
)

// blockReader reads the header blocks of answers. It needs no state between them, for our SETTINGS allow the peer no
// dynamic table, and it allocates nothing. Which request an answer is for its stream's identifier says.
//
// It is as strict as RFC 9113, 8.2 and 8.3 ask, with one exception: the value of a field that nobody asks for, where it
// is Huffman-coded, is not decoded to see whether each of its characters is allowed. What a clear status says is
// believed all the same: see conn.heard.
type blockReader struct {
	wanted map[string]int // AnswerFields, by their name
	static [hpackStaticLen + 1]fieldKind
	known  map[string]knownName
	// usual are the names of the fields that nobody asks for in the last block that was not like the one before: most
	// answers of a service have the same fields in the same order. The next to be compared is the one at place.
	usual [maxUsual]string
	place int
	text  []byte
	buf   bytes.Buffer

	// Of the last block:
	status    int  // 0 where it has none
	vague     bool // it has several, or not where it belongs
	length    int64
	values    [][]byte // of the wanted fields, valid until the next block
	scratch   []byte
	anyWanted bool
}

// fieldKind says what a field is to us: one of these, or the place of a wanted one.
type fieldKind int16

const (
	kindForbidden fieldKind = -4 + iota // it makes the answer malformed
	kindStatus
	kindContentLength
	kindOther
)

// knownName is a field's name as blocks have it: a byte with its length, and its text or Huffman code.
type knownName struct {
	block string
	kind  fieldKind
}

// maxKnownNames bounds the names that are remembered, maxKnownName their length, maxUsual those expected in a block.
const maxKnownNames, maxKnownName, maxUsual = 64, 64, 16

func newBlockReader(wanted []string) *blockReader {
	r := &blockReader{wanted: map[string]int{}, known: map[string]knownName{}}
	for i, name := range wanted {
		r.wanted[name] = i
	}
	r.values = make([][]byte, len(wanted))
	for i := 1; i <= hpackStaticLen; i++ {
		r.static[i] = r.kindOf(hpackStatic[i].Name)
	}
	return r
}

// noLength is the length of an answer without a content-length.
const noLength = -1

// read reads a whole block. Not ok: it breaks HPACK's rules, which ends the connection (RFC 9113, 4.3). Not valid: the
// answer is malformed (8.1.1), which ends the stream.
func (r *blockReader) read(block []byte, trailers bool) (valid, ok bool) {
	r.status, r.vague, r.length, r.place = 0, false, noLength, 0
	if r.anyWanted {
		clear(r.values)
		r.scratch, r.anyWanted = r.scratch[:0], false
	}
	valid = true
	regular := trailers // a field that is no pseudo-header field was read
	first := true
	for len(block) > 0 {
		b := block[0]
		if b&^7 == hpackIndexed|8 && b != hpackIndexed|15 { // the usual :status
			r.vague = r.vague || r.status != 0 || regular
			r.status = hpackStaticStatus[b&7]
			block, first = block[1:], false
			continue
		}
		if rest, fine, ok := r.skipUsual(block); ok {
			block, first, regular, valid = rest, false, true, valid && fine
			continue
		}
		if b&0xe0 == hpackTableSize {
			var size uint64
			if size, block, ok = readHPACKInt(block, 5); !ok || size != 0 || !first {
				return false, false
			}
			continue
		}
		first = false
		var kind fieldKind
		var value []byte
		var coded bool
		if kind, value, coded, block, ok = r.field(block); !ok {
			return false, false
		}
		if kind != kindOther {
			if value, ok = r.decode(value, coded); !ok {
				return false, false
			}
		}
		switch kind {
		case kindForbidden:
			valid = false
		case kindStatus:
			n, digits := statusCode(value)
			r.vague = r.vague || !digits || r.status != 0 || regular
			r.status = n
		case kindContentLength:
			n, err := strconv.ParseUint(string(value), 10, 31)
			valid = valid && err == nil && (r.length == noLength || r.length == int64(n))
			r.length, regular = int64(n), true
		case kindOther:
			valid = valid && (coded || validValue(value))
			regular = true
		default:
			valid = valid && validValue(value)
			regular = true
			if r.values[kind] == nil {
				start := len(r.scratch)
				r.scratch = append(r.scratch, value...)
				r.values[kind] = r.scratch[start:len(r.scratch):len(r.scratch)]
				r.anyWanted = true
			}
		}
	}
	return valid && !r.vague, true
}

// skipUsual takes a field off the block that has the expected name, and reports whether its value is valid. Not ok: it
// has another name.
func (r *blockReader) skipUsual(block []byte) (rest []byte, valid, ok bool) {
	if b := block[0]; b != hpackWithout && b != hpackNever && b != hpackIncremental || r.place == len(r.usual) {
		return nil, false, false
	}
	name := r.usual[r.place]
	n := 1 + len(name)
	if n == 1 || len(block) <= n || string(block[1:n]) != name {
		return nil, false, false
	}
	length := int(block[n] & 0x7f)
	if length == 0x7f || len(block)-n-1 < length {
		return nil, false, false
	}
	r.place++
	value := block[n+1 : n+1+length]
	return block[n+1+length:], block[n]&0x80 != 0 || validValue(value), true
}

// field takes one field off the block.
func (r *blockReader) field(block []byte) (kind fieldKind, value []byte, coded bool, rest []byte, ok bool) {
	b := block[0]
	prefix := uint8(4) // without indexing, never indexed
	switch {
	case b&hpackIndexed != 0:
		prefix = 7
	case b&0xc0 == hpackIncremental:
		prefix = 6
	}
	index, rest, ok := readHPACKInt(block, prefix)
	if !ok || index > hpackStaticLen || index == 0 && prefix == 7 {
		return 0, nil, false, nil, false
	}
	if index > 0 {
		kind = r.static[index]
	} else {
		block = rest
		var name []byte
		if name, coded, rest, ok = readHPACKString(rest); !ok {
			return 0, nil, false, nil, false
		}
		if kind, ok = r.kindOfText(block[:len(block)-len(rest)], name, coded); !ok {
			return 0, nil, false, nil, false
		}
	}
	if prefix == 7 {
		r.text = append(r.text[:0], hpackStatic[index].Value...)
		return kind, r.text, false, rest, true
	}
	value, coded, rest, ok = readHPACKString(rest)
	return kind, value, coded, rest, ok
}

// kindOfText is kindOf for a name as a block has it. Not ok: it is not Huffman code.
func (r *blockReader) kindOfText(block, name []byte, coded bool) (kind fieldKind, ok bool) {
	known, ok := r.known[string(block)]
	if !ok {
		text, ok := r.decode(name, coded)
		if !ok {
			return 0, false
		}
		known.kind = r.kindOf(string(text))
		if len(r.known) < maxKnownNames && len(name) <= maxKnownName {
			known.block = string(block)
			r.known[known.block] = known
		}
	}
	if known.kind == kindOther && r.place < len(r.usual) {
		r.usual[r.place] = known.block
		r.place++
	}
	return known.kind, true
}

// kindOf looks at a field's name (RFC 9113, 8.2 and 8.3.2).
func (r *blockReader) kindOf(name string) fieldKind {
	switch name {
	case ":status":
		return kindStatus
	case "content-length":
		return kindContentLength
	case "", "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade":
		return kindForbidden
	}
	if i, ok := r.wanted[name]; ok {
		return fieldKind(i)
	}
	for i := range len(name) {
		if c := name[i]; c <= ' ' || c >= 0x7f || c >= 'A' && c <= 'Z' || c == ':' {
			return kindForbidden
		}
	}
	return kindOther
}

// validValue reports whether a field may have the value (RFC 9113, 8.2.1).
func validValue(v []byte) bool {
	if len(v) == 0 {
		return true
	}
	if edge := func(c byte) bool { return c == ' ' || c == '\t' }; edge(v[0]) || edge(v[len(v)-1]) {
		return false
	}
	const each = 0x0101010101010101
	for len(v) >= 8 { // eight bytes at once, as long as none is a \r or less
		x := binary.LittleEndian.Uint64(v)
		if (x-each*('\r'+1))&^x&(each<<7) != 0 {
			break
		}
		v = v[8:]
	}
	for _, c := range v {
		if c == 0 || c == '\r' || c == '\n' {
			return false
		}
	}
	return true
}

// hpackStaticStatus are the statuses of the static table, from index 8.
var hpackStaticStatus = [...]int{200, 204, 206, 304, 400, 404, 500}

// statusCode reads exactly three digits.
func statusCode(s []byte) (int, bool) {
	if len(s) != 3 || s[0] < '1' || s[0] > '9' || s[1] < '0' || s[1] > '9' || s[2] < '0' || s[2] > '9' {
		return 0, false
	}
	return int(s[0]-'0')*100 + int(s[1]-'0')*10 + int(s[2]-'0'), true
}

// decode is the string s, valid until the next call. Not ok: it is not Huffman code.
func (r *blockReader) decode(s []byte, coded bool) (text []byte, ok bool) {
	if !coded {
		return s, true
	}
	r.buf.Reset()
	if _, err := hpack.HuffmanDecode(&r.buf, s); err != nil {
		return nil, false
	}
	return r.buf.Bytes(), true
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
