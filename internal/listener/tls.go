package listener

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// TLS is a Listener whose connections speak TLS. It shakes hands itself, so that it knows who goes on with HTTP/1.1:
// what net/http answers to these by itself is replaced, as on connections without TLS.
type TLS struct {
	*Listener
	config  *tls.Config
	timeout time.Duration
	log     *slog.Logger

	begin, end sync.Once
	accepted   chan accepted
	closed     chan struct{}
	done       chan struct{} // closed when nothing is accepted any more
}

// accepted is what Accept returns.
type accepted struct {
	net.Conn
	err error
}

// NewTLS has the connections of l speak TLS. A handshake may take as long as timeout.
func NewTLS(l *Listener, config *tls.Config, timeout time.Duration, log *slog.Logger) *TLS {
	return &TLS{
		Listener: l, config: config, timeout: timeout, log: log, accepted: make(chan accepted), closed: make(chan struct{}),
		done: make(chan struct{}),
	}
}

// Accept implements net.Listener: it returns connections that have shaken hands.
func (l *TLS) Accept() (net.Conn, error) {
	l.begin.Do(func() { go l.accept() })
	select {
	case a := <-l.accepted:
		return a.Conn, a.err
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *TLS) Close() error {
	l.end.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// accept has each connection shake hands on its own, so that none waits for another, until Close.
func (l *TLS) accept() {
	defer close(l.done)
	ctx, cancel := context.WithCancel(context.Background())
	var handshakes sync.WaitGroup
	defer handshakes.Wait()
	defer cancel()
	for {
		c, err := l.Listener.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil: // it may pass, as where there are too many files
			l.give(accepted{nil, err})
		default:
			handshakes.Go(func() { l.shakeHands(ctx, c.(*conn)) }) // Listener has no others
		}
	}
}

// give hands over what Accept returns, and reports whether it was taken.
func (l *TLS) give(a accepted) bool {
	select {
	case l.accepted <- a:
		return true
	case <-l.closed:
		return false
	}
}

func (l *TLS) shakeHands(ctx context.Context, raw *conn) {
	secured := tls.Server(raw, l.config)
	_ = raw.SetReadDeadline(time.Now().Add(l.timeout))
	_ = raw.SetWriteDeadline(time.Now().Add(l.timeout))
	if err := secured.HandshakeContext(ctx); err != nil {
		l.log.Debug("TLS handshake", "from", raw.address.String(), "error", err)
		plain, is := errors.AsType[tls.RecordHeaderError](err)
		if refusal := l.Listener.config.Refusal; is && plain.Conn != nil && refusal != nil {
			_, _ = raw.Conn.Write(refusal(http.StatusBadRequest, "it came without TLS, and this is HTTPS"))
		}
		_ = raw.Close()
		return
	}
	_ = raw.SetDeadline(time.Time{})
	var c net.Conn = secured
	if secured.ConnectionState().NegotiatedProtocol != "h2" {
		c = &http1{secured, raw}
	}
	if !l.give(accepted{c, nil}) {
		_ = raw.Close()
	}
}

// http1 is a connection that speaks HTTP/1.1 over TLS.
type http1 struct {
	*tls.Conn
	raw *conn
}

// Write implements net.Conn.
func (c *http1) Write(b []byte) (int, error) { return c.raw.of.write(c.Conn, b) }
