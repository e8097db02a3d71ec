package fcm

import (
	"net/http"
	"strconv"
	"time"
)

// maxRetryAfter bounds what a peer can ask for: after an hour scale-fcm calls it an outage, and so it is tried again.
const maxRetryAfter = time.Hour

// parseRetryAfter reads the header Retry-After in both of its forms, seconds and a date (RFC 9110, 10.2.3). 0 means that there
// is none, or none that makes sense.
func parseRetryAfter(value []byte, now time.Time) time.Duration {
	if len(value) == 0 {
		return 0
	}
	if seconds, err := strconv.ParseUint(string(value), 10, 32); err == nil {
		return min(time.Duration(seconds)*time.Second, maxRetryAfter)
	}
	at, err := http.ParseTime(string(value))
	if err != nil {
		return 0
	}
	return min(max(at.Sub(now), 0), maxRetryAfter)
}
