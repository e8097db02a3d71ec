package listener

import (
	"bytes"
	"net"
	"net/http"
	"strconv"
)

// net/http answers to what it cannot read as a request by itself, in one write: a status line, these headers and a
// text. No answer of a handler begins so, as it has a date among them.
const (
	refusalStart   = "HTTP/1.1 "
	refusalHeaders = "\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"
	// expectation begins the one answer of its own that it makes as a handler would. No handler makes it; and as the
	// line ends it is in no body either, a part of which may begin a write: JSON has a line's end between values alone.
	expectation = "HTTP/1.1 417 Expectation Failed\r\n"
	// refusalLine is more than the length of the status line.
	refusalLine = 160
)

// refusal takes such an answer apart.
func refusal(b []byte) (status int, why string, is bool) {
	if !bytes.HasPrefix(b, []byte(refusalStart)) {
		return 0, "", false
	}
	if bytes.HasPrefix(b, []byte(expectation)) {
		return http.StatusExpectationFailed, "", true
	}
	head := bytes.Index(b[:min(len(b), refusalLine+len(refusalHeaders))], []byte(refusalHeaders))
	if head < 0 {
		return 0, "", false
	}
	code, text, _ := bytes.Cut(b[len(refusalStart):head], []byte(" "))
	status, err := strconv.Atoi(string(code))
	if _, reason, has := bytes.Cut(text, []byte(": ")); has { // the standard text, and what is wrong
		why = string(reason)
	}
	return status, why, err == nil && status >= 400
}

// Write implements net.Conn.
func (c *conn) Write(b []byte) (int, error) { return c.of.write(c.Conn, b) }

// write writes to the connection, and Refusal's answer in place of one of net/http's own.
func (l *Listener) write(to net.Conn, b []byte) (int, error) {
	status, why, is := refusal(b)
	if !is || l.config.Refusal == nil {
		return to.Write(b)
	}
	if _, err := to.Write(l.config.Refusal(status, why)); err != nil {
		return 0, err
	}
	return len(b), nil
}
