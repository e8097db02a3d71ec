// Package listen is what the simulated services share on the way to a request: accepting connections, TLS, and ending a
// connection well or badly.
package listen

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"
)

// Timeouts of a connection. An idle connection has none: APNs keeps them for days.
const (
	handshakeTimeout = 10 * time.Second
	// drainTimeout bounds how long a connection that was answered an error is read, and its bytes thrown away, until
	// the client closes it.
	drainTimeout = 10 * time.Second
	// readAheadSize is that of a few TLS records.
	readAheadSize = 64 << 10
)

// Open listens on a TCP address; what is the service, for the error.
func Open(what, address string) (net.Listener, error) {
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for the %s: %w", what, err)
	}
	return listener, nil
}

// Address is where a listener is; empty for none.
func Address(l net.Listener) string {
	if l == nil {
		return ""
	}
	return l.Addr().String()
}

// Accept serves each connection in a goroutine of its own, and waits for all of them once ctx has ended.
func Accept(ctx context.Context, listener net.Listener, handle func(context.Context, net.Conn)) error {
	var connections sync.WaitGroup
	defer connections.Wait()
	stop := context.AfterFunc(ctx, func() { _ = listener.Close() })
	defer stop()
	for {
		conn, err := listener.Accept()
		if ctx.Err() != nil {
			if err == nil {
				_ = conn.Close()
			}
			return nil
		}
		if err != nil {
			var temporary net.Error
			if errors.As(err, &temporary) && temporary.Timeout() {
				continue
			}
			return fmt.Errorf("accept: %w", err)
		}
		connections.Go(func() {
			defer conn.Close()
			// Whatever blocks on the connection ends with it.
			stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
			defer stop()
			handle(ctx, conn)
		})
	}
}

// readAhead reads many TLS records with one system call.
type readAhead struct {
	net.Conn
	r *bufio.Reader
}

func (c readAhead) Read(b []byte) (int, error) { return c.r.Read(b) }

// Handshake makes the TLS connection, nil where it fails. A client that does not finish it is logged at debug: port
// scans and wrong certificates are the clients' business.
func Handshake(ctx context.Context, conn net.Conn, config *tls.Config, log *slog.Logger) *tls.Conn {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	secure := tls.Server(readAhead{conn, bufio.NewReaderSize(conn, readAheadSize)}, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		log.Debug("TLS handshake failed", "remote", conn.RemoteAddr(), "error", err)
		return nil
	}
	return secure
}

// HalfCloser is a connection that can say that it will send no more.
type HalfCloser interface{ CloseWrite() error }

// Finish ends a connection so that everything written to it arrives: a socket that is closed while bytes wait in it
// unread sends a reset, which can overtake and destroy what was written. So: close_notify, half-close, and read what
// still comes, without looking at it, until the client closes or loses our patience.
func Finish(conn HalfCloser, raw net.Conn) {
	_ = raw.SetDeadline(time.Now().Add(drainTimeout))
	if conn.CloseWrite() != nil {
		return
	}
	if half, ok := raw.(HalfCloser); ok && half.CloseWrite() != nil {
		return
	}
	_, _ = io.Copy(io.Discard, raw)
}

// Reset closes a connection with a TCP reset, which throws away what is in flight in both directions.
func Reset(raw net.Conn) {
	if tcp, ok := raw.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = raw.Close()
}
