package h2

import (
	"encoding/binary"
	"errors"
	"strings"

	"golang.org/x/net/http2/hpack"
)

// Header tells headers apart without comparing strings again for each request.
type Header uint8

// The headers that HTTP/2 itself knows. A service's own are numbered from FirstHeader, and there may be 24 of them.
const (
	HeaderOther Header = iota
	HeaderMethod
	HeaderPath
	HeaderScheme

	FirstHeader Header = 8
)

// Names are the headers that a service knows, by number.
type Names struct {
	own    func(name []byte) Header
	static [staticEntries]tableEntry
}

// NewNames makes them; own is the number of a header of the service, HeaderOther for every other.
func NewNames(own func(name []byte) Header) *Names {
	n := &Names{own: own, static: staticTable}
	for i := range n.static {
		n.static[i].header = n.of(n.static[i].name)
	}
	return n
}

func (n *Names) of(name []byte) Header {
	switch string(name) {
	case ":method":
		return HeaderMethod
	case ":path":
		return HeaderPath
	case ":scheme":
		return HeaderScheme
	}
	return n.own(name)
}

const (
	headerTableSize = 4096 // the protocol's default, which we leave
	entryOverhead   = 32   // of an entry of the dynamic table (RFC 7541, 4.1)
	maxTableEntries = headerTableSize / entryOverhead
	maxHeaderList   = 16 << 10 // decoded, with the overhead; more is an attack
	staticEntries   = 61
)

var (
	errCompression   = errors.New("HPACK: malformed header block")
	errSizeUpdate    = errors.New("HPACK: table size update out of place or too large")
	errHeaderTooLong = errors.New("HPACK: header list too large")
)

// tableEntry is an entry of a header table. In the dynamic table its buffers are used again.
type tableEntry struct {
	header      Header
	name, value []byte
}

var staticTable = func() (table [staticEntries]tableEntry) {
	decoder := hpack.NewDecoder(headerTableSize, nil)
	for i := range table {
		fields, err := decoder.DecodeFull([]byte{0x80 | byte(i+1)})
		if err != nil {
			panic(err) // the static table is part of the standard
		}
		name := []byte(fields[0].Name)
		table[i] = tableEntry{name: name, value: []byte(fields[0].Value)}
	}
	return table
}()

// headerDecoder decodes HPACK (RFC 7541). It is our own because hpack.Decoder makes a string of each literal, which at
// a million requests a second is most of a server's work; the tests hold it against hpack.Decoder.
type headerDecoder struct {
	names *Names
	// emit is called with each field. name and value are valid until it returns.
	emit func(h Header, name, value []byte)

	entries       [maxTableEntries]tableEntry // a ring
	newest, count int
	size, max     int
	name, value   scratch // Huffman-decoded strings of the field at hand
}

type scratch []byte

func (s *scratch) Write(b []byte) (int, error) {
	*s = append(*s, b...)
	return len(b), nil
}

func newHeaderDecoder(names *Names, emit func(h Header, name, value []byte)) *headerDecoder {
	return &headerDecoder{names: names, emit: emit, max: headerTableSize}
}

// decode decodes one whole header block. After an error the connection is lost, since the table's state is.
func (d *headerDecoder) decode(b []byte) error {
	total := 0
	first := true
	for len(b) > 0 {
		var h Header
		var name, value []byte
		var err error
		switch c := b[0]; {
		case c&0x80 != 0: // indexed field
			var index int
			if index, b, err = readInteger(b, 7); err != nil {
				return err
			}
			e := d.entry(index)
			if e == nil {
				return errCompression
			}
			h, name, value = e.header, e.name, e.value
		case c&0xe0 == 0x20: // size update, which must come before the fields
			var size int
			if size, b, err = readInteger(b, 5); err != nil {
				return err
			}
			if !first || size > headerTableSize {
				return errSizeUpdate
			}
			d.max = size
			d.evict(0)
			continue
		default: // literal, added to the table where bit 6 says so
			bits := uint(4)
			if c&0x40 != 0 {
				bits = 6
			}
			if h, name, value, b, err = d.literal(b, bits); err != nil {
				return err
			}
			if bits == 6 {
				d.insert(h, name, value)
			}
		}
		first = false
		if total += len(name) + len(value) + entryOverhead; total > maxHeaderList {
			return errHeaderTooLong
		}
		d.emit(h, name, value)
	}
	return nil
}

func (d *headerDecoder) literal(b []byte, bits uint) (h Header, name, value, rest []byte, err error) {
	index, b, err := readInteger(b, bits)
	if err != nil {
		return 0, nil, nil, nil, err
	}
	if index == 0 {
		if name, b, err = readString(b, &d.name); err != nil {
			return 0, nil, nil, nil, err
		}
		h = d.names.of(name)
	} else {
		e := d.entry(index)
		if e == nil {
			return 0, nil, nil, nil, errCompression
		}
		// Adding this field to the table may evict the entry, but the only buffer that is then used again, should it be
		// this one, gets the same name.
		h, name = e.header, e.name
	}
	value, b, err = readString(b, &d.value)
	return h, name, value, b, err
}

// entry finds an entry of the static or, above it, the dynamic table; nil where there is none.
func (d *headerDecoder) entry(index int) *tableEntry {
	switch {
	case index < 1:
		return nil
	case index <= staticEntries:
		return &d.names.static[index-1]
	case index-staticEntries <= d.count:
		return &d.entries[(d.newest-(index-staticEntries-1)+maxTableEntries)%maxTableEntries]
	}
	return nil
}

func (d *headerDecoder) insert(h Header, name, value []byte) {
	need := len(name) + len(value) + entryOverhead
	d.evict(need)
	if need > d.max {
		return // the table is empty now, which is what the standard wants
	}
	d.newest = (d.newest + 1) % maxTableEntries
	d.count++
	d.size += need
	e := &d.entries[d.newest]
	e.header = h
	e.name = append(e.name[:0], name...)
	e.value = append(e.value[:0], value...)
}

// evict drops the oldest entries until there is room for need bytes.
func (d *headerDecoder) evict(need int) {
	for d.count > 0 && d.size+need > d.max {
		oldest := &d.entries[(d.newest-d.count+1+maxTableEntries)%maxTableEntries]
		d.size -= len(oldest.name) + len(oldest.value) + entryOverhead
		d.count--
	}
}

// readInteger reads an integer with a prefix of so many bits (RFC 7541, 5.1).
func readInteger(b []byte, bits uint) (int, []byte, error) {
	if len(b) == 0 {
		return 0, nil, errCompression
	}
	mask := 1<<bits - 1
	n := int(b[0]) & mask
	b = b[1:]
	if n < mask {
		return n, b, nil
	}
	for shift := uint(0); len(b) > 0 && shift <= 21; shift += 7 {
		c := b[0]
		b = b[1:]
		n += int(c&0x7f) << shift
		if c&0x80 == 0 {
			return n, b, nil
		}
	}
	return 0, nil, errCompression // cut off, or larger than anything that could be meant
}

// readString reads a string, into the buffer where it is Huffman-coded.
func readString(b []byte, into *scratch) (s, rest []byte, err error) {
	huffman := len(b) > 0 && b[0]&0x80 != 0
	n, b, err := readInteger(b, 7)
	if err != nil {
		return nil, nil, err
	}
	if n > len(b) {
		return nil, nil, errCompression
	}
	s, rest = b[:n], b[n:]
	if !huffman {
		return s, rest, nil
	}
	*into = (*into)[:0]
	if into.decodeCommon(s) {
		return *into, rest, nil
	}
	*into = (*into)[:0]
	if _, err := hpack.HuffmanDecode(into, s); err != nil {
		return nil, nil, errCompression
	}
	return *into, rest, nil
}

// symbol is a Huffman code of at most 8 bits; bits is 0 where there is none.
type symbol struct{ char, bits byte }

// commonSymbols finds the symbol by the next 8 bits of the input. Letters, digits and nearly all that headers are made
// of have such short codes.
var commonSymbols = func() (table [256]symbol) {
	for char := range 256 {
		// Eight times the same symbol take as many bytes as its code has bits.
		code := hpack.AppendHuffmanString(nil, strings.Repeat(string([]byte{byte(char)}), 8))
		bits := len(code)
		if bits > 8 {
			continue
		}
		first := int(code[0]) >> (8 - bits) << (8 - bits)
		for rest := range 1 << (8 - bits) {
			table[first|rest] = symbol{byte(char), byte(bits)}
		}
	}
	return table
}()

// decodeCommon decodes a Huffman-coded string of common symbols, a few times faster than hpack.HuffmanDecode. It
// reports false, having appended anything, for every other string and for what is malformed.
func (s *scratch) decodeCommon(b []byte) bool {
	var window uint64 // the next bits, from the top
	bits := 0
	for {
		if bits <= 32 && len(b) >= 4 {
			window |= uint64(binary.BigEndian.Uint32(b)) << (32 - bits)
			bits += 32
			b = b[4:]
		}
		for len(b) > 0 && len(b) < 4 && bits <= 56 {
			window |= uint64(b[0]) << (56 - bits)
			bits += 8
			b = b[1:]
		}
		sym := commonSymbols[window>>56]
		if sym.bits == 0 || int(sym.bits) > bits {
			// Either the end, padded with less than 8 ones, or a long code.
			return bits < 8 && len(b) == 0 && window == ^uint64(0)<<(64-bits)
		}
		*s = append(*s, sym.char)
		window <<= sym.bits
		bits -= int(sym.bits)
	}
}
