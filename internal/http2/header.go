package http2

import (
	"slices"
	"strconv"
	"time"

	"golang.org/x/net/http2"
)

// The client's own fields, before those of Config.Fields.
const (
	fieldAuthority = iota
	fieldPath
	firstField
)

// Header writes the header block of one request after another, into the connection's buffer. What repeats goes through
// HPACK's dynamic table (RFC 7541); x/net's encoder would search it for every field of every request.
//
// It adds :method (POST), :scheme, :authority and content-length. The request's Path or OwnPath comes first, then its
// fields in any order.
type Header struct {
	buf     []byte // the frames so far
	start   int    // of the block in buf
	now     time.Time
	fields  []encodedField
	table   hpackTable
	opening openingFields
	repeat  repeatedFields

	authority string
	// length is the last content-length, encoded.
	length   int
	lengthed []byte

	// size is what SETTINGS_MAX_HEADER_LIST_SIZE counts (RFC 9113, 6.5.2).
	size   int
	digits []byte
}

// encodedField is a field of the requests with its last value, the likeliest one to be its next.
type encodedField struct {
	name     string
	static   uint64 // the index of its name in HPACK's static table, or 0
	own      []byte // its name as it begins a value that is never indexed
	indexing Indexing
	value    string
	number   uint64
	numeric  bool   // the value is number, whose digits are nowhere
	entry    uint64 // the value's serial number in the table, or 0
	size     int    // of name and value, as Header.size counts it
}

// openingFields are what comes before a request's path, as they are written where all of them have an index.
type openingFields struct {
	changes uint64 // the table's when block was made; see repeatedFields
	block   []byte
	size    int // Header.size behind them
}

// repeatedFields are the fields between Repeat and EndRepeat, as they are written where all of them have an index.
type repeatedFields struct {
	key    any
	second bool // key comes the second time in a row, or later
	usable bool
	// changes is the table's when block was begun. Each change may change an index.
	changes uint64
	start   int
	before  int // Header.size at start
	block   []byte
	size    int
}

func newHeader(authority string, fields []Field) *Header {
	h := &Header{authority: authority, table: newHPACKTable(), length: -1}
	h.fields = append(h.fields, encodedField{name: ":authority"}, encodedField{name: ":path"})
	for _, f := range fields {
		h.fields = append(h.fields, encodedField{name: f.Name, indexing: f.Indexing})
	}
	for i := range h.fields {
		f := &h.fields[i]
		f.static = hpackStaticIndex[f.name]
		f.own = appendHPACKInt(nil, hpackNever, 4, f.static)
		if f.static == 0 {
			f.own = appendHPACKString(f.own, f.name)
		}
	}
	return h
}

// Now is a reading of the clock that several requests share.
func (h *Header) Now() time.Time { return h.now }

// Path adds a path that most requests have.
func (h *Header) Path(path string) {
	h.first()
	h.add(fieldPath, path)
}

// OwnPath adds a path that no other request has, of n bytes, which the caller fills in at once.
func (h *Header) OwnPath(n int) []byte {
	h.first()
	return h.own(fieldPath, n)
}

// Add adds the field of that place in Config.Fields.
func (h *Header) Add(field int, value string) { h.add(firstField+field, value) }

// AddOwn adds the field with a value that no other request has, of n bytes, which the caller fills in at once.
func (h *Header) AddOwn(field, n int) []byte { return h.own(firstField+field, n) }

// AddUint adds the field with a number.
func (h *Header) AddUint(field int, value uint64) {
	f := &h.fields[firstField+field]
	if f.numeric && f.number == value && h.table.holds(f.entry) {
		h.buf = appendHPACKInt(h.buf, hpackIndexed, 7, h.table.index(f.entry))
		h.size += f.size
		return
	}
	h.digits = strconv.AppendUint(h.digits[:0], value, 10)
	again := f.numeric && f.number == value
	f.numeric, f.number = true, value
	h.addValue(firstField+field, h.digits, again)
}

// Repeat adds what was added between Repeat and EndRepeat the last time, if key is the same pointer as then, and
// reports whether it did. If not, the caller adds the fields and calls EndRepeat.
func (h *Header) Repeat(key any) bool {
	r := &h.repeat
	if key == r.key && r.usable && r.changes == h.table.changes {
		h.buf = append(h.buf, r.block...)
		h.size += r.size
		return true
	}
	r.second, r.usable = key == r.key, false
	r.key, r.changes, r.start, r.before = key, h.table.changes, len(h.buf), h.size
	return false
}

// EndRepeat ends what Repeat began. The first time a key comes its block is not kept: what is spelt out in it, as it
// would be for a single request, has its entry in the table from the second time on.
func (h *Header) EndRepeat() {
	r := &h.repeat
	if !r.second || r.changes != h.table.changes {
		return
	}
	r.block, r.size, r.usable = append(r.block[:0], h.buf[r.start:]...), h.size-r.before, true
}

// begin begins a request's HEADERS frame at the end of buf.
func (h *Header) begin(buf []byte, id uint32) {
	h.buf = appendFrameHeader(buf, 0, http2.FrameHeaders, http2.FlagHeadersEndHeaders, id)
	h.start = len(h.buf)
}

// first adds what comes before a request's path.
func (h *Header) first() {
	o := &h.opening
	if o.changes == h.table.changes {
		h.buf, h.size = append(h.buf, o.block...), o.size
		return
	}
	o.changes = h.table.changes
	h.buf = h.table.appendSizeUpdates(h.buf)
	start := len(h.buf)
	h.buf = append(h.buf, hpackIndexed|hpackMethodPost, hpackIndexed|hpackSchemeHTTPS)
	h.size = len(":method"+"POST"+":scheme"+"https"+"content-length"+"1234567890") + 3*hpackEntryCost
	h.add(fieldAuthority, h.authority)
	o.block, o.size = append(o.block[:0], h.buf[start:]...), h.size
}

// undo takes a request that is not sent out of the buffer, and gives that back. Where something was added to its
// header, the peer's table can be in step with ours again only by emptying both.
func (h *Header) undo() []byte {
	if len(h.buf) > h.start {
		h.table.empty()
	}
	return h.buf[:h.start-frameHeaderLen]
}

// end adds the content-length, and gives the buffer back.
func (h *Header) end(length int) []byte {
	if length != h.length {
		h.length = length
		h.lengthed = appendHPACKInt(h.lengthed[:0], hpackWithout, 4, hpackContentLength)
		h.digits = strconv.AppendUint(h.digits[:0], uint64(length), 10)
		h.lengthed = appendHPACKString(h.lengthed, h.digits)
	}
	return append(h.buf, h.lengthed...)
}

func (h *Header) add(field int, value string) {
	f := &h.fields[field]
	again := f.value == value && !f.numeric
	if again && h.table.holds(f.entry) {
		h.buf = appendHPACKInt(h.buf, hpackIndexed, 7, h.table.index(f.entry))
		h.size += f.size
		return
	}
	f.value, f.numeric = value, false
	h.digits = append(h.digits[:0], value...)
	h.addValue(field, h.digits, again)
}

// addValue adds a value: by its index where the table has it, and else spelt out, with an entry in the table if it
// deserves one. again: it was the field's last one too.
func (h *Header) addValue(field int, value []byte, again bool) {
	f := &h.fields[field]
	f.size = len(f.name) + len(value) + hpackEntryCost
	h.size += f.size
	if f.entry = h.table.find(field, value); f.entry > 0 {
		h.buf = appendHPACKInt(h.buf, hpackIndexed, 7, h.table.index(f.entry))
		return
	}
	representation, prefix := byte(hpackWithout), uint8(4)
	// What fills most of the table would only drive out the rest.
	if f.size <= h.table.max*3/4 && (f.indexing == Always || f.indexing == Repeated && again) {
		representation, prefix = hpackIncremental, 6
	}
	h.appendName(field, representation, prefix)
	h.buf = appendHPACKString(h.buf, value)
	if representation == hpackIncremental {
		f.entry = h.table.insert(field, string(value), f.size)
	}
}

// appendName begins a literal field, with its name by index where either table has it.
func (h *Header) appendName(field int, representation byte, prefix uint8) {
	f := &h.fields[field]
	index := f.static
	if index == 0 {
		index = h.table.findName(field)
	}
	h.buf = appendHPACKInt(h.buf, representation, prefix, index)
	if index == 0 {
		h.buf = appendHPACKString(h.buf, f.name)
	}
}

// own appends a field that is never indexed, and returns the place of its value.
func (h *Header) own(field, n int) []byte {
	f := &h.fields[field]
	h.size += len(f.name) + n + hpackEntryCost
	buf := appendHPACKInt(append(h.buf, f.own...), 0, 7, uint64(n))
	at := len(buf)
	if cap(buf)-at < n {
		buf = slices.Grow(buf, n)
	}
	h.buf = buf[:at+n]
	return h.buf[at : at+n : at+n]
}
