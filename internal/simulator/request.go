package simulator

import (
	"bytes"
	"strconv"

	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/simulator/h2"
	"github.com/lhspn/lhspn/internal/simulator/record"
)

const (
	devicePath    = "/3/device/"
	uuidLen       = 36
	maxCollapseID = 64
	maxTopic      = 255
)

// The headers that matter to APNs.
const (
	headerAuthorization = h2.FirstHeader + iota
	headerID
	headerExpiration
	headerPriority
	headerTopic
	headerCollapseID
	headerPushType
)

var providerHeaders = h2.NewNames(func(name []byte) h2.Header {
	switch string(name) {
	case "authorization":
		return headerAuthorization
	case "apns-id":
		return headerID
	case "apns-expiration":
		return headerExpiration
	case "apns-priority":
		return headerPriority
	case "apns-topic":
		return headerTopic
	case "apns-collapse-id":
		return headerCollapseID
	case "apns-push-type":
		return headerPushType
	}
	return h2.HeaderOther
})

// request is what the headers said, already checked as far as one header alone can be.
type request struct {
	pathReason  Reason // what is wrong with the path
	headReason  Reason // what is wrong with the first wrong header
	auth        *providerToken
	topic       string
	pushType    string
	tokenLen    uint8
	idLen       uint8
	collapseLen uint8
	priority    uint8
	expiration  uint32
	verdict     record.Verdict
	timestamp   int64 // with 410, in milliseconds
}

// pushRequest is a request of the provider API: what its headers said, and the buffers for it, which are used again.
type pushRequest struct {
	request
	tokenBytes [push.MaxHexTokenLen]byte
	idBytes    [uuidLen]byte
	collapseID [maxCollapseID]byte
}

type stream = h2.Stream[pushRequest]

func (r *request) fault(reason Reason) {
	if r.headReason == ReasonNone {
		r.headReason = reason
	}
}

// topicCache keeps the topic that was met last as a string.
type topicCache string

func (t *topicCache) intern(b []byte) string {
	if string(b) != string(*t) {
		*t = topicCache(b)
	}
	return string(*t)
}

// authorization is the provider token of a connection.
type authorization struct {
	text  []byte // of the header that was met last
	token *providerToken
	first *providerToken // the first good one: the connection is bound to its team and key
}

// Open makes a stream fit for a new request.
func (c *providerConn) Open(st *stream) {
	st.Value.request = request{priority: 10, pathReason: ReasonBadPath}
}

// Header takes one header of the request that is being read.
func (c *providerConn) Header(st *stream, h h2.Header, value []byte, again bool) {
	r := &st.Value
	if again {
		r.fault(ReasonDuplicateHeaders)
		return
	}
	switch h {
	case h2.HeaderPath:
		r.pathReason = r.parsePath(value)
	case headerAuthorization:
		r.auth = c.authorize(value)
	case headerID:
		if !isUUID(value) {
			r.fault(ReasonBadMessageID)
			return
		}
		r.idLen = uint8(copy(r.idBytes[:], value)) // a UUID
	case headerExpiration:
		n, err := strconv.ParseUint(string(value), 10, 64)
		if err != nil {
			r.fault(ReasonBadExpirationDate)
		}
		r.expiration = uint32(min(n, 1<<32-1))
	case headerPriority:
		switch string(value) {
		case "10":
			r.priority = 10
		case "5":
			r.priority = 5
		case "1":
			r.priority = 1
		default:
			r.fault(ReasonBadPriority)
		}
	case headerTopic:
		if !isTopic(value) {
			r.fault(ReasonBadTopic)
		}
		r.topic = c.topics.intern(value)
	case headerCollapseID:
		if len(value) > maxCollapseID {
			r.fault(ReasonBadCollapseID)
		}
		r.collapseLen = uint8(copy(r.collapseID[:], value)) // at most 64
	case headerPushType:
		if r.pushType = pushType(value); r.pushType == "" {
			r.fault(ReasonInvalidPushType)
		}
	default: // the others are HTTP/2's own, or of no meaning to APNs
	}
}

func (r *pushRequest) parsePath(path []byte) Reason {
	hexToken, ok := bytes.CutPrefix(path, []byte(devicePath))
	switch {
	case !ok:
		return ReasonBadPath
	case len(hexToken) == 0:
		return ReasonMissingDeviceToken
	case len(hexToken)%2 != 0 || len(hexToken) < 2*push.MinHexTokenLen || len(hexToken) > 2*push.MaxHexTokenLen:
		return ReasonBadDeviceToken
	}
	for i := 0; i < len(hexToken); i += 2 {
		hi, lo := hexDigit[hexToken[i]], hexDigit[hexToken[i+1]]
		if hi|lo > 15 {
			return ReasonBadDeviceToken
		}
		r.tokenBytes[i/2] = hi<<4 | lo
	}
	r.tokenLen = uint8(len(hexToken) / 2) // at most 100
	return ReasonNone
}

// hexDigit is the value of a hexadecimal digit, 255 for every other byte.
var hexDigit = func() (table [256]uint8) {
	for i := range table {
		table[i] = 255
	}
	for i, c := range []byte("0123456789abcdef") {
		table[c] = uint8(i)
	}
	for i, c := range []byte("ABCDEF") {
		table[c] = uint8(10 + i)
	}
	return table
}()

func isUUID(b []byte) bool {
	if len(b) != uuidLen {
		return false
	}
	for i, c := range b {
		if i == 8 || i == 13 || i == 18 || i == 23 {
			if c != '-' {
				return false
			}
		} else if hexDigit[c] > 15 {
			return false
		}
	}
	return true
}

func isTopic(b []byte) bool {
	if len(b) == 0 || len(b) > maxTopic {
		return false
	}
	for _, c := range b {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '-', c == '_':
		default:
			return false
		}
	}
	return true
}

// pushType is the push type without an allocation, empty where it is none.
func pushType(b []byte) string {
	switch string(b) {
	case typeAlert:
		return typeAlert
	case typeBackground:
		return typeBackground
	case typeLocation:
		return typeLocation
	case typeVoIP:
		return typeVoIP
	case typeComplication:
		return typeComplication
	case typeFileProvider:
		return typeFileProvider
	case typeMDM:
		return typeMDM
	case typeLiveActivity:
		return typeLiveActivity
	case typePushToTalk:
		return typePushToTalk
	case typeWidgets:
		return typeWidgets
	case typeControls:
		return typeControls
	}
	return ""
}
