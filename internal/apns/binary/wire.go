package binary

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
)

// wireConn is the TCP connection below TLS. It counts what is written, so that it can be told which of it the peer's
// TCP has acknowledged: without that, a cable pulled out would look like the silence of success.
type wireConn struct {
	*net.TCPConn
	written atomic.Int64
	ended   atomic.Bool // TCP's end was read; after a close_notify TLS does not read so far
}

func (w *wireConn) Read(b []byte) (int, error) {
	n, err := w.TCPConn.Read(b)
	if errors.Is(err, io.EOF) {
		w.ended.Store(true)
	}
	return n, err // not wrapped: it stands in for the connection
}

// abrupt reports whether the stream ended without close_notify.
func (w *wireConn) abrupt() bool { return w != nil && w.ended.Load() }

func (w *wireConn) Write(b []byte) (int, error) {
	n, err := w.TCPConn.Write(b)
	w.written.Add(int64(n))
	return n, err // not wrapped: it stands in for the connection
}

// arrived is how many of the bytes written the peer's TCP has acknowledged. Where it cannot be told it is all of them.
func (w *wireConn) arrived() int64 {
	if w == nil {
		return 1<<63 - 1
	}
	return w.written.Load() - int64(unacknowledged(w.TCPConn))
}

// delivered reports, at the end of the stream after our half-close, whether the peer has had all of it. Our FIN, which
// counts as one, may still be under way: the peer may close as soon as it has read TLS's close_notify.
func (w *wireConn) delivered() bool {
	return w == nil || unacknowledged(w.TCPConn) <= 1
}

func (w *wireConn) closeWrite() error {
	if w == nil {
		return nil
	}
	if err := w.CloseWrite(); err != nil {
		return fmt.Errorf("half-close: %w", err)
	}
	return nil
}
