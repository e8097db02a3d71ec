package fcm

import (
	"strconv"
	"time"

	"github.com/lhspn/lhspn/internal/push"
)

// widestTTL is the member ttl at its longest. Shorter ones are filled up with spaces, so that the length of a body is
// known before the second in which it is written.
const widestTTL = `"ttl":"2419200s",`

// appendBody appends the body of a request: the payload with the target, the ttl as it is now, and the badge. An empty
// token leaves the target out.
func appendBody(dst []byte, n *push.Notification, t push.Token, badge uint32, now time.Time) []byte {
	dst = append(dst, headTarget...)
	if address := t.Address(); address != "" {
		dst = appendTarget(dst, address)
	}
	dst = append(dst, head[len(headTarget):]...)
	dst = appendTTL(dst, n.Expiration, now)
	return n.AppendPayloadFrom(dst, len(head), t, min(badge, maxCount))
}

// bodyLen is the length of what appendBody appends.
func bodyLen(n *push.Notification, address string, badge uint32) int {
	size := n.Payload.Len(min(badge, maxCount)) + len(widestTTL) + len(`"token":"",`) + len(address)
	if isFID(address) {
		size -= len("token") - len("fid")
	}
	for i := range len(address) {
		if c := address[i]; c == '"' || c == '\\' {
			size++
		}
	}
	return size
}

// appendTTL appends how many seconds are left until the expiration, as far as FCM keeps anything: "0s" is now or never.
func appendTTL(dst []byte, expiration, now time.Time) []byte {
	var left time.Duration
	if !expiration.IsZero() {
		left = min(max(expiration.Sub(now), 0), maxTTL)
	}
	end := len(dst) + len(widestTTL)
	dst = append(dst, `"ttl":"`...)
	dst = strconv.AppendInt(dst, int64(left/time.Second), 10)
	dst = append(dst, `s",`...)
	for len(dst) < end {
		dst = append(dst, ' ')
	}
	return dst
}
