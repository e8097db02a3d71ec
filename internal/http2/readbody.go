package http2

import (
	"io"
	"net/http"
)

// ReadBody reads up to most bytes of the body of net/http's answer to a request by HTTP/1.1. Of 101 Switching Protocols
// it reads nothing: what follows is no body, and net/http leaves the connection to the caller, so that neither the
// request's context nor a client's time limit would end the reading of it.
func ReadBody(answer *http.Response, most int64) ([]byte, error) {
	if answer.StatusCode == http.StatusSwitchingProtocols {
		return nil, nil
	}
	return io.ReadAll(io.LimitReader(answer.Body, most))
}
