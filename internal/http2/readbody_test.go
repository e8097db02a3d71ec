package http2

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
)

// connection is what net/http gives as the body of an answer 101: its reading ends when the peer wants.
type connection struct{}

var errRead = errors.New("it was read")

func (connection) Read([]byte) (int, error) { return 0, errRead }

// What follows 101 is no body, and nothing would end its reading.
func TestReadBody(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		status int
		body   io.Reader
		want   string
	}{
		{200, strings.NewReader("12345678"), "12345"},
		{101, connection{}, ""},
	} {
		text, err := ReadBody(&http.Response{StatusCode: c.status, Body: io.NopCloser(c.body)}, 5)
		if err != nil || string(text) != c.want {
			t.Errorf("%d: %q, %v", c.status, text, err)
		}
	}
}
