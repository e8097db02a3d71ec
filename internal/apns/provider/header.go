package provider

import (
	"encoding/binary"
	"strconv"

	"github.com/google/uuid"

	"github.com/lhspn/lhspn/internal/apns"
	"github.com/lhspn/lhspn/internal/http2"
	"github.com/lhspn/lhspn/internal/push"
)

// The header fields of a request, by their place in fields.
const (
	fieldAuthorization = iota
	fieldTopic
	fieldPushType
	fieldPriority
	fieldExpiration
	fieldCollapseID
	fieldID
	fieldCount
)

// fields are the header fields of a request. What is the notification's own is worth an entry in HPACK's table from its
// second recipient on.
var fields = [fieldCount]http2.Field{
	fieldAuthorization: {Name: "authorization", Indexing: http2.Always},
	fieldTopic:         {Name: "apns-topic", Indexing: http2.Always},
	fieldPushType:      {Name: "apns-push-type", Indexing: http2.Always},
	fieldPriority:      {Name: "apns-priority", Indexing: http2.Always},
	fieldExpiration:    {Name: "apns-expiration", Indexing: http2.Repeated},
	fieldCollapseID:    {Name: "apns-collapse-id", Indexing: http2.Repeated},
	fieldID:            {Name: "apns-id", Indexing: http2.Never},
}

// The fields of an answer that are looked at, by their place in answerFields.
const fieldUniqueID = 0

// answerFields are in the answers of the development environment only.
var answerFields = []string{fieldUniqueID: "apns-unique-id"}

// uniqueID is what APNs calls the delivery that it answers, nil where it does not say so in printable text.
func uniqueID(a *http2.Answer) *string {
	field := a.Field(fieldUniqueID)
	if len(field) == 0 || len(field) > push.MaxUniqueID {
		return nil
	}
	for _, c := range field {
		if c <= ' ' || c > '~' {
			return nil
		}
	}
	id := string(field)
	return &id
}

const (
	pathPrefix  = "/3/device/"
	uuidTextLen = 36
)

// addHeader adds the header of one notification for one device token, by its address. authorization is empty with a
// client certificate.
func addHeader(h *http2.Header, n *push.Notification, address, authorization string) {
	path := h.OwnPath(len(pathPrefix) + 2*len(address))
	putHex(path[copy(path, pathPrefix):], address)
	if authorization != "" {
		h.Add(fieldAuthorization, authorization)
	}
	if !h.Repeat(n) {
		h.Add(fieldTopic, n.Key)
		h.Add(fieldPushType, string(n.Type))
		h.Add(fieldPriority, priorityText(n.Priority))
		h.AddUint(fieldExpiration, uint64(n.ExpirationUnix()))
		if n.CollapseID != "" {
			h.Add(fieldCollapseID, n.CollapseID)
		}
		h.EndRepeat()
	}
	id := n.ServiceID
	if id == uuid.Nil {
		id = apns.ID(n.ID, address)
	}
	putUUID(h.AddOwn(fieldID, uuidTextLen), id)
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

// hexDigits holds both digits of every byte, the first one low.
var hexDigits = func() (table [256]uint16) {
	const digits = "0123456789abcdef"
	for i := range table {
		table[i] = uint16(digits[i>>4]) | uint16(digits[i&15])<<8
	}
	return table
}()

// digits are the eight of four bytes, as they lie in memory.
func digits(a, b, c, d byte) uint64 {
	return uint64(hexDigits[a]) | uint64(hexDigits[b])<<16 | uint64(hexDigits[c])<<32 | uint64(hexDigits[d])<<48
}

// putHex writes the hexadecimal digits of src to dst.
func putHex(dst []byte, src string) {
	le := binary.LittleEndian
	for len(src) >= 8 && len(dst) >= 16 { // one store for four bytes
		s, d := src[:8], dst[:16]
		le.PutUint64(d, digits(s[0], s[1], s[2], s[3]))
		le.PutUint64(d[8:], digits(s[4], s[5], s[6], s[7]))
		src, dst = src[8:], dst[16:]
	}
	for i := range len(src) {
		le.PutUint16(dst[2*i:], hexDigits[src[i]])
	}
}

// putUUID writes the 36 characters of an id to dst.
func putUUID(dst []byte, id uuid.UUID) {
	_ = dst[uuidTextLen-1]
	le := binary.LittleEndian
	second, third := digits(id[4], id[5], id[6], id[7]), digits(id[8], id[9], id[10], id[11])
	le.PutUint64(dst, digits(id[0], id[1], id[2], id[3]))
	dst[8] = '-'
	le.PutUint32(dst[9:], uint32(second))
	dst[13] = '-'
	le.PutUint32(dst[14:], uint32(second>>32))
	dst[18] = '-'
	le.PutUint32(dst[19:], uint32(third))
	dst[23] = '-'
	le.PutUint32(dst[24:], uint32(third>>32))
	le.PutUint64(dst[28:], digits(id[12], id[13], id[14], id[15]))
}
