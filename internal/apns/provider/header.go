package provider

import (
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

// fields are the header fields of a request. What is the notification's own is worth an entry in HPACK's table from its second
// recipient on.
var fields = [fieldCount]http2.Field{
	fieldAuthorization: {Name: "authorization", Indexing: http2.Always},
	fieldTopic:         {Name: "apns-topic", Indexing: http2.Always},
	fieldPushType:      {Name: "apns-push-type", Indexing: http2.Always},
	fieldPriority:      {Name: "apns-priority", Indexing: http2.Always},
	fieldExpiration:    {Name: "apns-expiration", Indexing: http2.Repeated},
	fieldCollapseID:    {Name: "apns-collapse-id", Indexing: http2.Repeated},
	fieldID:            {Name: "apns-id", Indexing: http2.Never},
}

const (
	pathPrefix  = "/3/device/"
	uuidTextLen = 36
)

// addHeader adds the header of one notification for one device token, by its address. authorization is empty with a client
// certificate.
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
	putUUID(h.AddOwn(fieldID, uuidTextLen), apns.ID(n.ID, address))
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
