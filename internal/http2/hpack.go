package http2

import (
	"golang.org/x/net/http2/hpack"
)

// HPACK (RFC 7541): the first byte of each representation, and the length of the static table.
const (
	hpackIndexed       = 0x80 // 6.1, 7-bit index
	hpackIncremental   = 0x40 // 6.2.1, 6-bit index of the name
	hpackWithout       = 0x00 // 6.2.2, 4-bit
	hpackNever         = 0x10 // 6.2.3, 4-bit
	hpackTableSize     = 0x20 // 6.3, 5-bit
	hpackStaticLen     = 61
	hpackEntryCost     = 32 // 4.1
	hpackMethodPost    = 3
	hpackSchemeHTTPS   = 7
	hpackContentLength = 28
	hpackDefaultTable  = 4096
)

// hpackStatic is the static table; index 0 is none.
var hpackStatic = func() (table [hpackStaticLen + 1]hpack.HeaderField) {
	for i := 1; i <= hpackStaticLen; i++ {
		fields, err := hpack.NewDecoder(0, nil).DecodeFull([]byte{hpackIndexed | byte(i)})
		if err != nil {
			panic(err)
		}
		table[i] = fields[0]
	}
	return table
}()

// hpackStaticIndex is the lowest index of each name in the static table.
var hpackStaticIndex = func() map[string]uint64 {
	m := map[string]uint64{}
	for i := hpackStaticLen; i > 0; i-- {
		m[hpackStatic[i].Name] = uint64(i)
	}
	return m
}()

// hpackTable mirrors the dynamic table that the peer keeps of our fields. It is short, a few dozen entries. Each entry
// has a serial number, from 1, by which it is found after others were inserted or evicted.
type hpackTable struct {
	entries   []hpackEntry // the oldest first
	inserted  uint64       // how many ever
	changes   uint64       // of the entries, and of what is to be announced
	size, max int
	// announceMin and announceMax are the table size updates (RFC 7541, 4.2) due in the next block; -1 for none.
	announceMin, announceMax int
}

type hpackEntry struct {
	field int
	value string
	size  int
}

func newHPACKTable() hpackTable {
	return hpackTable{changes: 1, max: hpackDefaultTable, announceMin: -1, announceMax: -1}
}

// holds reports whether the entry of that serial number is in the table. None has the number 0.
func (t *hpackTable) holds(serial uint64) bool { return serial > t.inserted-uint64(len(t.entries)) }

// index is the present index of an entry. The youngest has the lowest.
func (t *hpackTable) index(serial uint64) uint64 { return hpackStaticLen + 1 + t.inserted - serial }

// find is the serial number of the field with that value, or 0.
func (t *hpackTable) find(field int, value []byte) uint64 {
	for i := len(t.entries) - 1; i >= 0; i-- {
		if t.entries[i].field == field && t.entries[i].value == string(value) {
			return t.inserted - uint64(len(t.entries)-1-i)
		}
	}
	return 0
}

// findName is the index of any entry of the field, or 0.
func (t *hpackTable) findName(field int) uint64 {
	for i := len(t.entries) - 1; i >= 0; i-- {
		if t.entries[i].field == field {
			return hpackStaticLen + uint64(len(t.entries)-i)
		}
	}
	return 0
}

func (t *hpackTable) insert(field int, value string, size int) (serial uint64) {
	t.evict(size)
	t.entries = append(t.entries, hpackEntry{field, value, size})
	t.size += size
	t.inserted++
	t.changes++
	return t.inserted
}

// evict makes room for an entry of the given size.
func (t *hpackTable) evict(size int) {
	drop := 0
	for ; drop < len(t.entries) && t.size+size > t.max; drop++ {
		t.size -= t.entries[drop].size
	}
	if drop > 0 {
		t.entries = t.entries[:copy(t.entries, t.entries[drop:])]
		t.changes++
	}
}

// resize follows the peer's SETTINGS_HEADER_TABLE_SIZE. We never use more than the default.
func (t *hpackTable) resize(size uint32) {
	n := int(min(size, hpackDefaultTable))
	if n == t.max && t.announceMax < 0 {
		return
	}
	if t.announceMin < 0 || n < t.announceMin {
		t.announceMin = n
	}
	t.announceMax, t.max = n, n
	t.changes++
	t.evict(0)
}

// empty empties the table, and the peer's with the next block.
func (t *hpackTable) empty() {
	if t.announceMax < 0 {
		t.announceMax = t.max
	}
	t.announceMin = 0
	t.entries, t.size = t.entries[:0], 0
	t.changes++
}

// appendSizeUpdates announces what size the table has now, after the smallest that it had since the last block.
func (t *hpackTable) appendSizeUpdates(dst []byte) []byte {
	if t.announceMax < 0 {
		return dst
	}
	if t.announceMin < t.announceMax {
		dst = appendHPACKInt(dst, hpackTableSize, 5, uint64(t.announceMin))
	}
	dst = appendHPACKInt(dst, hpackTableSize, 5, uint64(t.announceMax))
	t.announceMin, t.announceMax = -1, -1
	t.changes++
	return dst
}

// appendHPACKInt appends an integer with the given prefix (RFC 7541, 5.1).
func appendHPACKInt(dst []byte, representation byte, prefix uint8, n uint64) []byte {
	most := uint64(1)<<prefix - 1
	if n < most {
		return append(dst, representation|byte(n))
	}
	dst = append(dst, representation|byte(most))
	for n -= most; n >= 128; n >>= 7 {
		dst = append(dst, byte(n)|0x80)
	}
	return append(dst, byte(n))
}

// appendHPACKString appends a string literal without Huffman coding, which would save a few bytes and cost more than
// they do.
func appendHPACKString[T string | []byte](dst []byte, s T) []byte {
	dst = appendHPACKInt(dst, 0, 7, uint64(len(s)))
	return append(dst, s...)
}
