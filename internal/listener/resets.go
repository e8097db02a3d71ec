package listener

import (
	"net/http"
	"time"
)

// A request over HTTP/2 that is taken back at once has cost its sender two small frames and the service its beginning,
// and leaves room for the next ("rapid reset", CVE-2023-44487). A client that gives up does so later, or seldom.
const (
	atOnce = 250 * time.Millisecond // less than backends wait, also for a service that is slow
	// mostResets is how many of a connection's requests may be taken back at once while they are half of all or more.
	mostResets = 100
)

// watchResets notes, when the request has been dealt with, whether it was taken back, and closes the connection of
// whoever does so again and again. A trusted proxy's has the requests of many.
func (c *conn) watchResets(r *http.Request, began time.Time) {
	if r.ProtoMajor < 2 || c.trusted {
		return
	}
	reset := r.Context().Err() != nil && time.Since(began) < atOnce
	l := c.of
	l.mu.Lock()
	c.requests++
	if reset {
		c.resets++
	}
	end := c.resets > mostResets && c.resets > c.requests/2
	if end {
		_, end = l.conns[c]
		l.forget(c)
	}
	l.mu.Unlock()
	if end {
		_ = c.Conn.Close()
		l.closed()
	}
}
