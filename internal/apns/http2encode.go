package apns

import (
	"strconv"

	"github.com/google/uuid"
	"golang.org/x/net/http2"

	"github.com/lhspn/lhspn/internal/push"
)

// The header fields of a request that repeat from one notification to the next.
type http2Field uint8

const (
	fieldAuthority http2Field = iota
	fieldAuthorization
	fieldTopic
	fieldPushType
	fieldPriority
	fieldExpiration
	fieldCollapseID
	fieldCount
)

// http2FieldNames holds each field's name, and its index in HPACK's static table where it has one.
var http2FieldNames = [fieldCount]struct {
	name   string
	static uint64
}{
	fieldAuthority:     {":authority", 1},
	fieldAuthorization: {"authorization", 23},
	fieldTopic:         {"apns-topic", 0},
	fieldPushType:      {"apns-push-type", 0},
	fieldPriority:      {"apns-priority", 0},
	fieldExpiration:    {"apns-expiration", 0},
	fieldCollapseID:    {"apns-collapse-id", 0},
}

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
	hpackPath          = 4
	hpackSchemeHTTPS   = 7
	hpackContentLength = 28
	hpackDefaultTable  = 4096
)

const (
	http2PathPrefix = "/3/device/"
	http2APNsID     = "apns-id"
	uuidTextLen     = 36
)

type hpackEntry struct {
	field http2Field
	value string
}

// http2Encoder writes the header block of each notification. What repeats goes through HPACK's dynamic table; the path and
// the apns-id, different for every one, are never indexed. x/net's encoder would search its table for every field of every
// notification; here the block of a notification is kept as a template, into which each recipient's token and apns-id are
// copied. It belongs to the connection's writer.
type http2Encoder struct {
	// table mirrors the peer's dynamic table, the oldest entry first. It is short, a few dozen entries, and is only looked
	// at when the notification changes.
	table     []hpackEntry
	tableSize int
	tableMax  int
	// announceMin and announceMax are the table size updates (RFC 7541, 4.2) due in the next block; -1 for none.
	announceMin, announceMax int

	authority     string
	authorization string // empty with a client certificate

	// The template is the last block that needed nothing inserted into the table, and so can be repeated.
	template         []byte
	templateOf       *push.Notification
	templateTokenLen int
	templateToken    int // where the token's digits go
	templateID       int // where the apns-id goes
	// templateOnce: the block spells out what is the notification's own, as it would for a notification with one recipient.
	// With a second recipient those fields are worth an entry in the table.
	templateOnce bool

	expiration []byte
}

func newHTTP2Encoder(authority string) *http2Encoder {
	return &http2Encoder{authority: authority, tableMax: hpackDefaultTable, announceMin: -1, announceMax: -1}
}

// setAuthorization changes the authorization header of all further blocks.
func (e *http2Encoder) setAuthorization(value string) {
	if value != e.authorization {
		e.authorization, e.templateOf = value, nil
	}
}

// setTableSize follows the peer's SETTINGS_HEADER_TABLE_SIZE. We never use more than the default.
func (e *http2Encoder) setTableSize(size uint32) {
	n := int(min(size, hpackDefaultTable))
	if n == e.tableMax && e.announceMax < 0 {
		return
	}
	if e.announceMin < 0 || n < e.announceMin {
		e.announceMin = n
	}
	e.announceMax, e.tableMax, e.templateOf = n, n, nil
	e.evict(0)
}

// evict makes room for an entry of the given size.
func (e *http2Encoder) evict(size int) {
	drop := 0
	for ; drop < len(e.table) && e.tableSize+size > e.tableMax; drop++ {
		e.tableSize -= e.table[drop].size()
	}
	if drop > 0 {
		e.table = e.table[:copy(e.table, e.table[drop:])]
	}
}

func (en hpackEntry) size() int {
	return len(http2FieldNames[en.field].name) + len(en.value) + hpackEntryCost
}

// appendBlock appends the header block of one notification for one token, with a body of length bytes.
func (e *http2Encoder) appendBlock(dst []byte, n *push.Notification, token string, length int) []byte {
	id := ID(n.ID, token)
	if e.templateOf == n && e.templateTokenLen == len(token) && !e.templateOnce {
		start := len(dst)
		dst = append(dst, e.template...)
		block := dst[start:]
		putHex(block[e.templateToken:], token)
		putUUID(block[e.templateID:], id)
		return appendContentLength(dst, length)
	}
	return appendContentLength(e.appendNewBlock(dst, n, token, id), length)
}

// appendContentLength appends the one field that may differ with each recipient's badge. APNs does without it; proxies on
// the way may not.
func appendContentLength(dst []byte, length int) []byte {
	dst = appendHPACKInt(dst, hpackWithout, 4, hpackContentLength)
	digits := 1
	for n := length; n >= 10; n /= 10 {
		digits++
	}
	dst = append(dst, byte(digits))
	return strconv.AppendUint(dst, uint64(length), 10)
}

// appendNewBlock spells a block out, and keeps it as the template if it can be repeated as it is.
func (e *http2Encoder) appendNewBlock(dst []byte, n *push.Notification, token string, id uuid.UUID) []byte {
	start := len(dst)
	repeated := e.templateOf == n
	repeatable := e.announceMax < 0
	if e.announceMax >= 0 {
		if e.announceMin < e.announceMax {
			dst = appendHPACKInt(dst, hpackTableSize, 5, uint64(e.announceMin))
		}
		dst = appendHPACKInt(dst, hpackTableSize, 5, uint64(e.announceMax))
		e.announceMin, e.announceMax = -1, -1
	}
	field := func(f http2Field, value string, index bool) {
		var inserted bool
		dst, inserted = e.appendField(dst, f, value, index)
		repeatable = repeatable && !inserted
	}

	dst = append(dst, hpackIndexed|hpackMethodPost, hpackIndexed|hpackSchemeHTTPS)
	field(fieldAuthority, e.authority, true)
	dst = append(dst, hpackNever|hpackPath)
	dst = appendHPACKInt(dst, 0, 7, uint64(len(http2PathPrefix)+2*len(token)))
	dst = append(dst, http2PathPrefix...)
	tokenAt := len(dst) - start
	dst = append(dst, make([]byte, 2*len(token))...)
	putHex(dst[start+tokenAt:], token)

	if e.authorization != "" {
		field(fieldAuthorization, e.authorization, true)
	}
	field(fieldTopic, n.Key, true)
	field(fieldPushType, string(n.Type), true)
	field(fieldPriority, priorityText(n.Priority), true)
	e.expiration = strconv.AppendUint(e.expiration[:0], uint64(n.ExpirationUnix()), 10)
	if f, ok := e.find(fieldExpiration, e.expiration); ok {
		dst = appendHPACKInt(dst, hpackIndexed, 7, f)
	} else if !repeated {
		dst = e.appendName(dst, hpackWithout, 4, fieldExpiration)
		dst = appendHPACKString(dst, e.expiration)
	} else {
		field(fieldExpiration, string(e.expiration), true)
	}
	if n.CollapseID != "" {
		field(fieldCollapseID, n.CollapseID, repeated)
	}
	dst = append(dst, hpackNever, byte(len(http2APNsID)))
	dst = append(dst, http2APNsID...)
	dst = append(dst, uuidTextLen)
	idAt := len(dst) - start
	dst = append(dst, make([]byte, uuidTextLen)...)
	putUUID(dst[start+idAt:], id)

	e.templateOf = n
	e.templateOnce = !repeated || !repeatable
	if !e.templateOnce {
		e.template = append(e.template[:0], dst[start:]...)
		e.templateTokenLen, e.templateToken, e.templateID = len(token), tokenAt, idAt
	}
	return dst
}

// appendField appends one field: by its index where the table has it, and else, with index, inserted into the table.
func (e *http2Encoder) appendField(dst []byte, f http2Field, value string, index bool) (_ []byte, inserted bool) {
	if i, ok := e.find(f, []byte(value)); ok {
		return appendHPACKInt(dst, hpackIndexed, 7, i), false
	}
	entry := hpackEntry{f, value}
	// What fills most of the table would only drive out the rest.
	if !index || entry.size() > e.tableMax*3/4 {
		dst = e.appendName(dst, hpackWithout, 4, f)
		return appendHPACKString(dst, value), false
	}
	dst = e.appendName(dst, hpackIncremental, 6, f)
	dst = appendHPACKString(dst, value)
	e.evict(entry.size())
	e.table = append(e.table, entry)
	e.tableSize += entry.size()
	return dst, true
}

// find looks a field up in the dynamic table; the youngest entry has the lowest index.
func (e *http2Encoder) find(f http2Field, value []byte) (index uint64, ok bool) {
	for i := len(e.table) - 1; i >= 0; i-- {
		if e.table[i].field == f && e.table[i].value == string(value) {
			return uint64(hpackStaticLen + len(e.table) - i), true
		}
	}
	return 0, false
}

// appendName begins a literal field, with its name by index where either table has it.
func (e *http2Encoder) appendName(dst []byte, representation byte, prefix uint8, f http2Field) []byte {
	index := http2FieldNames[f].static
	for i := len(e.table) - 1; i >= 0 && index == 0; i-- {
		if e.table[i].field == f {
			index = uint64(hpackStaticLen + len(e.table) - i)
		}
	}
	dst = appendHPACKInt(dst, representation, prefix, index)
	if index == 0 {
		dst = appendHPACKString(dst, http2FieldNames[f].name)
	}
	return dst
}

// listSize is the size of the header list as SETTINGS_MAX_HEADER_LIST_SIZE counts it (RFC 9113, 6.5.2).
func (e *http2Encoder) listSize(n *push.Notification, token string) int {
	size := len(":method"+"POST"+":scheme"+"https") + 2*hpackEntryCost +
		len(":path"+http2PathPrefix) + 2*len(token) + hpackEntryCost +
		len(http2APNsID) + uuidTextLen + hpackEntryCost +
		hpackEntry{fieldAuthority, e.authority}.size() +
		hpackEntry{fieldTopic, n.Key}.size() +
		hpackEntry{fieldPushType, string(n.Type)}.size() +
		hpackEntry{fieldPriority, priorityText(n.Priority)}.size() +
		hpackEntry{fieldExpiration, "4294967295"}.size() +
		len("content-length"+"4096") + hpackEntryCost
	if e.authorization != "" {
		size += hpackEntry{fieldAuthorization, e.authorization}.size()
	}
	if n.CollapseID != "" {
		size += hpackEntry{fieldCollapseID, n.CollapseID}.size()
	}
	return size
}

func priorityText(p uint8) string {
	switch p {
	case 10:
		return "10"
	case 5:
		return "5"
	case 1:
		return "1"
	default:
		return strconv.Itoa(int(p))
	}
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

// appendHPACKString appends a string literal without Huffman coding, which would save a few bytes and cost more than they do.
func appendHPACKString[T string | []byte](dst []byte, s T) []byte {
	dst = appendHPACKInt(dst, 0, 7, uint64(len(s)))
	return append(dst, s...)
}

// hexDigits holds both digits of every byte, as they lie in memory: one store instead of two.
var hexDigits = func() (digits [256][2]byte) {
	const hex = "0123456789abcdef"
	for i := range digits {
		digits[i] = [2]byte{hex[i>>4], hex[i&15]}
	}
	return digits
}()

// putHex writes the digits of src to dst.
func putHex[T ~string | ~[]byte](dst []byte, src T) {
	dst = dst[:2*len(src)]
	for i := range len(src) {
		*(*[2]byte)(dst[2*i:]) = hexDigits[src[i]]
	}
}

// putUUID writes the 36 characters of an id to dst.
func putUUID(dst []byte, id uuid.UUID) {
	_ = dst[uuidTextLen-1]
	putHex(dst[0:], id[0:4])
	dst[8] = '-'
	putHex(dst[9:], id[4:6])
	dst[13] = '-'
	putHex(dst[14:], id[6:8])
	dst[18] = '-'
	putHex(dst[19:], id[8:10])
	dst[23] = '-'
	putHex(dst[24:], id[10:16])
}

// appendFrameHeader appends the nine bytes before a frame's payload.
func appendFrameHeader(dst []byte, length int, t http2.FrameType, flags http2.Flags, stream uint32) []byte {
	return append(dst, byte(length>>16), byte(length>>8), byte(length), byte(t), byte(flags),
		byte(stream>>24), byte(stream>>16), byte(stream>>8), byte(stream))
}
