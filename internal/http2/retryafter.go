package http2

import (
	"errors"
	"net/http"
	"strconv"
	"time"
)

// MaxRetryAfter bounds what RetryAfter gives: a peer that asks for a year is asked again.
const MaxRetryAfter = time.Hour

// RetryAfter reads the value of the header Retry-After, in both of its forms, seconds and a date (RFC 9110, 10.2.3). 0
// means that there is none, or none that makes sense.
func RetryAfter(value []byte, now time.Time) time.Duration {
	if len(value) == 0 {
		return 0
	}
	seconds, err := strconv.ParseUint(string(value), 10, 32)
	switch {
	case err == nil:
		return min(time.Duration(seconds)*time.Second, MaxRetryAfter)
	case errors.Is(err, strconv.ErrRange):
		return MaxRetryAfter
	}
	at, err := http.ParseTime(string(value))
	if err != nil {
		return 0
	}
	return min(max(at.Sub(now), 0), MaxRetryAfter)
}
