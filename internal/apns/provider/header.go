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

// putHex writes the hexadecimal digits of src to dst.
func putHex[T ~string | ~[]byte](dst []byte, src T) {
	for len(src) >= 4 && len(dst) >= 8 {
		x := uint32(src[0])<<24 | uint32(src[1])<<16 | uint32(src[2])<<8 | uint32(src[3])
		binary.BigEndian.PutUint64(dst, digits(x))
		src, dst = src[4:], dst[8:]
	}
	for i := range len(src) {
		dst[2*i], dst[2*i+1] = hexDigits[src[i]>>4], hexDigits[src[i]&15]
	}
}

// digits are the eight of four bytes: each half byte is spread to a byte of its own, and 'a' to 'f' lie 39 beyond where
// '9' would lead to.
func digits(four uint32) uint64 {
	x := uint64(four)
	x = (x<<16 | x) & 0x0000ffff0000ffff
	x = (x<<8 | x) & 0x00ff00ff00ff00ff
	x = (x<<4 | x) & 0x0f0f0f0f0f0f0f0f
	letters := (x + 0x0606060606060606) >> 4 & 0x0101010101010101
	return x + 0x3030303030303030 + 39*letters
}

const hexDigits = "0123456789abcdef"

// putUUID writes the 36 characters of an id to dst.
func putUUID(dst []byte, id uuid.UUID) {
	_ = dst[uuidTextLen-1]
	be := binary.BigEndian
	second, third := digits(be.Uint32(id[4:])), digits(be.Uint32(id[8:]))
	be.PutUint64(dst, digits(be.Uint32(id[:])))
	dst[8] = '-'
	be.PutUint32(dst[9:], uint32(second>>32))
	dst[13] = '-'
	be.PutUint32(dst[14:], uint32(second))
	dst[18] = '-'
	be.PutUint32(dst[19:], uint32(third>>32))
	dst[23] = '-'
	be.PutUint32(dst[24:], uint32(third))
	be.PutUint64(dst[28:], digits(be.Uint32(id[12:])))
}
